import { useLayoutEffect, useRef } from "preact/hooks";
import type { Tokens } from "./tokens";
import { View } from "./view";

interface StripProps {
  tokens: Tokens;
  label: string;
  only?: number;
  flat?: boolean;
}

/** Tokens as text, tinted by the pinned features or by one feature only; arrow keys move along them. */
export function Strip({ tokens, label, only, flat = false }: StripProps) {
  const host = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!host.current) return;
    const view = new View(host.current, tokens, only, flat);
    return () => view.end();
  }, [tokens, only, flat]);
  return <div ref={host} class="strip" role="group" tabIndex={0} aria-label={`${label}; arrow keys move along the tokens`} />;
}
