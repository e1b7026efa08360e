/** The proof that the edits of an answer took effect. */
import { useEffect, useState } from "preact/hooks";
import type { Receipt } from "../api/chat";
import { known, said } from "../state/known";
import { dictionary, fact } from "../state/session";
import { percent } from "../parts/number";
import { Said } from "../parts/said";
import { visible } from "../tokens/visible";

/** How far the predictions moved, in words. */
export function moved(kl: number): string {
  if (kl < 0.02) return "the model hardly noticed";
  if (kl < 0.5) return "the model leans another way";
  if (kl < 2) return "the model says other things";
  return "little of the model's own prediction is left";
}

export function Receipts({ receipts }: { receipts: readonly Receipt[] }) {
  const maxima = useMaxima(receipts);
  void known.version.value;
  if (!receipts.length) return null;
  const good = receipts.filter((r) => r.error === undefined);
  const kl = good[0]?.kl;
  const kept = Math.max(0, ...good.map((r) => r.kept ?? 0));
  const unit = (value: number | undefined, feature: number | null | undefined): string => {
    const maximum = feature == null ? undefined : maxima.get(feature);
    return value === undefined ? "–" : (value / (maximum ?? 1)).toFixed(2);
  };
  return (
    <section class="receipt" aria-label="Receipt">
      <h3 title="After the answer, prompt and answer are read again, plainly and with the edits, and measured">Receipt</h3>
      {receipts.map((r) => r.error !== undefined && <p class="failed" key={r.error}>{visible(r.error)}</p>)}
      {good.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">feature</th>
              <th scope="col" title="Mean activation on the edited tokens without the edits, in multiples of its maximum">before</th>
              <th scope="col" title="Mean activation asked for">asked</th>
              <th scope="col" title="Mean activation that was measured under the edits">reached</th>
              <th scope="col">tokens</th>
            </tr>
          </thead>
          <tbody>
            {good.map((r) => (
              <tr key={r.edit}>
                <th scope="row">{r.feature == null ? visible(r.edit ?? "") : <Said {...said(known.words(r.feature), 2)} />}</th>
                <td>{unit(r.before, r.feature)} ×</td>
                <td>{unit(r.asked, r.feature)} ×</td>
                <td>{unit(r.reached, r.feature)} ×</td>
                <td>{r.tokens}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {kl !== undefined && (
        <p title="KL(plain ‖ edited): how much worse the plain model predicts the edited one, per token. 0 is no change at all.">
          Predictions moved by <b class="number">{kl.toFixed(2)}</b> nats per token: {moved(kl)}.
        </p>
      )}
      {good.length > 0 && (
        <p class="quiet" title="The largest change of the activation outside the edited directions, relative to the change inside">
          {kept < 0.005 ? "Outside of the turned features nothing changed." : `Outside of the turned features it changed by ${percent(kept)} of that.`}
        </p>
      )}
    </section>
  );
}

function useMaxima(receipts: readonly Receipt[]): Map<number, number> {
  const [maxima, set] = useState(new Map<number, number>());
  const name = dictionary.value?.name;
  useEffect(() => {
    const features = receipts.flatMap((r) => (r.feature == null ? [] : [r.feature]));
    if (!name) return;
    void Promise.allSettled(features.map((f) => fact(name, f))).then((found) => {
      const entries = found.flatMap((f) => (f.status === "fulfilled" && f.value.maximum ? [[f.value.feature, f.value.maximum] as const] : []));
      set(new Map(entries));
    });
  }, [receipts, name]);
  return maxima;
}
