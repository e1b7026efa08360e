import { columnFromArray, float32, int32, tableFromColumns, tableToIPC } from "@uwdata/flechette";
import { expect, test } from "vitest";
import { pointsOf } from "./arrow";

test("points come out with their features, those without a place are left out, the order is always the same", async () => {
  const count = 50;
  const x = Float32Array.from({ length: count }, (_, i) => (i % 10 === 3 ? NaN : i / count));
  const table = tableFromColumns({
    x: columnFromArray(x, float32()),
    y: columnFromArray(x, float32()),
    frequency: columnFromArray(Float32Array.from(x, (_, i) => i / 1000), float32()),
    cluster: columnFromArray(Int32Array.from(x, (_, i) => i % 4), int32()),
  });
  const bytes = tableToIPC(table, { format: "stream" });
  const told = { clusters: [], quality: {}, left_out: 5 };
  const points = await pointsOf(bytes as Uint8Array, told);
  expect(points.x.length).toBe(45);
  points.feature.forEach((feature, i) => {
    expect(points.x[i]).toBeCloseTo(feature / count);
    expect(points.cluster[i]).toBe(feature % 4);
    expect(points.frequency?.[i]).toBeCloseTo(feature / 1000);
  });
  expect([...points.feature]).not.toEqual([...points.feature].sort((a, b) => a - b));
  expect((await pointsOf(bytes as Uint8Array, told)).feature).toEqual(points.feature);
});
