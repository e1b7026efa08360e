import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Points } from "./points";
import { Raster } from "./raster";

const WIDTH = 120;
const HEIGHT = 80;
const inks = new Map<string, number>();
let shown = new Uint32Array();

/** A canvas that keeps its pixels; colours are numbers of their own. */
function canvas(): HTMLCanvasElement {
  const pen = {
    filled: [] as number[],
    set fillStyle(name: string) {
      if (!inks.has(name)) inks.set(name, inks.size + 1);
      this.filled.push(inks.get(name) ?? 0);
    },
    fillRect: () => undefined,
    createImageData: (width: number, height: number) => ({ width, height, data: { buffer: new ArrayBuffer(4 * width * height) } }),
    getImageData: () => ({ data: { buffer: Uint32Array.from(pen.filled).buffer } }),
    putImageData: (image: { data: { buffer: ArrayBuffer } }) => {
      shown = new Uint32Array(image.data.buffer.slice(0));
    },
  };
  return { width: WIDTH, height: HEIGHT, getContext: () => pen } as unknown as HTMLCanvasElement;
}

let clock = 0;
beforeEach(() => {
  inks.clear();
  vi.stubGlobal("document", { createElement: canvas });
  vi.stubGlobal("devicePixelRatio", 1);
  // Every look at the clock costs more than a slice may take.
  vi.stubGlobal("performance", { now: () => (clock += 50) });
});
afterEach(() => vi.unstubAllGlobals());

test("slices add up to the picture that is drawn at once, with the first points on top", () => {
  const count = 60_000;
  let state = 7;
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const x = Float32Array.from({ length: count }, next);
  const y = Float32Array.from({ length: count }, next);
  const colours = Uint8Array.from({ length: count }, () => Math.floor(3 * next()));
  const points = { x, y } as unknown as Points;
  const where = { scale: 100, left: -10, top: -10 };
  const raster = new Raster(canvas(), points);
  let whole = raster.draw(where, { colours, palette: ["a", "b", "c"], paper: "paper" }, false);
  let slices = 1;
  const first = shown.slice();
  for (; !whole; slices++) whole = raster.more();
  expect(slices).toBeGreaterThan(3);
  // One pixel each, painted one over the other from the last to the first.
  const wanted = new Uint32Array(WIDTH * HEIGHT).fill(inks.get("paper") ?? 0);
  for (let i = count - 1; i >= 0; i--) {
    const [px, py] = [(where.left + (x[i] ?? 0) * where.scale) | 0, (where.top + (y[i] ?? 0) * where.scale) | 0];
    if (px < 0 || py < 0 || px > WIDTH - 1 || py > HEIGHT - 1) continue;
    wanted[py * WIDTH + px] = inks.get(["a", "b", "c"][colours[i] ?? 0] ?? "") ?? 0;
  }
  expect(shown).toEqual(wanted);
  // What the first slice showed stays.
  first.forEach((ink, at) => ink !== (inks.get("paper") ?? 0) && expect(shown[at]).toBe(ink));
  expect(raster.more()).toBe(true);
});
