/** The first three moves: shown while a conversation is empty, and beside it until they are made. */
import { computed, useSignal } from "@preact/signals";
import { comparing, send, turns } from "../state/conversation";
import { edits, pin, pins } from "../state/pins";
import { dictionary, served } from "../state/session";
import { demo } from "../state/demo";

const PROMPTS = ["Tell me about yourself.", "Write a short story about a lighthouse.", "What should I cook tonight?"];

const made = computed(() => ({
  ask: turns.value.length > 0,
  pin: pins.value.length > 0,
  turn: turns.value.some((t) => t.edited.value && t.plain.value),
}));

export function Guide({ whole = false }: { whole?: boolean }) {
  const away = useSignal(false);
  const { ask, pin: chosen, turn } = made.value;
  if (!whole && (away.value || turn)) return null;
  const shown = demo.value;
  const offered = shown && pins.value.every((p) => p.feature !== shown.feature) ? shown : null;
  return (
    <section class={whole ? "guide whole" : "guide"} aria-label="The first three moves">
      {whole ? (
        <>
          <p class="display">See what a model is thinking of, word by word, and turn it.</p>
          <p class="quiet lead">
            {dictionary.value && served.value
              ? `${served.value.model.id} is here, with a dictionary of ${dictionary.value.features.toLocaleString("en")} features. A feature is a direction inside the model that lights up on certain texts.`
              : ""}
          </p>
        </>
      ) : (
        <header>
          <h3>First moves</h3>
          <button type="button" class="plain" aria-label="Hide the first moves" onClick={() => (away.value = true)}>✕</button>
        </header>
      )}
      <ol>
        <li class={ask ? "done" : ""}>
          <b>Ask.</b> A word of the answer is tinted where a feature in it is strong: the more, the nearer to its maximum.
          {whole && (
            <div class="prompts">
              {PROMPTS.map((text) => (
                <button type="button" key={text} onClick={() => send(text)}>{text}</button>
              ))}
            </div>
          )}
        </li>
        <li class={chosen ? "done" : ""}>
          <b>Point at a word</b> to see its strongest features, and pin one: it gets a colour and a lane.
          {offered && ask && (
            <div class="prompts">
              <button type="button" onClick={() => pin(offered.feature)}>Pin the one for {offered.name}</button>
            </div>
          )}
        </li>
        <li class={turn ? "done" : ""}>
          <b>Turn it.</b> Switch on <i>compare</i> and move its slider: the answer is written again, beside the plain one, with a receipt
          of what the edit did.
          {chosen && ask && !turn && (
            <div class="prompts">
              <button
                type="button"
                onClick={() => {
                  comparing.value = true;
                  if (!edits.value.length)
                    pins.value = pins.value.map((p, i) => (i === 0 ? { ...p, kind: "set", strength: offeredStrength(p.feature), on: true } : p));
                }}
              >
                Turn the first one up
              </button>
            </div>
          )}
        </li>
      </ol>
    </section>
  );
}

const offeredStrength = (feature: number): number => (demo.value?.feature === feature ? demo.value.strength : 1);
