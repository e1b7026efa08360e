import { expect, test } from "vitest";
import { level, paint, type Tint } from "./paint";
import { Tokens } from "./tokens";

const pin = (feature: number, colour: number | null): Tint => ({ feature, colour });
const tokens = new Tokens();
tokens.push("a", [{ feature: 1, share: 0.8 }, { feature: 2, share: 0.01 }, { feature: 3, share: 0.3 }]);
tokens.push("b");
tokens.push("c", [{ feature: 1, share: 0.5 }]);

test("levels are bounded", () => {
  expect([-1, 0, 0.04, 0.05, 0.5, 1, 7].map(level)).toEqual([0, 0, 0, 1, 5, 10, 10]);
});

test("without pins the strongest feature tints where it is strong, with pins the strongest of them", () => {
  expect(paint(tokens, 0, [])).toBe("tk s6");
  expect(paint(tokens, 2, [])).toBe("tk");
  expect(paint(tokens, 1, [])).toBe("tk");
  expect(paint(tokens, 0, [pin(3, 2), pin(2, 4)])).toBe("tk p2 s3");
  expect(paint(tokens, 0, [pin(2, 4)])).toBe("tk p4 s1");
  expect(paint(tokens, 0, [pin(9, 0)])).toBe("tk");
  expect(paint(tokens, 0, [pin(3, null)])).toBe("tk s3");
});
