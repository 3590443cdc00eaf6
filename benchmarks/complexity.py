"""What simple descriptions explain of what each layer says: trained, untrained, random filters.

python benchmarks/complexity.py RUN … [--networks 3]

RUN: folders of finished studies. For every layer the share of the variance of its answers over
held-out cells that each description explains: trained / mean of untrained networks / random filters
of the same receptive field; and how far training has lowered it, with its interval. The last column
repeats the untrained share without calibrated batch normalisation, the unfair control.
"""

import time
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import typer

from cytolens.classifier.model import renewed
from cytolens.features import complexity
from cytolens.features.descriptions import DESCRIPTIONS
from cytolens.records.features import Complexity
from cytolens.study.finished_run import FinishedRun, open_run
from cytolens.study.stages.classifier import layers_with_channels


def measured(run: FinishedRun, seed: int) -> Complexity:
    split = run["split"]
    return complexity.measure_complexity(
        run["network"],
        run.cells.subset(split.train),
        run.cells.subset(np.sort(np.concatenate([split.validation, split.test]))),
        layers=layers_with_channels(run["layers"]),
        rng=seed,
    )


def main(runs: Annotated[list[Path], typer.Argument()], networks: int = 3) -> None:
    print(
        "| run | layer | " + " | ".join(DESCRIPTIONS) + " | trained - untrained | not calibrated |"
    )
    print("|---|---|" + "---|" * (len(DESCRIPTIONS) + 2))
    for path in runs:
        run = open_run(path)
        began = time.process_time()
        found = [measured(run, seed) for seed in range(networks)]
        spent = (time.process_time() - began) / networks
        with mock.patch.object(
            complexity, "untrained", lambda model, cells, rng: renewed(model, rng=rng)
        ):
            unfair = measured(run, 0)
        for layer, shares in found[0].layers.items():
            cells: list[str] = []
            for name in DESCRIPTIONS:
                before = np.mean([float(one.layers[layer][name].untrained or 0) for one in found])
                random = found[0].random[layer][name]
                cells.append(f"{shares[name].value:.2f} / {before:.2f} / {random:.2f}")
            last = DESCRIPTIONS[-1]
            gap, before = found[0].gaps[layer][last], unfair.layers.get(layer, {}).get(last)
            said = f"{gap.value:+.2f} ({gap.no_interval})"
            if gap.known:
                said = f"{gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
            worth = "" if before is None else f"{before.untrained:.2f}"
            print(f"| {path.name} | {layer} | " + " | ".join(cells) + f" | {said} | {worth} |")
        print(f"| {path.name} | CPU s | {spent:.1f} |" + " |" * (len(DESCRIPTIONS) + 1))


if __name__ == "__main__":
    typer.run(main)
