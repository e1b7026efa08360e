import { expect, test } from "vitest";
import { events } from "./events";

const body = (parts: string[]): ReadableStream<Uint8Array> => {
  const bytes = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(bytes.encode(part));
      controller.close();
    },
  });
};
const all = async (parts: string[]): Promise<string[]> => {
  const found = [];
  for await (const event of events(body(parts))) found.push(event);
  return found;
};

test("events come whole however the bytes are cut", async () => {
  const text = 'event: x\ndata: {"a":"é"}\n\ndata: one\ndata: two\r\n\r\n: a comment\n\ndata: [DONE]\n\n';
  const wanted = ['{"a":"é"}', "one\ntwo", "[DONE]"];
  expect(await all([text])).toEqual(wanted);
  expect(await all([...text])).toEqual(wanted);
});

test("an event of many parts is joined once", async () => {
  const long = "x".repeat(4_000_000);
  const parts = Array.from({ length: 400 }, (_, i) => long.slice(i * 10_000, (i + 1) * 10_000));
  expect(await all(["data: ", ...parts, "\n\n"])).toEqual([long]);
});

test("an event that is not ended is not told", async () => {
  expect(await all(["data: half"])).toEqual([]);
});
