/** Texts of the atlas in which a feature is active: where it is strongest, and in each fifth of its activations. */
import { useMemo, useState } from "preact/hooks";
import { type Example, type FeatureTold, feature as ask } from "../api/atlas";
import { Empty, Failed, Loading, useAsked } from "../parts/states";
import { known } from "../state/known";
import { Strip } from "../tokens/strip";
import { Tokens } from "../tokens/tokens";

/** So many are shown where it is strongest, */
export const SHOWN = 8;
/** and so many of each band. */
const EACH = 4;
/** From strong to weak, as they are read; the server tells them from weak to strong. */
const BANDS = ["strongest fifth", "second fifth", "middle fifth", "fourth fifth", "weakest fifth"];

export function Examples({ name, told, maximum }: { name: string; told: FeatureTold; maximum: number }) {
  const { feature, page } = told;
  const [band, choose] = useState<number | null>(null);
  const list = page?.examples ?? [];
  return (
    <section class="examples" aria-labelledby="examples">
      <div class="heads">
        <h2 id="examples">Where it is {band === null ? "strongest" : "active"}</h2>
        <span class="scale">silent <i /> at its maximum</span>
        {list.length > 0 && (
          <label class="row">
            <span title="Its activations are parted, from strong to weak, into five parts of equally many; examples of each are drawn by lot. What a feature means shows where it is weak, too.">Show</span>
            <select value={band ?? ""} onChange={(e) => choose(e.currentTarget.value === "" ? null : Number(e.currentTarget.value))}>
              <option value="">the very strongest</option>
              {BANDS.map((words, i) => <option key={words} value={BANDS.length - 1 - i}>by lot, {words}</option>)}
            </select>
          </label>
        )}
      </div>
      {!list.length && (
        <Empty>
          <p>
            {!page
              ? "No atlas is served with this dictionary, so there are no examples. Build one with `pellucid atlas build`."
              : page.count === 0
                ? "It was never active in the text of the atlas."
                : "The text of the atlas is not on this machine, so its examples cannot be shown."}
          </p>
        </Empty>
      )}
      {band === null ? <List examples={list} feature={feature} maximum={maximum} /> : <Band name={name} feature={feature} band={band} maximum={maximum} />}
    </section>
  );
}

/** Examples of a band; all bands are fetched when the first is asked for. */
function Band({ name, feature, band, maximum }: { name: string; feature: number; band: number; maximum: number }) {
  const [found, again] = useAsked((signal) => ask(name, feature, { examples: 0, bands: EACH }, signal), [name, feature]);
  if (found.state === "loading") return <Loading what="The model reads examples again" />;
  if (found.state === "failed") return <Failed error={found.error} again={again} />;
  const examples = found.value.page?.bands[band] ?? [];
  if (!examples.length) return <Empty><p>It is active too rarely for examples of this part.</p></Empty>;
  return <List examples={examples} feature={feature} maximum={maximum} />;
}

function List({ examples, feature, maximum }: { examples: readonly Example[]; feature: number; maximum: number }) {
  return <ol>{examples.map((example, i) => <Shot key={i} example={example} feature={feature} maximum={maximum} />)}</ol>;
}

function Shot({ example, feature, maximum }: { example: Example; feature: number; maximum: number }) {
  const tokens = useMemo(() => {
    const made = new Tokens();
    example.pieces.forEach((piece, i) => made.push(piece, [{ feature, share: (example.values[i] ?? 0) / maximum, ...known.words(feature) }]));
    return made;
  }, [example]);
  return (
    <li>
      <Strip tokens={tokens} label="An example" only={feature} flat />
      <span class="quiet number" title="The strongest activation in it, as a share of its maximum">{(Math.max(0, ...example.values) / maximum).toFixed(2)}</span>
    </li>
  );
}
