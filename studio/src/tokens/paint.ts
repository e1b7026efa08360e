/** How a token is tinted: by the pinned features where there are any, else by its strongest feature. */
import type { Pin } from "../state/pins";
import type { Tokens } from "./tokens";

export const LEVELS = 10;

/** A share as one of the levels that the style sheet has. */
export const level = (share: number): number => Math.max(0, Math.min(LEVELS, Math.round(share * LEVELS)));

/** The classes of a token. */
export function paint(tokens: Tokens, index: number, pins: readonly Pin[]): string {
  if (!pins.length) {
    const step = level(tokens.strongest(index));
    return step ? `tk s${step}` : "tk";
  }
  let best = 0;
  let colour = 0;
  for (const pin of pins) {
    const share = tokens.share(index, pin.feature);
    if (share > best) {
      best = share;
      colour = pin.colour;
    }
  }
  // A pinned feature that is active at all is shown, however weak.
  return best > 0 ? `tk p${colour} s${Math.max(1, level(best))}` : "tk";
}
