import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { allTokens, answerOf, clear, comparing, filled, kept, reopen, send, stop, turnAgain, turns, writing } from "./conversation";
import { change, pin, pins } from "./pins";
import { session } from "./session";

interface Body {
  max_tokens?: number;
  messages: { role: string; content: string }[];
  pellucid: { edits: unknown[] };
}
let bodies: Body[] = [];
let inspected = 0;

const answer = (text: string): string =>
  `data: ${JSON.stringify({ choices: [{ delta: { content: text } }], pellucid: { token: text, features: [] } })}\n\n` +
  `data: ${JSON.stringify({ choices: [{ delta: {}, finish_reason: "stop" }], pellucid: { prompt: [], receipts: [] } })}\n\n` +
  `data: ${JSON.stringify({ choices: [], usage: { total_tokens: 900 } })}\n\ndata: [DONE]\n\n`;

beforeEach(() => {
  bodies = [];
  session.value = {
    model: { id: "tiny", pellucid: { digest: "", dictionaries: ["d"], room: 1000 } },
    dictionaries: [{ name: "d", site: "resid_post.1", features: 48, atlas: [] }],
  };
  vi.stubGlobal("fetch", async (path: string, options: RequestInit) => {
    if (path === "/v1/inspect") {
      inspected += 1;
      const { messages } = JSON.parse(String(options.body)) as Body;
      return new Response(JSON.stringify({ tokens: messages.map((m) => ({ token: m.content, features: [] })) }));
    }
    const body = JSON.parse(String(options.body)) as Body;
    bodies.push(body);
    return new Response(answer(body.pellucid.edits.length ? "turned" : "plain"));
  });
});
afterEach(() => {
  clear();
  pins.value = [];
  comparing.value = false;
  vi.unstubAllGlobals();
});
const done = () => vi.waitFor(() => expect(writing.value).toBe(false));

test("without edits one plain answer is written", async () => {
  send("one");
  await done();
  expect(bodies.map((b) => b.pellucid.edits.length)).toEqual([0]);
  expect(turns.value[0]?.plain.value?.tokens.text).toBe("plain");
});

test("comparing asks twice, and the conversation goes on from the turned answer", async () => {
  pin(7);
  change(7, { strength: 2, on: true });
  comparing.value = true;
  send("one");
  await done();
  expect(bodies.map((b) => b.pellucid.edits.length).sort()).toEqual([0, 1]);
  send("two");
  await done();
  expect(bodies[2]?.messages.map((m) => m.content)).toEqual(["one", "turned", "two"]);
});

test("turning writes the turned answer alone again", async () => {
  send("one");
  await done();
  pin(7);
  change(7, { strength: 2, on: true });
  turnAgain();
  await done();
  expect(bodies.length).toBe(2);
  const [turn] = turns.value;
  expect(turn && answerOf(turn)?.tokens.text).toBe("turned");
  expect(turn?.plain.value?.tokens.text).toBe("plain");
});

test("where the room may not do for the length that is set, the server gives what there is", async () => {
  send("short");
  await done();
  expect(bodies[0]?.max_tokens).toBe(160);
  expect(filled.value).toBe(900);
  send("long ".repeat(600));
  await done();
  expect(bodies[1]?.max_tokens).toBeUndefined();
});

test("stopping says so", async () => {
  vi.stubGlobal("fetch", (_: string, options: RequestInit) =>
    new Promise((_done, fail) => options.signal?.addEventListener("abort", () => fail(new DOMException("", "AbortError")))),
  );
  send("one");
  stop();
  await done();
  expect(turns.value[0]?.plain.value?.status.value).toBe("stopped");
});

test("a conversation that is kept is opened as it was", async () => {
  send("one");
  await done();
  const before = kept("tiny");
  clear();
  await reopen(before);
  expect(kept("tiny")).toEqual(before);
  expect(allTokens().map((t) => t.text)).toEqual(["one", "plain"]);
});

test("what is opened is read once, and each answer beside it that was not gone on from", async () => {
  pin(7);
  change(7, { strength: 2, on: true });
  comparing.value = true;
  for (const text of ["one", "two"]) {
    send(text);
    await done();
  }
  const before = kept("tiny");
  inspected = 0;
  await reopen(before);
  expect(inspected).toBe(3);
  expect(kept("tiny")).toEqual(before);
  expect(turns.value.map((t) => [t.asked.value?.text, t.plain.value?.tokens.text, t.edited.value?.tokens.text])).toEqual([
    ["one", "plain", "turned"],
    ["two", "plain", "turned"],
  ]);
});
