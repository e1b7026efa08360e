/** The card of the token that is looked at: its strongest features, each to be pinned or opened. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { featurePath } from "../router";
import { known, said } from "../state/known";
import { MOST, pin, pinned, pins, unpin } from "../state/pins";
import { dictionary } from "../state/session";
import { Bar } from "../parts/bar";
import { Said } from "../parts/said";
import { close, leave, looking, stay } from "./looking";
import { named } from "./visible";

const ROWS = 7;

export function Card() {
  const box = useRef<HTMLDivElement>(null);
  const at = looking.value;
  useLayoutEffect(() => {
    if (box.current && at) beside(box.current, at.anchor);
  }, [at]);
  if (!at) return null;
  void known.version.value;
  void at.tokens.version.value;
  const { ids } = at.tokens.at(at.index);
  const full = pins.value.length >= MOST;
  const name = dictionary.value?.name;
  const chosen = pins.value.filter((p) => !ids.subarray(0, ROWS).includes(p.feature)).map((p) => p.feature);
  const rows = [...ids.subarray(0, ROWS), ...chosen].map((id) => ({ id, share: at.tokens.share(at.index, id) }));
  return (
    <div
      id="card"
      ref={box}
      class={at.held ? "card held" : "card"}
      role="dialog"
      aria-label={`Features of the token ${named(at.tokens.texts[at.index] ?? "")}`}
      onPointerEnter={stay}
      onPointerLeave={leave}
      onKeyDown={(e) => e.key === "Escape" && close()}
    >
      <header>
        <b class="word">{named(at.tokens.texts[at.index] ?? "")}</b>
        <span class="quiet">
          {ids.length ? `${ids.length} features active` : "no feature active"}
          {ids.length > ROWS ? `, the ${ROWS} strongest:` : ""}
        </span>
        {at.held && <button type="button" class="plain" aria-label="Close" onClick={close}>✕</button>}
      </header>
      {rows.length === 0 && <p class="quiet">Nothing that the dictionary knows is active on this token.</p>}
      <ul>
        {rows.map(({ id, share }) => {
          const mine = pinned(id);
          return (
            <li key={id} class={mine ? `p${mine.colour}` : ""}>
              <a href={name ? featurePath(name, id) : "#"} title={`Feature ${id}`}>
                <Said {...said(known.words(id))} />
              </a>
              <button
                type="button"
                class={mine ? "mine" : ""}
                disabled={!mine && full}
                title={!mine && full ? `${MOST} are pinned already; unpin one first` : undefined}
                aria-label={`${mine ? "Unpin" : "Pin"} feature ${id}`}
                onClick={() => (mine ? unpin(id) : pin(id))}
              >
                {mine ? "Unpin" : "Pin"}
              </button>
              <Bar share={share} />
              <span class="quiet number" title="Its activation here as a share of its maximum over the measured text">
                {share.toFixed(2)} of its maximum · {id}
              </span>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

/** Put a box under its anchor, or above where there is no room; on a phone the style sheet has it at the bottom. */
function beside(box: HTMLElement, anchor: HTMLElement): void {
  const to = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(8, Math.min(to.left - 16, innerWidth - width - 8));
  const under = to.bottom + 2;
  const top = under + height < innerHeight - 8 ? under : Math.max(8, to.top - height - 2);
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
}
