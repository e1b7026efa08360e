/** All features of a dictionary in the plane: pan, zoom, search, click through. */
import { useComputed, useSignal, type Signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Hit } from "../api/atlas";
import { percent } from "../parts/number";
import { Said } from "../parts/said";
import { Failed, Loading } from "../parts/states";
import { featurePath, go } from "../router";
import { known, said } from "../state/known";
import { MOST, pin, pinned, pins, unpin } from "../state/pins";
import { searching } from "../state/searching";
import { dictionary, fact } from "../state/session";
import { dark } from "../state/theme";
import { lastHits } from "../search/last";
import { visible } from "../tokens/visible";
import { type By, colours, paperOf } from "./colours";
import { annotate } from "./annotate";
import { useMapPoints } from "./load";
import { Grid, type Points, type Where, whole, zoomed } from "./points";
import { Raster } from "./raster";

const REACH = 12;

export default function MapPage() {
  const name = dictionary.value?.name;
  if (!name) return <main class="page"><h1>Map</h1><p class="quiet">No dictionary is served with this model, so there is no map.</p></main>;
  return <Loaded name={name} />;
}

function Loaded({ name }: { name: string }) {
  const [found, again] = useMapPoints(name);
  if (found.state === "loading") return <main class="page"><h1>Map</h1><Loading what="Fetching the map" /></main>;
  if (found.state === "failed") return <main class="page"><h1>Map</h1><Failed error={found.error} again={again} /></main>;
  if (!found.value)
    return (
      <main class="page">
        <h1>Map</h1>
        <p>The atlas of this dictionary has no map yet.</p>
        <p class="quiet">Lay it out once with <code>pellucid atlas map</code>, then start the studio again.</p>
      </main>
    );
  return <Shown name={name} points={found.value} />;
}

function Shown({ name, points }: { name: string; points: Points }) {
  const by = useSignal<By>("cluster");
  const at = useSignal<number>(-1);
  const where = useSignal<Where | null>(null);
  const hits = lastHits.value;
  const marked = useMemo(() => placesOf(points, hits), [points, hits]);
  const asked = Number(new URLSearchParams(location.search).get("feature") ?? NaN);
  useEffect(() => {
    const i = Number.isFinite(asked) ? points.feature.indexOf(asked) : -1;
    if (i < 0) return;
    at.value = i;
    where.value = around(points.x[i] ?? 0.5, points.y[i] ?? 0.5, 6);
  }, [points, asked]);
  const biggest = useMemo(() => points.clusters.filter((c) => c.name).sort((a, b) => b.features - a.features).slice(0, 60), [points]);
  return (
    <main class="map">
      <h1 class="unseen">Map</h1>
      <Plane name={name} points={points} by={by} at={at} where={where} marked={marked} />
      <aside aria-label="About the map">
        <p><b class="number">{points.x.length.toLocaleString("en")}</b> features{points.left > 0 && <span class="quiet">, and {points.left.toLocaleString("en")} that were never active and have no place</span>}.</p>
        <p class="quiet small">Near means of like direction; far means little. <Quality points={points} /></p>
        <label>
          Colour{" "}
          <select value={by.value} onChange={(e) => (by.value = e.currentTarget.value as By)}>
            <option value="cluster">by cluster</option>
            {points.frequency && <option value="frequency">by how often active</option>}
          </select>
        </label>
        {by.value === "frequency" && <span class="scale">rare <i class="often" /> often</span>}
        {marked.length > 0 ? (
          <p>
            <b class="number">{marked.length}</b> found for <q>{visible(hits.query)}</q> are ringed.{" "}
            <button type="button" class="plain" onClick={() => (lastHits.value = { hits: [], query: "" })}>clear</button>
          </p>
        ) : (
          <button type="button" onClick={() => (searching.value = true)}>Find on the map</button>
        )}
        <details>
          <summary>Clusters</summary>
          <ul>
            {biggest.map((c) => (
              <li key={`${c.name}${c.x}`}>
                <button type="button" class="plain" onClick={() => (where.value = around(c.x, c.y, 8))}>{visible(c.name)}</button>
                <span class="quiet number">{c.features}</span>
              </li>
            ))}
          </ul>
        </details>
        <div class="row">
          <button type="button" aria-label="Nearer" onClick={() => (where.value = zoomed(where.value ?? fit(), 1.6, innerWidth / 2, innerHeight / 2))}>+</button>
          <button type="button" aria-label="Farther" onClick={() => (where.value = zoomed(where.value ?? fit(), 1 / 1.6, innerWidth / 2, innerHeight / 2))}>−</button>
          <button type="button" onClick={() => (where.value = null)}>Whole</button>
        </div>
      </aside>
      {at.value >= 0 && <Chosen key={at.value} name={name} points={points} index={at.value} close={() => (at.value = -1)} />}
    </main>
  );
}

/** How far the map is to be believed. */
function Quality({ points }: { points: Points }) {
  const { map, pca, random } = points.quality;
  if (!map) return null;
  const kept = (q: { kept: number } | undefined): string => (q ? percent(q.kept) : "–");
  return (
    <span class="number" title={`Of each feature's nearest by direction, the share that are among its nearest here. Two principal components keep ${kept(pca)}, random places ${kept(random)}.`}>
      It keeps {kept(map)} of neighbours{random ? `; random places keep ${kept(random)}` : ""}.
    </span>
  );
}

const fit = (): Where => whole(innerWidth, innerHeight - 54);

function around(x: number, y: number, by: number): Where {
  const scale = fit().scale * by;
  return { scale, left: innerWidth / 2 - x * scale, top: (innerHeight - 54) / 2 - y * scale };
}

/** Where on the map the features of a search are. */
function placesOf(points: Points, { hits }: { hits: readonly Hit[] }): number[] {
  if (!hits.length) return [];
  const wanted = new Set(hits.map((h) => h.feature));
  const found: number[] = [];
  points.feature.forEach((feature, i) => wanted.has(feature) && found.push(i));
  return found;
}

function Chosen({ name, points, index, close }: { name: string; points: Points; index: number; close: () => void }) {
  const feature = points.feature[index] ?? 0;
  const [, set] = useState(0);
  useEffect(() => {
    let live = true;
    fact(name, feature).then(() => live && set((n) => n + 1), () => undefined);
    return () => {
      live = false;
    };
  }, [name, feature]);
  const mine = pinned(feature);
  const cluster = points.clusters[points.cluster[index] ?? -1]?.name;
  const often = points.frequency?.[index];
  return (
    <section class="chosen" aria-label="The chosen feature">
      <header>
        <b class="word"><Said {...said(known.words(feature))} /></b>
        <button type="button" class="plain" aria-label="Close" onClick={close}>✕</button>
      </header>
      <p class="quiet small number">
        feature {feature}
        {cluster ? ` · among ${visible(cluster)}` : ""}
        {often !== undefined ? ` · on ${percent(often)} of tokens` : ""}
      </p>
      <div class="row">
        <button type="button" class="first" onClick={() => go(featurePath(name, feature))}>Open its page</button>
        <button type="button" aria-pressed={mine !== undefined} disabled={!mine && pins.value.length >= MOST} onClick={() => (mine ? unpin(feature) : pin(feature))}>{mine ? "Pinned" : "Pin"}</button>
      </div>
    </section>
  );
}

interface PlaneProps {
  name: string;
  points: Points;
  by: Signal<By>;
  at: Signal<number>;
  where: Signal<Where | null>;
  marked: readonly number[];
}

function Plane({ name, points, by, at, where, marked }: PlaneProps) {
  const under = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const hover = useSignal<{ index: number; x: number; y: number } | null>(null);
  const size = useSignal({ width: 0, height: 0 });
  const look = useComputed(() => {
    void dark.value;
    return { ...colours(points, by.value), paper: paperOf() };
  });
  const grid = useMemo(() => new Grid(points), [points]);
  const raster = useRef<Raster | null>(null);
  const held = useRef(new Map<number, { x: number; y: number }>());
  const settle = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const asked = useRef(0);
  const moved = useRef(false);
  const rings = useRef(marked);
  rings.current = marked;
  const now = (): Where => where.peek() ?? whole(size.peek().width, size.peek().height);

  const label = (): void => {
    if (over.current) annotate(over.current, points, now(), rings.current, at.peek(), hover.peek()?.index ?? -1);
  };
  const draw = (moving: boolean): void => {
    moved.current = moving;
    cancelAnimationFrame(asked.current);
    asked.current = requestAnimationFrame(() => {
      const canvas = under.current;
      if (!canvas) return;
      const drawing = (raster.current ??= new Raster(canvas, points));
      const whole = timed(() => drawing.draw(now(), look.peek(), moving));
      label();
      clearTimeout(settle.current);
      if (moving) settle.current = setTimeout(() => draw(false), 140);
      else if (!whole) asked.current = requestAnimationFrame(goOn);
    });
  };
  const goOn = (): void => {
    const drawing = raster.current;
    if (drawing && !timed(() => drawing.more())) asked.current = requestAnimationFrame(goOn);
  };

  useEffect(() => {
    const canvas = under.current;
    const top = over.current;
    if (!canvas || !top) return;
    const watch = new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = top;
      for (const each of [canvas, top]) {
        each.width = Math.round(width * (devicePixelRatio || 1));
        each.height = Math.round(height * (devicePixelRatio || 1));
      }
      size.value = { width, height };
      draw(false);
    });
    watch.observe(top);
    const wheel = (e: WheelEvent) => {
      e.preventDefault();
      where.value = zoomed(now(), Math.exp(-e.deltaY / 380), e.offsetX, e.offsetY);
      draw(true);
    };
    top.addEventListener("wheel", wheel, { passive: false });
    return () => {
      watch.disconnect();
      top.removeEventListener("wheel", wheel);
      clearTimeout(settle.current);
      cancelAnimationFrame(asked.current);
      raster.current = null;
    };
  }, [points]);
  useEffect(() => {
    // While somebody moves it, it is drawn as it moves.
    if (!moved.current) draw(false);
  }, [look.value, where.value]);
  useEffect(() => {
    const soon = requestAnimationFrame(label);
    return () => cancelAnimationFrame(soon);
  }, [at.value, hover.value?.index, marked]);

  const nearest = (x: number, y: number): number => {
    const { scale, left, top } = now();
    return grid.nearest((x - left) / scale, (y - top) / scale, REACH / scale);
  };
  const move = (e: PointerEvent): void => {
    const before = held.current.get(e.pointerId);
    if (!before) {
      if (e.pointerType === "mouse") {
        const index = nearest(e.offsetX, e.offsetY);
        hover.value = index < 0 ? null : { index, x: e.offsetX, y: e.offsetY };
      }
      return;
    }
    hover.value = null;
    const others = [...held.current].filter(([id]) => id !== e.pointerId);
    const other = others[0]?.[1];
    if (other) {
      const apart = (p: { x: number; y: number }): number => Math.max(10, Math.hypot(p.x - other.x, p.y - other.y));
      where.value = zoomed(now(), apart({ x: e.offsetX, y: e.offsetY }) / apart(before), other.x, other.y);
    } else {
      const { scale, left, top } = now();
      where.value = { scale, left: left + e.offsetX - before.x, top: top + e.offsetY - before.y };
    }
    held.current.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
    draw(true);
  };
  const key = (e: KeyboardEvent): void => {
    const { width, height } = size.peek();
    const w = now();
    const steps: Record<string, [number, number]> = { ArrowLeft: [70, 0], ArrowRight: [-70, 0], ArrowUp: [0, 70], ArrowDown: [0, -70] };
    const step = steps[e.key];
    if (step) where.value = { ...w, left: w.left + step[0], top: w.top + step[1] };
    else if (e.key === "+" || e.key === "=") where.value = zoomed(w, 1.4, width / 2, height / 2);
    else if (e.key === "-") where.value = zoomed(w, 1 / 1.4, width / 2, height / 2);
    else if (e.key === "0") where.value = null;
    else if (e.key === "Enter") at.value = grid.nearest((width / 2 - w.left) / w.scale, (height / 2 - w.top) / w.scale, 1);
    else return;
    e.preventDefault();
    draw(true);
  };
  const began = useRef({ x: 0, y: 0 });
  return (
    <div class="plane">
      <canvas ref={under} aria-hidden="true" />
      <canvas
        ref={over}
        tabIndex={0}
        role="application"
        aria-label={`Map of ${points.x.length.toLocaleString("en")} features. Arrow keys move it, plus and minus zoom, 0 shows all, Enter chooses the feature in the middle.`}
        onPointerDown={(e) => {
          held.current.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
          began.current = { x: e.offsetX, y: e.offsetY };
          e.currentTarget.setPointerCapture(e.pointerId);
        }}
        onPointerMove={move}
        onPointerUp={(e) => {
          held.current.delete(e.pointerId);
          if (Math.hypot(e.offsetX - began.current.x, e.offsetY - began.current.y) < 4) at.value = nearest(e.offsetX, e.offsetY);
        }}
        onPointerCancel={(e) => held.current.delete(e.pointerId)}
        onPointerLeave={() => (hover.value = null)}
        onKeyDown={key}
      />
      {hover.value && <Tip name={name} points={points} {...hover.value} />}
    </div>
  );
}

function Tip({ name, points, index, x, y }: { name: string; points: Points; index: number; x: number; y: number }) {
  const feature = points.feature[index] ?? 0;
  const [, set] = useState(0);
  useEffect(() => {
    if (known.words(feature)) return;
    const timer = setTimeout(() => void fact(name, feature).then(() => set((n) => n + 1), () => undefined), 80);
    return () => clearTimeout(timer);
  }, [name, feature]);
  const words = known.words(feature);
  return (
    <div class="tip" style={{ left: `${Math.min(x + 14, innerWidth - 290)}px`, top: `${y + 14}px` }}>
      {words ? <Said {...said(words)} /> : <span class="quiet">…</span>} <span class="quiet number">{feature}</span>
    </div>
  );
}

/** Draw a slice, and note how long it took, and whether the picture is whole. */
function timed(work: () => boolean): boolean {
  const start = performance.now();
  const whole = work();
  performance.measure?.(whole ? "map" : "part of the map", { start, end: performance.now() });
  return whole;
}
