"""Is a nuisance heard that tells random labels, and is silence kept where there is none?

python benchmarks/planted_nuisances.py [--seeds 20] [--cells 600] [--data ../shared/data]
                                       [--networks 1] [--epochs 12] [--only jurkat …]

Real and made crops get random labels; each of thirteen nuisances (`nuisances.py`) is planted in
the cells of one class, so that nothing else can tell the classes. Without a network: in how many
of the seeds at least one nuisance tells the label beyond the limit for the largest of all, on so
many cells and on as many as `--quick` has. Clean: the same without a nuisance, on each seed; and
simulated classes with their own labels. With `--networks` so many small networks are trained for
each nuisance, and the alarms are read: which was raised, how the network does, and how it does
with the nuisance held fixed. With `--first-looks` the same crops are studied from files with
`--quick`, as far as the alarms.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch

from alarms import look
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.knowledge.confounds import TOGETHER, label_from_nuisance
from cytolens.properties.acquisition import measure_acquisition
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells
from cytolens.records.knowledge import Confounds, Properties
from cytolens.simulation.simulate import simulate
from cytolens.study.settings import StudySettings
from cytolens.study.stages.knowledge import nuisances_of
from cytolens.study.study import Study
from nuisances import PLANTS, plant

QUICK = 400  # cells that --quick has
Crops = list[np.ndarray]


def measured(cells: Cells) -> Properties:
    values = measure_cells(cells)
    return Properties(np.arange(len(cells)), *values, measure_acquisition(cells))


def made(crops: Crops, labels: np.ndarray, size: int) -> Cells:
    turned = [np.moveaxis(crop, 0, -1) for crop in crops]
    return cells_from_arrays(turned, labels, size=size)


def windows(cells: Cells) -> Crops:
    """The measured part of each crop, (C, h, w)."""
    everything = np.arange(len(cells))
    raw, masks = cells.images.read_raw(everything), np.asarray(cells.images.masks(everything))
    return [crop[:, mask.any(1)][:, :, mask.any(0)] for crop, mask in zip(raw, masks)]


def sets(data: Path, n: int) -> Iterator[tuple[str, Crops, int]]:
    yield "simulated", list(simulate(n, size=48, rng=0).images), 48
    if not data.is_dir():
        return
    jurkat = data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz"
    for name, cells in (
        ("Jurkat DNA", read_cells(jurkat, classes=["G1", "G2"], channels=["DNA"])),
        ("T cells", read_cells(data / "tcell_autofluorescence" / "images")),
        ("blood RGB", read_cells(data / "pbc_wbc_rgb" / "pbc_wbc5_64px_rgb.npz")),
    ):
        drawn = np.random.default_rng(0).choice(len(cells), min(n, len(cells)), replace=False)
        yield name, windows(cells.subset(np.sort(drawn))), cells.shape[1]


def table(properties: Properties, cells: Cells) -> dict[str, np.ndarray]:
    found = nuisances_of(properties, cells)[0]
    whole = [one.reshape(len(one), -1) for one in properties.acquisition.values()]
    together = np.concatenate(whole, axis=1)
    together = np.where(np.isfinite(together), together, np.nanmedian(together, axis=0))
    return {**found, TOGETHER: together}


def heard(columns: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> list[str]:
    """Nuisances that tell the label, the strongest first."""
    told, _ = label_from_nuisance(columns, labels, resamples=300, permutations=100, rng=seed)
    clear = [name for name, one in told.items() if one.null is not None and one.low > one.null]
    return sorted(clear, key=lambda name: -told[name].value)


def without_network(name: str, crops: Crops, size: int, seeds: int) -> Iterator[str]:
    n = len(crops)
    plain_cells = made(crops, np.arange(n) % 2, size)
    plain = table(measured(plain_cells), plain_cells)
    plain.pop("position_in_file", None)
    draws = [np.random.default_rng(seed).integers(0, 2, n) for seed in range(seeds)]
    false = sum(bool(heard(plain, labels, k)) for k, labels in enumerate(draws))
    yield f"| {name} | nothing | {false} of {seeds} | | |"
    for nuisance in PLANTS:
        draw = np.random.default_rng(99)
        planted = made([plant(nuisance, crop, draw) for crop in crops], np.arange(n) % 2, size)
        changed = table(measured(planted), planted)
        hits, quick, names = 0, 0, []
        for k, labels in enumerate(draws):
            chosen = [labels.reshape(-1, *[1] * (one.ndim - 1)) == 1 for one in plain.values()]
            both = {
                key: np.where(where, changed[key], plain[key]) for key, where in zip(plain, chosen)
            }
            found = heard(both, labels, k)
            hits += bool(found)
            names += found[:1]
            few = {key: column[:QUICK] for key, column in both.items()}
            quick += bool(heard(few, labels[:QUICK], k))
        often = max(set(names), key=names.count) if names else "–"
        yield f"| {name} | {nuisance} | {hits} of {seeds} | {quick} of {seeds} | {often} |"


def with_network(name: str, crops: Crops, size: int, epochs: int, seed: int) -> Iterator[str]:
    for nuisance in PLANTS:
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, len(crops))
        planted = [plant(nuisance, c, draw) if one else c for c, one in zip(crops, labels)]
        found = look(made(planted, labels, size), epochs, seed)
        raised = found.alarms
        if not raised:
            yield f"| {name} | {nuisance} | {seed} | none | | | |"
            continue
        numbers = [a.performance_fixed.value for a in raised]
        given = [value for value in numbers if np.isfinite(value)]
        names = ", ".join(a.nuisance for a in raised[:3])
        fixed = f"{min(given):.2f} to {max(given):.2f}" if given else "–"
        yield (
            f"| {name} | {nuisance} | {seed} | {len(raised)}: {names} | "
            f"{raised[0].performance.value:.2f} | {len(numbers) - len(given)} of {len(numbers)} | "
            f"{fixed} |"
        )


def clean_networks(seeds: int, n: int, epochs: int) -> Iterator[str]:
    for seed in range(seeds):
        simulated = simulate(n, size=48, rng=seed)
        found = look(made(list(simulated.images), simulated.labels, 48), epochs, seed)
        names = "; ".join(f"{a.nuisance} {a.label_from_nuisance}" for a in found.alarms)
        yield f"| simulated classes | {seed} | {names or 'silent'} |"


def first_look(name: str, crops: Crops, seed: int) -> Iterator[str]:
    """The alarms of `cytolens run --quick`, from files to alarms; each nuisance, and nothing."""
    for nuisance in (*PLANTS, "nothing"):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, len(crops))
        with tempfile.TemporaryDirectory() as folder:
            for k, (crop, label) in enumerate(zip(crops, labels)):
                shown = plant(nuisance, crop, draw) if label and nuisance in PLANTS else crop
                path = Path(folder) / "cells" / "ab"[label] / f"{'ab'[label]}{k}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, np.moveaxis(shown, 0, -1).squeeze())
            study = Study(
                Path(folder) / "run", Path(folder) / "cells", StudySettings(quick=True, seed=seed)
            )
            found: Confounds = study["confounds"]
            right = study["evaluation"].test.measures["balanced_accuracy"].value
        names = ", ".join(alarm.nuisance for alarm in found.alarms[:3]) or "none"
        yield f"| {name} | {nuisance} | {seed} | {right:.2f} | {len(found.alarms)}: {names} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--networks", type=int, default=0)
    parser.add_argument("--first-looks", type=int, default=0)
    parser.add_argument("--clean-networks", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--skip-tables", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    chosen = [s for s in sets(args.data, args.cells) if not args.only or s[0] in args.only]
    if not args.skip_tables:
        print("| cells | planted | heard | heard on 400 cells | most often by |")
        print("|---|---|---|---|---|")
        for one in chosen:
            for line in without_network(*one, args.seeds):
                print(line, flush=True)
    if args.networks:
        print("\n| cells | planted | seed | alarms | network | not to be held fixed | held fixed |")
        print("|---|---|---|---|---|---|---|")
        for one in chosen:
            for seed in range(args.networks):
                for line in with_network(*one, args.epochs, seed):
                    print(line, flush=True)
    if args.first_looks:
        print("\n| cells | planted | seed | network, --quick | alarms |\n|---|---|---|---|---|")
        for name, crops, _ in chosen:
            for seed in range(args.first_looks):
                for line in first_look(name, crops, seed):
                    print(line, flush=True)
    if args.clean_networks:
        print("\n| cells | seed | alarms |\n|---|---|---|")
        for line in clean_networks(args.clean_networks, args.cells, args.epochs):
            print(line, flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
