/** Where a feature lies on the map of its dictionary, in small; absent where there is no map. */
import { useEffect, useRef } from "preact/hooks";
import { useMapPoints } from "../map/load";
import { colours, paperOf } from "../map/colours";
import { Raster } from "../map/raster";
import { dark } from "../state/theme";
import { visible } from "../tokens/visible";
import { Section } from "../parts/section";

export function MiniMap({ name, feature }: { name: string; feature: number }) {
  const [found] = useMapPoints(name);
  const canvas = useRef<HTMLCanvasElement>(null);
  const points = found.state === "there" ? found.value : null;
  const at = points ? points.feature.indexOf(feature) : -1;
  useEffect(() => {
    const here = canvas.current;
    if (!here || !points || at < 0) return;
    const ratio = devicePixelRatio || 1;
    here.width = Math.round(here.clientWidth * ratio);
    here.height = Math.round(here.clientHeight * ratio);
    const size = here.clientWidth;
    const where = { scale: 0.94 * size, left: 0.03 * size, top: 0.03 * size };
    const raster = new Raster(here, points);
    const pen = here.getContext("2d");
    if (!pen) return;
    let whole = raster.draw(where, { ...colours(points, "cluster"), paper: paperOf() }, false);
    while (!whole) whole = raster.more();
    const [x, y] = [(points.x[at] ?? 0) * where.scale + where.left, (points.y[at] ?? 0) * where.scale + where.top];
    pen.strokeStyle = getComputedStyle(here).color;
    pen.lineWidth = 2.5 * ratio;
    pen.beginPath();
    pen.arc(x * ratio, y * ratio, 8 * ratio, 0, 7);
    pen.stroke();
  }, [points, at, dark.value]);
  if (!points || at < 0) return null;
  const cluster = points.clusters[points.cluster[at] ?? -1]?.name;
  return (
    <Section title="On the map" help="Near means of like direction; far means little">
      <a class="minimap" href={`/map?feature=${feature}`} aria-label="Open the map at this feature">
        <canvas ref={canvas} aria-hidden="true" />
      </a>
      {cluster && <p class="quiet small">among {visible(cluster)}</p>}
    </Section>
  );
}
