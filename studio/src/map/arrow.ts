/** The points of a map out of an Arrow stream, in an order in which any first part of them stands for all. */
import { tableFromIPC } from "@uwdata/flechette";
import type { MapTold } from "../api/atlas";
import { breath } from "../state/frame";
import type { Points } from "./points";

/** So many points are put in order between two breaths of the page. */
const AT_ONCE = 200_000;

export async function pointsOf(bytes: Uint8Array, told: Pick<MapTold, "clusters" | "quality" | "left_out">): Promise<Points> {
  const table = tableFromIPC(bytes);
  const column = <T>(name: string): T => {
    const found = table.getChild(name);
    if (!found) throw new Error(`The map has no column ${name}.`);
    return found.toArray() as T;
  };
  const [x, y, often] = [column<Float32Array>("x"), column<Float32Array>("y"), column<Float32Array>("frequency")];
  const cluster = column<Int32Array>("cluster");
  await breath();
  const order = await shuffled(x);
  const points: Points = {
    x: new Float32Array(order.length),
    y: new Float32Array(order.length),
    feature: new Int32Array(order.length),
    cluster: new Int32Array(order.length),
    frequency: new Float32Array(order.length),
    clusters: told.clusters,
    quality: told.quality,
    left: told.left_out,
  };
  for (let to = 0; to < order.length; to++) {
    if (to % AT_ONCE === 0) await breath();
    const from = order[to] as number;
    points.x[to] = x[from] as number;
    points.y[to] = y[from] as number;
    points.feature[to] = from;
    points.cluster[to] = cluster[from] as number;
    if (points.frequency) points.frequency[to] = often[from] as number;
  }
  return points;
}

/** The features that have a place, in an order of chance that is always the same (Fisher and Yates; xorshift32). */
async function shuffled(x: Float32Array): Promise<Uint32Array> {
  let count = 0;
  const order = new Uint32Array(x.length);
  x.forEach((value, i) => {
    if (!Number.isNaN(value)) order[count++] = i;
  });
  let state = 2463534242;
  for (let i = count - 1; i > 0; i--) {
    if (i % AT_ONCE === 0) await breath();
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const k = (state >>> 0) % (i + 1);
    const held = order[i] as number;
    order[i] = order[k] as number;
    order[k] = held;
  }
  return order.subarray(0, count);
}
