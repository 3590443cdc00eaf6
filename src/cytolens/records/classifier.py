"""The classifier as data: its weights, and how well it does."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Settings
from cytolens.records.shown import record


@record
class Checkpoint:
    """A network as data: weights by parameter name, and the JSON that rebuilds the module."""

    weights: Mapping[str, NDArray[Any]]
    spec: Settings


@record
class Evaluation:
    """How well a classifier does on held-out cells."""

    measures: Mapping[str, Estimate]  # accuracy, balanced_accuracy, auc, calibration_error …
    confusion: NDArray[np.int64]  # (class, predicted class)
    reliability: NDArray[np.float64]  # (bin, 3): mean confidence, accuracy, number of cells
    n: int
    note: str = ""  # what the intervals are over


TEST_CELLS = {
    "no": "held-out cells",
    "yes": "cells that the network was trained on",
    "unknown": "cells that the network may have been trained on",
}
"""By `TrainedNetwork.seen`."""
_DOUBTS = {
    "yes": "The network was trained on all of these cells: the numbers say how well it fits them, "
    "not how it does on new cells.",
    "unknown": "It is not known whether the network was trained on these cells. If it was, the "
    "numbers below are too good. Say which cells it has seen with --trained-on, or which it has "
    "not with --held-out.",
}


@record
class TrainedNetwork:
    """A trained (or brought) network as data, and how training went."""

    checkpoint: Checkpoint
    history: tuple[Mapping[str, float], ...]  # by epoch; empty for a network that was brought
    seen: str = "no"  # whether it was trained on the test cells: "no", "yes" or "unknown"
    remarks: tuple[str, ...] = ()  # what a trial of a network that was brought has shown
    pool: int | None = None  # training cells that it has learnt from; None: all of them

    @property
    def test_cells(self) -> str:
        """What the test cells are to the network, as a noun."""
        return TEST_CELLS[self.seen]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against believing its numbers, a sentence each."""
        return (*((_DOUBTS[self.seen],) if self.seen in _DOUBTS else ()), *self.remarks)


@record
class Predictions:
    """What the network predicts for every cell, and how well it does on the test cells."""

    probabilities: NDArray[np.float32]  # (N, class)
    test: Evaluation  # on the test cells
    baseline: Evaluation  # of a linear model on the pixels of the same cells
    ahead: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    """By measure, the network's minus the linear model's, paired: on the same cells."""


@record
class Folds:
    """Networks trained with each part held out in turn, and how well they did on it."""

    names: tuple[str, ...]  # the held-out groups, or "fold 1" …
    evaluations: tuple[Evaluation, ...]  # each on its held-out cells
    measures: Mapping[str, Estimate]  # mean over the folds
    probabilities: NDArray[np.float32]  # (N, class), of the network that has not seen the cell
    note: str  # what the intervals are over
