/** Work that is done once before the next picture is drawn, however often it is asked for. */

/** Lets the page do what it has to before a long work goes on. */
export const breath = (): Promise<void> => new Promise((go) => setTimeout(go));

const waiting = new Map<object, () => void>();
let asked = false;

/** Do something before the next picture; of the same key the last wins. */
export function onFrame(key: object, work: () => void): void {
  waiting.set(key, work);
  if (asked) return;
  asked = true;
  // A page that is not seen gets no frames, and an answer goes on being written.
  if (typeof requestAnimationFrame === "undefined" || document.hidden) setTimeout(flush, 100);
  else requestAnimationFrame(flush);
}

function flush(): void {
  asked = false;
  const work = [...waiting.values()];
  waiting.clear();
  for (const each of work) each();
}
