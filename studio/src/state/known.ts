/** What is known of features by their number: words that come with tokens, and facts that are asked for. */
import { signal } from "@preact/signals";

/** A feature on a token, as the server tells it. */
export interface Seen {
  feature: number;
  /** The activation as a share of the feature's maximum. */
  share: number;
  /** What switches it on, where there is a reliable label. */
  label?: string | null;
  /** Tokens that it makes the model say when it is turned up. */
  promotes?: readonly string[];
}

export interface Words {
  label: string | null;
  promotes: readonly string[];
}

class Known {
  /** Changes when words of a feature came that were not known. */
  readonly version = signal(0);
  #words = new Map<number, Words>();

  note(seen: Seen): void {
    const had = this.#words.get(seen.feature);
    if (had && (had.label !== null || seen.label == null)) return;
    this.#words.set(seen.feature, { label: seen.label ?? null, promotes: seen.promotes ?? [] });
    if (had) this.version.value += 1;
  }

  words(feature: number): Words | undefined {
    return this.#words.get(feature);
  }

  clear(): void {
    this.#words.clear();
  }
}

export const known = new Known();

/** What stands for a feature in one line: its label, else what it promotes, else that nothing is known. */
export function said(words: Words | undefined, most = 4): { text: string; kind: "label" | "promotes" | "none" } {
  if (words?.label) return { text: words.label, kind: "label" };
  if (words?.promotes.length) return { text: words.promotes.slice(0, most).join(" · "), kind: "promotes" };
  return { text: "no words yet", kind: "none" };
}
