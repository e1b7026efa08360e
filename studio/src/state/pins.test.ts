import { beforeEach, expect, test } from "vitest";
import { change, edits, inWords, MOST, pin, pinned, pins, take, unpin } from "./pins";

beforeEach(() => {
  pins.value = [];
});

test("each pin has a colour of its own, and a freed colour is given again", () => {
  for (let i = 0; i < MOST; i++) expect(pin(i)).toBe(true);
  expect(pin(99)).toBe(false);
  expect(new Set(pins.value.map((p) => p.colour)).size).toBe(MOST);
  unpin(2);
  expect(pin(99)).toBe(true);
  expect(pinned(99)?.colour).toBe(2);
});

test("only what is turned is an edit", () => {
  pin(7);
  expect(edits.value).toEqual([]);
  change(7, { strength: -1.5, on: true });
  expect(edits.value).toEqual([{ feature: 7, kind: "set", strength: -1.5, scope: "all" }]);
  change(7, { kind: "ablate" });
  expect(edits.value[0]?.strength).toBe(0);
});

test("edits of a recipe become pins, and those without a colour are counted", () => {
  const many = Array.from({ length: MOST + 2 }, (_, i) => ({ feature: i, kind: "add", strength: 1, scope: "all" }) as const);
  expect(take(many)).toBe(2);
  expect(pins.value.every((p) => p.on && p.kind === "add")).toBe(true);
});

test("every kind of edit has words", () => {
  const words = (["set", "add", "scale", "cap", "ablate"] as const).map((kind) =>
    inWords({ feature: 1, kind, strength: -0.5, scope: "all" }),
  );
  expect(new Set(words).size).toBe(5);
  expect(words[1]).toBe("lowered by 0.5 × its maximum");
});
