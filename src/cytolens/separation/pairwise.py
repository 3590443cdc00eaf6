"""Which classes come apart from which, and where: a linear probe class by class, pair by pair."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, Rng, generator
from cytolens.numerics.features import checked_features
from cytolens.numerics.probe import held_out_predictions, probe_features
from cytolens.numerics.resampling import Labels, are_several, assign_folds, codes, permuted_labels
from cytolens.numerics.separability import balanced_accuracy
from cytolens.numerics.threads import limited_threads
from cytolens.records.by_layer import of_each_layer
from cytolens.records.separation import ClassSeparation, Onset
from cytolens.separation.plan import MOST_FOLDS, checked, estimate_accuracy

MOST_PROBED = 5000  # cells, in equal parts of each class as far as there are
FEWEST = 5  # cells of a class below which it is left out
MOST_PAIRS = 66  # of twelve classes
MOST_SEEN = 128  # principal components that the probe sees where there are more features
_UNKNOWN = Estimate(np.nan, np.nan, np.nan)

Probed = NDArray[np.float64]
Pair = tuple[str, str]


@of_each_layer
def measure_pairs(
    features: Any,
    labels: NDArray[np.integer],
    *,
    class_names: Sequence[str],
    name: str = "features",
    pairs: Sequence[Pair] | None = None,
    groups: NDArray[np.generic] | None = None,
    untrained: Any = None,
    resamples: int = 500,
    permutations: int = 100,
    folds: int = 5,
    rng: Rng = None,
    threads: int | None = None,
) -> ClassSeparation:
    """How well a linear probe separates each class from all others, and each pair of classes.

    ``features`` (N, F) and ``labels`` (N,), indices into ``class_names``, as for
    `measure_separation`, whose ``probe_accuracy`` this is: balanced accuracy on held-out cells
    (0.5 by chance), with the same folds, interval, null and ``untrained`` control, on at most
    5,000 cells and 128 principal components. A pair is measured on its own cells: other classes
    do not matter to it.
    ``pairs``: names, the only ones to measure; by default all up to 66 of them (12 classes),
    beyond that those that `closest_pairs` finds in these features. Of two classes there is one
    pair, and no class against the rest.

    Classes of fewer than 5 cells are left out and named; a pair whose cells lie in one fold (both
    classes are of one group) is NaN. Raises InputError as `measure_separation` does.

    >>> labels = np.repeat([0, 1, 2], 30)
    >>> features = np.random.default_rng(0).normal(size=(90, 4)) + 9 * (labels == 2)[:, None]
    >>> found = measure_pairs(
    ...     features, labels, class_names=("G1", "S", "M"), resamples=50, permutations=20, rng=0
    ... )
    >>> found.pairs, [round(estimate.value, 2) for estimate in found.by_pair]
    ((('G1', 'S'), ('G1', 'M'), ('S', 'M')), [0.52, 1.0, 1.0])
    """
    array, before, y, group, kept = checked(features, labels, groups, untrained, name)
    names = [class_names[int(index)] for index in np.unique(np.asarray(labels)[kept])]
    draw = generator(rng)
    sizes = np.bincount(y)
    known = [k for k in range(len(names)) if sizes[k] >= FEWEST]
    most = max(MOST_PROBED // max(len(known), 1), 200)
    used = np.sort(
        np.concatenate(
            [np.empty(0, np.int64)]
            + [_at_most(np.flatnonzero(y == k), most, draw) for k in known]
        )
    )  # fmt: skip
    left_out = tuple(name for k, name in enumerate(names) if k not in known)
    if len(known) < 2:
        return ClassSeparation(name, {}, (), (), left_out, "fewer than two classes of 5 cells")
    chosen = _pairs(array, y, names, known, pairs)
    y, group = y[used], codes(None if group is None else group[used])
    grouped = are_several(group)
    most = MOST_FOLDS if grouped else folds
    placed = assign_folds(y, groups=group, most=most, rng=draw)

    tries = len(chosen) + (len(known) if len(known) > 2 else 0)

    def estimates(cells: Labels, labellings: list[Labels]) -> list[tuple[Estimate, bool]]:
        """Each with whether it is clear.

        Of several ways to part ``cells`` (n,) in two, each (1 + P, n) with its permutations."""
        within = None if group is None else group[cells]

        def answers(probed: Probed, some: Labels) -> Labels:
            return held_out_predictions(probed[cells], some, placed[cells], grouped=grouped)

        controls: list[float | None] = [None] * len(labellings)
        if old is not None:
            own = np.stack([each[0] for each in labellings])
            controls = [
                balanced_accuracy(given == y, y) for given, y in zip(answers(old, own), own)
            ]
        found = answers(seen, np.concatenate(labellings)).reshape(len(labellings), -1, len(cells))
        made: list[tuple[Estimate, bool]] = []
        for given, each, control in zip(found, labellings, controls):
            estimate = estimate_accuracy(given, each, within, control, resamples, draw)
            strict = estimate_accuracy(
                given, each, within, control, max(resamples, 40 * tries), draw, 1 - 0.05 / tries
            )
            made.append((estimate, is_above(strict)))
        return made

    with limited_threads(threads, cells=len(used)):
        seen = probe_features(array[used], most=MOST_SEEN)
        old = None if before is None else probe_features(before[used], most=MOST_SEEN)
        by_class: dict[str, Estimate] = {}
        clear: dict[str, bool] = {}
        if len(known) > 2:
            nulls = permuted_labels(y, groups=group, permutations=permutations, rng=draw)
            everyone = np.concatenate([y[None], nulls])
            parted = [(everyone == k).astype(np.int64) for k in known]
            made = estimates(np.arange(len(y)), parted)
            by_class = {names[k]: estimate for k, (estimate, _) in zip(known, made)}
            clear = {names[k]: above for k, (_, above) in zip(known, made)}
        by_pair: list[tuple[Estimate, bool]] = []
        for a, b in chosen:
            cells = np.flatnonzero((y == a) | (y == b))
            second = (y[cells] == b).astype(np.int64)
            if len(np.unique(placed[cells])) < 2:
                by_pair.append((_UNKNOWN, False))
                continue
            within = codes(None if group is None else group[cells])
            nulls = permuted_labels(second, groups=within, permutations=permutations, rng=draw)
            by_pair += estimates(cells, [np.concatenate([second[None], nulls])])
    left = len(known) * (len(known) - 1) // 2 - len(chosen)
    remark = f"{left} pairs that are further apart were not measured" if left else ""
    listed = tuple(estimate for estimate, _ in by_pair)
    if any(estimate is _UNKNOWN for estimate in listed):
        remark += f"{'; ' if remark else ''}pairs of classes of one and the same group are unknown"
    pairs = tuple((names[a], names[b]) for a, b in chosen)
    above = tuple(above for _, above in by_pair)
    return ClassSeparation(name, by_class, pairs, listed, left_out, remark, clear, above)


def closest_pairs(
    features: Any, labels: NDArray[np.integer], *, class_names: Sequence[str], most: int
) -> tuple[Pair, ...]:
    """The ``most`` pairs of classes whose means are nearest for the scatter within, in order.

    By |m_a - m_b|² / (v_a + v_b), m the mean and v the variance of a class over ``features``.
    """
    array = checked_features(features)
    present, y = np.unique(np.asarray(labels), return_inverse=True)
    names = [class_names[int(index)] for index in present]
    found = _closest(array, y.ravel(), list(range(len(names))), most)
    return tuple((names[a], names[b]) for a, b in found)


def is_above(estimate: Estimate) -> bool:
    """Whether the interval lies above the null; not so where none can be given."""
    return bool(estimate.low > (0.5 if estimate.null is None else estimate.null))


def find_onset(
    classes: tuple[str, ...],
    estimates: Mapping[str, Estimate],
    clear: Mapping[str, bool] | None = None,
) -> Onset:
    """From which layer on two classes are apart; ``estimates`` of balanced accuracy by layer.

    ``clear`` is the first layer from which on, to the last, the low end of the interval lies
    above the null. Layers are asked from the last to the first, and the first that fails ends it:
    in such a fixed order each may be tested at the full level, and all claims together are wrong
    no more often than one (Maurer, Hothorn & Lehmacher 1995; Westfall & Krishen 2001). Where many
    pairs are looked at, ``clear`` by layer says which hold after a correction for that;
    ``nine_tenths`` the first whose value covers nine tenths of the way from
    chance (0.5) to the best layer. Both are None where nothing is ever clear.
    """
    known = [(name, e) for name, e in estimates.items() if np.isfinite(e.value)]
    if not known:
        return Onset(classes, None, None, None, _UNKNOWN)
    best, value = max(known, key=lambda entry: entry[1].value)
    first = None
    for name, found in reversed(known):
        if not (is_above(found) if clear is None else clear[name]):
            break
        first = name
    goal = min(0.5 + 0.9 * (value.value - 0.5), value.value)  # the best may be below chance
    reached = next(name for name, found in known if found.value >= goal)
    return Onset(classes, first, None if first is None else reached, best, value)


def find_onsets(separations: Sequence[ClassSeparation]) -> tuple[Onset, ...]:
    """The onset of every pair, and of every class against the rest, the earliest first.

    ``separations`` in depth order; what is clear is corrected for the number of pairs and classes
    (Bonferroni: a pair's interval is one of 1 - 0.05 / number). Ties go to the pair
    that is nine tenths there first, and then to the one that gets further.
    """
    depth = {found.layer: place for place, found in enumerate(separations)}
    curves: dict[tuple[str, ...], dict[str, Estimate]] = {}
    clear: dict[tuple[str, ...], dict[str, bool]] = {}

    def add(classes: tuple[str, ...], layer: str, estimate: Estimate, above: bool) -> None:
        curves.setdefault(classes, {})[layer] = estimate
        clear.setdefault(classes, {})[layer] = above

    for found in separations:
        above = found.clear_by_pair or tuple(map(is_above, found.by_pair))
        for pair, estimate, one in zip(found.pairs, found.by_pair, above):
            add(pair, found.layer, estimate, one)
    for found in separations:
        for name, estimate in found.by_class.items():
            above = found.clear_by_class.get(name, is_above(estimate))
            add((name,), found.layer, estimate, above)

    def rank(onset: Onset) -> tuple[int, int, float]:
        first, most = (
            len(depth) if layer is None else depth[layer]
            for layer in (onset.clear, onset.nine_tenths)
        )  # fmt: skip
        return first, most, -np.nan_to_num(onset.value.value)

    return tuple(
        sorted((find_onset(key, curve, clear[key]) for key, curve in curves.items()), key=rank)
    )


def _pairs(
    features: NDArray[np.float32],
    y: Labels,
    names: Sequence[str],
    known: Sequence[int],
    wanted: Sequence[Pair] | None,
) -> list[tuple[int, int]]:
    if wanted is not None:
        at = {name: k for k, name in enumerate(names) if k in known}
        return [(at[a], at[b]) for a, b in wanted if a in at and b in at]
    everyone = list(combinations(known, 2))
    return everyone if len(everyone) <= MOST_PAIRS else _closest(features, y, known, MOST_PAIRS)


def _closest(
    features: NDArray[np.float32], y: Labels, known: Sequence[int], most: int
) -> list[tuple[int, int]]:
    means = {k: features[y == k].mean(axis=0, dtype=np.float64) for k in known}
    spread = {k: float(features[y == k].var(axis=0, dtype=np.float64).sum()) for k in known}

    def distance(pair: tuple[int, int]) -> float:
        a, b = pair
        return float(((means[a] - means[b]) ** 2).sum() / max(spread[a] + spread[b], 1e-30))

    return sorted(combinations(known, 2), key=distance)[:most]


def _at_most(cells: Labels, most: int, rng: np.random.Generator) -> Labels:
    return cells if len(cells) <= most else rng.choice(cells, most, replace=False)
