/** One feature over a text as a strip of heat; a click looks at the token. */
import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { along, tokenAt } from "../chat/spark";
import { dark } from "../state/theme";
import type { Tokens } from "../tokens/tokens";
import { show } from "../tokens/view";

export function Lane({ tokens, feature, peak }: { tokens: Tokens; feature: number; peak: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const here = canvas.current;
    if (!here) return;
    const redraw = () => draw(here, tokens, feature);
    const watch = new ResizeObserver(redraw);
    watch.observe(here);
    const stop = effect(() => {
      void dark.value;
      redraw();
    });
    return () => {
      watch.disconnect();
      stop();
    };
  }, [tokens, feature]);
  return (
    <canvas
      ref={canvas}
      class="lane"
      role="img"
      aria-label={`Feature ${feature} over the text: highest ${peak.toFixed(2)} of its maximum`}
      onClick={(e) => {
        const box = e.currentTarget.getBoundingClientRect();
        const found = tokenAt([tokens], (e.clientX - box.left) / box.width);
        if (found) show(...found);
      }}
    />
  );
}

function draw(canvas: HTMLCanvasElement, tokens: Tokens, feature: number): void {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const { heights } = along([tokens], feature, canvas.width);
  pen.fillStyle = getComputedStyle(canvas).color;
  const step = canvas.width / Math.max(1, heights.length);
  const gap = step > 5 ? ratio : 0;
  heights.forEach((share, i) => {
    if (share <= 0) return;
    pen.globalAlpha = 0.12 + 0.88 * Math.min(1, share);
    pen.fillRect(i * step, 0, Math.max(ratio, step - gap), canvas.height);
  });
}
