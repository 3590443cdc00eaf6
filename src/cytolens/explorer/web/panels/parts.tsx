// Small pieces that several panels are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Paced } from "../data/pacing";
import type { Sheets } from "../data/sheets";
import type { Explorer } from "../view/explorer";

/** Draw again whenever the explorer says that something has changed. */
export function useExplorer(explorer: Explorer): void {
  const [, again] = useState(0);
  useEffect(() => explorer.listen(() => again((turn) => turn + 1)), [explorer]);
}

/** What long work gives, once it is done; it starts again when one of `on` is another. */
export function usePaced<T>(make: () => Generator<void, T>, on: unknown[]): T | undefined {
  const [, again] = useState(0);
  const work = useMemo(() => new Paced(make(), () => again((turn) => turn + 1)), on);
  useEffect(() => () => work.stop(), [work]);
  return work.value;
}

/** One picture from a sheet, `side` CSS px along its longer side. */
export function Tile(props: { sheets: Sheets; k: number; place: number; side: number; label: string }) {
  const { sheets, k, place, side, label } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const { width, height } = sheets.grid;
  const scale = side / Math.max(width, height);
  const tile = sheets.tile(k, place);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !canvas.current) return;
    canvas.current.width = width;
    canvas.current.height = height;
    if (tile) context.drawImage(tile.from, tile.x, tile.y, width, height, 0, 0, width, height);
  }, [tile?.from, tile?.x, tile?.y, width, height]);
  return (
    <canvas
      ref={canvas}
      class="tile"
      role="img"
      aria-label={label}
      style={{ width: `${Math.round(width * scale)}px`, height: `${Math.round(height * scale)}px` }}
    />
  );
}

export function Crop(props: { explorer: Explorer; cell: number; side: number }) {
  const { explorer, cell, side } = props;
  const { sheets } = explorer;
  const entry = explorer.manifest.sheets;
  if (!sheets || !entry) return null;
  return (
    <Tile
      sheets={sheets} k={Math.floor(cell / entry.per)} place={cell % entry.per} side={side}
      label={`crop of ${explorer.name(cell)}`}
    />
  );
}

/** A picture of a gallery: target number `index`. */
export function Picture(props: { explorer: Explorer; gallery: string; index: number; side: number; label: string }) {
  const found = props.explorer.gallery(props.gallery);
  if (!found || props.index < 0 || props.index >= found.entry.count) return null;
  return <Tile sheets={found.sheets} k={0} place={props.index} side={props.side} label={props.label} />;
}

/** Where a gallery has a channel; -1 where it is not there, or has no picture of it. */
export function placeOf(explorer: Explorer, gallery: string, channel: number): number {
  return explorer.manifest.galleries.find((entry) => entry.name === gallery)?.indices?.indexOf(channel) ?? -1;
}

/** The gallery that shows a layer's channels best: on what they see, where that is less than a cell. */
export function mainGallery(explorer: Explorer, layer: string): string {
  const onField = `field/${layer}`;
  return explorer.manifest.galleries.some((entry) => entry.name === onField) ? onField : `feature image/${layer}`;
}

/**
 * Several pictures of one target, such as less | more: from a gallery with `frames`, in which the
 * pictures of a target follow one another. Nothing where there is none.
 */
export function FrameStrip(props: { explorer: Explorer; gallery: string; index: number; side: number; prefix?: string }) {
  const found = props.explorer.gallery(props.gallery);
  const frames = found?.entry.frames ?? [];
  if (!found || props.index < 0 || (props.index + 1) * frames.length > found.entry.count) return null;
  return (
    <>
      {frames.map((name, k) => (
        <figure key={k}>
          <Picture explorer={props.explorer} gallery={props.gallery} index={props.index * frames.length + k} side={props.side} label={`${props.prefix ?? ""}${name}`} />
          <figcaption>{name}</figcaption>
        </figure>
      ))}
    </>
  );
}

/**
 * Beside an image made from a cell: that cell, what was changed of it, and how like the image is to
 * it and to the nearest cell. `of` names the galleries, as "class ", or "" for channels.
 */
export function Origin(props: { explorer: Explorer; of: string; layer: string; index: number; side: number; label: string; children?: ComponentChildren }) {
  const { explorer, of, layer, index, side, label } = props;
  const start = `${of}start/${layer}`;
  const entry = explorer.gallery(start)?.entry;
  if (!entry || index < 0) return <>{props.children}</>;
  return (
    <>
      <div class="strip wrap">
        <figure><Picture explorer={explorer} gallery={start} index={index} side={side} label={`the cell that the image of ${label} began as`} /><figcaption>the cell it began as</figcaption></figure>
        {props.children}
        <FrameStrip explorer={explorer} gallery={`${of}change/${layer}`} index={index} side={side} prefix={`change of ${label}: `} />
      </div>
      <Likeness own={entry.likeness?.[index]} nearest={entry.nearest?.[index]} />
    </>
  );
}

/** How like an image is to the cell that it began as, and to the nearest one. */
export function Likeness({ own, nearest }: { own?: number | null; nearest?: number | null }) {
  if (typeof own !== "number") return null;
  return (
    <p class="quiet">
      Pixel correlation with that cell {own.toFixed(2)}{typeof nearest === "number" ? `, with the nearest real cell ${nearest.toFixed(2)}` : ""}.
    </p>
  );
}

/** A strip of frames under a heading. */
export function Frames(props: { explorer: Explorer; kind: string; gallery: string; index: number; side: number }) {
  const { kind, ...strip } = props;
  if (props.index < 0 || !props.explorer.gallery(props.gallery)) return null;
  return (
    <div class="frames">
      <h3>{kind}</h3>
      <div class="strip"><FrameStrip {...strip} prefix={`${kind}: `} /></div>
    </div>
  );
}

/** A part of a panel that can be folded; what is in it is made when it is first open. */
export function Section(props: { title: string; open?: boolean; children: ComponentChildren }) {
  const [open, setOpen] = useState(props.open ?? true);
  const seen = useRef(open);
  seen.current ||= open;
  return (
    <details class="section" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{props.title}</summary>
      <div class="inside">{seen.current && props.children}</div>
    </details>
  );
}

/** Bars of counts, the first `most` of them, with the share among all cells as a thin mark. */
export function Bars(props: {
  entries: { name: string; colour: string; value: number; of: number }[];
  total: number;
  all: number;
  onPick?: (index: number) => void;
}) {
  const { entries, total, all } = props;
  return (
    <ul class="bars">
      {entries.map((entry, index) => {
        const share = total ? entry.value / total : 0;
        const usual = all ? entry.of / all : 0;
        return (
          <li key={entry.name}>
            <button
              class="bar" disabled={!props.onPick} onClick={() => props.onPick?.(index)}
              title={`${entry.name}: ${entry.value} of ${total} (${(100 * share).toFixed(1)} %); among all cells ${(100 * usual).toFixed(1)} %`}
            >
              <span class="swatch" style={{ background: entry.colour }} />
              <span class="name">{entry.name}</span>
              <span class="track">
                <span class="fill" style={{ width: `${100 * share}%`, background: entry.colour }} />
                <span class="usual" style={{ left: `${100 * usual}%` }} />
              </span>
              <span class="number">{entry.value.toLocaleString("en-US")}</span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}

/** A histogram with two handles; `onChange` is called while they move. */
export function RangeSlider(props: {
  label: string;
  limits: readonly [number, number];
  range: readonly [number, number];
  counts: Uint32Array;
  tint?: (t: number) => string;
  format: (value: number) => string;
  onChange: (range: [number, number]) => void;
}) {
  const { limits, range, counts } = props;
  const box = useRef<HTMLDivElement>(null);
  const [low, high] = limits;
  const span = high - low || 1;
  const share = (value: number) => Math.min(1, Math.max(0, (value - low) / span));
  const held = useRef<0 | 1 | null>(null);
  const most = Math.max(1, ...counts);
  const moveTo = (end: 0 | 1, value: number) => {
    const next: [number, number] = [range[0], range[1]];
    next[end] = Math.min(high, Math.max(low, value));
    if (next[0] > next[1]) next[end] = next[1 - end];
    props.onChange(next);
  };
  const at = (event: PointerEvent) => {
    const area = box.current?.getBoundingClientRect();
    return area ? low + (span * (event.clientX - area.left)) / area.width : low;
  };
  const down = (event: PointerEvent) => {
    const value = at(event);
    held.current = Math.abs(value - range[0]) <= Math.abs(value - range[1]) ? 0 : 1;
    if (range[0] === range[1]) held.current = value < range[0] ? 0 : 1;
    box.current?.setPointerCapture(event.pointerId);
    moveTo(held.current, value);
  };
  const key = (end: 0 | 1) => (event: KeyboardEvent) => {
    const step = event.shiftKey ? span / 10 : span / 100;
    if (event.key === "ArrowLeft" || event.key === "ArrowDown") moveTo(end, range[end] - step);
    else if (event.key === "ArrowRight" || event.key === "ArrowUp") moveTo(end, range[end] + step);
    else if (event.key === "Home") moveTo(end, end ? range[0] : low);
    else if (event.key === "End") moveTo(end, end ? high : range[1]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="range">
      <div
        class="rangebox" ref={box} onPointerDown={down}
        onPointerMove={(event) => held.current !== null && moveTo(held.current, at(event))}
        onPointerUp={() => (held.current = null)} onPointerCancel={() => (held.current = null)}
      >
        <svg viewBox={`0 0 ${counts.length} 1`} preserveAspectRatio="none" aria-hidden="true">
          {Array.from(counts, (value, i) => {
            const height = value ? Math.max(0.03, Math.sqrt(value / most)) : 0;
            const inside = share(range[0]) <= (i + 1) / counts.length && i / counts.length <= share(range[1]);
            const t = (low + (span * (i + 0.5)) / counts.length - range[0]) / (range[1] - range[0] || 1);
            return (
              <rect
                key={i} x={i} y={1 - height} width={1.02} height={height}
                fill={inside && props.tint ? props.tint(t) : undefined} class={inside ? "in" : "out"}
              />
            );
          })}
        </svg>
        {([0, 1] as const).map((end) => (
          <span
            key={end} class="handle" role="slider" tabIndex={0} aria-label={`${props.label}: ${end ? "upper" : "lower"} end`}
            aria-valuemin={low} aria-valuemax={high} aria-valuenow={range[end]} aria-valuetext={props.format(range[end])}
            style={{ left: `${100 * share(range[end])}%` }} onKeyDown={key(end)}
          />
        ))}
      </div>
      <div class="rangeends">
        <span>{props.format(range[0])}</span>
        <span>{props.format(range[1])}</span>
      </div>
    </div>
  );
}

/** Lines over the layers, in depth order. */
export function DepthCurve(props: {
  title: string;
  names: string[];
  lines: { name: string; colour: string; dashed?: boolean; values: (number | undefined)[]; low?: (number | undefined)[]; high?: (number | undefined)[] }[];
  chosen: number;
  format: (value: number) => string;
  onPick: (index: number) => void;
}) {
  const { names, lines } = props;
  const all = lines.flatMap((line) => [...line.values, ...(line.low ?? []), ...(line.high ?? [])]).filter((v): v is number => v !== undefined);
  if (!all.length || names.length < 2) return null;
  const low = Math.min(...all);
  const high = Math.max(...all);
  const width = 300;
  const height = 92;
  const x = (i: number) => 36 + (i * (width - 46)) / (names.length - 1);
  const y = (value: number) => 8 + (height - 26) * (1 - (value - low) / (high - low || 1));
  const last = [...(lines[0]?.values ?? [])];
  return (
    <figure class="curve">
      <figcaption>{props.title}</figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${props.title}, by depth: ${names.map((name, i) => (last[i] === undefined ? "" : `${name} ${props.format(last[i])}`)).filter(Boolean).join(", ")}`}>
        <text x="32" y={y(high) + 4} text-anchor="end">{props.format(high)}</text>
        <text x="32" y={y(low) + 2} text-anchor="end">{props.format(low)}</text>
        <line class="axis" x1="36" x2={width - 10} y1={y(low)} y2={y(low)} />
        <line class="chosen" x1={x(props.chosen)} x2={x(props.chosen)} y1="4" y2={height - 16} />
        {lines.map((line) => (
          <g key={line.name} style={{ color: line.colour }}>
            {line.low && line.high && (
              <polygon
                class="band"
                points={[
                  ...line.high.map((v, i) => (v === undefined ? "" : `${x(i)},${y(v)}`)),
                  ...line.low.map((v, i) => (v === undefined ? "" : `${x(i)},${y(v)}`)).reverse(),
                ].filter(Boolean).join(" ")}
              />
            )}
            <polyline
              class={line.dashed ? "line dashed" : "line"}
              points={line.values.map((v, i) => (v === undefined ? "" : `${x(i)},${y(v)}`)).filter(Boolean).join(" ")}
            />
          </g>
        ))}
        {names.map((name, i) => (
          <rect key={name} class="hit" x={x(i) - 8} y="0" width="16" height={height} onClick={() => props.onPick(i)}>
            <title>{name}: {lines.map((line) => `${line.name} ${line.values[i] === undefined ? "–" : props.format(line.values[i] as number)}`).join("; ")}</title>
          </rect>
        ))}
        <text x="36" y={height - 2}>{names[0]}</text>
        <text x={width - 10} y={height - 2} text-anchor="end">{names.at(-1)}</text>
      </svg>
      {lines.length > 1 && (
        <div class="key">
          {lines.map((line) => (
            <span key={line.name}>
              <svg width="16" height="6" aria-hidden="true" style={{ color: line.colour }}><line class={line.dashed ? "line dashed" : "line"} x1="0" x2="16" y1="3" y2="3" /></svg> {line.name}
            </span>
          ))}
        </div>
      )}
    </figure>
  );
}
