import { expect, test } from "vitest";
import type { Kept } from "./conversation";
import { fromLink, NotOneError, parse, read, toLink } from "./share";

const kept: Kept = {
  format: 1,
  model: "tiny",
  dictionary: "d",
  system: "",
  turns: [{ user: "Hi <b>é\u202e", plain: "a", edited: "b", edits: [{ feature: 3, kind: "set", strength: 1.5, scope: "all" }] }],
  pins: [{ feature: 3, kind: "set", strength: 1.5, on: true }],
};

test("a conversation comes back from a link and a file as it was", async () => {
  expect(await fromLink(await toLink(kept))).toEqual(kept);
  expect(parse(JSON.stringify(kept))).toEqual(kept);
  expect(await fromLink("#elsewhere")).toBeNull();
});

test.each([
  null, [], { format: 2 }, { ...kept, turns: [{ user: 3 }] }, { ...kept, turns: "x" }, { ...kept, model: "x".repeat(300_000) },
  { ...kept, pins: [{ feature: -1, kind: "set", strength: 1 }] }, { ...kept, pins: [{ feature: 1, kind: "run", strength: 1 }] },
  { ...kept, pins: [{ feature: 1, kind: "set", strength: 1e9 }] }, { ...kept, pins: [{ feature: 1, kind: "set", strength: "1" }] },
])("what is no conversation is refused: %#", (value) => {
  expect(() => read(value)).toThrow(NotOneError);
});

test("what is unknown in a conversation does not come in", () => {
  expect(read({ ...kept, more: 1, __proto__: { x: 1 } })).toEqual(kept);
});

test("damaged links are refused", async () => {
  for (const hash of ["#c=", "#c=%%%", "#c=AAAA", (await toLink(kept)).slice(0, -6)])
    await expect(fromLink(hash)).rejects.toThrow(NotOneError);
});
