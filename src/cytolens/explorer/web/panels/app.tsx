// The page: a bar above, the legend to the left, maps in the middle, panels to the right.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Explorer } from "../view/explorer";
import { someLayers, type Tab, type Tool } from "../view/view";
import { formatCount, formatNumber } from "../data/statistics";
import { colourOfCell } from "../view/colouring";
import { CellPanel, Chip } from "./cell";
import { ServedCrop } from "./crops";
import { FirstVisit, Help } from "./help";
import { ImageControls } from "./look";
import { Legend } from "./legend";
import { MapPanel, type Hover } from "./map";
import { NetworkPanel } from "./network";
import { filesOf, NewCells, placeFiles } from "./placed";
import { Crop, useExplorer } from "./parts";
import { SelectionPanel } from "./selection";

const DWELL = 125; // ms before the card of a cell opens

const TABS: [Tab, string][] = [["cell", "Cell"], ["selection", "Selection"], ["network", "Network"], ["new", "New cells"]];

export function App({ explorer }: { explorer: Explorer }) {
  useExplorer(explorer);
  const { view, manifest } = explorer;
  const [card, setCard] = useState<Hover | null>(null);
  const [help, setHelp] = useState(false);
  const [focused, setFocused] = useState(0);
  const dwell = useRef(0);

  const hover = (found: Hover | null) => {
    const cell = found?.cell ?? -1;
    if (cell !== explorer.hovered) {
      explorer.hovered = cell;
      clearTimeout(dwell.current);
      setCard(null);
      if (found) explorer.fetchCrop(cell); // on its way
      explorer.tell();
      if (found) dwell.current = window.setTimeout(() => setCard(found), DWELL);
    }
  };

  useEffect(() => {
    // a list that was used with the pointer gives the keys back to the page
    let pointed = 0;
    const down = () => (pointed = performance.now());
    const changed = (event: Event) => {
      if (event.target instanceof HTMLSelectElement && performance.now() - pointed < 8000) event.target.blur();
    };
    const typed = () => (pointed = -Infinity);
    const over = (event: DragEvent) => {
      event.preventDefault();
      if (explorer.manifest.live && explorer.view.tab !== "new") explorer.set({ tab: "new" }, false);
    };
    const dropped = (event: DragEvent) => {
      event.preventDefault();
      const { live, network } = explorer.manifest;
      if (live && network && event.dataTransfer) void filesOf(event.dataTransfer.items).then((files) => placeFiles(explorer, files));
    };
    window.addEventListener("pointerdown", down, true);
    window.addEventListener("keydown", typed, true);
    window.addEventListener("change", changed);
    window.addEventListener("dragover", over);
    window.addEventListener("drop", dropped);
    return () => {
      window.removeEventListener("pointerdown", down, true);
      window.removeEventListener("keydown", typed, true);
      window.removeEventListener("change", changed);
      window.removeEventListener("dragover", over);
      window.removeEventListener("drop", dropped);
    };
  }, [explorer]);

  useLayoutEffect(() => {  // at once, so that a key acts on what is shown
    const keys = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement | null;
      const typing = target && (target.tagName === "INPUT" || target.tagName === "SELECT" || target.tagName === "TEXTAREA");
      if (event.key === "Escape") {
        if (help) setHelp(false);
        else explorer.clear();
        return;
      }
      if (typing) return;
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
        if (event.shiftKey) explorer.redo();
        else explorer.undo();
        event.preventDefault();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const acts: Record<string, () => void> = {
        "?": () => setHelp(!help),
        m: () => explorer.set({ tool: "move" }, false),
        l: () => explorer.set({ tool: "lasso" }, false),
        r: () => explorer.set({ tool: "rectangle" }, false),
        d: () => explorer.set({ mode: explorer.view.mode === "dots" ? "density" : "dots" }),
        t: () => explorer.set({ thumbs: explorer.view.thumbs === "auto" ? "always" : explorer.view.thumbs === "always" ? "off" : "auto" }),
        i: () => explorer.invert(),
        u: () => explorer.undo(),
        0: () => explorer.set({ cameras: {} }, false),
        c: () => document.getElementById("colour")?.focus(),
        g: () => document.querySelector<HTMLInputElement>(".save input")?.focus(),
        n: () => step(1),
        p: () => step(-1),
        ">": () => deeper(1),
        "<": () => deeper(-1),
        1: () => explorer.set({ tab: "cell" }, false),
        2: () => explorer.set({ tab: "selection" }, false),
        3: () => explorer.set({ tab: "network" }, false),
        4: () => explorer.set({ tab: "new" }, false),
      };
      const act = acts[event.key] ?? acts[event.key.toLowerCase()];
      if (act) {
        act();
        event.preventDefault();
      }
    };
    const step = (by: number) => {
      const pool = explorer.selected ? explorer.mask : null;
      const n = manifest.n;
      let cell = explorer.view.cell;
      for (let turn = 0; turn < n; turn++) {
        cell = (cell + by + n) % n;
        if ((!pool || pool[cell]) && !explorer.hidden[cell]) break;
      }
      explorer.set({ cell, tab: "cell" }, false);
    };
    window.addEventListener("keydown", keys);
    return () => window.removeEventListener("keydown", keys);
  }, [explorer, help, focused]);

  /** Pass to the next depth in the focused map, each cell moving to its new place. */
  const deeper = (by: number) => {
    const all = Object.keys(manifest.maps[explorer.view.method] ?? {});
    const layers = [...explorer.view.layers];
    const slot = Math.min(focused, layers.length - 1);
    const at = all.indexOf(layers[slot]) + by;
    if (at < 0 || at >= all.length) return;
    layers[slot] = all[at];
    explorer.set({ layers, cameras: { ...explorer.view.cameras, [all[at]]: explorer.view.cameras[layers[slot]] ?? { x: 32767.5, y: 32767.5, zoom: 1 } } });
  };
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => {
      const all = Object.keys(manifest.maps[explorer.view.method] ?? {});
      const slot = Math.min(focused, explorer.view.layers.length - 1);
      if (all.indexOf(explorer.view.layers[slot]) >= all.length - 1) setPlaying(false);
      else deeper(1);
    }, 1500);
    return () => clearInterval(timer);
  }, [playing, focused]);
  const play = () => {
    const all = Object.keys(manifest.maps[explorer.view.method] ?? {});
    const slot = Math.min(focused, view.layers.length - 1);
    if (!playing && all.indexOf(view.layers[slot]) >= all.length - 1) {
      const layers = [...view.layers];
      layers[slot] = all[0];
      explorer.set({ layers });
    }
    setPlaying(!playing);
  };

  const across = view.layers.length <= 2 ? view.layers.length : view.layers.length === 4 ? 2 : view.layers.length > 6 ? 3 : Math.min(3, view.layers.length);
  return (
    <div class="app" data-theme={explorer.theme}>
      <Bar explorer={explorer} onHelp={() => setHelp(true)} onPlay={play} playing={playing} />
      <Legend explorer={explorer} />
      <main class="maps" style={{ gridTemplateColumns: `repeat(${across}, minmax(0, 1fr))` }}>
        {view.layers.map((layer, slot) => (
          <MapPanel key={slot} explorer={explorer} slot={slot} layer={layer} onHover={hover} focused={slot === focused && view.layers.length > 1} onFocus={() => setFocused(slot)} />
        ))}
      </main>
      <aside class="side" aria-label="what is chosen">
        <div role="tablist" class="tabs">
          {TABS.filter(([tab]) => tab !== "new" || manifest.live).map(([tab, title]) => (
            <button
              key={tab} role="tab" id={`tab-${tab}`} aria-selected={view.tab === tab} aria-controls="panel"
              class={view.tab === tab ? "tab chosen" : "tab"} onClick={() => explorer.set({ tab }, false)}
            >
              {title}{tab === "selection" && explorer.selected > 0 && <span class="badge">{formatCount(explorer.selected)}</span>}
            </button>
          ))}
        </div>
        <div class="panel" key={view.tab} role="tabpanel" id="panel" aria-labelledby={`tab-${view.tab}`}>
          {view.tab === "cell" && <CellPanel explorer={explorer} />}
          {view.tab === "selection" && <SelectionPanel explorer={explorer} />}
          {view.tab === "network" && <NetworkPanel explorer={explorer} />}
          {view.tab === "new" && <NewCells explorer={explorer} />}
        </div>
      </aside>
      <footer>
        <span>
          {formatCount(explorer.shown)} {explorer.shown === manifest.n ? "cells" : `of ${formatCount(manifest.n)} cells shown`}
          {manifest.all_cells !== undefined && manifest.all_cells > manifest.n && ` (on the maps; the run has ${formatCount(manifest.all_cells)})`}
          {explorer.selected > 0 && `, ${formatCount(explorer.selected)} selected`}
        </span>
        <span role="status" aria-live="polite">{explorer.busy || explorer.notice}</span>
      </footer>
      {card && card.cell !== view.cell && <Card key={card.cell} explorer={explorer} hover={card} />}
      {help && <Help onClose={() => setHelp(false)} />}
      <FirstVisit />
    </div>
  );
}

function Bar(props: { explorer: Explorer; onHelp: () => void; onPlay: () => void; playing: boolean }) {
  const { explorer } = props;
  const { view, manifest } = explorer;
  const methods = Object.keys(manifest.maps);
  const layers = Object.keys(manifest.maps[view.method] ?? {});
  const [images, setImages] = useState(false);
  const tool = (name: Tool, title: string, key: string) => (
    <button aria-pressed={view.tool === name} class={view.tool === name ? "chosen" : ""} title={`${title} (${key.toUpperCase()})`} onClick={() => explorer.set({ tool: name }, false)}>{title}</button>
  );
  const count = (n: number) => {
    const next = n === 1 ? [view.layer in (manifest.maps[view.method] ?? {}) ? view.layer : view.layers[0]] : someLayers(layers, manifest.main_layer, n);
    explorer.set({ layers: next });
  };
  const link = async () => {
    const address = explorer.link();
    try {
      await navigator.clipboard.writeText(address);
      explorer.say("The link to this view is copied.");
    } catch {
      location.hash = address.split("#")[1] ?? "";
      explorer.say("Copy the address of this page: it holds the view.");
    }
  };
  return (
    <header class="bar">
      <h1 title={`cytolens: ${manifest.title}`}>{manifest.title}</h1>
      <div class="group" role="group" aria-label="what dragging does">
        {tool("move", "Move", "m")}
        {tool("lasso", "Lasso", "l")}
        {tool("rectangle", "Rectangle", "r")}
        <select aria-label="how cells join the selection" title="Shift: add, Alt: take away, both: keep the common ones" value={view.how} onChange={(event) => explorer.set({ how: event.currentTarget.value as typeof view.how }, false)}>
          <option value="replace">new selection</option>
          <option value="add">add to it</option>
          <option value="subtract">take away</option>
          <option value="intersect">keep common</option>
        </select>
      </div>
      <label class="inline">maps{" "}
        <select aria-label="number of maps" value={String(view.layers.length)} onChange={(event) => count(Number(event.currentTarget.value))}>
          {[1, 2, 3, 4, 6, 9].filter((n) => n <= layers.length || n === 1 || n === view.layers.length).map((n) => <option key={n} value={String(n)}>{n}</option>)}
        </select>
      </label>
      {methods.length > 1 && (
        <select
          aria-label="method of the maps" value={view.method}
          onChange={(event) => {
            const method = event.currentTarget.value;
            const known = Object.keys(manifest.maps[method]);
            explorer.set({ method, layers: view.layers.map((layer) => (known.includes(layer) ? layer : known[0])), cameras: {} });
          }}
        >
          {methods.map((name) => <option key={name} value={name}>{name === "tsne" ? "t-SNE" : name === "pca" ? "PCA" : name.toUpperCase()}</option>)}
        </select>
      )}
      <button onClick={props.onPlay} aria-pressed={props.playing} title="Pass from depth to depth in the chosen map; < and > go by one step">{props.playing ? "Stop" : "Play depths"}</button>
      <div class="group" role="group" aria-label="how cells are drawn">
        <button aria-pressed={view.mode === "density"} class={view.mode === "density" ? "chosen" : ""} title="Density (D)" onClick={() => explorer.set({ mode: view.mode === "dots" ? "density" : "dots" })}>Density</button>
        {manifest.sheets && (
          <select aria-label="crops on the maps" title="Crops on the maps (T)" value={view.thumbs} onChange={(event) => explorer.set({ thumbs: event.currentTarget.value as typeof view.thumbs })}>
            <option value="auto">crops when near</option>
            <option value="always">crops always</option>
            <option value="off">dots only</option>
          </select>
        )}
        {manifest.sheets && <button aria-expanded={images} onClick={() => setImages(!images)} title="Contrast and image channels">Image<span class="which">{shownChannels(explorer)}</span></button>}
      </div>
      {images && <ImageControls explorer={explorer} onClose={() => setImages(false)} />}
      <span class="space" />
      <button disabled={!explorer.canUndo} onClick={() => explorer.undo()} title="Undo (Ctrl-Z)">Undo</button>
      <button onClick={() => void link()} title="Copy a link that restores this view">Link</button>
      <button onClick={() => explorer.setTheme(explorer.theme === "dark" ? "light" : "dark")} aria-label={explorer.theme === "dark" ? "light colours" : "dark colours"} title="Light or dark">{explorer.theme === "dark" ? "Light" : "Dark"}</button>
      <button onClick={props.onHelp} title="Help (?)" aria-label="help">?</button>
    </header>
  );
}

function Card({ explorer, hover }: { explorer: Explorer; hover: Hover }) {
  const { cell } = hover;
  const { view, manifest } = explorer;
  const side = 120;
  // where its sheet is still to be made, one crop is there sooner
  const [waiting] = useState(() => !explorer.hasCrop(cell));
  const width = 150;
  const right = hover.x + 18 + width > window.innerWidth;
  const down = Math.min(hover.y - 20, window.innerHeight - side - 110);
  const text = (key: string) => {
    const column = explorer.column(key);
    const values = column && explorer.values(key);
    if (!column || !values) return undefined;
    return column.kind === "category" ? column.categories[values[cell]] : formatNumber(values[cell]);
  };
  const column = explorer.column(view.colour);
  return (
    <div class="card" role="tooltip" style={{ left: `${right ? hover.x - width - 18 : hover.x + 18}px`, top: `${Math.max(8, down)}px`, borderColor: colourOfCell(column, explorer.buckets[cell], explorer.theme) }}>
      {waiting && manifest.full_crops ? <ServedCrop key={cell} explorer={explorer} cell={cell} side={side} /> : <Crop explorer={explorer} cell={cell} side={side} />}
      <p class="name">{explorer.name(cell)}</p>
      <p><Chip explorer={explorer} name={text("class")} /></p>
      {text("prediction") !== undefined && text("prediction") !== text("class") && <p>network: <Chip explorer={explorer} name={text("prediction")} /></p>}
      {column && !["class", "prediction"].includes(column.key) && <p class="quiet">{column.title}: {text(view.colour)}</p>}
    </div>
  );
}

/** Which image channels are shown, where there are several. */
function shownChannels({ manifest, view }: Explorer): string {
  const { sheets } = manifest;
  if (!sheets || sheets.colour || sheets.channels.length < 2) return "";
  const shown = sheets.channels.filter((_, i) => view.look.shown[i]);
  return `: ${shown.length > 1 ? `${shown.length} channels` : shown[0]}`;
}
