/** One prompt answered plainly and with the feature turned, as a slider says. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { SideView } from "../chat/turn";
import { begin, type Side } from "../state/conversation";
import type { Edit } from "../state/pins";

export function Effect({ feature }: { feature: number }) {
  const prompt = useSignal("Tell me about yourself.");
  const strength = useSignal(1);
  const plain = useSignal<Side | null>(null);
  const edited = useSignal<Side | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const end = () => {
    clearTimeout(timer.current);
    plain.value?.abort.abort();
    edited.value?.abort.abort();
  };
  useEffect(() => end, [feature]);
  const write = (both: boolean) => {
    const messages = [{ role: "user" as const, content: prompt.value }];
    const edit: Edit = { feature, kind: "set", strength: strength.value, scope: "all" };
    edited.value?.abort.abort();
    edited.value = begin(messages, [edit], { most: 60, features: [feature] });
    if (!both) return;
    plain.value?.abort.abort();
    plain.value = begin(messages, [], { most: 60, features: [feature] });
  };
  return (
    <section class="try">
      <h2>Try its effect</h2>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          write(true);
        }}
      >
        <input aria-label="A prompt" value={prompt.value} onInput={(e) => (prompt.value = e.currentTarget.value)} />
        <button type="submit" disabled={!prompt.value.trim()}>Answer</button>
      </form>
      <label class="strength">
        <span class="quiet">hold it at</span>
        <input
          type="range"
          min={-4}
          max={4}
          step={0.1}
          value={strength.value}
          aria-valuetext={`${strength.value} times its maximum`}
          onInput={(e) => {
            strength.value = Number(e.currentTarget.value);
            if (!edited.value) return;
            clearTimeout(timer.current);
            timer.current = setTimeout(() => write(false), 300);
          }}
        />
        <output class="number">{strength.value.toFixed(1).replace("-", "−")} × its maximum</output>
      </label>
      {edited.value && plain.value && (
        <div class="sides both">
          <SideView side={plain.value} title="plain" only={feature} />
          <SideView side={edited.value} title="turned" only={feature} />
        </div>
      )}
    </section>
  );
}
