"""Is the reason right for which a cell is called odd? Defects are planted, reasons are counted.

python benchmarks/odd_cells.py [--seeds 5] [--first 0] [--cells 600] [--only NAME …]
                               [--data ../shared/data] [--out FILE]

Simulated crops and real ones (Jurkat nuclei, stained blood cells, T cells), with each defect in 1
to 4 % of the crops, and 2 to 4 % each of dim, bright, shifted and large cells and cells with a
small bright speck, which are whole and single (`defects.py`). A reason is right where the crop has
that defect. Everything else is wrong: any reason for an unusual or an untouched crop, and another
reason than the planted one. Real crops that nobody touched may have defects of their own, so the
precision there is a lower limit. "far from all others" is right for every crop that was changed;
its features are of a small network, trained on the same crops.
"""

import argparse
import os
import platform
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from cytolens.activations.extraction import extract
from cytolens.classifier.training import TrainingSettings, train
from cytolens.images.arrays import cells_from_arrays
from cytolens.knowledge.oddness import find_odd
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells
from cytolens.simulation.simulate import simulate
from defects import BOTH, DEFECTS, UNUSUAL, Planted, Source, plant

FAR = "far from all others"
SETS = ("simulated easy", "simulated hard", "Jurkat nuclei", "blood cells", "T cells")
Counts = Counter[tuple[str, str]]  # (reason, kind)


def source_of(name: str, n: int, seed: int, data: Path) -> Source:
    """``n`` crops of a set, drawn anew by each seed."""
    draw = np.random.default_rng([seed, 1])
    if name.startswith("simulated"):
        hard = name.endswith("hard")
        made = simulate(n, size=64 if hard else 48, difficulty=0.5 if hard else 0.0, rng=seed)
        return Source(made.images, made.labels, 4095)
    if name == "Jurkat nuclei":
        with np.load(data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz") as stored:
            crops, labels = stored["images"][..., 1:2], stored["labels"]
        some = draw.permutation(np.flatnonzero(labels < 3))[:n]  # the phases with many cells
        return Source(np.moveaxis(crops[some], -1, 1), labels[some].astype(np.int64), 4095)
    if name == "blood cells":
        with np.load(data / "pbc_wbc_rgb" / "pbc_wbc5_64px_rgb.npz") as stored:
            crops, labels = stored["images"], stored["labels"]
        some = draw.permutation(len(labels))[:n]
        crops = np.moveaxis(crops[some], -1, 1)
        return Source(crops, labels[some].astype(np.int64), 255, dark=True)
    with np.load(data / "tcell_autofluorescence" / "tcell_82px.npz") as stored:
        crops, labels = stored["images"], stored["labels"]
    some = draw.permutation(len(labels))[:n]
    return Source(crops[some][:, None], labels[some].astype(np.int64), 255)


def cells_of(planted: Planted) -> Cells:
    return cells_from_arrays(planted.crops, planted.labels)


def count(
    name: str, n: int, seed: int, data: Path, *, network: bool
) -> tuple[Counts, Counter[str]]:
    """How often each reason was given for each kind of crop; and how many there were of each."""
    planted = plant(source_of(name, n, seed, data), np.random.default_rng([seed, 2]))
    cells = cells_of(planted)
    values, checks = measure_cells(cells)
    features = None
    if network:
        made = train(cells, settings=TrainingSettings(epochs=6), rng=seed)
        acts = extract(made.model.network, cells)
        features = np.asarray(acts.rows(acts.layers[-2].name, np.arange(len(cells))))
    odd, reasons, _, remarks = find_odd(values, checks, cells.labels, features=features)
    for remark in remarks:
        print(f"{name}, seed {seed}: {remark}", file=sys.stderr)
    given: Counts = Counter()
    for cell, listed in zip(odd, reasons):
        given.update((reason, str(planted.kinds[cell])) for reason in listed.split(", "))
    return given, Counter(planted.kinds.tolist())


def is_right(reason: str, kind: str) -> bool:
    return kind != "plain" if reason == FAR else reason in kind.split(", ")


def lines_of(name: str, given: Counts, there: Counter[str]) -> list[str]:
    """A row of the table for each reason."""
    rows: list[str] = []
    kinds = (*DEFECTS, BOTH, *UNUSUAL)
    for reason in (*DEFECTS, FAR):
        said = {kind: k for (why, kind), k in given.items() if why == reason}
        right = sum(k for kind, k in said.items() if is_right(reason, kind))
        total, planted = sum(said.values()), sum(there[k] for k in kinds if is_right(reason, k))
        wrong = ", ".join(
            f"{k} {kind}"
            for kind, k in sorted(said.items(), key=lambda entry: -entry[1])
            if not is_right(reason, kind)
        )
        precision = f"{right / total:.2f} ({right} of {total})" if total else "never said"
        rows.append(
            f"| {name} | {reason} | {precision} | {right / max(planted, 1):.2f} "
            f"({right} of {planted}) | {wrong or '–'} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cells", type=int, default=600)
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--no-network", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| cells | reason | precision | recall | wrong for |", "|---|---|---|---|---|"]
    all_given: Counts = Counter()
    all_there: Counter[str] = Counter()
    for name in args.only:
        given: Counts = Counter()
        there: Counter[str] = Counter()
        for seed in range(args.first, args.first + args.seeds):
            one = count(name, args.cells, seed, args.data, network=not args.no_network)
            given.update(one[0])
            there.update(one[1])
        lines += lines_of(name, given, there)
        print("\n".join(lines[-len(DEFECTS) - 1 :]), flush=True)
        all_given.update(given)
        all_there.update(there)
    lines += lines_of("all", all_given, all_there)
    print("\n".join(lines[-len(DEFECTS) - 1 :]))
    kinds = ", ".join(f"{all_there[kind]} {kind}" for kind in (*DEFECTS, BOTH, *UNUSUAL, "plain"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread"
    lines += ["", f"Crops: {kinds}. {machine}."]
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
