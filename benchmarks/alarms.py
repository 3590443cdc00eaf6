"""Does the confound alarm speak where it should, and keep silent where it should?

python benchmarks/alarms.py [--seeds 20] [--grouped 20] [--cells 600] [--epochs 6]
                            [--data ../shared/data] [--out benchmarks/results]

Silent: simulated lymphocytes and neutrophils, nothing planted, a small network trained for each
seed; and cells of six donors of different background, each with both classes, which split and
intervals keep whole. Speaks: the first cells with a nuisance planted in one class (brightness 15 %
higher, crops cut tighter, cells off the middle, plates of unlike composition), then the real sets,
T cells by crop size and Jurkat G1/G2 by total brightness. Writes a table: which alarms were raised,
how well the strongest nuisance tells the label, how the network does, and how it does with it held
fixed.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cytolens.activations.extraction import extract
from cytolens.classifier.evaluation import evaluate
from cytolens.classifier.model import predict, untrained
from cytolens.classifier.training import Training, TrainingSettings, train
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.properties.acquisition import measure_acquisition
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells
from cytolens.records.classifier import Predictions
from cytolens.records.knowledge import Confounds, Properties
from cytolens.simulation.simulate import simulate
from cytolens.study.stages.knowledge import confounds

PLANTS = ("brightness", "crop size", "position", "plate")
DONORS = 6
Rows = Iterator[str]
HEAD = """# Alarms: where they speak, and where they are silent
`python benchmarks/alarms.py`, 2 virtual cores (AMD EPYC), one thread, beside other work. A network
for each row: 600 simulated cells and 6 epochs, real cells as in the data set, T cells 24 epochs."""


def simulated(seed: int, n: int, plant: str | None = None) -> Cells:
    made = simulate(n, size=48 if plant in (None, "plate", "brightness") else 64, rng=seed)
    draw = np.random.default_rng(seed)
    crops, second = list(made.images), made.labels == 1
    if plant == "brightness":
        grounds = [np.median(crop) for crop in crops]
        more = [(crop - ground) * 0.15 * one for crop, ground, one in zip(crops, grounds, second)]
        crops = [np.clip(crop + extra, 0, 4095) for crop, extra in zip(crops, more)]
    if plant == "crop size":  # cut about the middle, to be padded again
        sides = np.clip(draw.normal(np.where(second, 38, 44), 4), 30, 56).astype(int)
        crops = [_window(crop, side, (0, 0)) for crop, side in zip(crops, sides)]
    if plant == "position":
        ways = np.where(second, 3, 0) + draw.integers(-2, 3, len(crops))
        crops = [_window(crop, 44, (0, -way)) for crop, way in zip(crops, ways)]
    groups = None
    if plant == "plate":
        groups = np.char.add("plate ", draw.binomial(1, np.where(second, 0.8, 0.2)).astype(str))
        crops = [crop + (60 if name == "plate 1" else 0) for crop, name in zip(crops, groups)]
    cells = cells_from_arrays(
        [np.moveaxis(np.asarray(crop, np.uint16), 0, -1) for crop in crops], made.labels,
        class_names=made.class_names, pixel_size=made.pixel_size,
    )  # fmt: skip
    return cells if groups is None else replace(cells, covariates={"plate": groups})


def of_donors(seed: int, n: int) -> Cells:
    """Cells of donors drawn for each cell by chance; a donor has one background, and no class."""
    made, draw = simulate(n, size=48, rng=seed), np.random.default_rng(seed)
    donor, ground = draw.integers(0, DONORS, n), draw.normal(0, 30, DONORS)
    crops = np.clip(np.asarray(made.images, np.float64) + ground[donor, None, None, None], 0, 4095)
    return cells_from_arrays(
        list(np.moveaxis(crops.astype(np.uint16), 1, -1)), made.labels,
        class_names=made.class_names, pixel_size=made.pixel_size,
        groups=np.char.add("donor ", donor.astype(str)),
    )  # fmt: skip


def _window(crop: np.ndarray, side: int, shift: tuple[int, int]) -> np.ndarray:
    top, left = ((length - side) // 2 + move for length, move in zip(crop.shape[1:], shift))
    return crop[:, top : top + side, left : left + side]


def look(cells: Cells, epochs: int, seed: int) -> Confounds:
    made = train(cells, settings=TrainingSettings(epochs=epochs), rng=seed)
    held_out = np.sort(np.concatenate([made.split.validation, made.split.test]))
    values = measure_cells(cells)
    measured = Properties(np.arange(len(cells)), *values, measure_acquisition(cells))
    shares = predict(made.model, cells)
    return confounds(
        measured, cells, extract(made.model.network, cells),
        extract(_before(made, cells, seed), cells.subset(held_out)),
        Predictions(shares, *[evaluate(shares, cells.labels)] * 2, {}), held_out, seed=seed,
    )  # fmt: skip


def _before(made: Training, cells: Cells, seed: int) -> nn.Module:
    """The control of a study: its batch normalisation rests on the training cells."""
    return untrained(made.model, cells.subset(made.split.train), rng=seed).network


def row(name: str, found: Confounds) -> str:
    first = max(found.nuisances, key=lambda one: found.nuisances[one].value)
    told = found.nuisances[first]
    raised = "; ".join(
        f"{a.nuisance} {a.label_from_nuisance.value:.2f}, network {a.performance.value:.2f}, "
        f"fixed {a.performance_fixed} ({a.matched:.0%} matched), at {a.encoded_at}"
        for a in found.alarms
    )
    return f"| {name} | {first} {told} (null {told.null:.3f}) | {raised or 'silent'} |"


def clean(name: str, make: Callable[[int, int], Cells], seeds: int, n: int, epochs: int) -> Rows:
    silent = 0
    for seed in range(seeds):
        found = look(make(seed, n), epochs, seed)
        silent += not found.alarms
        yield row(f"{name}, seed {seed}", found)
    yield f"| **{name}: silent** | | **{silent} of {seeds}** |"


def rows(seeds: int, grouped: int, n: int, epochs: int, data: Path) -> Rows:
    yield from clean("simulated", simulated, seeds, n, epochs)
    yield from clean("simulated donors", of_donors, grouped, n, epochs)
    for plant in PLANTS:
        yield row(f"simulated, {plant} planted", look(simulated(0, n, plant), epochs, 0))
    if data.is_dir():
        tcells = read_cells(data / "tcell_autofluorescence" / "images")
        yield row("T cells", look(tcells, 4 * epochs, 0))
        jurkat = data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz"
        pair = read_cells(jurkat, classes=["G1", "G2"], channels=["DNA"])
        yield row("Jurkat G1/G2", look(pair, epochs, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--grouped", type=int, default=20)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    lines = [
        HEAD,
        "",
        "| cells | strongest nuisance: balanced accuracy | alarms |",
        "|---|---|---|",
    ]
    for line in rows(args.seeds, args.grouped, args.cells, args.epochs, args.data):
        print(line, flush=True)
        lines.append(line)
    lines += ["", f"{time.process_time() - began:.0f} CPU s."]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "alarms.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
