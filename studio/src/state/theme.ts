/** Light or dark: as the system has it, unless somebody chose. */
import { computed, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "pellucid-theme";
const saved = globalThis.localStorage?.getItem(KEY);

export const theme = signal<Theme>(saved === "light" || saved === "dark" ? saved : "system");

const asked = globalThis.matchMedia?.("(prefers-color-scheme: dark)");
const system = signal(asked?.matches ?? false);
asked?.addEventListener("change", (event) => {
  system.value = event.matches;
});

/** Whether it is dark now. */
export const dark = computed(() => (theme.value === "system" ? system.value : theme.value === "dark"));

export function apply(): void {
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
}

export function next(): void {
  const order: Theme[] = system.value ? ["system", "light", "dark"] : ["system", "dark", "light"];
  theme.value = order[(order.indexOf(theme.value) + 1) % order.length] ?? "system";
  if (theme.value === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme.value);
  apply();
}
