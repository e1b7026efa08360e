/** A pinned feature along the conversation: a bar for each token, the highest of many where they are many. */
import { effect, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { allTokens, turns } from "../state/conversation";
import { onFrame } from "../state/frame";
import { show } from "../tokens/view";
import type { Tokens } from "../tokens/tokens";
import { dark } from "../state/theme";
import { percent } from "../parts/number";

export interface Along {
  /** The highest share in each column. */
  heights: Float32Array;
  peak: number;
  active: number;
  count: number;
}

/** A feature's shares over tokens, in so many columns at most. */
export function along(parts: readonly Tokens[], feature: number, columns: number): Along {
  const count = parts.reduce((sum, t) => sum + t.length, 0);
  const heights = new Float32Array(Math.min(columns, count));
  let peak = 0;
  let active = 0;
  let at = 0;
  for (const tokens of parts) {
    for (let i = 0; i < tokens.length; i++, at++) {
      const share = tokens.share(i, feature);
      if (share <= 0) continue;
      active += 1;
      peak = Math.max(peak, share);
      const column = count <= columns ? at : Math.floor((at * columns) / count);
      heights[column] = Math.max(heights[column] ?? 0, share);
    }
  }
  return { heights, peak, active, count };
}

/** Which token is at a place between 0 and 1 of all. */
export function tokenAt(parts: readonly Tokens[], place: number): [Tokens, number] | null {
  const count = parts.reduce((sum, t) => sum + t.length, 0);
  let index = Math.min(count - 1, Math.floor(place * count));
  for (const tokens of parts) {
    if (index < tokens.length && index >= 0) return [tokens, index];
    index -= tokens.length;
  }
  return null;
}

export function Spark({ feature, usual }: { feature: number; usual: number | null }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const facts = useSignal({ peak: 0, active: 0, count: 0 });
  useEffect(() => {
    const key = {};
    const soon = () => onFrame(key, () => canvas.current && draw(canvas.current, feature, (a) => (facts.value = a)));
    const stop = effect(() => {
      void dark.value;
      for (const turn of turns.value) void [turn.asked.value, turn.plain.value, turn.edited.value];
      for (const tokens of allTokens()) void tokens.version.value;
      soon();
    });
    const watch = new ResizeObserver(soon);
    if (canvas.current) watch.observe(canvas.current);
    return () => {
      stop();
      watch.disconnect();
    };
  }, [feature]);
  const { peak, active, count } = facts.value;
  const share = count ? active / count : 0;
  return (
    <div class="spark">
      <canvas
        ref={canvas}
        role="img"
        aria-label={`Feature ${feature} along the conversation: highest ${peak.toFixed(2)} of its maximum, active on ${active} of ${count} tokens`}
        onClick={(e) => {
          const box = e.currentTarget.getBoundingClientRect();
          const found = tokenAt(allTokens(), (e.clientX - box.left) / box.width);
          if (found) show(...found);
        }}
      />
      <p class="quiet number">
        {count === 0
          ? "nothing read yet"
          : `peak ${peak.toFixed(2)} · on ${percent(share)} of ${count} tokens`}
        {count > 0 && usual !== null && <span title="The share of tokens on which it is active over the measured text">, usually {percent(usual)}</span>}
      </p>
    </div>
  );
}

function draw(canvas: HTMLCanvasElement, feature: number, tell: (along: Along) => void): void {
  const ratio = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const found = along(allTokens(), feature, width);
  tell(found);
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = getComputedStyle(canvas).color;
  const step = width / Math.max(1, found.heights.length);
  found.heights.forEach((share, i) => {
    if (share > 0) {
      const high = Math.max(ratio, Math.min(1, share) * height);
      pen.fillRect(i * step, height - high, Math.max(ratio, step - (step > 3 ? 1 : 0)), high);
    }
  });
}
