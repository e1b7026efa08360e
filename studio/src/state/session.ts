/** What the server serves, and which of its dictionaries the pages look through. */
import { computed, signal } from "@preact/signals";
import { type FeatureTold, feature as told } from "../api/atlas";
import * as api from "../api/client";
import { known } from "./known";
import { pins } from "./pins";

export interface Session {
  model: api.ModelTold;
  dictionaries: api.DictionaryTold[];
}

/** Null while it is asked for. */
export const session = signal<Session | api.Failure | null>(null);
const chosen = signal<string | null>(null);

export const served = computed(() => (session.value instanceof api.Failure ? null : session.value));

/** The dictionary that is looked through; null where the server has none. */
export const dictionary = computed(
  () => served.value?.dictionaries.find((d) => d.name === chosen.value) ?? served.value?.dictionaries[0] ?? null,
);

export async function open(): Promise<void> {
  session.value = null;
  try {
    const [model, dictionaries] = await Promise.all([api.model(), api.dictionaries()]);
    session.value = { model, dictionaries };
  } catch (error) {
    session.value = error instanceof api.Failure ? error : new api.Failure(String(error), 0);
  }
}

/** Look through another dictionary: numbers of features mean others there. */
export function look(name: string): void {
  if (name === dictionary.value?.name) return;
  chosen.value = name;
  pins.value = [];
  known.clear();
  facts.clear();
}

const facts = new Map<string, Promise<FeatureTold>>();

/** What is known of a feature, asked for once. */
export function fact(name: string, feature: number): Promise<FeatureTold> {
  const key = `${name}/${feature}`;
  const had = facts.get(key);
  if (had) return had;
  const asked = told(name, feature, { examples: 0 });
  facts.set(key, asked);
  asked.then(
    (found) => known.note({ ...found, share: 0 }),
    () => facts.delete(key),
  );
  return asked;
}
