/** All that is known of a feature, and a place to try it. */
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { type Hit, type Page, page, type Snippet, type Token } from "../api/atlas";
import { Failure, inspect } from "../api/client";
import { Said } from "../parts/said";
import { Empty, Failed, Loading, useAsked } from "../parts/states";
import { featurePath, go } from "../router";
import { comparing } from "../state/conversation";
import { known, said } from "../state/known";
import { change, MOST, pin, pinned, pins, unpin } from "../state/pins";
import { dictionary, look, served } from "../state/session";
import { Strip } from "../tokens/strip";
import { Tokens, tokensOf } from "../tokens/tokens";
import { named, visible } from "../tokens/visible";
import { Effect } from "./effect";
import { Histogram } from "./histogram";
import { MiniMap } from "./minimap";

export function FeaturePage({ name, feature }: { name: string; feature: number }) {
  const has = served.value?.dictionaries.some((d) => d.name === name);
  if (has && dictionary.value?.name !== name) look(name);
  const [found, again] = useAsked(
    (signal) => (has ? page(name, feature, signal) : Promise.reject(new Failure(`The dictionary ${name} is not served here.`, 404))),
    [name, feature, has],
  );
  if (found.state === "loading") return <main class="page"><Loading what={`Looking up feature ${feature}`} /></main>;
  if (found.state === "failed")
    return (
      <main class="page">
        <h1>Feature {feature}</h1>
        <Failed error={found.error} {...(found.error instanceof Failure && found.error.status === 404 ? {} : { again })} />
      </main>
    );
  return <Shown name={name} told={found.value} />;
}

function Shown({ name, told }: { name: string; told: Page }) {
  const { feature } = told;
  known.note({ feature, share: 0, label: told.label ?? null, promotes: told.promotes ?? [] });
  const mine = pinned(feature);
  const words = said({ label: told.label ?? null, promotes: told.promotes ?? [] }, 6);
  const maximum = told.maximum ?? 1;
  return (
    <main class="page feature">
      <header class="title">
        <p class="quiet number">Feature {feature} <span title={`The dictionary ${name}`}>· {visible(told.site)}</span></p>
        <h1><Said {...words} /></h1>
        <Reliability told={told} />
        <div class="row">
          <button
            type="button"
            class="first"
            disabled={!mine && pins.value.length >= MOST}
            onClick={() => {
              pin(feature);
              change(feature, { kind: "set", strength: 1, on: true });
              comparing.value = true;
              go("/");
            }}
          >
            Turn it in the chat
          </button>
          <button type="button" aria-pressed={mine !== undefined} disabled={!mine && pins.value.length >= MOST} onClick={() => (mine ? unpin(feature) : pin(feature))}>
            {mine ? "Pinned" : "Pin"}
          </button>
        </div>
      </header>
      <dl class="facts">
        <Fact term="active on" title="The share of tokens on which it is active, over the measured text">
          {told.frequency == null ? "not measured" : `${(100 * told.frequency).toPrecision(2)} % of tokens`}
          {told.frequency != null && told.frequency > 0 && <small>one in {Math.round(1 / told.frequency).toLocaleString("en")}</small>}
        </Fact>
        <Fact term="its maximum" title="Its largest activation over the measured text: the unit of strengths and shares">
          {told.maximum == null ? "not measured" : told.maximum.toPrecision(3)}
          {told.mean != null && <small>mean where active {told.mean.toPrecision(2)}</small>}
        </Fact>
        {told.kind && <Fact term="kind" title="Dead: never active. Dense: active on more than a tenth of tokens. One token: nearly always the same one.">{told.kind}</Fact>}
      </dl>
      <div class="columns">
        <div>
          <Examples told={told} maximum={maximum} />
          <TryText name={name} feature={feature} maximum={maximum} />
          <Effect feature={feature} />
        </div>
        <div class="aside">
          <Section title="Turned up, it says" help="Tokens whose chance rises most when it is turned up, measured on a few openings">
            <TokenList tokens={told.promoted ?? (told.promotes ?? []).map((token) => ({ token }))} none="Not measured." />
          </Section>
          {told.suppressed && told.suppressed.length > 0 && (
            <Section title="and keeps from saying" help="Tokens whose chance falls most"><TokenList tokens={told.suppressed} none="" /></Section>
          )}
          {told.histogram && <Section title="How strong" help="How often it is how strong, where it is active"><Histogram counts={told.histogram} maximum={maximum} /></Section>}
          {told.tokens && told.tokens.length > 0 && (
            <Section title="Most often on" help="The tokens it is most often active on, with how often"><TokenList tokens={told.tokens} none="" /></Section>
          )}
          <Near title="Alike" help="Features whose decoder directions are nearest, with the cosine; random directions reach hardly more than 0.15" hits={told.alike} name={name} />
          <Near title="Active together" help="Features that are active on the same tokens, with how far beyond chance" hits={told.together} name={name} />
          <MiniMap name={name} feature={feature} />
        </div>
      </div>
    </main>
  );
}

function Reliability({ told }: { told: Page }) {
  if (!told.label) return <p class="quiet">No label held up on texts it was not written from; these are tokens it promotes.</p>;
  if (told.score == null) return null;
  return (
    <p class="quiet number" title="How well held-out texts are told apart by the label alone; the floor is what labels of other features reach">
      label tells {told.score.toFixed(2)} of texts apart{told.floor == null ? "" : `, where a wrong one reaches ${told.floor.toFixed(2)}`}
    </p>
  );
}

function Fact({ term, title, children }: { term: string; title: string; children: ComponentChildren }) {
  return (
    <div>
      <dt title={title}>{term}</dt>
      <dd class="number">{children}</dd>
    </div>
  );
}

export function Section({ title, help, children }: { title: string; help: string; children: ComponentChildren }) {
  return (
    <section>
      <h3 title={help}>{title}</h3>
      {children}
    </section>
  );
}

function TokenList({ tokens, none }: { tokens: readonly Token[]; none: string }) {
  if (!tokens.length) return <p class="quiet">{none}</p>;
  return (
    <ul class="chips">
      {tokens.slice(0, 14).map((t, i) => (
        <li key={i}>
          <bdi>{named(t.token)}</bdi>
          {t.count !== undefined && <span class="quiet number">{t.count.toLocaleString("en")}</span>}
        </li>
      ))}
    </ul>
  );
}

function Near({ title, help, hits, name }: { title: string; help: string; hits: readonly Hit[] | undefined; name: string }) {
  if (!hits?.length) return null;
  return (
    <Section title={title} help={help}>
      <ul class="near">
        {hits.slice(0, 8).map((hit) => (
          <li key={hit.feature}>
            <a href={featurePath(name, hit.feature)}><Said {...said(hit, 3)} /></a>
            <span class="quiet number">{hit.score.toFixed(2)}</span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

const BANDS = ["weakest", "weak", "middling", "strong", "strongest fifth"];

function Examples({ told, maximum }: { told: Page; maximum: number }) {
  const [band, setBand] = useState<number | null>(null);
  const shown = band === null ? (told.examples ?? []) : (told.bands?.[band] ?? []);
  const bands = told.bands?.some((b) => b.length) ? told.bands : null;
  return (
    <section class="examples">
      <div class="heads">
        <h2>Where it is active</h2>
        {bands && (
          <label>
            <span class="unseen">Which examples </span>
            <select value={band ?? ""} onChange={(e) => setBand(e.currentTarget.value === "" ? null : Number(e.currentTarget.value))}>
              <option value="">at its strongest</option>
              {bands.map((_, i) => <option key={i} value={i}>{BANDS[i] ?? i}</option>)}
            </select>
          </label>
        )}
        <span class="scale">silent <i /> at its maximum</span>
      </div>
      {shown.length === 0 && (
        <Empty>
          <p>{told.examples === undefined ? "No atlas is served with this dictionary, so there are no examples. Build one: pellucid atlas build." : told.kind === "dead" ? "It was never active in the text of the atlas." : "The text of the atlas is not on this machine, so its examples cannot be shown."}</p>
        </Empty>
      )}
      <ol>{shown.map((snippet, i) => <Shot key={`${band}-${i}`} snippet={snippet} feature={told.feature} maximum={maximum} />)}</ol>
    </section>
  );
}

function Shot({ snippet, feature, maximum }: { snippet: Snippet; feature: number; maximum: number }) {
  const tokens = useMemo(() => {
    const made = new Tokens();
    snippet.tokens.forEach((token, i) => made.push(token, [{ feature, share: (snippet.activations[i] ?? 0) / maximum, ...known.words(feature) }]));
    return made;
  }, [snippet]);
  return (
    <li>
      <Strip tokens={tokens} label="An example" only={feature} />
      <span class="quiet number" title="The strongest activation in it, as a share of its maximum">{(Math.max(0, ...snippet.activations) / maximum).toFixed(2)}</span>
    </li>
  );
}

function TryText({ name, feature, maximum }: { name: string; feature: number; maximum: number }) {
  const [text, setText] = useState("");
  const [state, set] = useState<"reading" | { tokens: Tokens } | { error: unknown } | null>(null);
  const run = async (): Promise<void> => {
    if (!text.trim()) return;
    set("reading");
    try {
      const { tokens } = await inspect({ text }, { dictionary: name, top: 0, features: [feature] });
      set({ tokens: tokensOf(tokens) });
    } catch (error) {
      set({ error });
    }
  };
  const tokens = state && typeof state === "object" && "tokens" in state ? state.tokens : null;
  const peak = tokens ? Math.max(0, ...Array.from({ length: tokens.length }, (_, i) => tokens.share(i, feature))) : 0;
  return (
    <section class="try">
      <h2>Try a text of your own</h2>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void run();
        }}
      >
        <textarea rows={2} dir="auto" aria-label="A text of your own" placeholder="Write something it might react to" value={text} onInput={(e) => setText(e.currentTarget.value)} />
        <button type="submit" disabled={!text.trim()}>Read it</button>
      </form>
      {state === "reading" && <Loading what="The model reads" />}
      {state && typeof state === "object" && "error" in state && <Failed error={state.error} again={() => void run()} />}
      {tokens && (
        <>
          <Strip tokens={tokens} label="Your text" only={feature} />
          <p class="quiet small number">{peak ? `at most ${peak.toFixed(2)} of its maximum (${(peak * maximum).toPrecision(3)})` : "silent on all of it"}</p>
        </>
      )}
    </section>
  );
}
