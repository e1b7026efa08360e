/** An answer as it is written: tokens with their features, and at the end the prompt's tokens and the receipts. */
import type { Seen } from "../state/known";
import type { Edit } from "../state/pins";
import { ask, type ChatMessage, Failure } from "./client";
import { events } from "./events";

/** The proof that an edit took effect; activations are means over the tokens edited. */
export interface Receipt {
  dictionary: string;
  edit?: string;
  feature?: number | null;
  before?: number;
  asked?: number;
  reached?: number;
  tokens?: number;
  /** KL(plain ‖ edited) along the answer, nats per token, of all edits together. */
  kl?: number;
  /** The largest change outside the edited directions, relative to the change inside. */
  kept?: number;
  /** In place of all that, when the edit changed nothing. */
  error?: string;
}

export interface Asked {
  messages: ChatMessage[];
  dictionary: string | null;
  edits: Edit[];
  top: number;
  features: number[];
  temperature: number;
  /** Tokens of the answer; null for as many as there is room. */
  most: number | null;
  seed: number;
}

export interface Told {
  token(text: string, features: readonly Seen[]): void;
  prompt(tokens: readonly { token: string; features: readonly Seen[] }[]): void;
  receipts(receipts: readonly Receipt[]): void;
  /** How many tokens prompt and answer have together. */
  used(tokens: number): void;
  finish(reason: string): void;
}

interface Chunk {
  error?: { message?: string };
  usage?: { total_tokens: number } | null;
  choices?: { delta?: { content?: string }; finish_reason?: string | null }[];
  pellucid?: {
    token?: string;
    features?: Seen[];
    prompt?: { token: string; features: Seen[] }[];
    receipts?: Receipt[];
  };
}

/** Tokens of a chat template around a message, at most. */
const AROUND = 64;

/** Have an answer written; returns when it is whole. Aborting the signal ends it on the server too. */
export async function write(asked: Asked, told: Told, signal: AbortSignal): Promise<void> {
  const last = asked.messages.at(-1)?.content ?? "";
  const named = asked.dictionary === null ? {} : { dictionary: asked.dictionary };
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    signal,
    body: JSON.stringify({
      messages: asked.messages,
      stream: true,
      temperature: asked.temperature,
      ...(asked.most === null ? {} : { max_tokens: asked.most }),
      seed: asked.seed,
      stream_options: { include_usage: true },
      pellucid: {
        watch: asked.dictionary === null ? [] : [{ ...named, top: asked.top, features: asked.features }],
        edits: asked.edits.map((edit) => ({ ...edit, ...named })),
        // What was asked last is shown with its features: no more tokens than bytes, and those of the template.
        prompt: new TextEncoder().encode(String(last)).length + AROUND,
      },
    }),
  });
  if (!response.body) throw new Failure("The server sent no answer.", response.status);
  let ended = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") {
        ended = true;
        break;
      }
      heard(JSON.parse(data) as Chunk, told);
    }
  } catch (error) {
    if (signal.aborted || error instanceof Failure) throw error;
    throw broken();
  }
  if (!ended && !signal.aborted) throw broken();
}

/** A stream that broke off; whether the server is there at all is asked, so that the page can say so. */
function broken(): Failure {
  void ask("/healthz").catch(() => undefined);
  return new Failure("The connection broke while the answer was written.", 0);
}

function heard(chunk: Chunk, told: Told): void {
  if (chunk.error) throw new Failure(chunk.error.message ?? "The server could not go on.", 500);
  const choice = chunk.choices?.[0];
  const extra = chunk.pellucid;
  const content = choice?.delta?.content;
  // What is held back is a character that is not whole yet: its token has no text of its own.
  if (extra?.features) told.token(content ?? "", extra.features);
  else if (content) told.token(content, []);
  if (extra?.prompt) told.prompt(extra.prompt);
  if (extra?.receipts?.length) told.receipts(extra.receipts);
  if (chunk.usage) told.used(chunk.usage.total_tokens);
  if (choice?.finish_reason) told.finish(choice.finish_reason);
}
