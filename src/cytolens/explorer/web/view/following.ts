// The selection in step with the program that serves the page, such as a notebook.

import { members } from "../data/shapes";
import { get, post } from "../data/source";
import type { Explorer } from "./explorer";

const MANY = 100_000; // cells from which on the page tells what is selected less often

export class Following {
  private waiting = 0;
  private reported = false; // that some cells are selected
  private seen = 0; // the last selection that was asked for

  constructor(private readonly explorer: Explorer) {
    void this.follow();
  }

  /** Tell the program what is selected. */
  report(): void {
    const { explorer } = this;
    clearTimeout(this.waiting);
    if (!explorer.selected && !this.reported) return;
    this.waiting = window.setTimeout(() => {
      this.reported = explorer.selected > 0;
      void post("selection", { cells: members(explorer.mask), seen: this.seen }).catch(() => undefined);
    }, explorer.manifest.n > MANY ? 1500 : 300);
  }

  /** Select what the program asks for, whenever it does; until it is gone. */
  private async follow(): Promise<void> {
    let failures = 0;
    while (failures < 5) {
      try {
        const answer = (await (await get(`selected?after=${this.seen}`)).json()) as { version: number; cells: number[] | null };
        this.seen = answer.version;
        failures = 0;
        if (!answer.cells) continue;
        clearTimeout(this.waiting); // what was selected before no longer counts
        this.reported = true;
        if (answer.cells.length) this.explorer.select({ kind: "cells", cells: answer.cells });
        else this.explorer.clear();
      } catch {
        failures++;
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }
}
