"""Cells unlike any that the network was trained on, found by their distance to the training cells.

How often that raises a false alarm is measured too.

Three parts of the cells, none in two: training cells are what distances are to, a second part sets
the threshold, a third says how often cells that are as they should be exceed it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.reference import Reference, in_blocks
from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate, Rng, bootstrap
from cytolens.numerics.intervals import SHARE

Array = NDArray[np.float64]
NEIGHBOURS = 10  # one stray training cell must not excuse a cell
RATE = 0.01  # of clean cells, that the threshold may call odd
_SMALL = 1e-5  # of the largest feature; shorter distances are rounding


class Scale:
    """How far cells are from the training cells (M, F), by two measures.

    The distance to the tenth nearest training cell (Sun et al. 2022, ICML) finds what is far from
    all. That distance over the mean one that those ten have to their own tenth (simplified local
    outlier factor, Schubert, Zimek & Kriegel 2014, Data Mining and Knowledge Discovery 28) finds
    what lies next to a dense crowd, as empty crops do next to dim cells.
    """

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.reference = Reference(features)
        found = in_blocks(lambda rows: self.reference.nearest(rows, NEIGHBOURS + 1), features)
        indices, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        itself = indices == np.arange(len(features))[:, None]
        itself[~itself.any(axis=1), -1] = True  # hidden among duplicates
        farthest = np.where(itself[:, -1], distances[:, -2], distances[:, -1])
        least = max(_SMALL * float(np.abs(features).max()), 1e-30)
        self._own = np.maximum(farthest, least)

    def measure(self, features: NDArray[np.float32]) -> Array:
        """Both measures (n, 2), each cell's the same in any company."""
        return np.concatenate(in_blocks(self._measure, features))

    def _measure(self, features: NDArray[np.float32]) -> Array:
        indices, distances = self.reference.nearest(features, NEIGHBOURS)
        distance = distances[:, -1]
        return np.stack([distance, distance / self._own[indices].mean(axis=1)], axis=1)


@dataclass(frozen=True)
class Novelty:
    """How far is too far at one depth; made by `calibrate`."""

    scale: Scale
    ladder: Array  # (c, 2), ascending, of the cells that set the thresholds
    thresholds: Array  # (2,), above either of them a cell is odd
    clean: NDArray[np.bool_]  # (t,), whether the cells that did neither train nor calibrate are
    rate: Estimate  # their share

    def judge(self, features: NDArray[np.float32]) -> tuple[NDArray[np.bool_], Array, Array]:
        """Whether each cell (n,) is odd, its distance, and the percentage of nearer cells.

        The distance is that to the tenth nearest training cell. The percentage is of the cells
        that set the thresholds, by the measure for which it is larger.
        """
        found = self.scale.measure(features)
        below = [np.searchsorted(self.ladder[:, i], found[:, i]) for i in (0, 1)]
        percentiles = 100 * np.max(below, axis=0) / len(self.ladder)
        odd = (found[:, 0] > self.thresholds[0]) | (found[:, 1] > self.thresholds[1])
        return odd, found[:, 0], percentiles


def calibrate(
    training: NDArray[np.float32],
    calibration: NDArray[np.float32],
    clean: NDArray[np.float32],
    *,
    groups: NDArray[np.generic] | None = None,
    rng: Rng = None,
) -> Novelty:
    """Thresholds from ``calibration`` (c, F), and their false alarms on ``clean`` cells (t, F).

    Distances are those of `Scale` to the ``training`` cells (M, F). Each of its two measures has
    as threshold the ceil((c + 1) · 0.995)-th smallest value, so that 1 % of cells of the same kind
    exceed either, or, with fewer than 199 calibration cells, the largest: then 2 in c + 1 do
    (Vovk et al. 2005; Bates et al. 2023, Annals of Statistics 51). ``groups`` (t,) as in
    `share_of`.

    Raises InputError where a part is too small: two training cells, one of each other.
    """
    if len(training) < 2 or not len(calibration) or not len(clean):
        raise InputError(
            f"{len(training)} training, {len(calibration)} validation and {len(clean)} test cells "
            "are too few to say what is far; give at least 2, 1 and 1"
        )
    scale = Scale(training)
    ladder = np.sort(scale.measure(calibration), axis=0)
    rank = min(math.ceil((len(ladder) + 1) * (1 - RATE / 2)), len(ladder))
    thresholds = ladder[rank - 1]
    odd = (scale.measure(clean) > thresholds).any(axis=1)
    return Novelty(scale, ladder, thresholds, odd, share_of(odd, groups=groups, rng=rng))


def expected_rate(calibration: int) -> float:
    """Share of clean cells to be called odd, at most, after that many calibration cells."""
    return max(RATE, 2 / (calibration + 1))


def share_of(
    flags: NDArray[np.bool_], *, groups: NDArray[np.generic] | None = None, rng: Rng = None
) -> Estimate:
    """Share of cells (n,) that are flagged, with Wilson's interval over cells.

    Over ``groups`` (n,) where they are given, and at least as wide as over cells: where no cell of
    any group is flagged, groups do not differ. Fewer than three groups have no interval.
    """
    from scipy.stats import binomtest  # slow to load

    share = float(flags.mean())
    interval = binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    low, high = float(interval.low), float(interval.high)
    if groups is None:
        return Estimate(share, low, high)
    over = bootstrap(
        lambda rows: float(flags[rows].mean()),
        len(flags), groups=groups, within=SHARE, rng=rng,
    )  # fmt: skip
    if over.no_interval is not None:
        return over
    return Estimate(share, min(low, over.low), max(high, over.high))
