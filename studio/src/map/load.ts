/** The points of a dictionary's map, fetched once. */
import { map } from "../api/atlas";
import { type Asked, useAsked } from "../parts/states";
import type { Points } from "./points";

const had = new Map<string, Points>();

/** Null where there is no map. */
export function useMapPoints(name: string): [Asked<Points | null>, () => void] {
  return useAsked(
    async (signal) => {
      const known = had.get(name);
      if (known) return known;
      const found = await map(name, signal);
      if (!found) return null;
      had.clear();
      had.set(name, found);
      return found;
    },
    [name],
  );
}
