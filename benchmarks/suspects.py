"""Are wrong labels found? Flip 2 %, train the reference network on them, rank the cells.

python benchmarks/suspects.py [--epochs 15] [--seeds 2] [--data ../shared/data]
                              [--peer PEER/bin/python] [--out benchmarks/results]

Simulated cells at two difficulties, and Jurkat G1/G2. Share of the flipped labels that are among
the first 4 % of the list: over all cells, and over those held out from training alone, where the
network's own probabilities can be asked too: by our list, by the network's margin, and by
cleanlab (Northcutt et al. 2021), given the same held-out probabilities, where ``--peer`` names a
Python that has it. The last column is what no ranking can find by what the network sees: the
share of held-out cells, flipped or not, that the network takes for the other class.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytolens.activations.extraction import extract
from cytolens.classifier.evaluation import evaluate
from cytolens.classifier.model import predict
from cytolens.classifier.training import TrainingSettings, train
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.reading import read_cells
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells
from cytolens.records.classifier import Predictions
from cytolens.records.knowledge import Properties
from cytolens.simulation.simulate import simulate
from cytolens.study.stages.knowledge import suspects

SHARE, TOP = 0.02, 0.04


def read(name: str, seed: int, data: Path) -> Cells:
    if name == "Jurkat G1/G2":
        jurkat = data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz"
        return read_cells(jurkat, classes=["G1", "G2"], channels=["DNA"])
    made = simulate(2000, difficulty=float(name.split()[-1]), rng=seed)
    return cells_from_arrays(made.images[:, 0], made.labels, pixel_size=made.pixel_size)


def found(order: NDArray[np.int64], flipped: NDArray[np.int64], cells: int) -> float:
    return float(np.isin(flipped, order[: round(TOP * cells)]).mean())


def by_cleanlab(
    peer: str | None, labels: NDArray[np.int64], shares: NDArray[np.floating]
) -> list[NDArray[np.int64]]:
    if peer is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "held_out.npz"
        np.savez(path, labels=labels, probabilities=shares)
        script = Path(__file__).parent / "peers" / "with_cleanlab.py"
        subprocess.run([peer, str(script), str(path)], check=True)
        return list(np.load(f"{path}.order.npy"))


def row(name: str, seed: int, epochs: int, data: Path, peer: str | None) -> str:
    cells = read(name, seed, data)
    truth, n = cells.labels, len(cells)
    flipped = np.sort(np.random.default_rng(seed).choice(n, round(SHARE * n), replace=False))
    labels = truth.copy()
    labels[flipped] = 1 - labels[flipped]
    cells = replace(cells, labels=labels)
    made = train(cells, settings=TrainingSettings(epochs=epochs), rng=seed)
    held = np.sort(np.concatenate([made.split.validation, made.split.test]))
    shares = predict(made.model, cells)
    measured = Properties(np.arange(n), *measure_cells(cells))
    answers = Predictions(shares, *[evaluate(shares, labels)] * 2, {})
    listed = suspects(
        measured, cells, extract(made.model.network, cells), answers, held,
        seed=seed, progress=lambda *_: None,
    ).labels  # fmt: skip
    inside = np.intersect1d(flipped, held)
    margin = shares[held, 1 - labels[held]] - shares[held, labels[held]]
    theirs = [
        f"{found(held[order], inside, len(held)):.2f}"
        for order in by_cleanlab(peer, labels[held], shares[held])
    ]
    return (
        f"| {name}, seed {seed} | {found(listed, flipped, n):.2f} "
        f"| {found(listed[np.isin(listed, held)], inside, len(held)):.2f} "
        f"| {found(held[np.argsort(-margin, kind='stable')], inside, len(held)):.2f} "
        f"| {' / '.join(theirs) or '–'} | {len(flipped)}, {len(inside)} held out | {len(listed)} "
        f"| {(shares[held].argmax(axis=1) != truth[held]).mean():.3f} |"
    )


def rows(args: argparse.Namespace) -> Iterator[str]:
    yield (
        "| cells | ours, all | ours, held out | network's margin, held out | cleanlab, held out "
        "(self-confidence / margin / entropy) | flipped | listed | network errs |"
    )
    yield "|---" * 8 + "|"
    for name in ("simulated, difficulty 0.0", "simulated, difficulty 0.5", "Jurkat G1/G2"):
        for seed in range(args.seeds):
            yield row(name, seed, args.epochs, args.data, args.peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peer", default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[str] = []
    for line in rows(args):
        print(line, flush=True)
        lines.append(line)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "suspects.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
