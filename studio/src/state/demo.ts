/** What `pellucid studio --demo` offers to begin with; null where the server offers nothing. */
import { signal } from "@preact/signals";
import { ask } from "../api/client";

export interface Demo {
  feature: number;
  /** What it is for, in a word. */
  name: string;
  strength: number;
}

export const demo = signal<Demo | null>(null);

export async function load(): Promise<void> {
  const told = (await (await ask("/studio.json")).json()) as { demo: Demo | null };
  demo.value = told.demo;
}
