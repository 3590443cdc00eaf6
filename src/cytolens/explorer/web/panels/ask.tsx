// Asking the network about a selection.

import type { Explorer } from "../view/explorer";

export function Question({ explorer }: { explorer: Explorer }) {
  if (!explorer.manifest.live) {
    return <p class="quiet">The network is not in this file. The images that the study has made are under “Network”; to ask it about these cells, open the run with: cytolens explore RUN</p>;
  }
  return <p class="quiet">Soon.</p>;
}
