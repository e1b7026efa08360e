import { signal } from "@preact/signals";
import type { Hit } from "../api/atlas";

/** What was found last, so that the map can show it. */
export const lastHits = signal<{ hits: readonly Hit[]; query: string }>({ hits: [], query: "" });
