// How crops are shown: contrast, image channels, a composite of several.

import { usualLook } from "../data/sheets";
import type { Explorer } from "../view/explorer";
import { RangeSlider } from "./parts";

export function ImageControls({ explorer, onClose }: { explorer: Explorer; onClose: () => void }) {
  const { manifest, view } = explorer;
  const entry = manifest.sheets;
  if (!entry) return null;
  const { look } = view;
  const several = look.shown.filter(Boolean).length > 1;
  return (
    <div class="popover" role="dialog" aria-label="image">
      {!entry.colour && entry.channels.length > 1 && (
        <fieldset>
          <legend>Image channels {several && "(composite)"}</legend>
          {entry.channels.map((name, index) => (
            <label key={name} class="check">
              <input
                type="checkbox" checked={look.shown[index]}
                onChange={() => {
                  const shown = look.shown.map((on, i) => (i === index ? !on : on));
                  if (shown.some(Boolean)) explorer.set({ look: { ...look, shown } });
                }}
              />
              {several && look.shown[index] && (
                <input type="color" aria-label={`colour of ${name}`} value={look.tints[index]} onInput={(event) => explorer.set({ look: { ...look, tints: look.tints.map((tint, i) => (i === index ? event.currentTarget.value : tint)) } }, false)} />
              )}
              {name}
              <button class="plain" onClick={(event) => { event.preventDefault(); explorer.set({ look: { ...look, shown: look.shown.map((_, i) => i === index) } }); }}>only</button>
            </label>
          ))}
        </fieldset>
      )}
      <p class="quiet">Contrast: what is drawn black, and what white</p>
      <RangeSlider
        label="contrast" limits={[0, 1]} range={[look.low, look.high]} counts={new Uint32Array(32)} format={(value) => `${Math.round(100 * value)} %`}
        onChange={([low, high]) => explorer.set({ look: { ...look, low, high: Math.max(high, low + 0.01) } }, false)}
      />
      <p class="quiet">Size of the dots</p>
      <input type="range" min="0.5" max="3" step="0.25" aria-label="size of the dots" value={String(view.size)} onInput={(event) => explorer.set({ size: Number(event.currentTarget.value) }, false)} />
      <div class="row">
        <button onClick={() => explorer.set({ look: usualLook(entry.channels.length), size: 1 })}>As at first</button>
        <button onClick={onClose}>Close</button>
      </div>
    </div>
  );
}
