import { visible } from "../tokens/visible";

const TITLES = {
  label: "What switches it on, in words that held up on texts they were not written from",
  promotes: "Tokens that it makes the model say when it is turned up; it has no reliable label",
  none: "Neither a reliable label nor promoted tokens are known",
};

/** Words that stand for a feature; a label looks another way than promoted tokens do. */
export function Said({ text, kind }: { text: string; kind: keyof typeof TITLES }) {
  return (
    <bdi class={`said ${kind}`} title={TITLES[kind]}>
      {kind === "promotes" && <span aria-hidden="true">↗ </span>}
      {visible(text)}
    </bdi>
  );
}
