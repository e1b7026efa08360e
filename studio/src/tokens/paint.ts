/** How a token is tinted: by the pinned features where there are any, else by its strongest feature. */
import type { Tokens } from "./tokens";

/** A feature that tints, in a colour of the pins or in that of activation. */
export interface Tint {
  feature: number;
  colour: number | null;
}

export const LEVELS = 10;

/** A share as one of the levels that the style sheet has. */
export const level = (share: number): number => Math.max(0, Math.min(LEVELS, Math.round(share * LEVELS)));

/** On most tokens some feature comes to half of its maximum: only what is beyond that tints by itself. */
const ORDINARY = 0.5;

/** The classes of a token. */
export function paint(tokens: Tokens, index: number, tints: readonly Tint[]): string {
  if (!tints.length) {
    const step = level((tokens.strongest(index) - ORDINARY) / (1 - ORDINARY));
    return step ? `tk s${step}` : "tk";
  }
  let best = 0;
  let colour: number | null = null;
  for (const tint of tints) {
    const share = tokens.share(index, tint.feature);
    if (share > best) {
      best = share;
      colour = tint.colour;
    }
  }
  // A pinned feature that is active at all is shown, however weak.
  if (best <= 0) return "tk";
  const step = `s${Math.max(1, level(best))}`;
  return colour === null ? `tk ${step}` : `tk p${colour} ${step}`;
}
