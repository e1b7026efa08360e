import { expect, test } from "vitest";
import { Grid, whole, zoomed } from "./points";

const random = (seed: number) => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;

test("the nearest point is the one that looking at all finds", () => {
  const next = random(7);
  const x = Float32Array.from({ length: 3000 }, next);
  const y = Float32Array.from({ length: 3000 }, next);
  const grid = new Grid({ x, y });
  for (let n = 0; n < 200; n++) {
    const [px, py, most] = [next() * 1.2 - 0.1, next() * 1.2 - 0.1, next() * 0.05];
    let best = -1;
    let least = most * most;
    x.forEach((_, i) => {
      const d = ((x[i] ?? 0) - px) ** 2 + ((y[i] ?? 0) - py) ** 2;
      if (d <= least) [least, best] = [d, i];
    });
    const found = grid.nearest(px, py, most);
    if (best < 0) expect(found).toBe(-1);
    else expect(((x[found] ?? 9) - px) ** 2 + ((y[found] ?? 9) - py) ** 2).toBeCloseTo(least, 10);
  }
});

test("no points, no nearest", () => {
  expect(new Grid({ x: new Float32Array(), y: new Float32Array() }).nearest(0.5, 0.5, 1)).toBe(-1);
});

test("zooming keeps the place under the pointer", () => {
  const before = whole(800, 600);
  const after = zoomed(before, 3, 200, 100);
  const at = (w: typeof before) => [(200 - w.left) / w.scale, (100 - w.top) / w.scale];
  expect(at(after)[0]).toBeCloseTo(at(before)[0] ?? 0);
  expect(at(after)[1]).toBeCloseTo(at(before)[1] ?? 0);
});
