/**
 * A conversation as a file or a link. What comes in may have been made by anybody: it is checked part by part, and
 * what is no conversation is refused.
 */
import type { Kept } from "./conversation";
import type { Edit, Kind } from "./pins";

const KINDS: readonly Kind[] = ["set", "scale", "ablate", "cap", "add"];
const MOST_TEXT = 200_000;
const MOST_TURNS = 1000;
/** Links longer than this break in mail and chat programs. */
export const MOST_LINK = 16_000;

export class NotOneError extends Error {}

const refuse = (why: string): never => {
  throw new NotOneError(`This is no conversation of the studio: ${why}.`);
};
const text = (value: unknown, what: string): string =>
  typeof value === "string" && value.length <= MOST_TEXT ? value : refuse(`${what} is no text`);
const list = (value: unknown, most: number, what: string): unknown[] =>
  Array.isArray(value) && value.length <= most ? value : refuse(`${what} is no list`);
const object = (value: unknown, what: string): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : refuse(`${what} is nothing`);

function editOf(value: unknown): Edit {
  const { feature, kind, strength } = object(value, "an edit");
  if (!Number.isSafeInteger(feature) || (feature as number) < 0) refuse("a feature is no number");
  if (!KINDS.includes(kind as Kind)) refuse("an edit is of no kind");
  if (typeof strength !== "number" || !(Math.abs(strength) <= 100)) refuse("a strength is beyond bounds");
  return { feature: feature as number, kind: kind as Kind, strength: strength as number, scope: "all" };
}

/** Check what may be a conversation. */
export function read(value: unknown): Kept {
  const given = object(value, "it");
  if (given["format"] !== 1) refuse("it is of another format");
  return {
    format: 1,
    model: text(given["model"], "the model"),
    dictionary: given["dictionary"] === null ? null : text(given["dictionary"], "the dictionary"),
    system: text(given["system"] ?? "", "the system prompt"),
    turns: list(given["turns"], MOST_TURNS, "what was said").map((each) => {
      const turn = object(each, "a turn");
      return {
        user: text(turn["user"], "a question"),
        ...(turn["plain"] === undefined ? {} : { plain: text(turn["plain"], "an answer") }),
        ...(turn["edited"] === undefined
          ? {}
          : { edited: text(turn["edited"], "an answer"), edits: list(turn["edits"] ?? [], 32, "the edits").map(editOf) }),
      };
    }),
    pins: list(given["pins"] ?? [], 32, "the pins").map((each) => {
      const { feature, kind, strength } = editOf(each);
      return { feature, kind, strength, on: object(each, "a pin")["on"] === true };
    }),
  };
}

export function parse(source: string): Kept {
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch {
    refuse("it is no JSON");
  }
  return read(value);
}

const MARK = "#c=";

/** The conversation as the part of an address behind `#`, which is never sent to a server. */
export async function toLink(kept: Kept): Promise<string> {
  const packed = await through(new TextEncoder().encode(JSON.stringify(kept)), new CompressionStream("deflate-raw"));
  let binary = "";
  for (const byte of packed) binary += String.fromCharCode(byte);
  return MARK + btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** The conversation in an address; null where there is none. */
export async function fromLink(hash: string): Promise<Kept | null> {
  if (!hash.startsWith(MARK)) return null;
  let source: string;
  try {
    const binary = atob(hash.slice(MARK.length).replace(/-/g, "+").replace(/_/g, "/"));
    const packed = Uint8Array.from(binary, (c) => c.charCodeAt(0));
    source = new TextDecoder().decode(await through(packed, new DecompressionStream("deflate-raw"), 20 * MOST_TEXT));
  } catch {
    return refuse("the link is damaged");
  }
  return parse(source);
}

async function through(bytes: Uint8Array<ArrayBuffer>, stream: CompressionStream | DecompressionStream, most = Infinity): Promise<Uint8Array> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream as ReadableWritablePair<Uint8Array, Uint8Array<ArrayBuffer>>).getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) throw new NotOneError("too large");
    parts.push(value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
