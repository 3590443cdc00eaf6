"""How far the reference classifier gets on the shared data: the figures of the issue, measured.

python benchmarks/reach.py [--seeds 3] [--data ../shared/data] [--only tcells]

T cells: leave one donor out. Jurkat, DNA, per-image normalised, G2 against Prophase: five folds,
stratified. Prints, for every seed, the mean over folds; then the median over seeds beside the
linear baseline on the same folds and the figure to reach. Settings are the library's defaults.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from cytolens.classifier.baseline import linear_baseline
from cytolens.classifier.crossvalidation import cross_validate
from cytolens.classifier.evaluation import measure
from cytolens.classifier.splitting import held_out_parts
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells, Split

TO_REACH = {
    "tcells": {"balanced_accuracy": 0.87, "auc": 0.965},
    "jurkat": {"balanced_accuracy": 0.84, "auc": 0.945},
}


def read(name: str, data: Path) -> tuple[Cells, str | int]:
    if name == "tcells":
        return read_cells(data / "tcell_autofluorescence" / "images"), "group"
    cells = read_cells(
        data / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz",
        classes=["G2", "Prophase"],
        channels=["DNA"],
        intensity="image",
    )
    return cells, 5


def linear(cells: Cells, folds: str | int, *, seed: int) -> dict[str, float]:
    """Mean over folds of the linear baseline."""
    found: list[dict[str, float]] = []
    for held_out in held_out_parts(cells, folds, rng=seed).values():
        rest = np.setdiff1d(np.arange(len(cells)), held_out)
        split = Split(train=rest, validation=rest[:0], test=held_out)
        found.append(measure(linear_baseline(cells, split, rng=seed), cells.labels[held_out]))
    return {name: float(np.mean([entry[name] for entry in found])) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", choices=list(TO_REACH))
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else TO_REACH:
        cells, folds = read(name, arguments.data)
        print(f"{name}: {len(cells)} cells {cells.shape}, classes {', '.join(cells.class_names)}")
        reached: list[dict[str, float]] = []
        for seed in range(arguments.seeds):
            started, used = time.monotonic(), time.process_time()
            result = cross_validate(cells, folds=folds, rng=seed)
            values = {measure: e.value for measure, e in result.measures.items()}
            by_fold = " ".join(
                f"{e.measures['balanced_accuracy'].value:.2f}" for e in result.evaluations
            )
            print(
                f"  seed {seed}: balanced accuracy {result.measures['balanced_accuracy']}, "
                f"auc {result.measures['auc']} | by fold {by_fold} | "
                f"{time.monotonic() - started:.0f} s, {time.process_time() - used:.0f} CPU s",
                flush=True,
            )
            reached.append(values)
        baseline = linear(cells, folds, seed=0)
        print(f"  {'measure':20} median  linear  to reach")
        for key, goal in TO_REACH[name].items():
            median = np.median([entry[key] for entry in reached])
            print(f"  {key:20} {median:.3f}   {baseline[key]:.3f}   {goal:.3f}")


if __name__ == "__main__":
    main()
