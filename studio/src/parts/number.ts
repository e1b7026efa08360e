/** Numbers as they are read: with their unit, which stays on their line. */

/** A share in percent, with two digits that count. */
export const percent = (share: number): string =>
  share === 0 ? "0\u00a0%" : `${share >= 0.995 ? 100 : Number((100 * share).toPrecision(2))}\u00a0%`;

export const count = (value: number): string => value.toLocaleString("en");
