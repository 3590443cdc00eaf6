// Two properties against each other: a gate drawn here is in step with the maps.

import { useEffect, useRef, useState } from "preact/hooks";
import type { NumberColumn } from "../data/manifest";
import { formatNumber } from "../data/statistics";
import type { Explorer } from "../view/explorer";
import { groundOf, tableOf } from "../view/colouring";
import { ColumnOptions } from "./legend";
import { howOf } from "./map";

const WIDTH = 296;
const HEIGHT = 220;

export function Plot({ explorer }: { explorer: Explorer }) {
  const numbers = explorer.manifest.columns.filter((column): column is NumberColumn => column.kind === "number");
  const usual = (name: string, index: number) => (numbers.find((column) => column.key === name) ?? numbers[index] ?? numbers[0])?.key ?? "";
  const [x, setX] = useState(() => usual("area", 0));
  const [y, setY] = useState(() => usual("mean_brightness", 1));
  const [path, setPath] = useState<number[] | null>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const column = (key: string) => numbers.find((entry) => entry.key === key);
  const xs = x ? explorer.values(x) : undefined;
  const ys = y ? explorer.values(y) : undefined;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    const cx = column(x);
    const cy = column(y);
    if (!context || !cx || !cy) return;
    const image = context.createImageData(WIDTH, HEIGHT);
    const pixels = new Uint32Array(image.data.buffer).fill(groundOf(explorer.theme));
    const table = tableOf(explorer.column(explorer.view.colour), explorer.theme);
    if (xs && ys) {
      for (let pass = 0; pass < 2; pass++) {
        for (let i = 0; i < xs.length; i++) {
          if (explorer.hidden[i] || (explorer.mask[i] === 1) !== (pass === 1)) continue;
          const px = 2 + ((WIDTH - 5) * (xs[i] - cx.limits[0])) / (cx.limits[1] - cx.limits[0] || 1);
          const py = 2 + (HEIGHT - 5) * (1 - (ys[i] - cy.limits[0]) / (cy.limits[1] - cy.limits[0] || 1));
          if (!(px >= 0 && py >= 0)) continue;
          const faint = explorer.selected > 0 && pass === 0 ? 256 : 0;
          const at = Math.floor(py) * WIDTH + Math.floor(px);
          pixels[at] = pixels[at + 1] = pixels[at + WIDTH] = pixels[at + WIDTH + 1] = table[explorer.buckets[i] + faint];
        }
      }
    }
    context.putImageData(image, 0, 0);
  }, [explorer, xs, ys, x, y, explorer.mask, explorer.hidden, explorer.buckets, explorer.theme]);
  if (numbers.length < 2) return <p class="quiet">There are no two properties.</p>;
  const at = (event: PointerEvent): [number, number] => {
    const area = canvas.current?.getBoundingClientRect();
    return area ? [((event.clientX - area.left) * WIDTH) / area.width, ((event.clientY - area.top) * HEIGHT) / area.height] : [0, 0];
  };
  const end = (event: PointerEvent) => {
    const cx = column(x);
    const cy = column(y);
    if (path && path.length >= 6 && cx && cy) {
      const points: number[] = [];
      for (let i = 0; i < path.length; i += 2) {
        points.push(
          cx.limits[0] + ((path[i] - 2) / (WIDTH - 5)) * (cx.limits[1] - cx.limits[0]),
          cy.limits[0] + (1 - (path[i + 1] - 2) / (HEIGHT - 5)) * (cy.limits[1] - cy.limits[0]),
        );
      }
      explorer.select({ kind: "gate", x, y, points }, howOf(event, explorer.view.how));
    }
    setPath(null);
  };
  return (
    <div class="plot">
      <div class="row">
        <select aria-label="property to the right" value={x} onChange={(event) => setX(event.currentTarget.value)}><ColumnOptions columns={explorer.manifest.columns} only="number" /></select>
        <select aria-label="property upwards" value={y} onChange={(event) => setY(event.currentTarget.value)}><ColumnOptions columns={explorer.manifest.columns} only="number" /></select>
      </div>
      <div
        class="plotarea" role="application" aria-label={`${column(y)?.title ?? ""} against ${column(x)?.title ?? ""}; drag to draw a gate`}
        onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); setPath(at(event)); }}
        onPointerMove={(event) => setPath((points) => (points ? [...points, ...at(event)] : points))}
        onPointerUp={end} onPointerCancel={() => setPath(null)}
      >
        <canvas ref={canvas} width={WIDTH} height={HEIGHT} />
        <svg class="over" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">{path && <polygon class="lasso" points={path.join(" ")} />}</svg>
      </div>
      <p class="rangeends"><span>{formatNumber(column(x)?.limits[0])}</span><span>{column(x)?.title} →</span><span>{formatNumber(column(x)?.limits[1])}</span></p>
      <p class="quiet">Upwards: {column(y)?.title}, {formatNumber(column(y)?.limits[0])} to {formatNumber(column(y)?.limits[1])}. Drag around cells to select them.</p>
    </div>
  );
}
