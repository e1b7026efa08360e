/** What is drawn over the points: names of clusters, and rings. */
import { visible } from "../tokens/visible";
import { paperOf } from "./colours";
import type { Points, Where } from "./points";

/** Names of clusters, rings around what was found, and the feature that is chosen. */
export function annotate(canvas: HTMLCanvasElement, points: Points, where: Where, marked: readonly number[], at: number, hover: number): void {
  const pen = canvas.getContext("2d");
  if (!pen) return;
  const ratio = devicePixelRatio || 1;
  const style = getComputedStyle(canvas);
  const ink = style.color;
  const paper = paperOf();
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const width = canvas.width / ratio;
  const height = canvas.height / ratio;
  pen.clearRect(0, 0, width, height);
  const place = (x: number, y: number): [number, number] => [where.left + x * where.scale, where.top + y * where.scale];
  if (marked.length) {
    pen.fillStyle = paper;
    pen.globalAlpha = 0.72;
    pen.fillRect(0, 0, width, height);
    pen.globalAlpha = 1;
  }
  pen.font = `600 12.5px ${style.fontFamily}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  const boxes: { x: number; y: number; w: number }[] = [];
  for (const c of [...points.clusters].sort((a, b) => b.features - a.features)) {
    if (!c.name) continue;
    const [x, y] = place(c.x, c.y);
    if (x < -80 || x > width + 80 || y < -10 || y > height + 10) continue;
    const text = visible(c.name);
    const w = pen.measureText(text).width / 2 + 5;
    if (boxes.some((b) => Math.abs(b.x - x) < b.w + w && Math.abs(b.y - y) < 18)) continue;
    boxes.push({ x, y, w });
    pen.lineWidth = 4;
    pen.strokeStyle = paper;
    pen.strokeText(text, x, y);
    pen.fillStyle = ink;
    pen.fillText(text, x, y);
  }
  const ring = (index: number, radius: number, colour: string, thick: number): void => {
    const [x, y] = place(points.x[index] ?? 0, points.y[index] ?? 0);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.lineWidth = thick + 2;
    pen.strokeStyle = paper;
    pen.stroke();
    pen.lineWidth = thick;
    pen.strokeStyle = colour;
    pen.stroke();
  };
  const mark = getComputedStyle(document.documentElement).getPropertyValue("--mark");
  for (const i of marked) {
    const [x, y] = place(points.x[i] ?? 0, points.y[i] ?? 0);
    pen.beginPath();
    pen.arc(x, y, 4, 0, 7);
    pen.fillStyle = mark;
    pen.fill();
    ring(i, 7, ink, 1.5);
  }
  if (hover >= 0) ring(hover, 7, ink, 1.5);
  if (at >= 0) ring(at, 9, ink, 2.5);
}
