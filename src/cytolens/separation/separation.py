"""How well the classes come apart at a layer: numbers, each with an interval and a null."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, Rng, generator, null_limit, percentile_interval
from cytolens.numerics.features import is_constant
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
from cytolens.numerics.threads import limited_threads
from cytolens.separation.dimension import neighbour_ratios, two_nearest_dimension
from cytolens.separation.plan import (
    Plan,
    checked,
    estimate_accuracy,
    interval_about,
    make_plan,
)
from cytolens.separation.scatter import scatter_ratios

NEIGHBOURS = 11  # odd, so that two classes do not tie
SHUFFLES = 2  # of the features, beside the intrinsic dimension
MOST_SHUFFLED = 500  # cells asked for their neighbours there

Array = NDArray[np.float32]


def measure_separation(
    features: Any,
    labels: NDArray[np.integer],
    *,
    groups: NDArray[np.generic] | None = None,
    untrained: Any = None,
    resamples: int = 500,
    permutations: int = 100,
    folds: int = 5,
    name: str = "features",
    rng: Rng = None,
    threads: int | None = None,
) -> dict[str, Estimate]:
    """Separation of the classes ``labels`` (N,) in ``features`` (N, F), by measure:

    - ``silhouette``: mean silhouette width, -1…1, higher is better (Rousseeuw 1987), on at most
      2,000 cells.
    - ``knn_accuracy``: balanced accuracy of the vote of a cell's 11 nearest other cells, ties
      to the nearer; at most 5,000 cells are asked (fewer above 1,000 features, 1,250 of 4,000),
      all vote.
    - ``probe_accuracy``: balanced accuracy on held-out cells of a linear probe
      (`held_out_predictions`), on all cells.
    - ``gdv``: generalised discrimination value, 0 where classes do not differ, about -1 where
      they are apart: **lower is better** (`discrimination_value`), on at most 2,000 cells.
    - ``fisher_ratio``: scatter between classes over scatter within, higher is better; ``nc1``:
      scatter within along the directions that part the class means, over scatter between,
      **lower is better** (both `scatter_ratios`), on all cells.
    - ``intrinsic_dimension``: in how many directions cells vary (`two_nearest_dimension`), of at
      as many cells among all. It knows nothing of classes, is neither good nor bad, and is
      told too low where it is above some 20.

    Each has a 95 % bootstrap interval over cells, or over ``groups`` (N,) and cells within them:
    of the cells' silhouettes, of the correctness of held-out answers, of the pairs of cells, of
    the cells themselves for scatter (200 resamples; `interval_about`), of the ratios of distances
    for the dimension. ``null`` is the 95 % limit of the same number under permuted labels (upper;
    for ``gdv`` and ``nc1`` the lower 5 %), labels being exchanged within groups
    (`permuted_labels`). For the dimension it is the mean with each feature permuted over
    cells on its own: what it would be if no feature knew of another. ``untrained`` is the same
    number for features (N, F') of the network before training.

    With ``groups`` no cell is judged by its own group: neighbours are sought, and probes fitted,
    in other folds, a group a fold up to 10, else 10 folds of whole groups; the probe's penalty is
    chosen for new groups too. Without, neighbours are sought among all other cells, and probes
    fitted in ``folds`` folds, stratified.

    Where a number is not defined it is NaN: scatter and dimension of a layer that is the same
    for all cells, the dimension of fewer than 20 different ones. Classes of one cell are left
    out. Raises InputError, with the ``name`` of the features, for fewer than two classes of two
    cells, lengths that differ, NaN or infinity.
    """
    array, before, y, group, _ = checked(features, labels, groups, untrained, name)
    plan = make_plan(
        y, group,
        permutations=permutations, resamples=resamples, folds=folds, rng=generator(rng),
    )  # fmt: skip
    itself = before is not None and np.array_equal(array, before)  # the input knows no training
    with limited_threads(threads, cells=len(y)):
        found: dict[str, Estimate] = {}
        for measure in MEASURES.values():
            found |= measure(array, None if itself else before, plan)
    if itself:
        return {key: replace(estimate, untrained=estimate.value) for key, estimate in found.items()}
    return found


Measure = Callable[[Array, Array | None, Plan], dict[str, Estimate]]


def _silhouette(features: Array, untrained: Array | None, plan: Plan) -> dict[str, Estimate]:
    cells = plan.paired

    def widths_of(array: Array, labellings: Labels) -> NDArray[np.float64]:
        return silhouettes(pair_distances(array[cells]), labellings)

    found = widths_of(features, plan.labellings[:, cells])
    counts = plan.paired_counts
    low, high = percentile_interval(counts @ found[0] / counts.sum(axis=1))
    before = None
    if untrained is not None:
        before = float(widths_of(untrained, plan.labels[None, cells]).mean())
    null = null_limit(found[1:].mean(axis=1))
    return {"silhouette": Estimate(float(found[0].mean()), low, high, null, before)}


def _gdv(features: Array, untrained: Array | None, plan: Plan) -> dict[str, Estimate]:
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
    low, high = percentile_interval(discrimination_value(distances, y, dimensions, counts))
    nulls = np.array(
        [discrimination_value(distances, null[cells], dimensions, ones)[0] for null in plan.nulls]
    )
    before = None if untrained is None else value_of(untrained)
    return {"gdv": Estimate(value, low, high, null_limit(nulls, 5), before)}


def _knn_accuracy(features: Array, untrained: Array | None, plan: Plan) -> dict[str, Estimate]:
    cells = plan.asking(features, plan.asked)
    before = None
    if untrained is not None:
        answers = votes(_judges(untrained, cells, plan), plan.labels[None])
        before = balanced_accuracy(answers[0] == plan.labels[cells], plan.labels[cells])
    labellings = plan.labellings
    groups = None if plan.groups is None else plan.groups[cells]
    answers = votes(_judges(features, cells, plan), labellings)
    return {
        "knn_accuracy": estimate_accuracy(
            answers, labellings[:, cells], groups, before, plan.resamples, plan.rng
        )
    }


def _probe_accuracy(features: Array, untrained: Array | None, plan: Plan) -> dict[str, Estimate]:
    def answers(array: Array, labellings: Labels) -> Labels:
        return held_out_predictions(
            probe_features(array), labellings, plan.folds, grouped=plan.groups is not None
        )

    before = None
    if untrained is not None:
        found = answers(untrained, plan.labels[None])[0]
        before = balanced_accuracy(found == plan.labels, plan.labels)
    labellings = plan.labellings
    found = answers(features, labellings)
    return {
        "probe_accuracy": estimate_accuracy(
            found, labellings, plan.groups, before, plan.resamples, plan.rng
        )
    }


def _scatter(features: Array, untrained: Array | None, plan: Plan) -> dict[str, Estimate]:
    """Fisher ratio and within-class collapse, which share the scatter of each resample."""
    own, counts, centred = plan.labels[None], plan.all_counts, _centred(features)
    found = scatter_ratios(centred, plan.labellings)
    value, nulls = found[0], found[1:]
    drawn = scatter_ratios(centred, np.broadcast_to(own, counts.shape), counts)
    before = None if untrained is None else scatter_ratios(_centred(untrained), own)[0]
    return {
        key: Estimate(
            float(value[i]),
            *interval_about(float(value[i]), drawn[:, i]),
            null_limit(nulls[:, i], percent),
            None if before is None else float(before[i]),
        )
        for i, (key, percent) in enumerate((("fisher_ratio", 95), ("nc1", 5)))
    }


def _intrinsic_dimension(
    features: Array, untrained: Array | None, plan: Plan
) -> dict[str, Estimate]:
    def value_of(array: Array, asked: Labels) -> float:
        ratios, _ = neighbour_ratios(array, asked)
        return float(two_nearest_dimension(ratios, np.ones((1, len(ratios))))[0])

    ratios, cells = neighbour_ratios(features, plan.asking(features, plan.paired))
    value = float(two_nearest_dimension(ratios, np.ones((1, len(ratios))))[0])
    low, high, null = np.nan, np.nan, None
    if np.isfinite(value):
        counts = plan.counts(cells).astype(np.float64)
        low, high = interval_about(value, two_nearest_dimension(ratios, counts))
        few = np.sort(plan.rng.permutation(plan.asking(features, plan.paired))[:MOST_SHUFFLED])
        shuffled = [plan.rng.permuted(features, axis=0) for _ in range(SHUFFLES)]
        null = float(np.mean([value_of(array, few) for array in shuffled]))
    before = None if untrained is None else value_of(untrained, plan.asking(untrained, plan.paired))
    return {"intrinsic_dimension": Estimate(value, low, high, null, before)}


MEASURES: dict[str, Measure] = {
    "silhouette": _silhouette,
    "knn_accuracy": _knn_accuracy,
    "probe_accuracy": _probe_accuracy,
    "gdv": _gdv,
    "scatter": _scatter,  # fisher_ratio, nc1
    "intrinsic_dimension": _intrinsic_dimension,
}


def _centred(features: Array) -> Array:
    """Features about their mean, of overall scale 1: sums of squares keep their digits."""
    if is_constant(features):
        return np.zeros_like(features)
    centred = features - features.mean(axis=0, dtype=np.float64)
    return (centred / np.abs(centred).max()).astype(np.float32)


def _judges(features: Array, cells: Labels, plan: Plan) -> Labels:
    """The neighbours that vote on each of ``cells``, nearest first: (cell, k).

    The cells are shuffled first: among cells that coincide, as at a layer of silent channels,
    the order in the table decides which are neighbours, and tables are sorted by class.
    """
    shuffled = np.ascontiguousarray(features[plan.order])
    place = np.empty_like(plan.order)
    place[plan.order] = np.arange(len(plan.order))
    asked = place[cells]
    if plan.groups is not None and plan.groups.max() > 0:
        found = find_neighbours_elsewhere(
            shuffled, NEIGHBOURS, folds=plan.folds[plan.order], asked=asked
        )
    else:
        found = find_neighbours(shuffled, NEIGHBOURS, asked=asked)
    return plan.order[found.indices]
