"""When crops are made alike in all but the cell: is a planted artefact gone, and is the cell left?

python benchmarks/equalised.py [--seeds 3] [--cells 600] [--epochs 40] [--data ../shared/data]

Gone: crops get random labels, and each of thirteen nuisances (`nuisances.py`) is planted in the
cells of one class, so that nothing else can tell the classes. A network trained on the crops made
alike (`equalise`) must be no better than guessing on test cells. Beside it a network trained on
the crops as they are. Left: the same with the real labels, and nothing planted.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cytolens.classifier.evaluation import measure
from cytolens.classifier.model import predict
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.training import TrainingSettings, train
from cytolens.images.reading import read_cells
from cytolens.images.sources import with_crops
from cytolens.properties.equalising import equalise
from cytolens.records.cells import Cells, Split
from cytolens.simulation.simulate import simulate
from cytolens.study.stages.knowledge import trained_on
from nuisances import PLANTS, plant
from planted_nuisances import made, sets


def alike_of(cells: Cells, seed: int) -> Cells:
    return with_crops(cells, equalise(cells, rng=seed))


def trained_alike(alike: Cells, split: Split, epochs: int, seed: int) -> float:
    """Balanced accuracy of a network trained on crops made alike, as a study trains it."""
    small, settings = trained_on(alike, alike.images.read_raw(slice(None)), epochs)
    network = train(small, split=split, settings=settings, rng=seed)
    answers = predict(network.model, small.subset(split.test))
    return measure(answers, small.labels[split.test])["balanced_accuracy"]


def trained(cells: Cells, split: Split, epochs: int, seed: int) -> float:
    """Balanced accuracy on the test cells of a network trained on the others."""
    network = train(cells, split=split, settings=TrainingSettings(epochs=epochs), rng=seed)
    answers = predict(network.model, cells.subset(split.test))
    return measure(answers, cells.labels[split.test])["balanced_accuracy"]


def gone(data: Path, n: int, seeds: int, epochs: int) -> Iterator[str]:
    for name, crops, size in sets(data, n):
        for nuisance in PLANTS:
            before, after = [], []
            for seed in range(seeds):
                draw = np.random.default_rng(seed)
                labels = draw.integers(0, 2, len(crops))
                planted = [plant(nuisance, c, draw) if one else c for c, one in zip(crops, labels)]
                cells = made(planted, labels, size)
                split = split_cells(cells, rng=seed)
                if seed == 0:
                    before.append(trained(cells, split, epochs, seed))
                after.append(trained_alike(alike_of(cells, seed), split, epochs, seed))
            each = ", ".join(f"{value:.2f}" for value in after)
            yield f"| {name} | {nuisance} | {before[0]:.2f} | {np.mean(after):.2f} | {each} |"


def left(data: Path, seed: int) -> Iterator[str]:
    jurkat = data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz"
    own = simulate(600, size=48, rng=0)
    found = {"simulated": made(list(own.images), own.labels, 48)}
    if data.is_dir():
        found |= {
            "Jurkat G1, G2 (DNA)": read_cells(jurkat, classes=["G1", "G2"], channels=["DNA"]),
            "Jurkat G2, prophase": read_cells(jurkat, classes=["G2", "Prophase"]),
            "T cells": read_cells(data / "tcell_autofluorescence" / "images"),
            "blood": read_cells(data / "pbc_wbc_rgb" / "pbc_wbc5_64px_rgb.npz"),
        }
    for name, cells in found.items():
        split, alike = split_cells(cells, rng=seed), alike_of(cells, seed)
        network = train(cells, split=split, rng=seed)
        labels = cells.labels[split.test]
        before, again = (
            measure(predict(network.model, of.subset(split.test)), labels)["balanced_accuracy"]
            for of in (cells, alike)
        )
        anew = trained_alike(alike, split, TrainingSettings().epochs, seed)
        yield (
            f"| {name} | {len(cells.class_names)} | {len(labels)} | {before:.2f} | {anew:.2f} | "
            f"{again:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    print("| cells | classes | test cells | network | trained on crops made alike | asked again |")
    print("|---|---|---|---|---|---|", flush=True)
    for line in left(given.data, 0):
        print(line, flush=True)
    print("\n| cells | planted, labels random | as they are | made alike, mean | each seed |")
    print("|---|---|---|---|---|", flush=True)
    for line in gone(given.data, given.cells, given.seeds, given.epochs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
