import { afterEach, expect, test, vi } from "vitest";
import type { Seen } from "../state/known";
import { type Asked, type Receipt, write } from "./chat";
import { Failure } from "./client";

const asked: Asked = {
  messages: [{ role: "user", content: "Hi" }],
  dictionary: "d",
  edits: [{ feature: 3, kind: "set", strength: 1, scope: "all" }],
  top: 30,
  features: [3],
  temperature: 0,
  most: 9,
  seed: 1,
};
const seen: Seen = { feature: 3, share: 0.5, label: null, promotes: [] };

async function heard(lines: unknown[], end = "data: [DONE]\n\n"): Promise<{ tokens: [string, number][]; receipts: readonly Receipt[]; used: number; reason: string }> {
  const body = lines.map((line) => `data: ${JSON.stringify(line)}\n\n`).join("") + end;
  vi.stubGlobal("fetch", vi.fn(async () => new Response(body)));
  const found = { tokens: [] as [string, number][], receipts: [] as readonly Receipt[], used: 0, reason: "" };
  await write(
    asked,
    {
      token: (text, features) => found.tokens.push([text, features.length]),
      prompt: () => undefined,
      receipts: (receipts) => (found.receipts = receipts),
      used: (tokens) => (found.used = tokens),
      finish: (reason) => (found.reason = reason),
    },
    new AbortController().signal,
  );
  return found;
}

afterEach(() => vi.unstubAllGlobals());

test("tokens come with their features, and a character in parts with its last token", async () => {
  const found = await heard([
    { choices: [{ delta: { role: "assistant", content: "" } }] },
    { choices: [{ delta: { content: "" } }], pellucid: { token: "�", features: [seen] } },
    { choices: [{ delta: { content: "é" } }], pellucid: { token: "�", features: [seen] } },
    { choices: [{ delta: { content: "left over" } }] },
    { choices: [{ delta: {}, finish_reason: "length" }], pellucid: { prompt: [], receipts: [{ dictionary: "d", kl: 0.4 }] } },
    { choices: [], usage: { total_tokens: 12 } },
  ]);
  expect(found.tokens).toEqual([["", 1], ["é", 1], ["left over", 0]]);
  expect(found.receipts).toEqual([{ dictionary: "d", kl: 0.4 }]);
  expect([found.reason, found.used]).toEqual(["length", 12]);
});

test("edits and what is watched name their dictionary", async () => {
  await heard([]);
  const body = JSON.parse(String(vi.mocked(fetch).mock.calls[0]?.[1]?.body)) as { pellucid: unknown };
  expect(body.pellucid).toEqual({
    watch: [{ dictionary: "d", top: 30, features: [3] }],
    edits: [{ dictionary: "d", feature: 3, kind: "set", strength: 1, scope: "all" }],
    prompt: 66,
  });
});

test("an error in the stream, and a stream that breaks off, are failures", async () => {
  await expect(heard([{ error: { message: "The server is shutting down." } }])).rejects.toThrow("shutting down");
  await expect(heard([], "")).rejects.toThrow(Failure);
});
