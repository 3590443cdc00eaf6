"""What all measures of separation share: who is judged by whom, permuted labels, resamples."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate, estimate_from, null_limit
from cytolens.numerics.features import checked_features, feature_matrix
from cytolens.numerics.intervals import POSITIVE, SHARE, Range, percentile_interval
from cytolens.numerics.resampling import (
    Labels,
    are_several,
    assign_folds,
    codes,
    draw_by_class,
    permuted_labels,
    resampled_counts,
)
from cytolens.numerics.separability import balanced_accuracies, balanced_accuracy

T = TypeVar("T")
MOST_PAIRED = 2000  # cells for silhouette and discrimination value, which need all pairs
MOST_ASKED = 5000  # cells asked for their neighbours (among all)
MOST_NUMBERS = 5_000_000  # of features in all of the cells asked: 5,000 cells of 1,000
MOST_FOLDS = 10
MOST_SCATTERED = 200  # resamples of measures that need all features for each


@dataclass(frozen=True)
class Plan:
    """Labels, their permutations and folds, and which cells are used for what."""

    labels: Labels  # (N,), 0…K-1
    nulls: Labels  # (P, N), permuted labels
    groups: Labels | None
    folds: Labels  # (N,)
    paired: Labels  # indices
    asked: Labels  # indices
    order: Labels  # random order of the cells, in which ties are broken
    resamples: int
    rng: np.random.Generator

    _kept: dict[str, Any] = field(default_factory=dict[str, Any])

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once: several measures may rest on it."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @property
    def grouped(self) -> bool:
        """Whether whole groups are held out."""
        return are_several(self.groups)

    @property
    def labellings(self) -> Labels:
        """The labels, then their permutations: (1 + P, N)."""
        return np.concatenate([self.labels[None], self.nulls])

    def counts(self, cells: Labels, resamples: int | None = None) -> NDArray[np.int64]:
        """How often each of ``cells`` (n,) is drawn in each resample of them: (R, n)."""
        groups = None if self.groups is None else self.groups[cells]
        return resampled_counts(
            np.arange(len(cells)), len(cells),
            groups=groups, resamples=resamples or self.resamples, rng=self.rng,
        )  # fmt: skip

    def asking(self, features: NDArray[np.float32], cells: Labels) -> Labels:
        """Those of ``cells`` asked for their neighbours: fewer of very many features each."""
        most = max(MOST_NUMBERS // features.shape[1], 500)
        return cells[draw_by_class(self.labels[cells], most, np.random.default_rng(0))]

    @cached_property
    def paired_counts(self) -> NDArray[np.int64]:
        """Resamples of the ``paired`` cells, the same for all measures: (R, n)."""
        return self.counts(self.paired)

    @cached_property
    def all_counts(self) -> NDArray[np.float32]:
        """A few resamples of all cells: (R, N)."""
        few = min(self.resamples, MOST_SCATTERED)
        return self.counts(np.arange(len(self.labels)), few).astype(np.float32)

    def without_lost(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """``drawn`` (R, …) from `all_counts`, NaN where a class is gone."""
        members = self.labels[:, None] == np.arange(self.labels.max() + 1)
        gone = (self.all_counts @ members.astype(np.float32) == 0).any(axis=1)
        return np.where(gone.reshape(-1, *[1] * (drawn.ndim - 1)), np.nan, drawn)

    def estimate(
        self,
        value: float,
        drawn: NDArray[np.float64],
        *,
        within: Range,
        null: float | None,
        before: float | None,
    ) -> Estimate:
        """``value`` with its interval from ``drawn`` (R,), of cells drawn as `counts` does.

        Over cells, ratios have it laid about the value (`interval_about`).
        """
        if within == POSITIVE and self.groups is None:
            return Estimate(value, *interval_about(value, drawn), null, before)
        return estimate_from(
            value, drawn,
            grouped=self.groups is not None, within=within, null=null, untrained=before,
        )  # fmt: skip


def make_plan(
    labels: Labels,
    groups: Labels | None,
    *,
    permutations: int,
    resamples: int,
    folds: int,
    rng: np.random.Generator,
) -> Plan:
    """The plan for cells with ``labels`` 0…K-1 (N,) and ``groups`` 0…G-1, or None.

    Folds are whole groups, at most `MOST_FOLDS`; without groups there are ``folds``, stratified.
    """
    most = MOST_FOLDS if are_several(groups) else folds
    return Plan(
        labels=labels,
        nulls=permuted_labels(labels, groups=groups, permutations=permutations, rng=rng),
        groups=groups,
        folds=assign_folds(labels, groups=groups, most=most, rng=rng),
        paired=draw_by_class(labels, MOST_PAIRED, rng),
        asked=draw_by_class(labels, MOST_ASKED, rng),
        order=rng.permutation(len(labels)),
        resamples=resamples,
        rng=rng,
    )


def checked(
    features: Any,
    labels: NDArray[np.integer],
    groups: NDArray[np.generic] | None,
    untrained: Any,
    name: str,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, Labels, Labels | None, Labels]:
    """Features, untrained features, labels and groups of the cells used, and their indices.

    Cells of a class with one cell are left out. Raises
    InputError for fewer than two classes of two cells, lengths that differ, NaN or infinity.
    """
    given, rows = np.asarray(labels), feature_matrix(features, name=name)
    before = None if untrained is None else feature_matrix(untrained, name=f"untrained {name}")
    if len(given) != len(rows) or (groups is not None and len(groups) != len(given)):
        raise InputError(
            f"{name}: {len(rows)} cells, {len(given)} labels"
            + ("" if groups is None else f", {len(groups)} groups")
            + "; lengths must agree"
        )
    if before is not None and len(before) != len(given):
        raise InputError(f"untrained {name}: {len(before)} cells, but {len(given)} labels")
    _, inverse, sizes = np.unique(given, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(sizes[inverse.ravel()] > 1)
    if (sizes > 1).sum() < 2:
        listed = ", ".join(map(str, sizes.tolist())) or "no"
        raise InputError(
            "separation needs two classes of at least two cells each; the classes here have "
            f"{listed} cells"
        )
    y = codes(given[kept])
    group = None if groups is None else codes(np.asarray(groups)[kept])
    array = checked_features(rows[kept], name=name)
    if before is not None:
        before = checked_features(before[kept], name=f"untrained {name}")
    return array, before, y, group, kept


def estimate_accuracy(
    answers: Labels,
    labellings: Labels,
    groups: Labels | None,
    before: float | None,
    resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """Balanced accuracy of the first row of ``answers`` (1 + P, n); the others are its null.

    A class of which all cells are right (or wrong) would give an interval of no width: there the
    interval reaches at least as far as that over cells, in which the share of such a class is
    drawn from its posterior with Jeffreys' prior (Brown, Cai & DasGupta 2001, Statist. Sci. 16,
    section 3.1).
    """
    k = int(labellings.max()) + 1
    values = [balanced_accuracy(a == labels, labels) for a, labels in zip(answers, labellings)]
    outcome = 2 * labellings[0] + (answers[0] == labellings[0])
    table = np.bincount(outcome, minlength=2 * k).reshape(k, 2)
    null = null_limit(np.array(values[1:]))
    found = estimate_from(
        values[0], _drawn(outcome, k, groups, resamples, rng),
        grouped=groups is not None, within=SHARE, level=level, null=null, untrained=before,
    )  # fmt: skip
    certain = (table.min(axis=1) == 0) & (table.max(axis=1) > 0)
    if found.no_interval is not None or not certain.any():
        return found
    drawn = resampled_counts(outcome, 2 * k, resamples=resamples, rng=rng).reshape(-1, k, 2)
    drawn = drawn.astype(np.float64)
    for one in np.flatnonzero(certain):
        wrong, right = table[one]
        share = rng.beta(right + 0.5, wrong + 0.5, size=len(drawn))
        drawn[:, one] = np.stack([1 - share, share], axis=1)
    low, high = percentile_interval(balanced_accuracies(drawn), level)
    if groups is not None:
        low, high = min(low, found.low), max(high, found.high)
    return replace(found, low=min(low, values[0]), high=max(high, values[0]))


def _drawn(
    outcome: Labels,
    k: int,
    groups: Labels | None,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Balanced accuracy (R,) once cells are drawn again; NaN where a class is gone."""
    counts = resampled_counts(outcome, 2 * k, groups=groups, resamples=resamples, rng=rng)
    sizes = counts.reshape(-1, k, 2).sum(axis=2)
    gone = ((sizes == 0) & (np.bincount(outcome // 2, minlength=k) > 0)).any(axis=1)
    return np.where(gone, np.nan, balanced_accuracies(counts.reshape(-1, k, 2)))


def interval_about(value: float, values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a positive number from resamples that are biased by a factor.

    Resampling adds the noise of class means a second time, which moves ratios of scatter as a
    whole: the spread of the resamples about their median is kept, on the logarithmic scale, and
    laid about the value (Davison & Hinkley 1997, section 5.2, the basic interval without its
    reflection). NaN where the value or all resamples are not positive numbers.
    """
    usable = values[np.isfinite(values) & (values > 0)]
    if usable.size == 0 or not (np.isfinite(value) and value > 0):
        return float("nan"), float("nan")
    low, middle, high = np.exp(np.percentile(np.log(usable), [2.5, 50, 97.5]))
    return float(value * low / middle), float(value * high / middle)
