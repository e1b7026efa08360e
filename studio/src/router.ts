/** Where in the studio we are; every page has an address of its own. */
import { computed, signal } from "@preact/signals";

export type Route =
  | { page: "chat" }
  | { page: "inspect" }
  | { page: "map" }
  | { page: "feature"; dictionary: string; feature: number }
  | { page: "nowhere" };

/** The page that an address names. */
export function routeOf(path: string): Route {
  const parts = path.split("/").filter(Boolean);
  if (parts.length === 0) return { page: "chat" };
  if (parts.length === 1 && (parts[0] === "inspect" || parts[0] === "map")) return { page: parts[0] };
  const [first, dictionary, number] = parts;
  if (first === "features" && dictionary && number && parts.length === 3 && /^\d{1,9}$/.test(number)) {
    try {
      return { page: "feature", dictionary: decodeURIComponent(dictionary), feature: Number(number) };
    } catch {
      return { page: "nowhere" };
    }
  }
  return { page: "nowhere" };
}

export const featurePath = (dictionary: string, feature: number): string =>
  `/features/${encodeURIComponent(dictionary)}/${feature}`;

const place = signal(globalThis.location?.pathname ?? "/");
export const route = computed(() => routeOf(place.value));

export function go(path: string): void {
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  place.value = location.pathname;
  scrollTo(0, 0);
}

/** Follow links within the studio without loading it again. */
export function follow(): void {
  addEventListener("popstate", () => {
    place.value = location.pathname;
  });
  addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest("a");
    if (!link || link.target || link.download || link.origin !== location.origin) return;
    if (link.pathname === location.pathname && link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
