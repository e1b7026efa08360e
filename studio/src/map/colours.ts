/** What a point's colour says: its cluster, or how often its feature is active. */
import { dark } from "../state/theme";
import type { Points } from "./points";

export type By = "cluster" | "frequency";

const HUES = 24;
export const STEPS = 10;

const style = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const paperOf = (): string => style("--paper");

/** How often a feature is active, on steps of a logarithm from one in 100,000 to one in 3. */
export const stepOf = (frequency: number): number =>
  frequency <= 0 ? 0 : Math.max(0, Math.min(STEPS - 1, Math.floor(((Math.log10(frequency) + 5) / 4.5) * STEPS)));

export function colours(points: Points, by: By): { colours: Uint8Array; palette: string[] } {
  const of = new Uint8Array(points.x.length);
  if (by === "frequency" && points.frequency) {
    const { frequency } = points;
    for (let i = 0; i < of.length; i++) of[i] = stepOf(frequency[i] ?? 0);
    const palette = Array.from({ length: STEPS }, (_, i) => {
      const t = i / (STEPS - 1);
      return dark.value ? `oklch(${38 + 45 * t}% ${0.03 + 0.12 * t} ${255 - 185 * t})` : `oklch(${82 - 40 * t}% ${0.04 + 0.12 * t} ${255 - 215 * t})`;
    });
    return { colours: of, palette };
  }
  // Hues a golden angle apart, so that clusters with near numbers differ, and three lightnesses for whoever sees fewer hues.
  for (let i = 0; i < of.length; i++) of[i] = (points.cluster[i] ?? 0) < 0 ? HUES : (points.cluster[i] ?? 0) % HUES;
  const palette = Array.from({ length: HUES }, (_, i) => {
    const light = (dark.value ? 72 : 62) + [-10, 0, 9][i % 3]!;
    return `oklch(${light}% 0.12 ${((i * 137.5) % 360).toFixed(1)})`;
  });
  palette.push(dark.value ? "oklch(45% 0.01 260)" : "oklch(78% 0.01 260)");
  return { colours: of, palette };
}
