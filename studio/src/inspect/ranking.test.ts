import { expect, test } from "vitest";
import { tokensOf } from "../tokens/tokens";
import { csv, ordered, ranked } from "./ranking";

const tokens = tokensOf([
  { token: "a", features: [{ feature: 1, share: 0.3 }] },
  { token: '=b"', features: [{ feature: 2, share: 0.9 }, { feature: 1, share: 0.2 }] },
  { token: "c", features: [{ feature: 3, share: 0.25 }] },
]);

test("features are counted over the text", () => {
  expect(ranked(tokens)[0]).toMatchObject({ feature: 1, active: 2, first: 0 });
  expect(ranked(tokens)[0]?.peak).toBeCloseTo(0.3);
});

test("every order puts another first", () => {
  const all = ranked(tokens);
  const usual = (f: number) => (f === 3 ? 0.001 : 0.5);
  expect(ordered(all, "peak", 3)[0]?.feature).toBe(2);
  expect(ordered(all, "active", 3)[0]?.feature).toBe(1);
  expect(ordered(all, "first", 3)[0]?.feature).toBe(1);
  expect(ordered(all, "unusual", 3, usual)[0]?.feature).toBe(3);
});

test("a spreadsheet takes no token for a formula", () => {
  const lines = csv(tokens, () => "@label").split("\n");
  expect(lines[2]).toBe('1,"\'=b""",2,0.90000,"\'@label"');
  expect(lines.length).toBe(6);
});
