import type { ComponentChildren } from "preact";

/** A small part of a page, with what it is about one hover away. */
export function Section({ title, help, children }: { title: string; help: string; children: ComponentChildren }) {
  return (
    <section>
      <h3 title={help}>{title}</h3>
      {children}
    </section>
  );
}
