/** What the server tells of an atlas: pages of features, search, the map. */
import type { Points } from "../map/points";
import { ask, type FeatureTold } from "./client";

/** A feature named somewhere: in a search, beside another. */
export interface Hit {
  feature: number;
  label: string | null;
  promotes: string[];
  /** How well it fits; between searches of another kind it means another thing. */
  score: number;
}

export type By = "words" | "meaning" | "prompt";

/** Text with a feature's activation on each token. */
export interface Snippet {
  tokens: string[];
  activations: number[];
}

export interface Token {
  token: string;
  count?: number;
  score?: number;
}

/** All that an atlas knows of a feature; what it was not built with is absent. */
export interface Page extends FeatureTold {
  kind?: string;
  count?: number;
  mean?: number;
  score?: number | null;
  floor?: number | null;
  effect?: string | null;
  histogram?: number[];
  examples?: Snippet[];
  bands?: Snippet[][];
  tokens?: Token[];
  promoted?: Token[];
  suppressed?: Token[];
  sources?: { name: string; count: number }[];
  alike?: Hit[];
  together?: Hit[];
}

export const page = async (dictionary: string, feature: number, signal: AbortSignal): Promise<Page> =>
  (await ask(`/v1/features/${feature}?dictionary=${encodeURIComponent(dictionary)}`, { signal })).json() as Promise<Page>;

export async function search(dictionary: string, by: By, query: string, signal: AbortSignal): Promise<Hit[]> {
  const asked = new URLSearchParams({ dictionary, by, query, count: "30" });
  return ((await ask(`/v1/features/search?${asked}`, { signal })).json()) as Promise<Hit[]>;
}

export async function map(dictionary: string, signal: AbortSignal): Promise<Points> {
  void dictionary;
  void signal;
  throw new Error("This atlas has no map.");
}
