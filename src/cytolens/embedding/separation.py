"""How well the classes come apart at a layer: four numbers, each with an interval and a null."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.measures import (
    balanced_accuracies,
    discrimination_value,
    halved_scores,
    pair_distances,
    silhouettes,
    votes,
)
from cytolens.embedding.neighbours import (
    checked_features,
    find_neighbours,
    find_neighbours_elsewhere,
    limited_threads,
)
from cytolens.embedding.probe import held_out_predictions, probe_features
from cytolens.embedding.resampling import (
    Labels,
    codes,
    folds_of,
    interval,
    permuted_labels,
    resampled_counts,
)
from cytolens.errors import InputError
from cytolens.statistics import Estimate, Rng, generator

NEIGHBOURS = 11  # odd, so that two classes do not tie
MOST_PAIRED = 2000  # cells for silhouette and discrimination value, which need all pairs
MOST_ASKED = 5000  # cells asked for their neighbours (among all)
MOST_FOLDS = 10


def measure_separation(
    features: Any,
    labels: NDArray[np.integer],
    *,
    groups: NDArray[np.generic] | None = None,
    untrained: Any = None,
    resamples: int = 500,
    permutations: int = 100,
    folds: int = 5,
    rng: Rng = None,
    threads: int | None = None,
) -> dict[str, Estimate]:
    """Separation of the classes ``labels`` (N,) in ``features`` (N, F), by measure:

    - ``silhouette``: mean silhouette width, -1…1, higher is better (Rousseeuw 1987), on at most
      2,000 cells.
    - ``knn_accuracy``: balanced accuracy of the vote of a cell's 11 nearest other cells, ties
      to the nearer; at most 5,000 cells are asked, all vote.
    - ``probe_accuracy``: balanced accuracy on held-out cells of a linear probe
      (`held_out_predictions`), on all cells.
    - ``gdv``: generalised discrimination value, 0 where classes do not differ, about -1 where
      they are apart: **lower is better** (`discrimination_value`), on at most 2,000 cells.

    Each has a 95 % bootstrap interval over cells, or over ``groups`` (N,) and cells within them:
    of the cells' silhouettes, of the correctness of held-out answers, of the pairs of cells.
    ``null`` is the 95 % limit of the same number under permuted labels (upper; for ``gdv`` the
    lower 5 %), labels being exchanged within groups (`permuted_labels`). ``untrained`` is the
    same number for features (N, F') of the network before training.

    With ``groups`` no cell is judged by its own group: neighbours are sought, and probes fitted,
    in other folds, a group a fold up to 10, else 10 folds of whole groups. Without, neighbours
    are sought among all other cells, and probes fitted in ``folds`` folds, stratified.

    Classes of one cell are left out. Raises InputError for fewer than two classes of two cells,
    lengths that differ, NaN or infinity.
    """
    array, y, group = _checked(features, labels, groups)
    draw = generator(rng)
    most = MOST_FOLDS if group is not None else folds
    plan = _Plan(
        labels=y,
        nulls=permuted_labels(y, groups=group, permutations=permutations, rng=draw),
        groups=group,
        folds=folds_of(y, groups=group, most=most, rng=draw),
        paired=_some(y, MOST_PAIRED, draw),
        asked=_some(y, MOST_ASKED, draw),
        order=draw.permutation(len(y)),
    )
    before = None
    if untrained is not None:
        rows = np.asarray(untrained)
        if len(rows) != len(np.asarray(labels)):
            raise InputError(f"untrained features of {len(rows)} cells for {len(labels)} labels")
        before = checked_features(rows[_kept(labels)], name="untrained features")
    with limited_threads(threads, cells=len(y)):
        return {
            name: measure(array, before, plan, resamples, draw)
            for name, measure in MEASURES.items()
        }


@dataclass(frozen=True)
class _Plan:
    """What all measures share: labels, their permutations, folds, and which cells are used."""

    labels: Labels  # (N,)
    nulls: Labels  # (P, N)
    groups: Labels | None
    folds: Labels
    paired: Labels  # indices
    asked: Labels  # indices
    order: Labels  # random order of the cells, in which ties are broken

    def groups_of(self, cells: Labels) -> Labels | None:
        return None if self.groups is None else self.groups[cells]


Measure = Callable[
    [NDArray[np.float32], NDArray[np.float32] | None, _Plan, int, np.random.Generator], Estimate
]


def _silhouette(
    features: NDArray[np.float32],
    untrained: NDArray[np.float32] | None,
    plan: _Plan,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    cells = plan.paired
    y = plan.labels[cells]

    def widths_of(array: NDArray[np.float32], labellings: Labels) -> NDArray[np.float64]:
        return silhouettes(pair_distances(array[cells]), labellings)

    found = widths_of(features, np.concatenate([y[None], plan.nulls[:, cells]]))
    counts = resampled_counts(
        np.arange(len(cells)), len(cells),
        groups=plan.groups_of(cells), resamples=resamples, rng=rng,
    )  # fmt: skip
    low, high = interval(counts @ found[0] / counts.sum(axis=1))
    before = None
    if untrained is not None:
        before = float(widths_of(untrained, y[None]).mean())
    return Estimate(float(found[0].mean()), low, high, _limit(found[1:].mean(axis=1), 95), before)


def _gdv(
    features: NDArray[np.float32],
    untrained: NDArray[np.float32] | None,
    plan: _Plan,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    cells = plan.paired
    y = plan.labels[cells]
    ones = np.ones((1, len(cells)))

    def value_of(array: NDArray[np.float32]) -> float:
        scores = halved_scores(array[cells])
        return float(discrimination_value(pair_distances(scores), y, scores.shape[1], ones)[0])

    scores = halved_scores(features[cells])
    distances, dimensions = pair_distances(scores), scores.shape[1]
    counts = resampled_counts(
        np.arange(len(cells)), len(cells),
        groups=plan.groups_of(cells), resamples=resamples, rng=rng,
    )  # fmt: skip
    value = float(discrimination_value(distances, y, dimensions, ones)[0])
    low, high = interval(discrimination_value(distances, y, dimensions, counts.astype(np.float64)))
    nulls = np.array(
        [discrimination_value(distances, null[cells], dimensions, ones)[0] for null in plan.nulls]
    )
    before = None if untrained is None else value_of(untrained)
    return Estimate(value, low, high, _limit(nulls, 5), before)


def _knn_accuracy(
    features: NDArray[np.float32],
    untrained: NDArray[np.float32] | None,
    plan: _Plan,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    cells = plan.asked

    def answers(array: NDArray[np.float32], labellings: Labels) -> Labels:
        return votes(_judges(array, plan), labellings)

    labellings = np.concatenate([plan.labels[None], plan.nulls])
    before = None
    if untrained is not None:
        before = _accuracy(answers(untrained, plan.labels[None])[0], plan.labels[cells])
    return _estimate_accuracy(
        answers(features, labellings), labellings[:, cells], plan.groups_of(cells),
        before, resamples, rng,
    )  # fmt: skip


def _probe_accuracy(
    features: NDArray[np.float32],
    untrained: NDArray[np.float32] | None,
    plan: _Plan,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    labellings = np.concatenate([plan.labels[None], plan.nulls])
    answers = held_out_predictions(probe_features(features), labellings, plan.folds)
    before = None
    if untrained is not None:
        seen = probe_features(untrained)
        known = held_out_predictions(seen, plan.labels[None], plan.folds)[0]
        before = _accuracy(known, plan.labels)
    return _estimate_accuracy(answers, labellings, plan.groups, before, resamples, rng)


MEASURES: dict[str, Measure] = {
    "silhouette": _silhouette,
    "knn_accuracy": _knn_accuracy,
    "probe_accuracy": _probe_accuracy,
    "gdv": _gdv,
}


def _judges(features: NDArray[np.float32], plan: _Plan) -> Labels:
    """The neighbours that vote on each cell asked, nearest first: (asked, k).

    The cells are shuffled first: among cells that coincide, as at a layer of silent channels,
    the order in the table decides which are neighbours, and tables are sorted by class.
    """
    shuffled = np.ascontiguousarray(features[plan.order])
    place = np.empty_like(plan.order)
    place[plan.order] = np.arange(len(plan.order))
    asked = place[plan.asked]
    if plan.groups is not None and plan.groups.max() > 0:
        found = find_neighbours_elsewhere(
            shuffled, NEIGHBOURS, folds=plan.folds[plan.order], asked=asked
        )
    else:
        found = find_neighbours(shuffled, NEIGHBOURS, asked=asked)
    return plan.order[found.indices]


def _estimate_accuracy(
    answers: Labels,
    labellings: Labels,
    groups: Labels | None,
    before: float | None,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    """Balanced accuracy of the first row of answers; the others are its null."""
    k = int(labellings.max()) + 1
    values = [_accuracy(given, labels) for given, labels in zip(answers, labellings)]
    outcome = 2 * labellings[0] + (answers[0] == labellings[0])
    counts = resampled_counts(outcome, 2 * k, groups=groups, resamples=resamples, rng=rng)
    low, high = interval(balanced_accuracies(counts.reshape(-1, k, 2)))
    return Estimate(values[0], low, high, _limit(np.array(values[1:]), 95), before)


def _accuracy(answers: Labels, labels: Labels) -> float:
    k = int(labels.max()) + 1
    counts = np.bincount(2 * labels + (answers == labels), minlength=2 * k)
    return float(balanced_accuracies(counts.reshape(1, k, 2))[0])


def _limit(values: NDArray[np.float64], percent: float) -> float | None:
    defined = values[np.isfinite(values)]
    return float(np.percentile(defined, percent)) if defined.size else None


def _some(labels: Labels, most: int, rng: np.random.Generator) -> Labels:
    """At most about ``most`` cells, in each class in proportion but no fewer than 10, in order."""
    n = len(labels)
    if n <= most:
        return np.arange(n)
    chosen: list[Labels] = []
    for name in np.unique(labels):
        cells = np.flatnonzero(labels == name)
        wanted = min(len(cells), max(10, round(len(cells) * most / n)))
        chosen.append(rng.choice(cells, wanted, replace=False))
    return np.sort(np.concatenate(chosen))


def _kept(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Cells whose class has another cell."""
    _, inverse, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return counts[inverse.ravel()] > 1


def _checked(
    features: Any, labels: NDArray[np.integer], groups: NDArray[np.generic] | None
) -> tuple[NDArray[np.float32], Labels, Labels | None]:
    """Features, labels 0…K-1 and groups 0…G-1 (None where there is one) of the cells used."""
    given = np.asarray(labels)
    if len(given) != len(features) or (groups is not None and len(groups) != len(given)):
        raise InputError(
            f"features of {len(features)} cells, {len(given)} labels"
            + ("" if groups is None else f", {len(groups)} groups")
            + ": lengths must agree"
        )
    kept = _kept(given)
    y = codes(given[kept])
    if y is None or len(np.unique(y)) < 2:
        raise InputError("separation needs two classes of at least two cells each")
    array = checked_features(np.asarray(features)[kept])
    group = None if groups is None else codes(np.asarray(groups)[kept])
    if group is not None and group.max() == 0:
        group = None
    return array, y, group
