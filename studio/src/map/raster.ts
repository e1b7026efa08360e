/**
 * Draws points into pixels by hand, without a graphics processor: a million take some milliseconds, everywhere the same.
 *
 * (The WebGL libraries for scatter plots compile their commands from text, which the pages' policy forbids.) A picture is drawn
 * in slices that each fit in a frame, in the order the points have, of which any first part stands for all: while the view
 * moves the first slice is enough, at rest the others follow.
 */
import type { Points, Where } from "./points";

const SLICE_MS = 14;
/** So many points are gone through between two looks at the clock. */
const STRIDE = 8192;
/** How many are in sight is told by so many of them. */
const SAMPLE = 20_000;
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
  /** Goes on with the picture; returns whether it is whole. */
  #go: () => boolean = () => true;

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly points: Points,
  ) {
    const pen = canvas.getContext("2d", { alpha: false });
    if (!pen) throw new Error("This browser gives no canvas to draw on.");
    this.#pen = pen;
  }

  /** Begin a picture, and draw what fits in a frame; returns whether that is all of it. */
  draw(where: Where, look: Look, moving: boolean): boolean {
    const { width, height } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.#prepare(width, height, look);
    const scale = where.scale * ratio;
    const left = where.left * ratio;
    const top = where.top * ratio;
    const seen = this.#seen(scale, left, top, width, height);
    const radius = ratio * Math.max(0.5, Math.min(5, Math.sqrt((width * height) / Math.max(1, seen)) / ratio / 5));
    if (seen <= (moving ? SMOOTH.moving : SMOOTH.rest)) {
      this.#smooth(scale, left, top, radius, look);
      this.#go = () => true;
      return true;
    }
    this.#pixels.fill(this.#packed[0] as number);
    this.#go = this.#blocks(scale, left, top, Math.max(1, Math.round(1.6 * radius)), look);
    return this.more();
  }

  /** Draw the next slice of the picture; returns whether it is whole. */
  more(): boolean {
    return this.#go();
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

  /** About how many points are in sight. */
  #seen(scale: number, left: number, top: number, width: number, height: number): number {
    const { x, y } = this.points;
    const sample = Math.min(x.length, SAMPLE);
    let seen = 0;
    for (let i = 0; i < sample; i++) {
      const px = left + (x[i] as number) * scale;
      const py = top + (y[i] as number) * scale;
      if (px >= 0 && px <= width && py >= 0 && py <= height) seen++;
    }
    return sample ? Math.round((seen * x.length) / sample) : 0;
  }

  #blocks(scale: number, left: number, top: number, side: number, look: Look): () => boolean {
    const { x, y } = this.points;
    const { colours } = look;
    const { width, height } = this.canvas;
    const pixels = this.#pixels;
    const inks = this.#packed;
    const paper = inks[0] as number;
    const off = side >> 1;
    const right = width - side;
    const bottom = height - side;
    const count = x.length;
    let next = 0;
    const stride = (): void => {
      const end = Math.min(count, next + STRIDE);
      for (let i = next; i < end; i++) {
        const px = (left + (x[i] as number) * scale - off) | 0;
        const py = (top + (y[i] as number) * scale - off) | 0;
        if (px < 0 || py < 0 || px > right || py > bottom) continue;
        const ink = inks[(colours[i] as number) + 1] as number;
        let at = py * width + px;
        // Only where nothing is yet: those that stand for others lie on top.
        if (side === 1) {
          if (pixels[at] === paper) pixels[at] = ink;
          continue;
        }
        for (let row = 0; row < side; row++, at += width) {
          // Without its corners a block of four or more looks round.
          const cut = side > 3 && (row === 0 || row === side - 1) ? 1 : 0;
          for (let k = cut; k < side - cut; k++) if (pixels[at + k] === paper) pixels[at + k] = ink;
        }
      }
      next = end;
    };
    return () => {
      const until = performance.now() + SLICE_MS;
      do stride();
      while (next < count && performance.now() < until);
      if (this.#image) this.#pen.putImageData(this.#image, 0, 0);
      return next >= count;
    };
  }

  #smooth(scale: number, left: number, top: number, radius: number, look: Look): void {
    const pen = this.#pen;
    const { width, height } = this.canvas;
    pen.fillStyle = look.paper;
    pen.fillRect(0, 0, width, height);
    const { x, y } = this.points;
    const paths = new Map<number, Path2D>();
    for (let i = x.length - 1; i >= 0; i--) {
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
