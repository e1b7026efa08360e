/**
 * Draws points into pixels by hand, without a graphics processor: a million take some milliseconds, everywhere the same.
 *
 * (The WebGL libraries for scatter plots compile their commands from text, which the pages' policy forbids.) While the
 * view moves, as many points are drawn as fit in a frame, in the order they have, of which any first part stands for all; at rest all are.
 */
import type { Points, Where } from "./points";

const FRAME_MS = 20;
const LEAST = 20_000;
/** Up to so many are drawn as round shapes with smooth edges, at rest and while the view moves. */
const SMOOTH = { rest: 24_000, moving: 4_000 };

export interface Look {
  /** For each point the index of its colour. */
  colours: Uint8Array | Uint16Array;
  /** As CSS. */
  palette: readonly string[];
  paper: string;
}

export class Raster {
  readonly #pen: CanvasRenderingContext2D;
  #image: ImageData | null = null;
  #pixels: Uint32Array = new Uint32Array();
  #packed: Uint32Array = new Uint32Array();
  #palette: readonly string[] = [];
  #most = Infinity;
  /** How long the last picture took, and how many points were gone through. */
  last = { ms: 0, points: 0 };

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly points: Points,
  ) {
    const pen = canvas.getContext("2d", { alpha: false });
    if (!pen) throw new Error("This browser gives no canvas to draw on.");
    this.#pen = pen;
  }

  /** Draw; returns whether all points were drawn. */
  draw(where: Where, look: Look, moving: boolean): boolean {
    const began = performance.now();
    const { width, height } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.#prepare(width, height, look);
    const count = this.points.x.length;
    const drawn = moving ? Math.min(count, this.#most) : count;
    const scale = where.scale * ratio;
    const left = where.left * ratio;
    const top = where.top * ratio;
    const seen = this.#seen(drawn, scale, left, top, width, height);
    const radius = ratio * Math.max(0.5, Math.min(5, Math.sqrt((width * height) / Math.max(1, seen)) / ratio / 5));
    if (seen <= (moving ? SMOOTH.moving : SMOOTH.rest)) this.#smooth(drawn, scale, left, top, radius, look);
    else this.#blocks(drawn, scale, left, top, Math.max(1, Math.round(1.6 * radius)), look);
    const ms = performance.now() - began;
    this.last = { ms, points: drawn };
    if (moving) this.#most = Math.max(LEAST, Math.round(Math.min(2 * drawn, (drawn * FRAME_MS) / Math.max(1, ms))));
    return drawn === count;
  }

  #prepare(width: number, height: number, look: Look): void {
    if (!this.#image || this.#image.width !== width || this.#image.height !== height) {
      this.#image = this.#pen.createImageData(width, height);
      this.#pixels = new Uint32Array(this.#image.data.buffer);
    }
    const all = [look.paper, ...look.palette];
    if (all.length === this.#palette.length && all.every((c, i) => c === this.#palette[i])) return;
    this.#palette = all;
    this.#packed = packed(all);
  }

  #seen(drawn: number, scale: number, left: number, top: number, width: number, height: number): number {
    const { x, y } = this.points;
    const fromX = -left / scale;
    const toX = (width - left) / scale;
    const fromY = -top / scale;
    const toY = (height - top) / scale;
    if (fromX <= 0 && fromY <= 0 && toX >= 1 && toY >= 1) return drawn;
    let seen = 0;
    for (let i = 0; i < drawn; i++) {
      const px = x[i] as number;
      const py = y[i] as number;
      if (px >= fromX && px <= toX && py >= fromY && py <= toY) seen++;
    }
    return seen;
  }

  #blocks(drawn: number, scale: number, left: number, top: number, side: number, look: Look): void {
    const { x, y } = this.points;
    const { colours } = look;
    const { width, height } = this.canvas;
    const pixels = this.#pixels;
    const inks = this.#packed;
    pixels.fill(inks[0] as number);
    const off = side >> 1;
    const right = width - side;
    const bottom = height - side;
    // Backwards, so that those that stand for others lie on top.
    for (let i = drawn - 1; i >= 0; i--) {
      const px = (left + (x[i] as number) * scale - off) | 0;
      const py = (top + (y[i] as number) * scale - off) | 0;
      if (px < 0 || py < 0 || px > right || py > bottom) continue;
      const ink = inks[(colours[i] as number) + 1] as number;
      let at = py * width + px;
      if (side === 1) {
        pixels[at] = ink;
        continue;
      }
      for (let row = 0; row < side; row++, at += width) {
        // Without its corners a block of four or more looks round.
        const cut = side > 3 && (row === 0 || row === side - 1) ? 1 : 0;
        for (let k = cut; k < side - cut; k++) pixels[at + k] = ink;
      }
    }
    if (this.#image) this.#pen.putImageData(this.#image, 0, 0);
  }

  #smooth(drawn: number, scale: number, left: number, top: number, radius: number, look: Look): void {
    const pen = this.#pen;
    const { width, height } = this.canvas;
    pen.fillStyle = look.paper;
    pen.fillRect(0, 0, width, height);
    const { x, y } = this.points;
    const paths = new Map<number, Path2D>();
    for (let i = drawn - 1; i >= 0; i--) {
      const px = left + (x[i] as number) * scale;
      const py = top + (y[i] as number) * scale;
      if (px < -radius || py < -radius || px > width + radius || py > height + radius) continue;
      const colour = look.colours[i] as number;
      let path = paths.get(colour);
      if (!path) paths.set(colour, (path = new Path2D()));
      path.moveTo(px + radius, py);
      path.arc(px, py, radius, 0, 7);
    }
    for (const [colour, path] of paths) {
      pen.fillStyle = look.palette[colour] ?? look.paper;
      pen.fill(path);
    }
  }
}

/** Colours as the canvas stores them. */
function packed(colours: readonly string[]): Uint32Array {
  const canvas = document.createElement("canvas");
  canvas.width = colours.length;
  canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (!pen) throw new Error("This browser gives no canvas to draw on.");
  colours.forEach((colour, i) => {
    pen.fillStyle = colour;
    pen.fillRect(i, 0, 1, 1);
  });
  return new Uint32Array(pen.getImageData(0, 0, colours.length, 1).data.buffer.slice(0));
}
