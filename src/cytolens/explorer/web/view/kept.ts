// What is kept in the run: gates, and decisions on cells. A file keeps them until it is closed.

import type { Gate } from "../data/manifest";
import { members, type Combine } from "../data/shapes";
import { post } from "../data/source";
import type { Explorer } from "./explorer";
import { evaluate } from "./masks";
import { stepsFrom } from "./view";

export class Kept {
  gates: Gate[];
  readonly decisions: Map<number, string | null>; // by cell: its new class; null: set aside

  constructor(private readonly explorer: Explorer) {
    const { manifest } = explorer;
    this.gates = manifest.gates ?? [];
    this.decisions = new Map(manifest.decisions ?? []);
  }

  apply(gate: Gate, how: Combine): void {
    const { explorer } = this;
    if (how === "replace") explorer.set({ steps: stepsFrom(gate.steps, explorer.manifest), tab: "selection" });
    else void this.maskOf(gate).then((mask) => explorer.select({ kind: "cells", cells: members(mask) }, how));
  }
  maskOf(gate: Gate): Promise<Uint8Array> {
    return evaluate(this.explorer, stepsFrom(gate.steps, this.explorer.manifest));
  }
  async save(name: string): Promise<void> {
    const { view, selected, mask, manifest } = this.explorer;
    if (!(await this.told("gates", { name, steps: view.steps, cells: members(mask) }))) return;
    this.gates = [...this.gates.filter((other) => other.name !== name), { name, steps: view.steps, cells: selected }];
    this.explorer.say(manifest.live ? `The gate “${name}” is saved in the run.` : `The gate “${name}” is kept until this page is closed; the link keeps it, too.`);
  }
  async forget(name: string): Promise<void> {
    if (!(await this.told("gates", { name, forget: true }))) return;
    this.gates = this.gates.filter((gate) => gate.name !== name);
    this.explorer.say(`The gate “${name}” is gone.`);
  }
  /** Decide on cells: another class, or null to set them aside; undefined takes a decision back. */
  async decide(cells: number[], label: string | null | undefined): Promise<void> {
    if (!(await this.told("decisions", label === undefined ? { cells, back: true } : { cells, label }))) return;
    for (const cell of cells) {
      if (label === undefined) this.decisions.delete(cell);
      else this.decisions.set(cell, label);
    }
    const many = `${cells.length.toLocaleString("en-US")} ${cells.length === 1 ? "cell" : "cells"}`;
    const what = label === undefined ? `The decision on ${many} is taken back` : label === null ? `${many} set aside` : `${many} relabelled as ${label}`;
    this.explorer.say(this.explorer.manifest.live ? `${what}, in suspects.csv of the run.` : `${what}; download the decisions below, as this file cannot save them.`);
  }

  /** Have the server keep it, where there is one; false where it does not, which is said. */
  private async told(address: string, what: unknown): Promise<boolean> {
    if (!this.explorer.manifest.live) return true;
    try {
      await post(address, what);
      return true;
    } catch (error) {
      this.explorer.say(error instanceof Error ? error.message : String(error));
      return false;
    }
  }
}
