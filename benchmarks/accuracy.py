"""Ways to train the reference network, compared on cells that a study does not test on.

python benchmarks/accuracy.py [--only tcells] [--way now] [--seeds 1] [--data ../shared/data]

The test cells of a study (seed 0) are left out. Of the others, T cells are held out donor by donor,
Jurkat cells (DNA, scaled one by one, G2 against prophase) in three parts, and a network is trained
on the rest. Prints balanced accuracy and AUC, mean over folds, and the seconds of the processor.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from cytolens.classifier.augmentation import Augmentation
from cytolens.classifier.crossvalidation import cross_validate
from cytolens.classifier.splitting import split_cells
from cytolens.classifier.training import TrainingSettings
from reach import TO_REACH, read

_GAIN = Augmentation()
_HALF = TrainingSettings(epochs=20, batch_size=16)
WAYS = {
    "now": TrainingSettings(),
    "float32": TrainingSettings(precision="float32"),
    "gain .4": TrainingSettings(augmentation=_GAIN),
    "gain .8": TrainingSettings(augmentation=Augmentation(brightness=0.8)),
    "20 of 32, rate .008": TrainingSettings(epochs=20, learning_rate=8e-3, augmentation=_GAIN),
    "20 of 16": _HALF,
    "20 of 16, gain .4": replace(_HALF, augmentation=_GAIN),
    "20 of 16, gain .2": replace(_HALF, augmentation=Augmentation(brightness=0.2)),
    "20 of 16, gain .1": replace(
        _HALF, augmentation=Augmentation(brightness=0.1, offset=0, exact=0.75)
    ),
    "20 of 16, quarter turns": replace(_HALF, augmentation=Augmentation(brightness=0.2, exact=1)),
    "20 of 16, rate .006": replace(_HALF, learning_rate=6e-3, augmentation=_GAIN),
    "20 of 16, width 12": replace(_HALF, learning_rate=6e-3, width=12, augmentation=_GAIN),
    "20 of 16, longer average": replace(
        _HALF, learning_rate=6e-3, averaging=0.98, augmentation=_GAIN
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(TO_REACH))
    parser.add_argument("--way", choices=list(WAYS), action="append")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    given = parser.parse_args()
    print("| cells | way | seed | balanced accuracy | AUC | CPU s |\n|---|---|---|---|---|---|")
    for name in [given.only] if given.only else TO_REACH:
        every, folds = read(name, given.data)
        tested = split_cells(every, rng=0).test
        cells = every.subset(np.setdiff1d(np.arange(len(every)), tested))
        for way in given.way or WAYS:
            for seed in range(given.seeds):
                started = time.process_time()
                found = cross_validate(
                    cells,
                    folds="group" if folds == "group" else 3,
                    settings=WAYS[way],
                    resamples=100,
                    rng=seed,
                ).measures
                spent = time.process_time() - started
                values = f"{found['balanced_accuracy'].value:.3f} | {found['auc'].value:.3f}"
                print(f"| {name} | {way} | {seed} | {values} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
