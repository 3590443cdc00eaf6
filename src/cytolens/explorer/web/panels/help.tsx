// Help on "?", and three steps on the first visit.

import { useEffect, useRef, useState } from "preact/hooks";

const KEYS: [string, string][] = [
  ["M, L, R", "move, lasso, rectangle"],
  ["wheel, + and −", "zoom; dots turn into crops when near"],
  ["arrow keys, drag", "move the map that has the focus"],
  ["0, double-click", "whole map; zoom in (shift: out)"],
  ["click", "keep the cell in the panel"],
  ["shift, alt, both", "with a selection: add, take away, keep the common cells"],
  ["Esc, I", "clear the selection; invert it"],
  ["Ctrl-Z, Ctrl-Shift-Z", "undo, redo"],
  ["< and >", "one depth up or down, every cell moving to its new place"],
  ["N, P", "next or previous cell (of the selection)"],
  ["D, T", "density; crops when near, always, never"],
  ["C, G", "choose the colour; name the gate"],
  ["1, 2, 3, 4", "cell, selection, network, new cells"],
  ["?", "this help"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => close.current?.focus(), []);
  return (
    <div class="veil" onClick={onClose}>
      <div class="dialog" role="dialog" aria-modal="true" aria-label="help" onClick={(event) => event.stopPropagation()}>
        <h2>Looking around</h2>
        <p>Each map shows the same cells at another depth of the network. Cells that the layer takes for alike lie together. What you point at, select or colour in one map is shown in all.</p>
        <table><tbody>{KEYS.map(([key, text]) => <tr key={key}><th scope="row">{key}</th><td>{text}</td></tr>)}</tbody></table>
        <p class="quiet">Distances between far groups and the sizes of groups mean little on a t-SNE map; neighbours do.</p>
        <button ref={close} onClick={onClose}>Close</button>
      </div>
    </div>
  );
}

const STEPS: [string, string][] = [
  ["Point at a dot", "Its crop opens, and a ring marks the same cell on every map. Zoom in with the wheel: dots become crops."],
  ["Draw around a group", "Choose Lasso (or press L) and drag. The panel to the right shows the cells and what tells them from the rest. Ask the network there what it sees in them."],
  ["Keep what you found", "Name the group there and save it as a gate; it is then listed to the left. A link keeps the whole view. Press ? for all keys."],
];

export function FirstVisit() {
  const [step, setStep] = useState(() => {
    try {
      return localStorage.getItem("cytolens-visited") ? -1 : 0;
    } catch {
      return -1;
    }
  });
  if (step < 0) return null;
  const leave = () => {
    try {
      localStorage.setItem("cytolens-visited", "1");
    } catch {
      // no storage in this frame
    }
    setStep(-1);
  };
  const [title, text] = STEPS[step];
  return (
    <div class="visit" role="dialog" aria-label="first steps">
      <p class="quiet">{step + 1} of {STEPS.length}</p>
      <h2>{title}</h2>
      <p>{text}</p>
      <div class="row">
        <button class="primary" onClick={() => (step + 1 < STEPS.length ? setStep(step + 1) : leave())}>{step + 1 < STEPS.length ? "Next" : "Start"}</button>
        {step + 1 < STEPS.length && <button class="plain" onClick={leave}>Skip</button>}
      </div>
    </div>
  );
}
