/** Paste a text or open a file, and see which features are active on each of its tokens. */
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { Failure, inspect } from "../api/client";
import { save } from "../parts/file";
import { percent } from "../parts/number";
import { Said } from "../parts/said";
import { Failed, Loading } from "../parts/states";
import { featurePath } from "../router";
import { known, said } from "../state/known";
import { MOST, pin, pinned, pins, unpin } from "../state/pins";
import { dictionary, fact } from "../state/session";
import { Strip } from "../tokens/strip";
import { type Tokens, tokensOfText } from "../tokens/tokens";
import { Lane } from "./lane";
import { csv, type Order, ordered, ranked } from "./ranking";

const MOST_TEXT = 400_000;
const ROWS = 24;
const EXAMPLES = [
  ["A scene", "The orchestra played by the sea while the tide came in. A judge, a nurse and two soldiers sat in the front row, eating fresh bread with cheese."],
  ["Some code", "def area(radius):\n    # of a circle\n    return 3.14159 * radius ** 2\n"],
  ["Two languages", "Merci beaucoup, he said, and went home. Bonne nuit, answered the conductor."],
] as const;
const ORDERS: [Order, string][] = [["peak", "strongest"], ["unusual", "unusual here"], ["active", "most often"], ["first", "as they come"]];

const text = signal("");
const state = signal<{ reading: true } | { failed: unknown } | { tokens: Tokens; of: string } | null>(null);
let gone = new AbortController();

async function readText(): Promise<void> {
  const name = dictionary.value?.name;
  if (!name || !text.value.trim()) return;
  gone.abort();
  gone = new AbortController();
  const { signal } = gone;
  state.value = { reading: true };
  try {
    if (text.value.length > MOST_TEXT) throw new Failure(`The text has ${text.value.length.toLocaleString("en")} characters; at most ${MOST_TEXT.toLocaleString("en")} can be read.`, 0);
    const { tokens } = await inspect({ text: text.value }, { dictionary: name, top: 40 }, signal);
    state.value = { tokens: tokensOfText(tokens), of: name };
  } catch (error) {
    if (!signal.aborted) state.value = { failed: error };
  }
}

async function openFile(file: File | undefined): Promise<void> {
  if (!file) return;
  if (file.size > 4 * MOST_TEXT) {
    state.value = { failed: new Error(`${file.name} is too large: at most ${MOST_TEXT.toLocaleString("en")} characters can be read.`) };
    return;
  }
  text.value = await file.text();
  await readText();
}

export function InspectPage() {
  const now = state.value;
  return (
    <main class="page inspect">
      <h1>Inspect</h1>
      <p class="quiet lead">Give a text, and see which features are active on each token the model reads.</p>
      <form
        class="paste"
        onSubmit={(e) => {
          e.preventDefault();
          void readText();
        }}
      >
        <textarea rows={4} dir="auto" aria-label="Text" placeholder="Paste a text" value={text.value} onInput={(e) => (text.value = e.currentTarget.value)} />
        <div class="row">
          <button type="submit" class="first" disabled={!text.value.trim() || !dictionary.value}>Read it</button>
          <label class="button">
            Open a file
            <input type="file" accept="text/*,.txt,.md,.json,.csv,.py" onChange={(e) => void openFile(e.currentTarget.files?.[0])} />
          </label>
          {now === null && EXAMPLES.map(([name, example]) => (
            <button
              type="button"
              class="plain"
              key={name}
              onClick={() => {
                text.value = example;
                void readText();
              }}
            >
              {name}
            </button>
          ))}
        </div>
      </form>
      {dictionary.value === null && <p class="quiet">No dictionary is served with this model, so there is nothing to inspect by.</p>}
      {now && "reading" in now && <Loading what="The model reads" />}
      {now && "failed" in now && <Failed error={now.failed} again={() => void readText()} />}
      {now && "tokens" in now && now.of === dictionary.value?.name && <Found tokens={now.tokens} dictionary={now.of} />}
    </main>
  );
}

function Found({ tokens, dictionary: name }: { tokens: Tokens; dictionary: string }) {
  const [order, setOrder] = useState<Order>("peak");
  const [rows, setRows] = useState(ROWS);
  const usual = useUsual(name, tokens);
  void known.version.value;
  const all = ranked(tokens);
  const list = ordered(all, order, tokens.length, (f) => usual.get(f)).slice(0, rows);
  const label = (f: number): string => said(known.words(f)).text;
  return (
    <>
      <section aria-label="The text" class="read">
        <Strip tokens={tokens} label="The text" />
        <p class="quiet small number">
          {tokens.length.toLocaleString("en")} tokens, {all.length.toLocaleString("en")} features active ·{" "}
          <span title="Models use the first token as an attention sink: its activation is many times longer than others, whatever the text">the first is left out</span> ·{" "}
          <span class="scale">{pins.value.length ? "silent" : "at half"} <i /> at its maximum</span>
        </p>
      </section>
      <section aria-labelledby="heat">
        <div class="heads">
          <h2 id="heat">Features over the text</h2>
          <label>
            Order{" "}
            <select value={order} onChange={(e) => setOrder(e.currentTarget.value as Order)}>
              {ORDERS.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
            </select>
          </label>
          <span class="row">
            <button type="button" class="plain" onClick={() => save("features.csv", csv(tokens, label), "text/csv")}>Export CSV</button>
            <button
              type="button"
              class="plain"
              onClick={() =>
                save("features.json", JSON.stringify({
                  dictionary: name,
                  tokens: tokens.texts.map((token, i) => {
                    const { ids, shares } = tokens.at(i);
                    return { token, features: [...ids].map((feature, k) => ({ feature, share: +(shares[k] ?? 0).toFixed(5) })) };
                  }),
                }))
              }
            >
              JSON
            </button>
          </span>
        </div>
        {all.length === 0 && <p class="quiet">No feature of the dictionary is active anywhere in this text.</p>}
        {all.length > 0 && (
          <p class="heat-head quiet small" aria-hidden="true">
            <span>pin</span>
            <span>feature</span>
            <span>from the first token to the last</span>
            <span>of its maximum</span>
            <span>active on</span>
          </p>
        )}
        <ul class="heat">
          {list.map((r) => {
            const mine = pinned(r.feature);
            const here = r.active / tokens.length;
            const often = usual.get(r.feature);
            return (
              <li key={r.feature} class={mine ? `p${mine.colour}` : ""}>
                <button
                  type="button"
                  class="pinner"
                  aria-pressed={mine !== undefined}
                  disabled={!mine && pins.value.length >= MOST}
                  aria-label={`${mine ? "Unpin" : "Pin"} feature ${r.feature}`}
                  onClick={() => (mine ? unpin(r.feature) : pin(r.feature))}
                >
                  {mine ? "●" : "○"}
                </button>
                <a href={featurePath(name, r.feature)} title={`Feature ${r.feature}`}><Said {...said(known.words(r.feature))} /></a>
                <Lane tokens={tokens} feature={r.feature} peak={r.peak} />
                <span class="quiet number" title="Its highest activation here, as a share of its maximum">peak {r.peak.toFixed(2)}</span>
                <span class="quiet number" title="The share of tokens on which it is active, here and over the measured text">
                  {percent(here)}{often === undefined ? "" : `, usually ${percent(often)}`}
                </span>
              </li>
            );
          })}
        </ul>
        {all.length > rows && <button type="button" onClick={() => setRows(rows * 2)}>Show more</button>}
      </section>
    </>
  );
}

/** How often each of the strongest features is active elsewhere. */
function useUsual(name: string, tokens: Tokens): ReadonlyMap<number, number> {
  const [found, set] = useState<ReadonlyMap<number, number>>(new Map());
  useEffect(() => {
    let live = true;
    const wanted = ordered(ranked(tokens), "peak", tokens.length).slice(0, 2 * ROWS);
    void Promise.allSettled(wanted.map((r) => fact(name, r.feature))).then((all) => {
      if (!live) return;
      const told = all.flatMap((f) => (f.status === "fulfilled" ? [f.value] : []));
      set(new Map(told.flatMap((f) => (f.page ? [[f.feature, f.page.frequency] as const] : f.frequency === null ? [] : [[f.feature, f.frequency] as const]))));
    });
    return () => {
      live = false;
    };
  }, [name, tokens]);
  return found;
}
