"""The measures of separation, each declared once: how it is made, and how it is spoken of.

A new measure is a function and an entry in `MEASURES`; the study, the figures, the tables and the
summary take it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, null_limit
from cytolens.numerics.features import is_constant
from cytolens.numerics.intervals import ANYTHING, CORRELATION, POSITIVE
from cytolens.numerics.neighbours import find_neighbours, find_neighbours_elsewhere
from cytolens.numerics.probe import held_out_predictions, probe_features
from cytolens.numerics.resampling import Labels
from cytolens.numerics.separability import (
    balanced_accuracy,
    discrimination_value,
    halved_scores,
    pair_distances,
    silhouettes,
    votes,
)
from cytolens.separation.dimension import neighbour_ratios, two_nearest_dimension
from cytolens.separation.plan import Plan, estimate_accuracy
from cytolens.separation.scatter import scatter_ratios

NEIGHBOURS = 11  # odd, so that two classes do not tie
SHUFFLES = 2  # of the features, for the null of the intrinsic dimension
MOST_SHUFFLED = 500  # cells asked for their neighbours there

Array = NDArray[np.float32]
Make = Callable[[Array, Array | None, Plan], Estimate]
"""(features (N, F), the same untrained or None, plan) -> the estimate."""


@dataclass(frozen=True)
class Measure:
    """One measure of separation: how it is made, and how figures and texts speak of it."""

    make: Make
    label: str  # in figures and tables
    hint: str  # above its curve: which way is which
    text: str  # what it is, in a sentence for captions
    higher_is_better: bool | None  # None: neither
    range: tuple[float, float]  # of its values
    ratio: bool = False  # drawn on a logarithmic axis
    null: str = "permuted"  # what its limit by chance was found with


def _silhouette(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
    """Mean silhouette width (Rousseeuw 1987), on at most 2,000 cells."""
    cells = plan.paired

    def widths_of(array: Array, labellings: Labels) -> NDArray[np.float64]:
        return silhouettes(pair_distances(array[cells]), labellings)

    found = widths_of(features, plan.labellings[:, cells])
    counts = plan.paired_counts
    drawn = counts @ found[0] / counts.sum(axis=1)
    before = None
    if untrained is not None:
        before = float(widths_of(untrained, plan.labels[None, cells]).mean())
    null = null_limit(found[1:].mean(axis=1))
    value = float(found[0].mean())
    return plan.estimate(value, drawn, within=CORRELATION, null=null, before=before)


def _gdv(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
    """`discrimination_value`, on at most 2,000 cells."""
    cells = plan.paired
    y = plan.labels[cells]
    ones = np.ones((1, len(cells)))

    def value_of(array: Array) -> float:
        scores = halved_scores(array[cells])
        return float(discrimination_value(pair_distances(scores), y, scores.shape[1], ones)[0])

    scores = halved_scores(features[cells])
    distances, dimensions = pair_distances(scores), scores.shape[1]
    value = float(discrimination_value(distances, y, dimensions, ones)[0])
    counts = plan.paired_counts.astype(np.float64)
    drawn = discrimination_value(distances, y, dimensions, counts)
    nulls = np.array(
        [discrimination_value(distances, null[cells], dimensions, ones)[0] for null in plan.nulls]
    )
    before = None if untrained is None else value_of(untrained)
    null = null_limit(nulls, 5)
    return plan.estimate(value, drawn, within=ANYTHING, null=null, before=before)


def _knn_accuracy(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
    """Balanced accuracy of the vote of a cell's `NEIGHBOURS` nearest other cells.

    Ties go to the nearer. At most 5,000 cells are asked (fewer above 1,000 features, 1,250 of
    4,000); all vote.
    """
    cells = plan.asking(features, plan.asked)
    before = None
    if untrained is not None:
        answers = votes(_judges(untrained, cells, plan), plan.labels[None])
        before = balanced_accuracy(answers[0] == plan.labels[cells], plan.labels[cells])
    labellings = plan.labellings
    groups = None if plan.groups is None else plan.groups[cells]
    answers = votes(_judges(features, cells, plan), labellings)
    return estimate_accuracy(
        answers, labellings[:, cells], groups, before, plan.resamples, plan.rng
    )


def _probe_accuracy(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
    """Balanced accuracy of a linear probe for held-out cells, `held_out_predictions`; all cells."""

    def answers(array: Array, labellings: Labels) -> Labels:
        return held_out_predictions(
            probe_features(array), labellings, plan.folds, grouped=plan.grouped
        )

    before = None
    if untrained is not None:
        found = answers(untrained, plan.labels[None])[0]
        before = balanced_accuracy(found == plan.labels, plan.labels)
    labellings = plan.labellings
    found = answers(features, labellings)
    return estimate_accuracy(found, labellings, plan.groups, before, plan.resamples, plan.rng)


def _scatter(which: int, percent: float) -> Make:
    """Number ``which`` of `scatter_ratios`, on all cells; its null is at ``percent``."""

    def make(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
        found, drawn, before = plan.once("scatter", lambda: _scatters(features, untrained, plan))
        value = float(found[0, which])
        return plan.estimate(
            value, drawn[:, which],
            within=POSITIVE, null=null_limit(found[1:, which], percent),
            before=None if before is None else float(before[which]),
        )  # fmt: skip

    return make


Scatters = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]


def _scatters(features: Array, untrained: Array | None, plan: Plan) -> Scatters:
    """`scatter_ratios` by labelling (1 + P, 2), by resample (R, 2), and untrained (2,)."""
    own, counts, about = plan.labels[None], plan.all_counts, _about_mean(features)
    found = scatter_ratios(about, plan.labellings)
    drawn = plan.without_lost(scatter_ratios(about, np.broadcast_to(own, counts.shape), counts))
    before = None if untrained is None else scatter_ratios(_about_mean(untrained), own)[0]
    return found, drawn, before


def _intrinsic_dimension(features: Array, untrained: Array | None, plan: Plan) -> Estimate:
    """`two_nearest_dimension`; its null is the mean with each feature permuted on its own.

    Of at most 2,000 cells, their neighbours searched among all.
    """

    def value_of(array: Array, asked: Labels) -> float:
        ratios, _ = neighbour_ratios(array, asked)
        return float(two_nearest_dimension(ratios, np.ones((1, len(ratios))))[0])

    ratios, cells = neighbour_ratios(features, plan.asking(features, plan.paired))
    value = float(two_nearest_dimension(ratios, np.ones((1, len(ratios))))[0])
    drawn, null = np.empty(0), None
    if np.isfinite(value):
        counts = plan.counts(cells).astype(np.float64)
        drawn = two_nearest_dimension(ratios, counts)
        few = np.sort(plan.rng.permutation(plan.asking(features, plan.paired))[:MOST_SHUFFLED])
        shuffled = [plan.rng.permuted(features, axis=0) for _ in range(SHUFFLES)]
        null = float(np.mean([value_of(array, few) for array in shuffled]))
    before = None if untrained is None else value_of(untrained, plan.asking(untrained, plan.paired))
    if not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, null, before)
    return plan.estimate(value, drawn, within=POSITIVE, null=null, before=before)


def _about_mean(features: Array) -> Array:
    """Features about their mean, of overall scale 1: sums of squares keep their digits."""
    if is_constant(features):
        return np.zeros_like(features)
    about = features - features.mean(axis=0, dtype=np.float64)
    return (about / np.abs(about).max()).astype(np.float32)


def _judges(features: Array, cells: Labels, plan: Plan) -> Labels:
    """The neighbours that vote on each of ``cells``, nearest first: (cell, k).

    The cells are shuffled first: among cells that coincide, as at a layer of silent channels,
    the order in the table decides which are neighbours, and tables are sorted by class.
    """
    shuffled = np.ascontiguousarray(features[plan.order])
    place = np.empty_like(plan.order)
    place[plan.order] = np.arange(len(plan.order))
    asked = place[cells]
    if plan.grouped:
        found = find_neighbours_elsewhere(
            shuffled, NEIGHBOURS, folds=plan.folds[plan.order], asked=asked
        )
    else:
        found = find_neighbours(shuffled, NEIGHBOURS, asked=asked)
    return plan.order[found.indices]


MEASURES: dict[str, Measure] = {
    "silhouette": Measure(
        _silhouette,
        label="Silhouette",
        hint="higher: classes further apart",
        text="Silhouette: how much nearer a cell is to its own class than to the next one "
        "(1: far nearer, 0: no nearer).",
        higher_is_better=True,
        range=(-1, 1),
    ),
    "knn_accuracy": Measure(
        _knn_accuracy,
        label="k-nearest-neighbour balanced accuracy",
        hint="higher: neighbours share the class",
        text=f"Nearest-neighbour accuracy: the share of cells whose {NEIGHBOURS} nearest cells "
        "vote for the right class, all classes weighing the same.",
        higher_is_better=True,
        range=(0, 1),
    ),
    "probe_accuracy": Measure(
        _probe_accuracy,
        label="Linear-probe balanced accuracy",
        hint="higher: a flat cut separates them",
        text="Linear-probe accuracy: the share of cells that a linear probe, fitted to other "
        "cells, classifies rightly, all classes weighing the same.",
        higher_is_better=True,
        range=(0, 1),
    ),
    "gdv": Measure(
        _gdv,
        label="Generalised discrimination value",
        hint="lower: classes further apart",
        text="Generalised discrimination value: distances within classes less those between "
        "them, every feature on the same scale (0: alike, −1: apart).",
        higher_is_better=False,
        range=(-np.inf, np.inf),
    ),
    "fisher_ratio": Measure(
        _scatter(0, percent=95),
        label="Fisher ratio",
        hint="higher: means further apart than cells",
        text="Fisher ratio: scatter of the class means over the scatter of cells about them.",
        higher_is_better=True,
        range=(0, np.inf),
        ratio=True,
    ),
    "nc1": Measure(
        _scatter(1, percent=5),
        label="Within-class collapse (NC1)",
        hint="lower: each class nearer to one point",
        text="NC1: scatter of cells about their class mean along the directions in which the "
        "means differ, over that of the means; 0 if each class had collapsed to a point.",
        higher_is_better=False,
        range=(0, np.inf),
        ratio=True,
    ),
    "intrinsic_dimension": Measure(
        _intrinsic_dimension,
        label="Intrinsic dimension",
        hint="fewer: cells vary in fewer directions",
        text="Intrinsic dimension: in how many directions cells vary, estimated from the "
        "distances to the two nearest neighbours. It uses no classes, is neither good nor bad, "
        "and comes out too low above some twenty. Its dashed line is not of permuted labels, but "
        "of features made independent by permuting each over the cells.",
        higher_is_better=None,
        range=(0, np.inf),
        ratio=True,
        null="independent",
    ),
}
"""By the name of the measure, in the order in which they are made and shown."""
