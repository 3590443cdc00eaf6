"""How many cells the batch normalisation of an untrained network has to rest on.

python benchmarks/untrained.py CELLS [--classes A --classes B] [--networks 5]

Every layer's features of 256 other cells, with statistics of n cells against those of 2,000 (or all
there are): the difference in standard deviations of the features, its mean over cells, features
and networks. And against statistics left as they start, what deep layers are worth without.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from cytolens.activations.extraction import extract
from cytolens.classifier.model import Classifier, calibrate_norms, renewed
from cytolens.classifier.networks import build_network
from cytolens.images.reading import read_cells

NUMBERS = (16, 64, 256, 1024)
MOST = 2000


def measure(path: str, classes: Sequence[str], networks: int) -> None:
    cells = read_cells(path, classes=list(classes) or None)
    order = np.random.default_rng(0).permutation(len(cells))
    shown, pool = cells.subset(np.sort(order[:256])), cells.read(order[256 : 256 + MOST])
    network = build_network(cells.shape, len(cells.class_names))
    model = Classifier(network.eval(), cells.class_names, cells.channel_names, cells.shape)
    far: dict[str, list[np.ndarray]] = {}
    seconds = dict.fromkeys(map(str, NUMBERS), 0.0)
    for seed in range(networks):
        fresh = renewed(model, rng=seed)
        start = extract(fresh.network, shown)
        calibrate_norms(fresh.network, pool)
        whole = extract(fresh.network, shown)
        layers = [layer.name for layer in whole.layers[1:]]
        found = {"as they start": start}
        for number in NUMBERS:
            if number > len(pool):
                continue
            other, began = replace(fresh), time.process_time()
            calibrate_norms(other.network, pool[:number])
            seconds[str(number)] += time.process_time() - began
            found[str(number)] = extract(other.network, shown)
        for name, features in found.items():
            row = [distance(features[layer], whole[layer]) for layer in layers]
            far.setdefault(name, []).append(np.array(row))
        print(
            f"| {path.rstrip('/').split('/')[-1]}, {len(pool):,} cells | CPU ms | "
            + " | ".join(layers)
            + " |\n|---|---|"
            + "---|" * len(layers)
        ) if seed == 0 else None
    for name, rows in far.items():
        spent = f"{1000 * seconds[name] / networks:.0f}" if name in seconds else ""
        means = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
        print(f"| {name} | {spent} | {means} |")


def distance(features: np.ndarray, whole: np.ndarray) -> float:
    """Mean absolute difference, in standard deviations over cells of each feature of ``whole``."""
    deviation = whole.astype(np.float64).std(0)
    alive = deviation > 1e-6
    return float(
        (np.abs(features - whole.astype(np.float64)) / deviation.clip(1e-6))[:, alive].mean()
    )


def main(
    cells: str,
    classes: Annotated[list[str] | None, typer.Option()] = None,
    networks: int = 5,
) -> None:
    measure(cells, classes or (), networks)


if __name__ == "__main__":
    typer.run(main)
