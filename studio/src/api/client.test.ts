import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ask, Failure, reachable, wantsKey } from "./client";

const answers = (status: number, body: unknown, headers: Record<string, string> = {}): void => {
  vi.stubGlobal("fetch", vi.fn(async () => new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers })));
};
const failure = async (): Promise<Failure> => {
  try {
    await ask("/v1/x");
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error("it did not fail");
};

beforeEach(() => {
  reachable.value = true;
  wantsKey.value = false;
});
afterEach(() => vi.unstubAllGlobals());

test("what the server says of an error is what is shown", async () => {
  answers(429, { error: { message: "Too many wait." } }, { "Retry-After": "2" });
  expect(await failure()).toMatchObject({ message: "Too many wait.", status: 429, retryAfter: 2 });
  answers(502, "<html>proxy</html>");
  expect((await failure()).message).toBe("The server answered with status 502.");
  expect(reachable.value).toBe(true);
});

test("a key that is wanted is asked for", async () => {
  answers(401, { error: { message: "No key came." } });
  await failure();
  expect(wantsKey.value).toBe(true);
});

test("a server that is gone is told apart from a request that was given up", async () => {
  vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("network")));
  expect((await failure()).status).toBe(0);
  expect(reachable.value).toBe(false);
  reachable.value = true;
  const gone = new AbortController();
  gone.abort();
  await expect(ask("/v1/x", { signal: gone.signal })).rejects.toThrow("network");
  expect(reachable.value).toBe(true);
});

test("requests carry no cookies and follow no redirect", async () => {
  answers(200, {});
  await ask("/v1/x");
  expect(vi.mocked(fetch).mock.calls[0]?.[1]).toMatchObject({ credentials: "omit", redirect: "error" });
});
