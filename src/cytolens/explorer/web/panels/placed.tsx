// New cells: dropped onto the page, placed on the maps by the server.

import type { Explorer } from "../view/explorer";

export function NewCells({ explorer }: { explorer: Explorer }) {
  void explorer;
  return <p class="quiet">Soon.</p>;
}
