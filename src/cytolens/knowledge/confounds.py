"""Whether something that is not the cell gives its label away, and whether the network knows it."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.knowledge.knowledge import measure_knowledge
from cytolens.knowledge.matching import hold_fixed
from cytolens.knowledge.values import as_values
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator, mean_ranks
from cytolens.numerics.intervals import SHARE
from cytolens.numerics.probe import held_out_predictions
from cytolens.numerics.resampling import (
    Labels,
    are_several,
    assign_folds,
    codes,
    permuted_labels,
    resampled_counts,
)
from cytolens.numerics.ridge import held_out_fits
from cytolens.numerics.separability import balanced_accuracies, balanced_accuracy
from cytolens.records.knowledge import Alarm, Confounds

Floats = NDArray[np.float64]

LEAST_SHARE = 0.25
"""Of the network's advantage over chance: what a nuisance must give alone to raise an alarm. A
nuisance that gives less cannot be what most of the decisions rest on."""

NEARLY = 0.9
"""Of the network's advantage (lower end of its interval): with that a nuisance does as well."""

MOST_BINS = 10  # quantiles of a number that the label is predicted from
FEWEST_IN_BIN = 10  # cells of the smallest class per bin, on average
TOGETHER = "all_off_cell"
"""The name of all ``off_cell`` nuisances as one."""

MOST_FOLDS = 10
FEWEST_MATCHED = 0.3  # of the cells, to say that one nuisance goes with another
MOST_CELLS = 20_000  # a seeded draw of more, whose label is predicted
SAME = 0.98  # rank correlation above which two nuisances are one


def find_confounds(
    nuisances: Mapping[str, NDArray[Any]],
    labels: NDArray[np.integer],
    *,
    features: Mapping[str, Any],
    held_out: NDArray[np.int64],
    predicted: NDArray[np.integer],
    groups: NDArray[np.generic] | None = None,
    untrained: Mapping[str, Any] | None = None,
    artefacts: tuple[str, ...] = (),
    file_names: tuple[str, ...] = (),
    off_cell: tuple[str, ...] = (),
    probabilities: NDArray[np.floating] | None = None,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
) -> Confounds:
    """Which of ``nuisances`` (N,) predict ``labels`` (N,) alone, and are encoded by the network.

    An alarm is raised where all three hold:

    1. the nuisance predicts the label (`label_from_nuisance`): the lower end of the interval of its
       balanced accuracy (with groups, the number itself: whether it holds in new groups is another
       question) lies above the 95 % limit of the largest over all nuisances under permuted labels,
       so that there is a false one in at most 5 % of studies (maxT, Westfall & Young 1993);
    2. it could carry the decision: it gives at least a quarter of the network's advantage over
       chance;
    3. the network encodes it: at some layer of ``features`` (n, F) the nuisance is read clearly
       better than when its values are exchanged among the cells of a class. A network that knew
       the class and nothing else would stay within that. Where a nuisance alone, or one of
       ``off_cell`` or all of them together, does nearly as well as the network, nothing shows that
       the network knows more than that. Then a nuisance need only be read better than when
       exchanged among all cells: it may be a rough measure of what the network goes by, as focus
       is of a blur. Where the network is no better than chance, nothing can be said of it, and the
       first two conditions are enough. (Neither applies to ``file_names``, which
       no network sees: files are often numbered class by class.)

    ``held_out`` (n,) are the cells, as indices into ``labels``, that ``features``, ``untrained``
    and ``predicted`` (n,), the network's classes, belong to. ``artefacts`` are nuisances that no
    biology can be behind; an alarm by another "may be biology": DNA content is what makes a cell
    G2. Nuisances that order the cells alike are one, named by the first. Of the nuisances that
    are ``file_names``, one that matches the class one to one is probably the class's own name; it
    is left out, with a note. A nuisance may be several numbers a cell (N, d). With
    ``probabilities`` (n, K) two classes can be compared where there are more.

    Raises InputError where lengths differ.

    >>> labels, rng = np.repeat([0, 1], 60), np.random.default_rng(0)
    >>> plate = np.where(rng.random(120) < 0.9, labels, 1 - labels)  # a plate a class
    >>> features = rng.normal(size=(120, 3)) + 2 * np.stack([labels, plate, plate], axis=1)
    >>> found = find_confounds(
    ...     {"plate": plate, "row": rng.integers(0, 8, 120)}, labels,
    ...     features={"conv1": features}, held_out=np.arange(120), predicted=labels,
    ...     artefacts=("plate", "row"), rng=0,
    ... )
    >>> [(alarm.nuisance, alarm.kind, alarm.encoded_at) for alarm in found.alarms]
    [('plate', 'artefact', 'conv1')]
    """
    draw = generator(rng)
    y = codes(np.asarray(labels))
    for name, column in nuisances.items():
        if len(column) != len(y):
            raise InputError(f"{name}: {len(column)} values for {len(y)} cells")
    if len(predicted) != len(held_out):
        raise InputError(f"predictions for {len(predicted)} of {len(held_out)} held-out cells")
    names_it = {
        name: "matches the class one to one, as its own name would; the two cannot be separated"
        for name in file_names
        if _is_bijection(nuisances[name], y)
    }
    nuisances = {name: np.asarray(of) for name, of in nuisances.items() if name not in names_it}
    whole = _side_by_side([nuisances[name] for name in off_cell if name in nuisances])
    if whole is not None:
        nuisances[TOGETHER] = whole
    alone, left_out = label_from_nuisance(
        nuisances, y, groups=groups, resamples=resamples, permutations=permutations, rng=draw
    )
    scores = {  # one number a cell
        name: label_score(column, y, groups=groups, rng=draw) if np.ndim(column) > 1 else column
        for name, column in nuisances.items()
        if name in alone
    }
    seen = y[held_out]
    answers = _answers_of(np.unique(np.asarray(labels)), np.asarray(predicted), probabilities)
    group = None if groups is None else codes(np.asarray(groups)[held_out])
    right = answers.argmax(axis=1) == seen
    chance = 1 / max(answers.shape[1], 1)
    advantage = balanced_accuracy(right, seen) - chance
    merged, grouped = _alike(scores, alone), are_several(groups)
    candidates = [
        name
        for name in sorted(merged, key=lambda name: -alone[name].value)
        if _clear(alone[name], grouped=grouped)
        and alone[name].value - chance >= LEAST_SHARE * advantage
    ]
    if any(name in off_cell for name in candidates):
        candidates = [name for name in candidates if name != TOGETHER]
    lowest = _lower_end(right, seen, group, resamples, draw)
    strongest = max(
        (alone[name].value for name in (TOGETHER, *off_cell) if name in alone), default=0
    )
    at_chance = lowest <= chance
    alike_in_all = None
    if TOGETHER in alone and _clear(alone[TOGETHER], grouped=grouped):
        alike_in_all = scores[TOGETHER][held_out]
    at_hand = {name: scores[name][held_out] for name in candidates}
    encoded = _encoded(at_hand, features, untrained, group, seen, draw)
    other_way = {
        name: column
        for name, column in at_hand.items()
        if name not in encoded
        and name not in file_names
        and (at_chance or max(alone[name].value, strongest) - chance >= NEARLY * (lowest - chance))
    }
    by_class = _encoded(other_way, features, untrained, group, None, draw, all_of_them=at_chance)
    beside = {TOGETHER, *off_cell}
    kinds = {
        name: "artefact"
        if name in artefacts
        else "off the cell"
        if name in beside
        else "may be biology"
        for name in alone
    }
    alarms: list[Alarm] = []
    for name in candidates:
        heard = encoded.get(name) or by_class.get(name)
        if heard is None:
            continue
        fixed = hold_fixed(
            at_hand[name], seen, answers, groups=group, alike=alike_in_all,
            resamples=resamples, rng=draw,
        )  # fmt: skip
        alarms.append(Alarm(name, kinds[name], merged[name], alone[name], *heard, *fixed))
    joined = _joined(alarms, scores, off_cell, y, groups, draw)
    return Confounds(alone, kinds, joined, left_out | names_it, len(y))


def _joined(
    alarms: list[Alarm],
    scores: Mapping[str, NDArray[Any]],
    off_cell: Collection[str],
    labels: Labels,
    groups: NDArray[np.generic] | None,
    draw: np.random.Generator,
) -> tuple[Alarm, ...]:
    """The alarms, each with the first other that it goes with.

    Those of what has a name of its own (crop size) come before measures of the border, which few
    pixels make depend on the crop's size.
    """
    group = None if groups is None else codes(groups)
    first: list[Alarm] = []
    found: dict[str, Alarm] = {}
    for alarm in sorted(alarms, key=lambda alarm: alarm.nuisance in off_cell):
        said = _said(scores[alarm.nuisance], labels, group, draw)
        for other in first:
            whole, within, matched = hold_fixed(
                scores[other.nuisance], labels, said, groups=group, resamples=1, rng=draw
            )
            if matched >= FEWEST_MATCHED and within.value - 0.5 < (whole.value - 0.5) / 2:
                found[alarm.nuisance] = replace(
                    alarm, goes_with=other.nuisance, within=within.value
                )
                break
        else:
            first.append(alarm)
    return tuple(found.get(alarm.nuisance, alarm) for alarm in alarms)


def _said(
    column: NDArray[Any], labels: Labels, groups: Labels | None, draw: np.random.Generator
) -> Floats:
    """1 for the class (N, K) that the nuisance says of a cell held out; all 0 if it is unknown."""
    bins, known, nested = _bins(column, labels, groups)
    k = int(labels.max(initial=0)) + 1
    by = groups if are_several(groups) and not nested else None
    folds = assign_folds(labels, groups=by, most=MOST_FOLDS, rng=draw)
    said = np.zeros((len(labels), k))
    answers = _predicted(bins[known], labels[None, known], folds[known], k)[0]
    said[np.flatnonzero(known), answers] = 1
    return said


def label_from_nuisance(
    nuisances: Mapping[str, NDArray[Any]],
    labels: NDArray[np.integer],
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = 500,
    permutations: int = 200,
    folds: int = 5,
    rng: Rng = None,
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Balanced accuracy with which each of ``nuisances`` (N,) alone predicts ``labels`` (N,).

    A number is cut into up to 10 quantile bins, a category is a bin a value; a held-out cell gets
    the class whose share of training cells in its bin is highest (a histogram classifier with
    equal priors and one pseudo-count per bin, so that any dependence is seen, not only a trend).
    Several numbers that are one nuisance, (N, d), are judged by a linear probe on their ranks and
    the squares of these. Whole ``groups`` are held out, or cells where a category occurs in one
    group only. Intervals are over cells, or over groups. ``null`` is the 95 % limit of the
    largest over all nuisances under permuted labels, the same for all (Westfall & Young 1993).

    At most 20,000 cells are used. The second mapping names the nuisances that could not be
    judged, and why.
    """
    draw = generator(rng)
    chosen = np.sort(draw.permutation(len(labels))[:MOST_CELLS])
    y = codes(np.asarray(labels)[chosen])
    group = None if groups is None else codes(np.asarray(groups)[chosen])
    single = group if group is not None and not are_several(group) else None
    group = group if are_several(group) else None
    left_out: dict[str, str] = {}
    found: dict[str, Estimate] = {}
    largest = np.full(permutations, -np.inf)
    k = int(y.max(initial=0)) + 1
    plans = {
        by_cells: (
            assign_folds(y, groups=used, most=folds if used is None else MOST_FOLDS, rng=draw),
            permuted_labels(y, groups=used, permutations=permutations, rng=draw),
        )
        for by_cells, used in ((False, group), (True, None))
    }
    for name, column in nuisances.items():
        given = np.asarray(column)[chosen]
        if given.ndim > 1:
            bins, known, nested = _first_varying(given), np.isfinite(given).all(axis=1), False
        else:
            bins, known, nested = _bins(given, y, group)
        if len(np.unique(bins[known])) < 2 or len(np.unique(y[known])) < 2:
            left_out[name] = "the same for all cells" if known.any() else "not known"
            continue
        fold, nulls = plans[nested]
        fold, nulls = fold[known], nulls[:, known]
        labellings = np.concatenate([y[None, known], nulls])
        if given.ndim > 1:
            grouped = group is not None and not nested
            shaped = _shaped(given[known])
            answers = held_out_predictions(shaped, labellings, fold, grouped=grouped)
        else:
            answers = _predicted(bins[known], labellings, fold, k)
        right = answers[0] == y[known]
        units = single if single is not None else None if nested else group
        used = None if units is None else units[known]
        counts = resampled_counts(
            2 * y[known] + right, 2 * k, groups=used, resamples=resamples, rng=draw
        )
        found[name] = estimate_from(
            balanced_accuracy(right, y[known]), _of_all_classes(counts.reshape(-1, k, 2), y[known]),
            grouped=used is not None, within=SHARE,
        )  # fmt: skip
        by_chance = [balanced_accuracy(a == null, null) for a, null in zip(answers[1:], nulls)]
        largest = np.maximum(largest, by_chance)
    null = float(np.percentile(largest, 95)) if found and permutations else None
    return {name: replace(one, null=null) for name, one in found.items()}, left_out


def label_score(
    columns: Floats, labels: Labels, *, groups: NDArray[np.generic] | None = None, rng: Rng = None
) -> Floats:
    """What several numbers (N, d) together say of the label, as one number (N,) or one class (N,).

    The held-out fit of a ridge probe to the second of two classes; of more classes the one that
    is said. NaN where a number is not known.
    """
    draw = generator(rng)
    known = np.isfinite(columns).all(axis=1)
    y, group = labels[known], None if groups is None else codes(np.asarray(groups)[known])
    if group is not None and group.max(initial=0) == 0:
        group = None
    shaped = _shaped(columns[known])
    folds = assign_folds(y, groups=group, most=5 if group is None else MOST_FOLDS, rng=draw)
    score = np.full(len(labels), np.nan)
    if int(labels.max(initial=0)) < 2:
        fits, means, _ = held_out_fits(shaped, (y == 1)[:, None].astype(np.float64), folds)
        score[known] = (fits + means)[:, 0]
        return score
    said = held_out_predictions(shaped, y[None], folds, grouped=group is not None)[0]
    answers = np.full(len(labels), "", dtype="<U12")
    answers[known] = np.char.add("class ", said.astype(np.str_))
    return answers  # pyright: ignore[reportReturnType]


def _of_all_classes(counts: NDArray[np.int64], labels: Labels) -> Floats:
    """Balanced accuracies (R,) of counts (R, class, 2); NaN where a class that there is is gone."""
    there = np.bincount(labels, minlength=counts.shape[1]) > 0
    gone = (counts.sum(axis=2) == 0)[:, there].any(axis=1)
    return np.where(gone, np.nan, balanced_accuracies(counts))


def _answers_of(
    names: NDArray[Any], predicted: NDArray[Any], given: NDArray[np.floating] | None
) -> Floats:
    """Scores (n, K) of a classifier: its probabilities, or 1 for the class that it says."""
    if given is not None and given.shape[1] == len(names):
        return np.asarray(given, dtype=np.float64)
    return (predicted[:, None] == names).astype(np.float64)


def _lower_end(
    right: NDArray[np.bool_], labels: Labels, groups: Labels | None, resamples: int,
    draw: np.random.Generator,
) -> float:  # fmt: skip
    """The lower end of the interval of the balanced accuracy."""
    k = int(labels.max(initial=0)) + 1
    counts = resampled_counts(
        2 * labels + right, 2 * k, groups=groups, resamples=resamples, rng=draw
    )
    drawn = _of_all_classes(counts.reshape(-1, k, 2), labels)
    value = balanced_accuracy(right, labels)
    return estimate_from(value, drawn, grouped=groups is not None, within=SHARE).least


def _clear(told: Estimate, *, grouped: bool) -> bool:
    """Whether a nuisance tells the label beyond the limit for the largest of all.

    Over cells, the interval must lie above it. An interval over groups speaks of new groups; that
    these cells give their labels away is shown by the labels permuted within them alone.
    """
    return told.null is not None and (told.value if grouped else told.least) > told.null


def _side_by_side(columns: list[NDArray[Any]]) -> Floats | None:
    """Numbers of all nuisances (N, d); a value that is not known counts as the median."""
    if not columns:
        return None
    table = np.concatenate([one.reshape(len(one), -1) for one in columns], axis=1)
    table = np.where(np.isfinite(table), table.astype(np.float64), np.nan)
    table = table[:, np.isfinite(table).any(axis=0)]
    return np.where(np.isfinite(table), table, np.nanmedian(table, axis=0))


def _shaped(columns: Floats) -> Floats:
    """Ranks from -1 to 1 of each column (n, d), and their squares: (n, 2 d)."""
    ranks = (mean_ranks(columns, axis=0) - 0.5) / len(columns) * 2 - 1
    return np.concatenate([ranks, 1.5 * ranks**2 - 0.5], axis=1)


def _first_varying(columns: Floats) -> Labels:
    """Different numbers (N,) where any of the columns differs from the first row known."""
    known = np.flatnonzero(np.isfinite(columns).all(axis=1))
    if not len(known):
        return np.zeros(len(columns), dtype=np.int64)
    return (columns != columns[known[0]]).any(axis=1).astype(np.int64)


def _bins(
    column: NDArray[Any], labels: Labels, groups: Labels | None
) -> tuple[Labels, NDArray[np.bool_], bool]:
    """The bin of each cell (N,), which are known, and whether a bin is of a single group."""
    values, known, categories = as_values(column)
    bins = np.where(known, values, 0).astype(np.int64)
    if not categories and known.any():
        smallest = int(np.bincount(labels[known]).min())
        bins[known] = _quantiles(
            values[known], int(np.clip(smallest // FEWEST_IN_BIN, 2, MOST_BINS))
        )
        return bins, known, False
    nested = groups is not None and any(
        len(np.unique(groups[known & (bins == one)])) < 2 for one in np.unique(bins[known])
    )
    return bins, known, nested


def _quantiles(values: Floats, n: int) -> Labels:
    """The quantile bin (N,) of each value; equal values share one."""
    edges = np.unique(np.quantile(values, np.arange(1, n) / n, method="inverted_cdf"))
    found = np.searchsorted(edges, values, side="left")
    return np.unique(found, return_inverse=True)[1].ravel().astype(np.int64)


def _predicted(bins: Labels, labellings: Labels, folds: Labels, k: int) -> Labels:
    """Held-out classes (P, n) from the bins alone, for each labelling."""
    b = int(bins.max()) + 1
    answers = np.zeros_like(labellings)
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        step = max(1, 4_000_000 // len(bins))
        for start in range(0, len(labellings), step):
            some = labellings[start : start + step, train]
            place = np.arange(len(some))[:, None] * (b * k) + bins[train] * k + some
            table = np.bincount(place.ravel(), minlength=len(some) * b * k).reshape(-1, b, k)
            sizes = table.sum(axis=1, keepdims=True)
            shares = np.where(sizes > 0, (table + 1) / (sizes + b), -1.0)
            answers[start : start + step, test] = shares.argmax(axis=2)[:, bins[test]]
    return answers


def _alike(
    nuisances: Mapping[str, NDArray[Any]], alone: Mapping[str, Estimate]
) -> dict[str, tuple[str, ...]]:
    """The nuisances to report, each with those after it that order the cells as it does."""
    merged: dict[str, tuple[str, ...]] = {}
    columns = {name: as_values(nuisances[name]) for name in alone}
    for name, (values, known, categories) in columns.items():
        for first in merged:
            others, also, kinds = columns[first]
            both = known & also
            if categories or kinds or not np.array_equal(known, also):
                same = np.array_equal(known, also) and np.array_equal(values, others)
            else:
                ranks = mean_ranks(np.stack([values[both], others[both]]))
                same = abs(float(np.corrcoef(ranks[0], ranks[1])[0, 1])) > SAME
            if same:
                merged[first] = (*merged[first], name)
                break
        else:
            merged[name] = ()
    return merged


def _encoded(
    nuisances: Mapping[str, NDArray[Any]],
    features: Mapping[str, Any],
    untrained: Mapping[str, Any] | None,
    groups: Labels | None,
    within: Labels | None,
    draw: np.random.Generator,
    *,
    all_of_them: bool = False,
) -> dict[str, tuple[str, Estimate, str]]:
    """The layer that each nuisance is read from best, beyond ``within``, and how well; by measure.

    Those that are read from none are left out, but for ``all_of_them``.
    """
    if not nuisances:
        return {}
    found = measure_knowledge(
        features, nuisances, groups=groups, untrained=untrained, within=within, rng=draw
    )
    best: dict[str, tuple[str, Estimate, str]] = {}
    for name, measure in found.measures.items():
        read = {layer: estimates[name] for layer, estimates in found.layers.items()}
        clear = {
            layer: one for layer, one in read.items() if _clear(one, grouped=groups is not None)
        }
        among = clear or (read if all_of_them else {})
        if among:
            layer = max(among, key=lambda layer: among[layer].value)
            best[name] = layer, among[layer], measure
    return best


def _is_bijection(column: NDArray[Any], labels: Labels) -> bool:
    """Whether values and classes match one to one, for at least 9 of 10 cells."""
    values, known, categories = as_values(column)
    if not categories or categories != len(np.unique(labels)):
        return False
    table = np.zeros((categories, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (values[known].astype(np.int64), labels[known]), 1)
    best = table.argmax(axis=1)
    return len(np.unique(best)) == categories and table.max(axis=1).sum() >= 0.9 * known.sum()
