/** A conversation: what was asked, and what was answered plainly and with the edits. */
import { batch, computed, signal, type Signal } from "@preact/signals";
import { type Asked, type Receipt, write } from "../api/chat";
import { type ChatMessage, Failure, inspect } from "../api/client";
import { lastOf, located, Tokens, tokensOf } from "../tokens/tokens";
import { type Edit, edits, pins } from "./pins";
import { dictionary, served } from "./session";

/** So many of the strongest features are told of each token. */
export const TOP = 30;

export type Status = "writing" | "done" | "cut" | "stopped" | "failed";

/** One answer. */
export class Side {
  tokens = new Tokens();
  readonly status: Signal<Status> = signal("writing");
  readonly error: Signal<string | null> = signal(null);
  readonly receipts: Signal<readonly Receipt[]> = signal([]);
  /** Whether its features come from reading the text again, without the edits it was written under. */
  readonly reread: Signal<boolean> = signal(false);
  /** How many tokens it has with its prompt; 0 until it is whole. */
  readonly used = signal(0);
  readonly started = performance.now();
  readonly seconds = signal(0);
  readonly abort = new AbortController();
  constructor(readonly edits: readonly Edit[]) {}
}

export interface Turn {
  readonly id: number;
  readonly user: string;
  /** The tokens of what was asked, once they have been read. */
  readonly asked: Signal<Tokens | null>;
  readonly plain: Signal<Side | null>;
  readonly edited: Signal<Side | null>;
}

export const turns = signal<readonly Turn[]>([]);
export const comparing = signal(false);
export const settings = signal({ temperature: 0, most: 160, system: "", seed: 1 });

/** The answer that the conversation goes on from. */
export const answerOf = (turn: Turn): Side | null => turn.edited.value ?? turn.plain.value;

export const writing = computed(() =>
  turns.value.some((t) => [t.plain.value, t.edited.value].some((s) => s?.status.value === "writing")),
);

/** Tokens that a conversation may have. */
export const room = computed(() => served.value?.model.pellucid.room ?? Infinity);

/** Tokens that it has, as of the last answer that is whole. */
export const filled = computed(() => turns.value.map((t) => answerOf(t)?.used.value ?? 0).findLast((n) => n > 0) ?? 0);

/** Text is rarely shorter than so many bytes a token. */
const BYTES_PER_TOKEN = 3;

/** How long an answer to messages may be: as is set, or null where that might be more than there is room for. */
function length(messages: readonly ChatMessage[], set: number): number | null {
  const bytes = messages.reduce((sum, m) => sum + new TextEncoder().encode(String(m.content)).length, 0);
  return set + bytes / BYTES_PER_TOKEN > room.value ? null : set;
}

let ids = 0;
const turnOf = (user: string): Turn => ({
  id: ++ids,
  user,
  asked: signal(null),
  plain: signal(null),
  edited: signal(null),
});

/** The messages up to a turn's question. */
function messagesTo(turn: Turn): ChatMessage[] {
  const found: ChatMessage[] = [];
  if (settings.value.system.trim()) found.push({ role: "system", content: settings.value.system });
  for (const each of turns.value) {
    found.push({ role: "user", content: each.user });
    if (each === turn) break;
    found.push({ role: "assistant", content: answerOf(each)?.tokens.text ?? "" });
  }
  return found;
}

/** Ask, and have it answered: under the edits if there are any, and plainly beside that when comparing. */
export function send(text: string): void {
  const turn = turnOf(text);
  turns.value = [...turns.value, turn];
  answer(turn);
}

/** Have a turn answered anew. */
export function answer(turn: Turn): void {
  const wanted = edits.value;
  batch(() => {
    for (const old of [turn.plain.value, turn.edited.value]) old?.abort.abort();
    turn.edited.value = wanted.length ? beginTurn(turn, wanted) : null;
    turn.plain.value = !wanted.length || comparing.value ? beginTurn(turn, []) : null;
  });
}

/** Write the edited answer of the last turn again, under the edits as they are now. */
export function turnAgain(): void {
  const turn = turns.value.at(-1);
  if (!turn) return;
  turn.edited.value?.abort.abort();
  turn.edited.value = edits.value.length ? beginTurn(turn, edits.value) : null;
  if (!turn.plain.value) turn.plain.value = beginTurn(turn, []);
}

/** Begin to have messages answered under edits. */
export function begin(
  messages: ChatMessage[],
  with_: readonly Edit[],
  more: Partial<Pick<Asked, "most" | "features">> & { prompt?: (tokens: Parameters<typeof tokensOf>[0]) => void } = {},
): Side {
  const side = new Side(with_);
  const { temperature, most, seed } = settings.value;
  const asked: Asked = {
    messages,
    dictionary: dictionary.value?.name ?? null,
    edits: [...with_],
    top: TOP,
    features: more.features ?? pins.value.map((p) => p.feature),
    temperature,
    most: length(messages, more.most ?? most),
    seed,
  };
  void run(side, asked, more.prompt);
  return side;
}

function beginTurn(turn: Turn, with_: readonly Edit[]): Side {
  const messages = messagesTo(turn);
  return begin(messages, with_, { prompt: (tokens) => place(turn, tokens) });
}

async function run(side: Side, asked: Asked, prompt: ((tokens: Parameters<typeof tokensOf>[0]) => void) | undefined): Promise<void> {
  let reason = "stop";
  try {
    await write(
      asked,
      {
        token: (text, features) => side.tokens.push(text, features),
        prompt: (tokens) => prompt?.(tokens),
        receipts: (receipts) => {
          side.receipts.value = receipts;
        },
        used: (tokens) => {
          side.used.value = tokens;
        },
        finish: (why) => {
          reason = why;
        },
      },
      side.abort.signal,
    );
    side.status.value = reason === "length" ? "cut" : "done";
  } catch (error) {
    if (side.abort.signal.aborted) side.status.value = "stopped";
    else {
      side.error.value = error instanceof Failure ? error.message : `The page failed: ${String(error)}`;
      side.status.value = "failed";
    }
  }
  side.seconds.value = (performance.now() - side.started) / 1000;
}

/** Give the last question its tokens, out of the last of the prompt. */
function place(turn: Turn, prompt: Parameters<typeof tokensOf>[0]): void {
  const found = lastOf(prompt.map((t) => t.token), turn.user);
  if (found) turn.asked.value = tokensOf(prompt.slice(found[0], found[1]));
}

export function stop(): void {
  for (const turn of turns.value) for (const side of [turn.plain.value, turn.edited.value]) side?.abort.abort();
}

export function clear(): void {
  stop();
  turns.value = [];
}

/** All tokens in the order they are read: of each turn the question, and the answer that goes on. */
export function allTokens(): Tokens[] {
  return turns.value.flatMap((t) => [t.asked.value, answerOf(t)?.tokens ?? null].filter((x) => x !== null));
}

/** What a conversation is when it is kept or sent to somebody. */
export interface Kept {
  format: 1;
  model: string;
  dictionary: string | null;
  system: string;
  turns: { user: string; plain?: string; edited?: string; edits?: Edit[] }[];
  pins: { feature: number; kind: Edit["kind"]; strength: number; on: boolean }[];
}

export function kept(model: string): Kept {
  return {
    format: 1,
    model,
    dictionary: dictionary.value?.name ?? null,
    system: settings.value.system,
    turns: turns.value.map((t) => ({
      user: t.user,
      ...(t.plain.value ? { plain: t.plain.value.tokens.text } : {}),
      ...(t.edited.value ? { edited: t.edited.value.tokens.text, edits: [...t.edited.value.edits] } : {}),
    })),
    pins: pins.value.map(({ feature, kind, strength, on }) => ({ feature, kind, strength, on })),
  };
}

/** Show a conversation that was kept; its texts are read again for their features. */
export async function reopen(from: Kept): Promise<void> {
  clear();
  settings.value = { ...settings.value, system: from.system };
  const made = from.turns.map((each) => {
    const turn = turnOf(each.user);
    for (const [name, text] of [["plain", each.plain], ["edited", each.edited]] as const) {
      if (text === undefined) continue;
      const side = new Side(name === "edited" ? (each.edits ?? []) : []);
      side.tokens.push(text);
      side.status.value = "done";
      turn[name].value = side;
    }
    return turn;
  });
  turns.value = made;
  const looking = dictionary.value?.name;
  if (looking === undefined || !made.length) return;
  rereading.value = true;
  try {
    await readAgain(made, looking);
  } finally {
    rereading.value = false;
  }
}

/** Whether a conversation that was opened is being read for its features. */
export const rereading = signal(false);

/** Of a long conversation fewer features are told of each token. */
const LONG = { characters: 6000, top: 8 };

/** Read what was said once, and each answer beside it that the conversation did not go on from. */
async function readAgain(made: readonly Turn[], looking: string): Promise<void> {
  const read = async (messages: ChatMessage[]) => {
    const long = messages.reduce((sum, m) => sum + String(m.content).length, 0) > LONG.characters;
    const { tokens } = await inspect({ messages }, { dictionary: looking, top: long ? LONG.top : TOP });
    const found = located(tokens.map((t) => t.token), messages.map((m) => String(m.content)));
    return found.map((range) => (range ? tokensOf(tokens.slice(...range)) : null));
  };
  const last = made.at(-1);
  if (!last) return;
  const to = (turn: Turn, side: Side): ChatMessage[] => [...messagesTo(turn), { role: "assistant", content: side.tokens.text }];
  const end = answerOf(last);
  const said = await read(end?.tokens.text.trim() ? to(last, end) : messagesTo(last));
  if (turns.value !== made) return;
  let at = settings.value.system.trim() ? 1 : 0;
  for (const turn of made) {
    turn.asked.value = said[at++] ?? null;
    const side = answerOf(turn);
    if (side) again(turn, side, said[at++] ?? null);
  }
  for (const turn of made) {
    const beside = turn.edited.value && turn.plain.value;
    if (!beside || turns.value !== made) continue;
    again(turn, beside, (await read(to(turn, beside))).at(-1) ?? null);
  }
}

/** Give an answer its tokens with their features. */
function again(turn: Turn, side: Side, tokens: Tokens | null): void {
  if (!tokens) return;
  const made = new Side(side.edits);
  made.tokens = tokens;
  made.status.value = "done";
  made.reread.value = side.edits.length > 0;
  turn[side === turn.edited.value ? "edited" : "plain"].value = made;
}
