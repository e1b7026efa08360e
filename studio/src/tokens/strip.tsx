import { useLayoutEffect, useRef } from "preact/hooks";
import type { Tokens } from "./tokens";
import { View } from "./view";

/** Tokens as text, tinted; arrow keys move along them. */
export function Strip({ tokens, label }: { tokens: Tokens; label: string }) {
  const host = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!host.current) return;
    const view = new View(host.current, tokens);
    return () => view.end();
  }, [tokens]);
  return <div ref={host} class="strip" role="group" tabIndex={0} aria-label={`${label}; arrow keys move along the tokens`} />;
}
