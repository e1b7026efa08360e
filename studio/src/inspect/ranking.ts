/** Which features a text is about, out of those on its tokens. */
import type { Tokens } from "../tokens/tokens";

export interface Ranked {
  feature: number;
  /** Its highest share of its maximum. */
  peak: number;
  /** On how many tokens it is active. */
  active: number;
  /** The first token on which it is active. */
  first: number;
}

export type Order = "peak" | "active" | "first" | "unusual";

/** Every feature that is active somewhere. */
export function ranked(tokens: Tokens): Ranked[] {
  const found = new Map<number, Ranked>();
  for (let i = 0; i < tokens.length; i++) {
    const { ids, shares } = tokens.at(i);
    for (let k = 0; k < ids.length; k++) {
      const feature = ids[k] ?? 0;
      const share = shares[k] ?? 0;
      const had = found.get(feature);
      if (!had) found.set(feature, { feature, peak: share, active: 1, first: i });
      else {
        had.peak = Math.max(had.peak, share);
        had.active += 1;
      }
    }
  }
  return [...found.values()];
}

/** In an order; `usual` says on what share of tokens each is active elsewhere, where that is known. */
export function ordered(all: readonly Ranked[], order: Order, count: number, usual?: (feature: number) => number | undefined): Ranked[] {
  const lift = (r: Ranked): number => r.active / count / Math.max(1e-5, usual?.(r.feature) ?? 1);
  const by: Record<Order, (a: Ranked, b: Ranked) => number> = {
    peak: (a, b) => b.peak - a.peak,
    active: (a, b) => b.active - a.active || b.peak - a.peak,
    first: (a, b) => a.first - b.first || b.peak - a.peak,
    // How many times more often than elsewhere, among those that are strong at all.
    unusual: (a, b) => Number(b.peak >= 0.2) - Number(a.peak >= 0.2) || lift(b) - lift(a),
  };
  return [...all].sort(by[order]);
}

const quoted = (text: string): string => `"${text.replace(/"/g, '""')}"`;

/** Cells that a spreadsheet would take for a formula are kept from being one. */
const cell = (text: string): string => quoted(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

/** As lines of token, feature, share. */
export function csv(tokens: Tokens, label: (feature: number) => string): string {
  const lines = ["position,token,feature,share,label"];
  for (let i = 0; i < tokens.length; i++) {
    const { ids, shares } = tokens.at(i);
    ids.forEach((id, k) => lines.push([i, cell(tokens.texts[i] ?? ""), id, (shares[k] ?? 0).toFixed(5), cell(label(id))].join(",")));
  }
  return `${lines.join("\n")}\n`;
}
