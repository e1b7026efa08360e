/** All that is known of a feature, and a place to try it. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type FeatureTold, feature as ask, type Hit } from "../api/atlas";
import { Failure, inspect } from "../api/client";
import { count, percent } from "../parts/number";
import { Said } from "../parts/said";
import { Section } from "../parts/section";
import { siteInWords } from "../parts/site";
import { Failed, Loading, useAsked } from "../parts/states";
import { featurePath, go } from "../router";
import { comparing } from "../state/conversation";
import { known, said } from "../state/known";
import { change, MOST, pin, pinned, pins, unpin } from "../state/pins";
import { dictionary, look, served } from "../state/session";
import { Strip } from "../tokens/strip";
import { type Tokens, tokensOfText } from "../tokens/tokens";
import { named, visible } from "../tokens/visible";
import { Effect } from "./effect";
import { Examples, SHOWN } from "./examples";
import { Columns, Histogram } from "./histogram";
import { MiniMap } from "./minimap";

/** A map of more features than that is fetched on its own page alone. */
const MOST_SMALL_MAP = 200_000;

export function FeaturePage({ name, feature }: { name: string; feature: number }) {
  const has = served.value?.dictionaries.some((d) => d.name === name) ?? false;
  if (has && dictionary.value?.name !== name) look(name);
  const [found, again] = useAsked(
    (signal) => (has ? ask(name, feature, { examples: SHOWN }, signal) : Promise.reject(new Failure(`The dictionary ${name} is not served here.`, 404))),
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

function Shown({ name, told }: { name: string; told: FeatureTold }) {
  const { feature, page, neighbours } = told;
  known.note({ ...told, share: 0 });
  const mine = pinned(feature);
  const full = !mine && pins.value.length >= MOST;
  const maximum = told.maximum ?? page?.maximum ?? 1;
  const frequency = page?.frequency ?? told.frequency;
  const near = { name, count: dictionary.value?.features ?? 0 };
  return (
    <main class="page feature">
      <header class="title">
        <p class="quiet number">Feature {feature} <span title={`The dictionary ${visible(name)} reads ${siteInWords(visible(told.site))}`}>· {visible(told.site)}</span></p>
        <h1><Said {...said(told, 6)} /></h1>
        <Reliability told={told} />
        <div class="row">
          <button
            type="button"
            class="first"
            disabled={full}
            onClick={() => {
              pin(feature);
              change(feature, { kind: "set", strength: 1, on: true });
              comparing.value = true;
              go("/");
            }}
          >
            Turn it in the chat
          </button>
          <button type="button" aria-pressed={mine !== undefined} disabled={full} onClick={() => (mine ? unpin(feature) : pin(feature))}>
            {mine ? "Pinned" : "Pin"}
          </button>
        </div>
      </header>
      <dl class="facts">
        <Fact term="active on" title="The share of tokens on which it is active, over the measured text">
          {frequency == null ? "not measured" : `${percent(frequency)} of tokens`}
          {frequency != null && frequency > 0 && (
            <small>
              one in {count(Math.round(1 / frequency))}{page && `; the median feature on ${percent(page.median_frequency)}`}
            </small>
          )}
        </Fact>
        <Fact term="its maximum" title="Its largest activation over the measured text: the unit of strengths and shares">
          {told.maximum == null ? "not measured" : told.maximum.toPrecision(3)}
          {page && page.count > 0 && <small>mean where active {page.mean.toPrecision(2)}</small>}
        </Fact>
        {page && <Fact term="kind" title="Dead: never active. Dense: active on more than a tenth of tokens. One token: nearly always the same one.">{page.kind}</Fact>}
        {page && <Fact term="seen on" title="Tokens of the atlas's text on which it is active">{count(page.count)} tokens</Fact>}
      </dl>
      <div class="columns">
        <div>
          <Examples name={name} told={told} maximum={maximum} />
          <TryText name={name} feature={feature} maximum={maximum} />
          <Effect feature={feature} />
        </div>
        <div class="aside">
          <Section title="Turned up, it says" help="Tokens whose chance rises most when it is turned up, measured on a few openings">
            <Chips tokens={told.promotes.map((token) => ({ token }))} none="Not measured, or nothing." />
            {told.labelled?.effect && (
              <p class="small quiet" title="What it does when it is turned up, in words, tested on openings of its own">
                {visible(told.labelled.effect)}{told.labelled.effect_reliable ? "" : " (not reliable)"}
              </p>
            )}
          </Section>
          {page && page.suppressed.length > 0 && (
            <Section title="and keeps from saying" help="Tokens whose chance falls most"><Chips tokens={page.suppressed.map((token) => ({ token }))} none="" /></Section>
          )}
          {page && page.count > 0 && (
            <Section title="How strong" help="How often it is how strong, where it is active, over the text of the atlas">
              <Histogram counts={page.histogram} maximum={page.maximum} />
              <Quantiles page={page} maximum={maximum} />
            </Section>
          )}
          {page && page.tokens.length > 0 && (
            <Section title="Most often on" help="The tokens it is most often active on, each with its share of all the places where it is active; in the text, its share of all tokens">
              <Commonest page={page} />
            </Section>
          )}
          {page && page.count > 0 && page.sources.length > 1 && <Sources page={page} />}
          {page && page.count > 0 && <Positions page={page} />}
          {neighbours && neighbours.similar.length > 0 && (
            <Near {...near} title="Alike" help="Features that write along nearly the same direction, with the cosine" hits={neighbours.similar.map((h) => [h, h.cosine])} floor={neighbours.cosine_floor} />
          )}
          {neighbours?.coactive && neighbours.coactive.length > 0 && (
            <Near {...near} title="Active together" help="Features that are active on the same tokens, with the cosine of that" hits={neighbours.coactive.map((h) => [h, h.coactivity])} floor={neighbours.coactivity_floor} />
          )}
          {told.place && (near.count <= MOST_SMALL_MAP ? <MiniMap name={name} feature={feature} /> : <OnTheMap feature={feature} among={told.place.name} />)}
        </div>
      </div>
    </main>
  );
}

/** In place of a map in small, where the map is large. */
function OnTheMap({ feature, among }: { feature: number; among: string }) {
  return (
    <Section title="On the map" help="Near means of like direction; far means little">
      <p class="small">
        {among && <span class="quiet">among {visible(among)} · </span>}
        <a href={`/map?feature=${feature}`}>Open the map at this feature</a>
      </p>
    </Section>
  );
}

function Reliability({ told }: { told: FeatureTold }) {
  const { labelled } = told;
  if (!told.label) return <p class="quiet">{labelled ? "No label of it held up on texts it was not written from" : "It has no label"}; these are tokens it makes the model say.</p>;
  if (labelled?.score == null) return null;
  return (
    <p class="quiet number" title={`How well the label alone tells texts and tokens apart on which the feature is active or silent; 0.5 is chance. By ${labelled.explainer}.`}>
      The label scores {labelled.score.toFixed(2)}{labelled.floor == null ? "" : `; the same label for other features ${labelled.floor.toFixed(2)}`}.
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

function Chips({ tokens, none }: { tokens: readonly { token: string }[]; none: string }) {
  if (!tokens.length) return <p class="quiet small">{none}</p>;
  return (
    <ul class="chips">
      {tokens.slice(0, 14).map((t, i) => (
        <li key={i}>
          <bdi>{named(t.token)}</bdi>
        </li>
      ))}
    </ul>
  );
}

type Page = NonNullable<FeatureTold["page"]>;

function Quantiles({ page, maximum }: { page: Page; maximum: number }) {
  const at = (share: string): string => ((page.quantiles[share] ?? 0) / maximum).toFixed(2);
  return (
    <p class="quiet small number" title="Quantiles of its activations where it is active, as shares of its maximum">
      half stay below {at("0.5")} of its maximum, 95&nbsp;% below {at("0.95")}
    </p>
  );
}

function Commonest({ page }: { page: Page }) {
  return (
    <ul class="near">
      {page.tokens.map((t, i) => (
        <li key={i}>
          <bdi class="token">{named(t.token)}</bdi>
          <span class="quiet number" title={`On ${count(t.active)} of the ${count(page.count)} tokens on which it is active`}>
            {percent(t.active / page.count)}{t.usual != null && `, in the text ${percent(t.usual)}`}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Positions({ page }: { page: Page }) {
  const shares = page.positions.map((n, i) => n / Math.max(1, page.position_tokens[i] ?? 0));
  if (!shares.some((s) => s > 0)) return null;
  return (
    <Section title="Where in a text" help="The share of tokens on which it is active, in each sixteenth of the stretches of text that were read">
      <figure class="histogram">
        <Columns heights={shares} label="How often it is active, from the start of a text to its end" />
        <figcaption class="quiet small number">
          <span>start</span>
          <span>at most {percent(Math.max(...shares))} of tokens</span>
          <span>end</span>
        </figcaption>
      </figure>
    </Section>
  );
}

function Sources({ page }: { page: Page }) {
  const shares = page.sources.map((s) => ({ ...s, share: s.tokens ? s.active / s.tokens : 0 })).sort((a, b) => b.share - a.share);
  return (
    <Section title="In which texts" help="The share of the tokens of each text source on which it is active">
      <ul class="near">
        {shares.slice(0, 6).map((s) => (
          <li key={s.spec}>
            <span class="source" title={visible(s.spec)}>{visible(sourceName(s.spec))}</span>
            <span class="quiet number">{percent(s.share)}</span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** A package's name, or the last part of a path. */
const sourceName = (spec: string): string =>
  /^(?:pypi|npm|deb|hf):([^=#@?]+)/.exec(spec)?.[1] ?? spec.split("?")[0]?.split("/").filter(Boolean).at(-1) ?? spec;

interface NearProps {
  name: string;
  count: number;
  title: string;
  help: string;
  hits: readonly (readonly [Hit, number])[];
  floor: number | null;
}

function Near({ name, title, help, hits, floor }: NearProps) {
  return (
    <Section title={title} help={help}>
      <ul class="near">
        {hits.slice(0, 8).map(([hit, value]) => (
          <li key={hit.feature}>
            <a href={featurePath(name, hit.feature)} title={`Feature ${hit.feature}`}><Said {...said(hit, 3)} /></a>
            <span class="quiet number">{value.toFixed(2)}</span>
          </li>
        ))}
      </ul>
      {floor !== null && <p class="quiet small number">by chance {floor.toFixed(2)}</p>}
    </Section>
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
      set({ tokens: tokensOfText(tokens) });
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
