/** What a page shows while there is nothing to show: it is empty, it loads, or it failed. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failure } from "../api/client";
import { visible } from "../tokens/visible";

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="state empty">{children}</div>;
}

/** Says so after a tenth of a second; what is quicker does not flicker. */
export function Loading({ what }: { what: string }) {
  const [shown, show] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => show(true), 100);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="state" role="status">
      {shown && (
        <p>
          <span class="pulse" aria-hidden="true" /> {what}…
        </p>
      )}
    </div>
  );
}

export function Failed({ error, again }: { error: unknown; again?: () => void }) {
  const message = error instanceof Error ? error.message : String(error);
  const wait = error instanceof Failure ? error.retryAfter : null;
  return (
    <div class="state failed" role="alert">
      <p>{visible(message)}</p>
      {wait !== null && <p class="quiet">Try again in {wait} s.</p>}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export type Asked<T> = { state: "loading" } | { state: "failed"; error: unknown } | { state: "there"; value: T };

/** Ask for something when what it depends on changes; what is no longer wanted is given up. */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, on: readonly unknown[]): [Asked<T>, () => void] {
  const [found, set] = useState<Asked<T>>({ state: "loading" });
  const [again, count] = useState(0);
  useEffect(() => {
    const gone = new AbortController();
    set({ state: "loading" });
    ask(gone.signal).then(
      (value) => !gone.signal.aborted && set({ state: "there", value }),
      (error: unknown) => !gone.signal.aborted && set({ state: "failed", error }),
    );
    return () => gone.abort();
  }, [...on, again]);
  return [found, () => count((n) => n + 1)];
}
