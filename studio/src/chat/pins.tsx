/** The pinned features: a lane along the conversation and a slider for each. */
import { useState, useEffect } from "preact/hooks";
import type { FeatureTold } from "../api/atlas";
import { Said } from "../parts/said";
import { featurePath } from "../router";
import { known, said } from "../state/known";
import { change, inWords, editOf, type Kind, type Pin, pins, unpin } from "../state/pins";
import { dictionary, fact } from "../state/session";
import { Spark } from "./spark";

const KINDS: Record<Kind, { name: string; title: string; from: number; to: number }> = {
  set: { name: "hold at", title: "On every token its activation is what you say, in multiples of its maximum", from: -4, to: 4 },
  add: { name: "add", title: "So much is added to its activation on every token", from: -4, to: 4 },
  scale: { name: "scale by", title: "Its activation is multiplied, where it is active", from: 0, to: 4 },
  cap: { name: "cap at", title: "It is let be no stronger than that", from: 0, to: 1 },
  ablate: { name: "switch off", title: "Its activation is 0 on every token", from: 0, to: 0 },
};

export function Pins() {
  if (!pins.value.length)
    return (
      <div class="unpinned">
        <p>No feature is pinned.</p>
        <p class="quiet">Point at a word of an answer, or search with <kbd>Ctrl</kbd> <kbd>K</kbd>, and pin what you find.</p>
      </div>
    );
  return (
    <ul class="pins">
      {pins.value.map((pin) => (
        <Row key={pin.feature} pin={pin} />
      ))}
    </ul>
  );
}

function Row({ pin }: { pin: Pin }) {
  const [facts, setFacts] = useState<FeatureTold | null>(null);
  const name = dictionary.value?.name;
  useEffect(() => {
    if (name) fact(name, pin.feature).then(setFacts, () => undefined);
  }, [name, pin.feature]);
  void known.version.value;
  const kind = KINDS[pin.kind];
  const { text, kind: from } = said(known.words(pin.feature));
  const turned = pin.on ? inWords(editOf(pin)) : "not turned";
  return (
    <li class={`pin p${pin.colour}`}>
      <header>
        <i class="swatch" aria-hidden="true" />
        <a href={name ? featurePath(name, pin.feature) : "#"} title={`Feature ${pin.feature}`}>
          <Said text={text} kind={from} />
        </a>
        <span class="quiet number">{pin.feature}</span>
        <button type="button" class="plain" aria-label={`Unpin feature ${pin.feature}`} onClick={() => unpin(pin.feature)}>✕</button>
      </header>
      <Spark feature={pin.feature} usual={facts?.page?.frequency ?? facts?.frequency ?? null} />
      <div class="turn">
        <select
          aria-label={`How feature ${pin.feature} is turned`}
          title={kind.title}
          value={pin.kind}
          onChange={(e) => {
            const to = e.currentTarget.value as Kind;
            const { from, to: most } = KINDS[to];
            change(pin.feature, { kind: to, strength: Math.max(from, Math.min(most, pin.strength)), on: to === "ablate" || pin.on });
          }}
        >
          {Object.entries(KINDS).map(([value, { name }]) => (
            <option key={value} value={value}>{name}</option>
          ))}
        </select>
        {pin.kind !== "ablate" && (
          <input
            type="range"
            min={kind.from}
            max={kind.to}
            step={0.1}
            value={pin.strength}
            aria-label={`Strength of feature ${pin.feature}, in multiples of its maximum`}
            aria-valuetext={turned}
            onInput={(e) => change(pin.feature, { strength: Number(e.currentTarget.value), on: true })}
          />
        )}
        <output class="number" title="In multiples of its maximum over the measured text">
          {pin.on ? (pin.kind === "ablate" ? "0" : `${signed(pin.strength, pin.kind)} ×`) : "–"}
        </output>
        <button type="button" class="plain" disabled={!pin.on} onClick={() => change(pin.feature, { on: false, strength: 0 })}>
          let go
        </button>
      </div>
    </li>
  );
}

const signed = (strength: number, kind: Kind): string =>
  (kind === "add" && strength > 0 ? "+" : "") + strength.toFixed(1).replace("-", "−");
