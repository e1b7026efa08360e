import { expect, test } from "vitest";
import { Tokens } from "../tokens/tokens";
import { along, tokenAt } from "./spark";

const with_ = (shares: number[]): Tokens => {
  const tokens = new Tokens();
  for (const share of shares) tokens.push("x", share ? [{ feature: 1, share }] : []);
  return tokens;
};

test("few tokens have a column each", () => {
  const found = along([with_([0, 0.5]), with_([1])], 1, 10);
  expect([...found.heights]).toEqual([0, 0.5, 1]);
  expect(found).toMatchObject({ peak: 1, active: 2, count: 3 });
});

test("of many tokens a column keeps the highest", () => {
  const shares = Array.from({ length: 1000 }, (_, i) => (i === 555 ? 0.75 : 0.25));
  const found = along([with_(shares)], 1, 10);
  expect(found.heights.length).toBe(10);
  expect(found.heights[5]).toBe(0.75);
  expect(found.heights[4]).toBe(0.25);
});

test("a place leads to its token", () => {
  const first = with_([0, 0]);
  const second = with_([0, 0]);
  expect(tokenAt([first, second], 0.6)).toEqual([second, 0]);
  expect(tokenAt([first, second], 1)).toEqual([second, 1]);
  expect(tokenAt([], 0.5)).toBeNull();
});
