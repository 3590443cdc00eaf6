"""The classifier as data: its weights, and how well it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Settings


@dataclass(frozen=True)
class Checkpoint:
    """A network as data: weights by parameter name, and the JSON that rebuilds the module."""

    weights: Mapping[str, NDArray[Any]]
    spec: Settings


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on held-out cells."""

    measures: Mapping[str, Estimate]  # accuracy, balanced_accuracy, auc, calibration_error …
    confusion: NDArray[np.int64]  # (class, predicted class)
    reliability: NDArray[np.float64]  # (bin, 3): mean confidence, accuracy, number of cells
    n: int
    note: str = ""  # what the intervals are over
