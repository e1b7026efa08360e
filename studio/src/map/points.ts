/** The points of a map, and which of them are where. Any first part of them stands for all. */

export interface Cluster {
  name: string;
  x: number;
  y: number;
  features: number;
}

export interface Points {
  /** Places in the unit square. */
  x: Float32Array;
  y: Float32Array;
  feature: Int32Array;
  cluster: Int32Array;
  /** The share of tokens on which each is active; null where that is not known. */
  frequency: Float32Array | null;
  clusters: readonly Cluster[];
  /** How true the layout is, beside two principal components and random places. */
  quality: Record<string, { kept: number; trustworthiness: number }>;
  /** So many features were never active, and have no place. */
  left: number;
}

/** Sorts points into squares, so that the nearest of a million is found among a few. */
export class Grid {
  readonly #side: number;
  readonly #starts: Uint32Array;
  readonly #order: Uint32Array;

  constructor(readonly points: Pick<Points, "x" | "y">) {
    const count = points.x.length;
    this.#side = Math.max(1, Math.min(1024, Math.ceil(Math.sqrt(count / 2))));
    const side = this.#side;
    const square = new Uint32Array(count);
    this.#starts = new Uint32Array(side * side + 1);
    for (let i = 0; i < count; i++) {
      const s = this.#cell(points.y[i] ?? 0) * side + this.#cell(points.x[i] ?? 0);
      square[i] = s;
      this.#starts[s + 1] = (this.#starts[s + 1] ?? 0) + 1;
    }
    for (let s = 0; s < side * side; s++) this.#starts[s + 1] = (this.#starts[s + 1] ?? 0) + (this.#starts[s] ?? 0);
    const next = this.#starts.slice();
    this.#order = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const s = square[i] ?? 0;
      const at = next[s] ?? 0;
      this.#order[at] = i;
      next[s] = at + 1;
    }
  }

  #cell(value: number): number {
    return Math.max(0, Math.min(this.#side - 1, Math.floor(value * this.#side)));
  }

  /** The nearest point to a place, no farther than `most` away; -1 if there is none. */
  nearest(x: number, y: number, most: number): number {
    let best = -1;
    let least = most * most;
    const side = this.#side;
    for (let row = this.#cell(y - most); row <= this.#cell(y + most); row++) {
      for (let column = this.#cell(x - most); column <= this.#cell(x + most); column++) {
        const s = row * side + column;
        for (let k = this.#starts[s] ?? 0; k < (this.#starts[s + 1] ?? 0); k++) {
          const i = this.#order[k] ?? 0;
          const dx = (this.points.x[i] ?? 0) - x;
          const dy = (this.points.y[i] ?? 0) - y;
          const d = dx * dx + dy * dy;
          if (d <= least) {
            least = d;
            best = i;
          }
        }
      }
    }
    return best;
  }
}

/** Where the view is: a place of the unit square is at `left + x · scale`, in pixels. */
export interface Where {
  scale: number;
  left: number;
  top: number;
}

/** The whole square in a box. */
export function whole(width: number, height: number): Where {
  const scale = 0.92 * Math.min(width, height);
  return { scale, left: (width - scale) / 2, top: (height - scale) / 2 };
}

/** Nearer or farther around a place on the screen. */
export function zoomed(where: Where, by: number, x: number, y: number): Where {
  const bounded = Math.max(120 / where.scale, Math.min(by, 4e6 / where.scale));
  return { scale: where.scale * bounded, left: x - (x - where.left) * bounded, top: y - (y - where.top) * bounded };
}
