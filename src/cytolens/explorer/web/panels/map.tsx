// One map: the raster's canvas, and over it the rings, the lasso and the pointer.

import { useEffect, useRef, useState } from "preact/hooks";
import { panBy, toMap, toScreen, WHOLE, zoomAt, type Camera } from "../raster/camera";
import type { Combine } from "../data/shapes";
import type { Explorer } from "../view/explorer";
import { seen } from "../view/colouring";
import { formatNumber } from "../data/statistics";

const REACH = 14; // px from the pointer in which a dot is picked
let lastId = 0;

export interface Hover {
  cell: number;
  x: number;
  y: number;
}

/** How cells join those that are selected: by the keys held, else as the bar says. */
export function howOf(event: { shiftKey: boolean; altKey: boolean; ctrlKey: boolean; metaKey: boolean }, usual: Combine): Combine {
  if (event.shiftKey && event.altKey) return "intersect";
  if (event.shiftKey) return "add";
  return event.altKey ? "subtract" : usual;
}

export function MapPanel(props: {
  explorer: Explorer;
  slot: number;
  layer: string;
  onHover: (hover: Hover | null) => void;
  focused: boolean;
  onFocus: () => void;
}) {
  const { explorer, layer } = props;
  const { view, manifest } = explorer;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const id = useRef(0);
  const [size, setSize] = useState<[number, number]>([0, 0]);
  const [path, setPath] = useState<number[] | null>(null);
  const moving = useRef(0);
  const held = useRef<{ x: number; y: number; moved: boolean; tool: string } | null>(null);
  const touches = useRef(new Map<number, [number, number]>());
  const picking = useRef(false);
  const entry = manifest.maps[view.method]?.[layer];
  const camera = view.cameras[layer] ?? WHOLE;
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const shown = useRef("");

  const state = (still: boolean) => ({
    map: entry?.array ?? "",
    camera: explorer.view.cameras[layer] ?? WHOLE,
    width: Math.round(size[0] * ratio),
    height: Math.round(size[1] * ratio),
    ratio,
    moving: !still,
  });

  useEffect(() => {
    const area = box.current;
    if (!area) return;
    const measure = () => setSize([area.clientWidth, area.clientHeight]);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(area);
    return () => {
      observer.disconnect();
      explorer.raster.send({ type: "close", id: id.current });
    };
  }, [explorer]);

  useEffect(() => {
    if (!canvas.current || !entry || size[0] < 2 || size[1] < 2) return;
    void explorer.raster.load(entry.array).then(() => explorer.tell());
    const animate = shown.current !== "" && shown.current !== entry.array && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    shown.current = entry.array;
    if (!id.current) {
      id.current = ++lastId;
      if (box.current) box.current.dataset.view = String(id.current);
      const off = canvas.current.transferControlToOffscreen();
      explorer.raster.send({ type: "view", id: id.current, canvas: off, state: state(true) }, [off]);
      return;
    }
    const still = performance.now() - moving.current > 120;
    explorer.raster.send({ type: "view", id: id.current, state: state(still), animate });
    if (still) return;
    const timer = setTimeout(() => {
      explorer.raster.send({ type: "view", id: id.current, state: state(true) });
    }, 140);
    return () => clearTimeout(timer);
  }, [explorer, entry?.array, camera, size[0], size[1]]);

  const look = (next: Camera) => {
    moving.current = performance.now();
    explorer.set({ cameras: { ...explorer.view.cameras, [layer]: next } }, false);
  };
  const at = (event: PointerEvent | WheelEvent | MouseEvent): [number, number] => {
    const area = box.current?.getBoundingClientRect();
    return area ? [event.clientX - area.left, event.clientY - area.top] : [0, 0];
  };
  const current = () => explorer.view.cameras[layer] ?? WHOLE;

  useEffect(() => {
    const area = box.current;
    if (!area) return;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      let [x, y] = at(event);
      const lines = event.deltaMode === 1 ? 18 : 1;
      const cell = explorer.hovered; // going nearer leads to the cell that is pointed at
      const place = cell >= 0 && event.deltaY < 0 ? explorer.place(layer, cell) : undefined;
      if (place) [x, y] = toScreen(current(), size[0], size[1], place[0], place[1]);
      look(zoomAt(current(), size[0], size[1], x, y, Math.exp(-event.deltaY * lines * 0.0018)));
    };
    area.addEventListener("wheel", wheel, { passive: false });
    return () => area.removeEventListener("wheel", wheel);
  });

  const pick = async (x: number, y: number): Promise<number> =>
    explorer.raster.pick(id.current, x * ratio, y * ratio, Math.round(REACH * ratio));

  const down = (event: PointerEvent) => {
    if (event.button > 1) return;
    props.onFocus();
    const [x, y] = at(event);
    touches.current.set(event.pointerId, [x, y]);
    box.current?.setPointerCapture(event.pointerId);
    const tool = event.button === 1 ? "move" : view.tool;
    held.current = { x, y, moved: false, tool };
    props.onHover(null);
    if (tool !== "move" && touches.current.size === 1) setPath([x, y]);
  };
  const move = (event: PointerEvent) => {
    const [x, y] = at(event);
    const before = touches.current.get(event.pointerId);
    if (before && touches.current.size === 2) {
      const other = [...touches.current.entries()].find(([key]) => key !== event.pointerId)?.[1] ?? before;
      const wide = (a: [number, number], b: [number, number]) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      const middle: [number, number] = [(x + other[0]) / 2, (y + other[1]) / 2];
      const factor = wide([x, y], other) / wide(before, other);
      const next = zoomAt(current(), size[0], size[1], middle[0], middle[1], factor);
      touches.current.set(event.pointerId, [x, y]);
      setPath(null);
      look(panBy(next, size[0], size[1], (x - before[0]) / 2, (y - before[1]) / 2));
      return;
    }
    const grip = held.current;
    if (grip && before) {
      if (Math.hypot(x - grip.x, y - grip.y) > 3) grip.moved = true;
      touches.current.set(event.pointerId, [x, y]);
      if (grip.tool === "move") {
        if (grip.moved) look(panBy(current(), size[0], size[1], x - before[0], y - before[1]));
      } else if (grip.tool === "lasso") {
        setPath((points) => (points && Math.hypot(x - (points.at(-2) ?? 0), y - (points.at(-1) ?? 0)) > 3 ? [...points, x, y] : points));
      } else {
        setPath([grip.x, grip.y, x, grip.y, x, y, grip.x, y]);
      }
      return;
    }
    if (picking.current) return;
    picking.current = true;
    void pick(x, y).then((cell) => {
      picking.current = false;
      if (held.current) return;
      props.onHover(cell >= 0 ? { cell, x: event.clientX, y: event.clientY } : null);
    });
  };
  const up = (event: PointerEvent) => {
    touches.current.delete(event.pointerId);
    const grip = held.current;
    held.current = null;
    if (!grip) return;
    const [x, y] = at(event);
    if (path && grip.moved && path.length >= 6) {
      const points: number[] = [];
      for (let i = 0; i < path.length; i += 2) {
        const [mx, my] = toMap(current(), size[0], size[1], path[i], path[i + 1]);
        points.push(Math.round(mx), Math.round(my));
      }
      explorer.select({ kind: "polygon", method: view.method, layer, points }, howOf(event, view.how));
    } else if (!grip.moved) {
      const how = howOf(event, view.how);
      void pick(x, y).then((cell) => {
        if (cell < 0) {
          if (how === "replace" && grip.tool !== "move") explorer.clear();
        } else if (event.shiftKey || event.altKey) {
          explorer.select({ kind: "cells", cells: [cell] }, how);
        } else {
          explorer.set({ cell, tab: "cell" });
        }
      });
    }
    setPath(null);
  };
  const leave = () => {
    if (!held.current) props.onHover(null);
  };
  const keys = (event: KeyboardEvent) => {
    const step = 60;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step],
    };
    const by = moves[event.key];
    if (by) look(panBy(current(), size[0], size[1], by[0], by[1]));
    else if (event.key === "+" || event.key === "=") look(zoomAt(current(), size[0], size[1], size[0] / 2, size[1] / 2, 1.4));
    else if (event.key === "-") look(zoomAt(current(), size[0], size[1], size[0] / 2, size[1] / 2, 1 / 1.4));
    else if (event.key === "0") look(WHOLE);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const rings = [
    { cell: view.cell, kind: "pinned" },
    { cell: explorer.hovered, kind: "hovered" },
  ].flatMap(({ cell, kind }) => {
    const place = cell >= 0 ? explorer.place(layer, cell) : undefined;
    if (!place) return [];
    const [x, y] = toScreen(camera, size[0], size[1], place[0], place[1]);
    return x < 0 || y < 0 || x > size[0] || y > size[1] ? [] : [{ kind, x, y }];
  });
  const fresh = (explorer.placed?.places[view.method]?.[layer] ?? []).slice(0, 5000).map((place, index) => {
    const [x, y] = toScreen(camera, size[0], size[1], place[0], place[1]);
    return { x, y, index };
  });
  const layers = Object.keys(manifest.maps[view.method] ?? {});
  const kept = entry?.quality?.recall_10;
  return (
    <section class={`map${props.focused ? " focused" : ""}`} aria-label={`map of ${layer}`}>
      <header>
        <select
          aria-label={`depth of map ${props.slot + 1}`} value={layer}
          onChange={(event) => {
            const next = [...view.layers];
            next[props.slot] = event.currentTarget.value;
            explorer.set({ layers: next });
          }}
        >
          {layers.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
        {kept !== undefined && (
          <span class="quiet" title="recall@10: of the ten nearest cells in the layer, the share that are among the ten nearest on the map">
            {formatNumber(Math.round(100 * kept))} % of neighbours kept
          </span>
        )}
        {camera !== WHOLE && (camera.zoom !== 1 || camera.x !== WHOLE.x || camera.y !== WHOLE.y) && (
          <button class="plain" onClick={() => look(WHOLE)} title="Show the whole map (0)">whole map</button>
        )}
      </header>
      <div
        class={`plane tool-${view.tool}`} ref={box} tabIndex={0} role="application"
        aria-label={`map of ${layer}: ${explorer.shown} cells. Arrow keys move, plus and minus zoom, 0 shows all.`}
        onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={up} onPointerLeave={leave}
        onKeyDown={keys} onFocus={props.onFocus} onDblClick={(event) => {
          const [x, y] = at(event);
          look(zoomAt(current(), size[0], size[1], x, y, event.shiftKey ? 1 / 2.5 : 2.5));
        }}
      >
        <canvas ref={canvas} />
        <svg class="over" width={size[0]} height={size[1]} aria-hidden="true">
          {path && <polygon class="lasso" points={path.join(" ")} />}
          {fresh.map(({ x, y, index }) => (
            <path
              key={index} class={explorer.placed?.odd[index] ? "newcell odd" : "newcell"} d={`M${x} ${y - 6}l6 6l-6 6l-6 -6z`}
              style={{ fill: seen(manifest.class_colours[explorer.placed?.predicted[index] ?? 0] ?? "#888888", explorer.theme) }}
            />
          ))}
          {rings.map((ring) => <circle key={ring.kind} class={`ring ${ring.kind}`} cx={ring.x} cy={ring.y} r={ring.kind === "pinned" ? 10 : 8} />)}
        </svg>
        <p class="empty nobody">No cells here. <button class="plain" onClick={() => look(WHOLE)}>Show the whole map</button></p>
        {!entry && <p class="empty">There is no map of {layer} by {view.method}.</p>}
      </div>
    </section>
  );
}
