/** What the server tells of an atlas: pages of features, searches, the map. */
import type { Points } from "../map/points";
import { ask, Failure } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type FeatureTold = Schemas["FeatureTold"];
export type Found = Schemas["SearchTold"];
export type Hit = Pick<Schemas["FoundTold"], "feature" | "label" | "promotes">;
export type Similar = Schemas["Similar"];
export type Coactive = Schemas["Coactive"];
export type Example = Schemas["ExampleTold"];
export type MapTold = Schemas["MapTold"];
export type By = "words" | "meaning" | "prompt" | "effect";

/** A feature, with so many examples where it is strongest, and so many of each band. */
export const feature = async (
  dictionary: string,
  number: number,
  { examples, bands = 0 }: { examples: number; bands?: number },
  signal?: AbortSignal,
): Promise<FeatureTold> => {
  const asked = new URLSearchParams({ dictionary, examples: String(examples), bands: String(bands) });
  return (await (await ask(`/v1/features/${number}?${asked}`, signal ? { signal } : {})).json()) as FeatureTold;
};

const COUNT = 30;

export async function search(dictionary: string, by: By, query: string, signal: AbortSignal): Promise<Found> {
  const shared = { dictionary, count: COUNT };
  const body =
    by === "prompt" ? { by, text: query, ...shared }
    : by === "effect" ? { by, words: query.split(/[\s,]+/).filter(Boolean).slice(0, 16), ...shared, count: 10 }
    : { by, query, ...shared };
  const response = await ask("/v1/features/search", { method: "POST", body: JSON.stringify(body), signal });
  return response.json() as Promise<Found>;
}

/** The map of a dictionary; null where there is none. */
export async function map(dictionary: string, signal: AbortSignal): Promise<Points | null> {
  const which = `dictionary=${encodeURIComponent(dictionary)}`;
  try {
    const [told, bytes] = await Promise.all([
      ask(`/v1/map?${which}`, { signal }).then((r) => r.json() as Promise<MapTold>),
      ask(`/v1/map/points?${which}`, { signal }).then((r) => r.arrayBuffer()),
    ]);
    const { pointsOf } = await import("../map/arrow");
    return pointsOf(new Uint8Array(bytes), told);
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    throw error;
  }
}
