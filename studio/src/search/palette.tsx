/** Search from anywhere: by words, by meaning, by what is strongest on a text, or by number. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { type By, type Found, type Hit, search } from "../api/atlas";
import { Dialog } from "../parts/dialog";
import { Said } from "../parts/said";
import { Failed } from "../parts/states";
import { featurePath, go } from "../router";
import { known, said } from "../state/known";
import { MOST, pin, pinned, pins } from "../state/pins";
import { searching } from "../state/searching";
import { dictionary, fact } from "../state/session";
import { lastHits } from "./last";

const WAYS: { by: By; name: string; title: string; example: string }[] = [
  { by: "words", name: "Words", title: "Labels, promoted tokens and examples that hold these words", example: "music" },
  { by: "meaning", name: "Meaning", title: "Labels and examples that mean something like it, in other words", example: "things you hear" },
  { by: "prompt", name: "Prompt", title: "Features that are strongest while the model reads this text", example: "The choir sang softly." },
  { by: "effect", name: "Effect", title: "Features that make the model say these words when they are turned up; tried on the model, which takes a while", example: "ocean, sea, waves" },
];
const WAIT_MS = 140;
/** The model reads for these, so they wait until nothing more is written. */
const SLOW_MS = 500;

export function Palette() {
  const [by, setBy] = useState<By>("words");
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<Pick<Found, "features" | "chance" | "scale"> | null>(null);
  const hits: readonly Hit[] | null = found?.features ?? null;
  const [busy, setBusy] = useState(false);
  const [error, fail] = useState<unknown>(null);
  const [at, move] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const id = useId();
  const looked = dictionary.value;
  const close = () => {
    searching.value = false;
  };

  useEffect(() => {
    const wanted = query.trim();
    fail(null);
    if (!wanted || !looked) {
      setFound(null);
      setBusy(false);
      return;
    }
    const gone = new AbortController();
    const timer = setTimeout(() => {
      setBusy(true);
      find(looked.name, looked.features, by, wanted, gone.signal).then(
        (told) => {
          if (gone.signal.aborted) return;
          for (const hit of told.features) known.note({ ...hit, share: 0 });
          lastHits.value = { hits: told.features, query: wanted };
          setFound(told);
          setBusy(false);
          move(0);
        },
        (e: unknown) => {
          if (gone.signal.aborted) return;
          fail(e);
          setBusy(false);
        },
      );
    }, by === "words" || by === "meaning" ? WAIT_MS : SLOW_MS);
    return () => {
      clearTimeout(timer);
      gone.abort();
    };
  }, [query, by, looked?.name]);

  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);

  const open = (hit: Hit | undefined) => {
    if (!hit || !looked) return;
    close();
    go(featurePath(looked.name, hit.feature));
  };
  const chosen = hits?.[at];
  const way = WAYS.find((w) => w.by === by) ?? WAYS[0];
  void pins.value;
  return (
    <Dialog title="Search features" close={close} kind="palette">
      <div class="ways" role="radiogroup" aria-label="How to search">
        {WAYS.map((w) => (
          <label key={w.by} title={w.title}>
            <input type="radio" name="by" checked={by === w.by} onChange={() => setBy(w.by)} /> {w.name}
          </label>
        ))}
        <span class="quiet small">{way?.title}</span>
      </div>
      <input
        class="query"
        role="combobox"
        aria-label="Search features"
        aria-expanded={Boolean(hits?.length)}
        aria-controls={`${id}-hits`}
        aria-activedescendant={chosen ? `${id}-${chosen.feature}` : undefined}
        autofocus
        autocomplete="off"
        placeholder={`${way?.example}, or a feature's number`}
        value={query}
        onInput={(e) => setQuery(e.currentTarget.value)}
        onKeyDown={(e) => {
          const last = (hits?.length ?? 1) - 1;
          const to = { ArrowDown: Math.min(last, at + 1), ArrowUp: Math.max(0, at - 1) }[e.key];
          if (to !== undefined) move(to);
          else if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) chosen && pin(chosen.feature);
          else if (e.key === "Enter") open(chosen);
          else return;
          e.preventDefault();
        }}
      />
      <div class="found" aria-busy={busy} tabIndex={0}>
        {error !== null && <Failed error={error} />}
        {error === null && hits?.length === 0 && (
          <p class="state">Nothing was found by {by}. {by === "words" ? "Try it by meaning." : by === "meaning" ? "Try it by words, or paste a text as a prompt." : ""}</p>
        )}
        <ul role="listbox" id={`${id}-hits`} aria-label="Features found" ref={list}>
          {error === null && hits?.map((hit, i) => (
            <li
              key={hit.feature}
              id={`${id}-${hit.feature}`}
              role="option"
              aria-selected={i === at}
              class={pinned(hit.feature) ? `p${pinned(hit.feature)?.colour}` : ""}
              onPointerMove={() => i !== at && move(i)}
              onClick={() => open(hit)}
            >
              {pinned(hit.feature) && <i class="swatch" />}
              <Said {...said(hit)} />
              {found && <Score hit={found.features[i]} scale={found.scale} />}
              <span class="quiet number">{hit.feature}</span>
            </li>
          ))}
        </ul>
      </div>
      <footer class="quiet small">
        <span role="status">{busy ? "Searching…" : found ? `${found.features.length} features${found.chance ? `; chance reaches ${found.chance.high.toFixed(2)}` : ""}` : ""}</span>
        <span><kbd>↑</kbd> <kbd>↓</kbd> choose · <kbd>Enter</kbd> open its page</span>
        <button type="button" disabled={!chosen || pinned(chosen.feature) !== undefined || pins.value.length >= MOST} onClick={() => chosen && pin(chosen.feature)}>
          {chosen && pinned(chosen.feature) ? "Pinned" : "Pin"} <kbd>Ctrl</kbd> <kbd>Enter</kbd>
        </button>
      </footer>
    </Dialog>
  );
}

/** How well a feature fits, with its unit; by words the score ranks and means nothing else. */
function Score({ hit, scale }: { hit: Found["features"][number] | undefined; scale: string }) {
  if (!hit) return null;
  if (hit.share != null) return <span class="quiet number" title="Its peak on the text, as a share of its maximum">{hit.share.toFixed(2)} of its maximum</span>;
  if (scale === "cosine") return <span class="quiet number" title="Cosine between what is said of it and the query">{hit.score.toFixed(2)}</span>;
  if (scale === "rise") return <span class="quiet number" title="How far turning it up raises the words' chance">{hit.score.toFixed(1)} nats</span>;
  return null;
}

/** A number names its feature; everything else is searched for. */
async function find(name: string, features: number, by: By, query: string, signal: AbortSignal): Promise<Pick<Found, "features" | "chance" | "scale">> {
  if (/^\d{1,9}$/.test(query) && Number(query) < features) {
    const told = await fact(name, Number(query));
    const { feature, label, promotes } = told;
    return { features: [{ feature, label, promotes, score: 1 }], chance: null, scale: "number" };
  }
  return search(name, by, query, signal);
}
