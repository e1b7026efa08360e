/** The points of a dictionary's map, fetched once. */
import { map } from "../api/atlas";
import { type Asked, useAsked } from "../parts/states";
import type { Points } from "./points";

const had = new Map<string, Points>();

export function useMapPoints(name: string): [Asked<Points>, () => void] {
  return useAsked(
    async (signal) => {
      const known = had.get(name);
      if (known) return known;
      const found = await map(name, signal);
      had.clear();
      had.set(name, found);
      return found;
    },
    [name],
  );
}
