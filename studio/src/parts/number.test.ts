import { expect, test } from "vitest";
import { percent } from "./number";

test("shares have two digits that count, and their unit stays with them", () => {
  const told = [0, 0.00041, 0.0043, 0.125, 0.67, 0.999, 1].map((s) => percent(s).replace("\u00a0", " "));
  expect(told).toEqual(["0 %", "0.041 %", "0.43 %", "13 %", "67 %", "100 %", "100 %"]);
});
