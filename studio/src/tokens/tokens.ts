/**
 * Tokens with the features that are active on them, in columns.
 *
 * A conversation may have thousands of tokens with tens of features each; as columns they are two numbers an
 * entry, and whoever draws asks for what is seen.
 */
import { signal } from "@preact/signals";
import { onFrame } from "../state/frame";
import { known, type Seen } from "../state/known";

export class Tokens {
  readonly texts: string[] = [];
  /** Changes once per frame at most, however many tokens came. */
  readonly version = signal(0);
  #starts = [0];
  #ids = new Int32Array(256);
  #shares = new Float32Array(256);

  get length(): number {
    return this.texts.length;
  }

  get text(): string {
    return this.texts.join("");
  }

  /** Add a token; its features are kept strongest first. */
  push(text: string, features: readonly Seen[] = []): void {
    let end = this.#starts[this.texts.length] ?? 0;
    if (end + features.length > this.#ids.length) this.#grow(end + features.length);
    const active = features.filter((f) => f.share > 0).sort((a, b) => b.share - a.share);
    for (const feature of active) {
      this.#ids[end] = feature.feature;
      this.#shares[end] = feature.share;
      end += 1;
    }
    for (const feature of features) known.note(feature);
    this.texts.push(text);
    this.#starts.push(end);
    this.touch();
  }

  /** Say that what is drawn of them is stale. */
  touch(): void {
    onFrame(this, () => {
      this.version.value += 1;
    });
  }

  /** The features of a token, strongest first: ids and shares of their maxima. */
  at(index: number): { ids: Int32Array; shares: Float32Array } {
    const from = this.#starts[index] ?? 0;
    const to = this.#starts[index + 1] ?? from;
    return { ids: this.#ids.subarray(from, to), shares: this.#shares.subarray(from, to) };
  }

  /** A feature's share of its maximum on a token; 0 where it is not among those that were told. */
  share(index: number, feature: number): number {
    const to = this.#starts[index + 1] ?? 0;
    for (let i = this.#starts[index] ?? 0; i < to; i++) if (this.#ids[i] === feature) return this.#shares[i] ?? 0;
    return 0;
  }

  /** The strongest share on a token. */
  strongest(index: number): number {
    const from = this.#starts[index] ?? 0;
    return from < (this.#starts[index + 1] ?? 0) ? (this.#shares[from] ?? 0) : 0;
  }

  #grow(needed: number): void {
    const size = Math.max(needed, 2 * this.#ids.length);
    const ids = new Int32Array(size);
    const shares = new Float32Array(size);
    ids.set(this.#ids);
    shares.set(this.#shares);
    this.#ids = ids;
    this.#shares = shares;
  }
}

/** Tokens of a list as a server tells them. */
export function tokensOf(list: readonly { token: string; features: readonly Seen[] }[]): Tokens {
  const tokens = new Tokens();
  for (const each of list) tokens.push(each.token, each.features);
  return tokens;
}

/**
 * Tokens of a text that was read by itself. The first is left without features: models use it as an attention sink,
 * its activation is many times longer than others, and dictionaries were not trained on it.
 */
export function tokensOfText(list: readonly { token: string; features: readonly Seen[] }[]): Tokens {
  return tokensOf(list.map((each, i) => (i === 0 ? { token: each.token, features: [] } : each)));
}

/**
 * Where texts stand in tokens, in order: for each the range of tokens that overlap it, or null.
 *
 * A prompt is messages between marks of a template, which may trim them; the marks belong to no text.
 */
export function located(pieces: readonly string[], texts: readonly string[]): ([number, number] | null)[] {
  const whole = pieces.join("");
  const starts: number[] = [];
  let at = 0;
  for (const piece of pieces) {
    starts.push(at);
    at += piece.length;
  }
  let from = 0;
  return texts.map((text) => {
    const trimmed = text.trim();
    const found = trimmed ? whole.indexOf(trimmed, from) : -1;
    if (found < 0) return null;
    from = found + trimmed.length;
    const first = upper(starts, found) - 1;
    const last = upper(starts, from - 1);
    return [first, last];
  });
}

/**
 * Where a text stands in tokens for the last time, as whole tokens if it can: the range of tokens, or null. So the last
 * message of a prompt is found, and not a word of the template behind it.
 */
export function lastOf(pieces: readonly string[], text: string): [number, number] | null {
  const whole = pieces.join("");
  const wanted = text.trim();
  if (!wanted) return null;
  const starts = [0];
  for (const piece of pieces) starts.push((starts.at(-1) ?? 0) + piece.length);
  const edges = new Set(starts);
  let found = -1;
  for (let at = whole.lastIndexOf(wanted); at >= 0; at = at ? whole.lastIndexOf(wanted, at - 1) : -1) {
    if (found < 0) found = at;
    if (edges.has(at) && edges.has(at + wanted.length)) {
      found = at;
      break;
    }
  }
  return found < 0 ? null : [upper(starts, found) - 1, upper(starts, found + wanted.length - 1)];
}

/** How many of ascending numbers are at most a value. */
function upper(numbers: readonly number[], value: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((numbers[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
