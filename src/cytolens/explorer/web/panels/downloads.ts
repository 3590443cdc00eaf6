// Files made in the page: tables, a column for AnnData, a montage, the maps.

import { members } from "../data/shapes";
import { tileAt } from "../data/sheets";
import type { Explorer } from "../view/explorer";

export function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A value in a CSV; text that a spreadsheet would take for a formula gets an apostrophe. */
export function quoted(value: string | number): string {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csv(rows: (string | number)[][]): Blob {
  return new Blob([rows.map((row) => row.map(quoted).join(",")).join("\n"), "\n"], { type: "text/csv" });
}

async function ids(explorer: Explorer): Promise<Uint32Array> {
  return new Uint32Array((await explorer.arrays.bytes("cells")).buffer);
}

export async function downloadCsv(explorer: Explorer): Promise<void> {
  const { columns } = explorer.manifest;
  const values = await Promise.all(columns.map((column) => explorer.load(column.key)));
  const cells = await ids(explorer);
  const rows: (string | number)[][] = [["cell", "name", ...columns.map((column) => column.key)]];
  for (const cell of members(explorer.mask)) {
    rows.push([
      cells[cell], explorer.name(cell),
      ...columns.map((column, i) => (column.kind === "category" ? (column.categories[values[i][cell]] ?? "") : Number(values[i][cell].toPrecision(7)))),
    ]);
  }
  save("selection.csv", csv(rows));
}

/** A column for ``adata.obs``: all cells by name, and whether each is selected. */
export async function downloadColumn(explorer: Explorer): Promise<void> {
  const rows: (string | number)[][] = [["name", "selected"]];
  for (let cell = 0; cell < explorer.manifest.n; cell++) rows.push([explorer.name(cell), explorer.mask[cell] ? "True" : "False"]);
  save("selected.csv", csv(rows));
}

export async function downloadDecisions(explorer: Explorer): Promise<void> {
  const rows: (string | number)[][] = [["name", "use", "label"]];
  for (const [cell, label] of explorer.kept.decisions) rows.push([explorer.name(cell), label === null ? "no" : "yes", label ?? ""]);
  save("decisions.csv", csv(rows));
}

export async function downloadMontage(explorer: Explorer, cells: number[]): Promise<void> {
  const entry = explorer.manifest.sheets;
  const { sheets } = explorer;
  if (!entry || !sheets) return;
  const across = Math.ceil(Math.sqrt(cells.length * 1.5));
  const gap = 2;
  const canvas = document.createElement("canvas");
  canvas.width = across * (entry.width + gap) + gap;
  canvas.height = Math.ceil(cells.length / across) * (entry.height + gap) + gap;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const [place, cell] of cells.entries()) {
    const sheet = await whenReady(() => sheets.sheet(Math.floor(cell / entry.per)));
    if (!sheet) continue;
    const [x, y] = tileAt(entry, cell % entry.per);
    const left = gap + (place % across) * (entry.width + gap);
    const top = gap + Math.floor(place / across) * (entry.height + gap);
    context.drawImage(sheet, x, y, entry.width, entry.height, left, top, entry.width, entry.height);
  }
  canvas.toBlob((blob) => blob && save("montage.png", blob));
}

async function whenReady<T>(look: () => T | undefined): Promise<T | undefined> {
  for (let turn = 0; turn < 200; turn++) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return undefined;
}

/** All maps that are shown, side by side, with their names and the legend. */
export async function downloadFigure(explorer: Explorer): Promise<void> {
  const planes = [...document.querySelectorAll<HTMLElement>(".map")];
  const boxes = planes.map((plane) => plane.getBoundingClientRect());
  if (!boxes.length) return;
  const left = Math.min(...boxes.map((box) => box.left));
  const top = Math.min(...boxes.map((box) => box.top));
  const column = explorer.column(explorer.view.colour);
  const legend = column?.kind === "category" ? column.categories : [];
  const ratio = 2;
  const width = Math.max(...boxes.map((box) => box.right)) - left;
  const height = Math.max(...boxes.map((box) => box.bottom)) - top;
  const canvas = document.createElement("canvas");
  canvas.width = ratio * width;
  canvas.height = ratio * (height + 30);
  const context = canvas.getContext("2d");
  if (!context) return;
  const ground = getComputedStyle(document.body).backgroundColor;
  const ink = getComputedStyle(document.body).color;
  context.scale(ratio, ratio);
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height + 30);
  context.font = "12px sans-serif";
  planes.forEach((plane, i) => {
    const area = plane.querySelector("canvas");
    const name = plane.querySelector("select")?.value ?? "";
    if (!area) return;
    const box = area.getBoundingClientRect();
    context.drawImage(area, box.left - left, box.top - top, box.width, box.height);
    context.fillStyle = ink;
    context.fillText(name, boxes[i].left - left + 6, boxes[i].top - top + 17);
  });
  let x = 6;
  context.fillText(`${column?.title ?? ""}:`, x, height + 19);
  x += context.measureText(`${column?.title ?? ""}: `).width + 6;
  legend.forEach((name, code) => {
    if (column?.kind !== "category" || x > width - 40) return;
    context.fillStyle = column.colours[code];
    context.fillRect(x, height + 10, 10, 10);
    context.fillStyle = ink;
    context.fillText(name, x + 14, height + 19);
    x += 26 + context.measureText(name).width;
  });
  canvas.toBlob((blob) => blob && save("maps.png", blob));
}
