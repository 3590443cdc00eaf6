"""Cells unlike any that the network was trained on, found by their distance to the training cells.

How often that raises a false alarm is measured too: at each depth, and for one number over all.

Three parts of the cells, none in two: training cells are what distances are to, a second part sets
the threshold, a third says how often cells that are as they should be exceed it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.reference import Reference, in_blocks
from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate, Rng, bootstrap
from cytolens.numerics.intervals import SHARE

Array = NDArray[np.float64]
NEIGHBOURS = 10  # one stray training cell must not excuse a cell
RATE = 0.01  # of clean cells, that the threshold may call odd
RATE_OVERALL = 0.05  # of clean cells, that the one number over all depths may call odd
_SMALL = 1e-5  # of the largest feature; shorter distances are rounding


class Scale:
    """How far cells are from the training cells (M, F), by two measures.

    The distance to the tenth nearest training cell (Sun et al. 2022, ICML) finds what is far from
    all. That distance over the mean one that those ten have to their own tenth (simplified local
    outlier factor, Schubert, Zimek & Kriegel 2014, Data Mining and Knowledge Discovery 28) finds
    what lies next to a dense crowd, as empty crops do next to dim cells.
    """

    def __init__(self, features: NDArray[np.float32], own: Array | None = None) -> None:
        """``own`` (M,): what the attribute of this name was for the same cells, if it is known."""
        self.reference = Reference(features)
        self._least = max(_SMALL * float(np.abs(features).max()), 1e-30)
        self.own = self._distances(features) if own is None else own

    def _distances(self, features: NDArray[np.float32]) -> Array:
        """The distance of each training cell (M,) to the tenth nearest other one."""
        found = in_blocks(lambda rows: self.reference.nearest(rows, NEIGHBOURS + 1), features)
        indices, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        itself = indices == np.arange(len(features))[:, None]
        itself[~itself.any(axis=1), -1] = True  # hidden among duplicates
        farthest = np.where(itself[:, -1], distances[:, -2], distances[:, -1])
        return np.maximum(farthest, self._least)

    def measure(self, features: NDArray[np.float32]) -> Array:
        """Both measures (n, 2), each cell's the same in any company."""
        return np.concatenate(in_blocks(self._measure, features))

    def logs(self, measured: Array) -> Array:
        """Logarithms of both measures (n, 2), those of rounding set to its own size."""
        return np.log(np.maximum(measured, [self._least, _SMALL]))

    def _measure(self, features: NDArray[np.float32]) -> Array:
        indices, distances = self.reference.nearest(features, NEIGHBOURS)
        distance = distances[:, -1]
        return np.stack([distance, distance / self.own[indices].mean(axis=1)], axis=1)


@dataclass(frozen=True)
class Novelty:
    """How far is too far at one depth; made by `calibrate`."""

    scale: Scale
    ladder: Array  # (c, 2), ascending, of the cells that set the thresholds
    thresholds: Array  # (2,), above either of them a cell is odd
    calibration: Array  # (c, 2), logarithms of the measures of those cells, in their order
    tested: Array  # (t, 2), of the cells that did neither train nor calibrate
    clean: NDArray[np.bool_]  # (t,), whether the cells that did neither train nor calibrate are
    rate: Estimate  # their share
    measures: Mapping[str, Array]  # all that was measured: what takes long to make

    def judge(self, features: NDArray[np.float32]) -> "Judged":
        """Whether each cell is odd at this depth, and how far it is."""
        found = self.scale.measure(features)
        below = [np.searchsorted(self.ladder[:, i], found[:, i]) for i in (0, 1)]
        percentiles = 100 * np.max(below, axis=0) / len(self.ladder)
        odd = (found[:, 0] > self.thresholds[0]) | (found[:, 1] > self.thresholds[1])
        return Judged(odd, found[:, 0], percentiles, self.scale.logs(found))


@dataclass(frozen=True)
class Judged:
    """What is said of new cells at one depth."""

    odd: NDArray[np.bool_]  # (n,)
    distances: Array  # (n,), to the tenth nearest training cell
    percentiles: Array  # (n,), of threshold-setting cells, by the measure where it is larger
    logs: Array  # (n, 2), logarithms of both measures of `Scale`


def calibrate(
    training: NDArray[np.float32],
    calibration: NDArray[np.float32],
    clean: NDArray[np.float32],
    *,
    groups: NDArray[np.generic] | None = None,
    rng: Rng = None,
    known: Mapping[str, Array] | None = None,
) -> Novelty:
    """Thresholds from ``calibration`` (c, F), and their false alarms on ``clean`` cells (t, F).

    Distances are those of `Scale` to the ``training`` cells (M, F). Each of its two measures has
    as threshold the ceil((c + 1) · 0.995)-th smallest value, so that 1 % of cells of the same kind
    exceed either, or, with fewer than 199 calibration cells, the largest: then 2 in c + 1 do
    (Vovk et al. 2005; Bates et al. 2023, Annals of Statistics 51). ``groups`` (t,) as in
    `share_of`. ``known``: the ``measures`` of what was made of the same cells.

    Raises InputError where a part is too small: two training cells, one of each other.
    """
    if len(training) < 2 or not len(calibration) or not len(clean):
        raise InputError(
            f"{len(training)} training, {len(calibration)} validation and {len(clean)} test cells "
            "are too few to say what is far; give at least 2, 1 and 1"
        )
    scale = Scale(training, None if known is None else known["own"])
    measured = scale.measure(calibration) if known is None else known["calibration"]
    tested = scale.measure(clean) if known is None else known["tested"]
    ladder = np.sort(measured, axis=0)
    rank = min(math.ceil((len(ladder) + 1) * (1 - RATE / 2)), len(ladder))
    thresholds = ladder[rank - 1]
    odd = (tested > thresholds).any(axis=1)
    return Novelty(
        scale, ladder, thresholds, scale.logs(measured), scale.logs(tested), odd,
        share_of(odd, groups=groups, rng=rng),
        {"own": scale.own, "calibration": measured, "tested": tested},
    )  # fmt: skip


@dataclass(frozen=True)
class Overall:
    """One number per cell over all depths, and how much is too much; made by `calibrate_overall`.

    Three measures count alike: the largest, over the depths, of the distance and of the distance
    over the neighbours' own (`Scale`), and the energy of the logits (Liu et al. 2020, NeurIPS),
    where they are known. Logarithms are counted in standard deviations of the calibration cells, so
    that depths and measures can be compared. A class that is far at one depth needs the largest;
    one between known classes is betrayed by the energy; no measure alone serves all
    (benchmarks/results/novelty.md).
    """

    inner: tuple[Array, Array]  # means and deviations (depth, 2) of the logarithms
    outer: tuple[Array, Array]  # means and deviations (2 or 3,) of the measures
    ladder: Array  # (c,), ascending, of the cells that set the threshold
    threshold: float  # above it a cell is odd
    clean: NDArray[np.bool_]  # (t,), whether the cells that did neither train nor calibrate are
    rate: Estimate  # their share

    def score(self, logs: Array, energies: Array | None) -> Array:
        """The number of each cell (n,), of the ``logs`` (n, depth, 2) and ``energies`` (n,)."""
        scores = _standard(_measures(_standard(logs, *self.inner), energies), *self.outer)
        return scores.mean(axis=1)

    def judge(self, logs: Array, energies: Array | None) -> tuple[NDArray[np.bool_], Array, Array]:
        """Whether each cell (n,) is odd, its number, and its conformal p-value.

        The p-value is the share of calibration cells and the cell itself with such a number or a
        larger one. Of cells like the training cells, a share p at most has a p-value of p or less
        (Bates et al. 2023, Annals of Statistics 51).
        """
        scores = self.score(logs, energies)
        farther = len(self.ladder) - np.searchsorted(self.ladder, scores, side="left")
        return scores > self.threshold, scores, (1 + farther) / (1 + len(self.ladder))


def calibrate_overall(
    judges: Sequence[Novelty],
    *,
    energies: tuple[Array, Array] | None = None,
    groups: NDArray[np.generic] | None = None,
    rng: Rng = None,
) -> Overall:
    """One threshold over all depths, so that 5 % of clean cells exceed it, and its false alarms.

    ``judges``: of each depth, all calibrated and tested on the same cells. ``energies`` are those
    of the calibration cells (c,) and the clean cells (t,). The number of a calibration cell rests
    on means and deviations of the others, as that of a new cell does. The threshold is the
    ceil((c + 1) · 0.95)-th smallest of them; with fewer than 19, the largest.
    """
    logs = np.stack([judge.calibration for judge in judges], axis=1)  # (c, depth, 2)
    apart = _standard(logs, *_others(logs))
    measures = _measures(apart, None if energies is None else energies[0])
    ladder = np.sort(_standard(measures, *_others(measures)).mean(axis=1))
    rank = min(math.ceil((len(ladder) + 1) * (1 - RATE_OVERALL)), len(ladder))
    none = np.zeros(0, dtype=bool)
    made = Overall(
        _moments(logs), _moments(measures), ladder, float(ladder[rank - 1]), none, Estimate(0, 0, 0)
    )
    tested = np.stack([judge.tested for judge in judges], axis=1)
    odd = made.judge(tested, None if energies is None else energies[1])[0]
    return replace(made, clean=odd, rate=share_of(odd, groups=groups, rng=rng))


def energy(logits: NDArray[np.floating]) -> Array:
    """Minus the log of the summed exponentials of the logits (n, class): high where none is high.

    Source: Liu et al. 2020, NeurIPS, at temperature 1.
    """
    given = np.asarray(logits, dtype=np.float64)
    most = given.max(axis=1)
    return -most - np.log(np.exp(given - most[:, None]).sum(axis=1))


def _measures(apart: Array, energies: Array | None) -> Array:
    """The measures (n, 2 or 3) that count alike, of ``apart`` (n, depth, 2)."""
    largest = apart.max(axis=1)
    return largest if energies is None else np.column_stack([largest, energies])


def _standard(values: Array, means: Array, deviations: Array) -> Array:
    return (values - means) / deviations


def _moments(values: Array) -> tuple[Array, Array]:
    """Means and deviations over the first axis; what never varies is strict, but not infinitely."""
    return values.mean(axis=0), np.maximum(values.std(axis=0), _SMALL)


def _others(values: Array) -> tuple[Array, Array]:
    """The same of the other rows, for each row."""
    n = len(values)
    if n < 3:
        return _moments(values)
    about = values - values.mean(axis=0)
    means = -about / (n - 1)
    squares = ((about**2).sum(axis=0) - about**2) / (n - 1) - means**2
    return means + values.mean(axis=0), np.maximum(np.sqrt(np.maximum(squares, 0)), _SMALL)


def expected_rate(calibration: int) -> float:
    """Share of clean cells to be called odd, at most, after that many calibration cells."""
    return max(RATE, 2 / (calibration + 1))


def expected_overall(calibration: int) -> float:
    """The same by the one number over all depths."""
    return max(RATE_OVERALL, 1 / (calibration + 1))


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
