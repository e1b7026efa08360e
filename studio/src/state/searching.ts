import { signal } from "@preact/signals";

/** Whether the search is open. */
export const searching = signal(false);
