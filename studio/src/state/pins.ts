/** Features that were chosen: each has a colour, a lane along the conversation, and a slider. */
import { computed, signal } from "@preact/signals";
import type { components } from "../api/schema";

export type Edit = components["schemas"]["EditOfFeature"];
export type Kind = Edit["kind"];

export interface Pin {
  feature: number;
  /** Which of the colours it has. */
  colour: number;
  kind: Kind;
  /** In multiples of the feature's maximum; for `scale`, of its activation. */
  strength: number;
  /** Whether it is edited; a pin may be there to be watched alone. */
  on: boolean;
}

/** As many as colours that tell apart, also for those who see fewer. */
export const MOST = 6;

export const pins = signal<readonly Pin[]>([]);

/** What the pins ask for. */
export const edits = computed<Edit[]>(() => pins.value.filter((p) => p.on).map(editOf));

export function editOf(pin: Pin): Edit {
  return { feature: pin.feature, kind: pin.kind, strength: pin.kind === "ablate" ? 0 : pin.strength, scope: "all" };
}

export const pinned = (feature: number): Pin | undefined => pins.value.find((p) => p.feature === feature);

/** Choose a feature, with the first colour that is free; false when there are no more colours. */
export function pin(feature: number): boolean {
  if (pinned(feature)) return true;
  const taken = new Set(pins.value.map((p) => p.colour));
  const colour = Array.from({ length: MOST }, (_, i) => i).find((i) => !taken.has(i));
  if (colour === undefined) return false;
  pins.value = [...pins.value, { feature, colour, kind: "set", strength: 0, on: false }];
  return true;
}

export function unpin(feature: number): void {
  pins.value = pins.value.filter((p) => p.feature !== feature);
}

export function change(feature: number, to: Partial<Omit<Pin, "feature" | "colour">>): void {
  pins.value = pins.value.map((p) => (p.feature === feature ? { ...p, ...to } : p));
}

/** Take edits over from a recipe or a file: what is pinned already is changed, the rest pinned while colours last. */
export function take(from: readonly Edit[]): number {
  let left = 0;
  for (const edit of from) {
    if (!pin(edit.feature)) {
      left += 1;
      continue;
    }
    change(edit.feature, { kind: edit.kind, strength: edit.strength, on: true });
  }
  return left;
}

/** An edit in words. */
export function inWords(edit: Edit): string {
  const strength = +edit.strength.toFixed(2);
  switch (edit.kind) {
    case "set": return `held at ${strength} × its maximum`;
    case "add": return `${strength < 0 ? "lowered" : "raised"} by ${Math.abs(strength)} × its maximum`;
    case "scale": return `scaled by ${strength}`;
    case "cap": return `capped at ${strength} × its maximum`;
    case "ablate": return "switched off";
  }
}
