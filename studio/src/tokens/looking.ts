/** Which token is looked at: the pointer shows one in passing, a click or a key holds it. */
import { signal } from "@preact/signals";
import type { Tokens } from "./tokens";

export interface Looking {
  tokens: Tokens;
  index: number;
  /** The token's element; the card stands under it. */
  anchor: HTMLElement;
  held: boolean;
}

export const looking = signal<Looking | null>(null);

const ENTER_MS = 90;
const LEAVE_MS = 180;
let timer: ReturnType<typeof setTimeout> | undefined;

const soon = (ms: number, work: () => void): void => {
  clearTimeout(timer);
  timer = setTimeout(work, ms);
};

export function enter(tokens: Tokens, index: number, anchor: HTMLElement): void {
  if (looking.value?.held) return;
  soon(ENTER_MS, () => {
    looking.value = { tokens, index, anchor, held: false };
  });
}

/** The pointer went away; it may be on its way into the card. */
export function leave(): void {
  if (looking.value?.held) return;
  soon(LEAVE_MS, () => {
    looking.value = null;
  });
}

export const stay = (): void => clearTimeout(timer);

export function press(tokens: Tokens, index: number, anchor: HTMLElement): void {
  clearTimeout(timer);
  looking.value = { tokens, index, anchor, held: true };
}

export function close(): void {
  clearTimeout(timer);
  looking.value = null;
}
