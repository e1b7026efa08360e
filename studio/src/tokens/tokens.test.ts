import { expect, test } from "vitest";
import type { Seen } from "../state/known";
import { lastOf, located, Tokens, tokensOfText } from "./tokens";

const seen = (feature: number, share: number): Seen => ({ feature, share, label: null, promotes: [] });

test("features are kept strongest first, and those that are silent are not kept", () => {
  const tokens = new Tokens();
  tokens.push("a", [seen(1, 0.2), seen(2, 0.9), seen(3, 0)]);
  tokens.push("b");
  tokens.push("c", [seen(2, 0.5)]);
  expect([...tokens.at(0).ids]).toEqual([2, 1]);
  expect([...tokens.at(1).ids]).toEqual([]);
  expect(tokens.share(2, 2)).toBeCloseTo(0.5);
  expect(tokens.share(0, 3)).toBe(0);
  expect(tokens.strongest(0)).toBeCloseTo(0.9);
  expect(tokens.strongest(1)).toBe(0);
  expect(tokens.text).toBe("abc");
});

test("columns grow past what they began with", () => {
  const tokens = new Tokens();
  for (let i = 0; i < 500; i++) tokens.push("x", Array.from({ length: 30 }, (_, k) => seen(k, (k + 1) / 30)));
  expect(tokens.length).toBe(500);
  expect(tokens.share(499, 29)).toBeCloseTo(1);
  expect(tokens.at(499).ids.length).toBe(30);
});

test("the first token of a text is left without features", () => {
  const tokens = tokensOfText([{ token: "a", features: [seen(1, 175)] }, { token: "b", features: [seen(1, 0.5)] }]);
  expect([tokens.text, tokens.strongest(0), tokens.strongest(1)]).toEqual(["ab", 0, 0.5]);
});

test("messages are found between the marks of a template", () => {
  const pieces = ["<s>", "user\n", "Hel", "lo", " there", "<e>", "user\n", "Hello", "<e>"];
  expect(located(pieces, ["Hello there ", "Hello", "nothing"])).toEqual([[2, 5], [7, 8], null]);
});

test("the last message is found where it stands last, as whole tokens", () => {
  const pieces = ["<s>", "user\n", "yes", "<e>", "assistant\n", "a", " cat", "<e>", "user\n", "a", "<e>", "\n", "<s>", "assistant", "\n"];
  expect(lastOf(pieces, "a")).toEqual([9, 10]);
  expect(lastOf(pieces, " yes\n")).toEqual([2, 3]);
  expect(lastOf(pieces, "a cat")).toEqual([5, 7]);
  expect(lastOf(pieces, "ye")).toEqual([2, 3]);
  expect(lastOf(pieces, "nothing")).toBeNull();
  expect(lastOf(pieces, "  ")).toBeNull();
  expect(lastOf(["aa"], "a")).toEqual([0, 1]);
});
