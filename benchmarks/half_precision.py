"""What training in bfloat16 costs in accuracy and gains in time: three seeds, both ways.

    python benchmarks/half_precision.py NAME=PATH [NAME=PATH …] [--seeds 3]

Networks of the same seed see the same cells in the same order. Prints a row per data set and way:
balanced accuracy and AUC on the test cells, their mean and range over seeds, and CPU seconds.
"""

import argparse
import contextlib
import time
from unittest import mock

import numpy as np
import torch

import cytolens as cl
from cytolens.classifier import training
from cytolens.classifier.model import predict


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="NAME=PATH, or NAME=PATH:CLASS,CLASS")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | steps in | balanced accuracy | AUC | CPU s |\n|---|---|---|---|---|")
    for entry in asked.data:
        name, path = entry.split("=", 1)
        path, _, classes = path.partition(":")
        cells = cl.read_cells(path, classes=classes.split(",") if classes else None)
        for way in ("float32", "bfloat16"):
            rows = [measure(cells, way, seed) for seed in range(asked.seeds)]
            shown = [f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in zip(*rows)]
            print(f"| {name} | {way} | {' | '.join(shown)} |", flush=True)


def off(device: object) -> contextlib.AbstractContextManager[None]:
    """Float32, whatever the device has."""
    return contextlib.nullcontext()


def measure(cells: cl.Cells, way: str, seed: int) -> tuple[float, float, float]:
    """Balanced accuracy, AUC and CPU seconds of one training."""
    plain = mock.patch.object(training, "half_precision", off)
    started = time.process_time()
    with plain if way == "float32" else contextlib.nullcontext():
        made = cl.train(cells, rng=seed)
    seconds = time.process_time() - started
    test = made.split.test
    found = cl.evaluate(predict(made.model, cells.subset(test)), cells.labels[test], rng=0)
    measures = found.measures
    return measures["balanced_accuracy"].value, measures["auc"].value, seconds


if __name__ == "__main__":
    main()
