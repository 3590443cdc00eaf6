"""Whether something that is not the cell gives its label away, and whether the network knows it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.knowledge.knowledge import measure_knowledge
from cytolens.knowledge.values import as_values
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator, mean_ranks
from cytolens.numerics.intervals import SHARE
from cytolens.numerics.resampling import (
    Labels,
    are_several,
    assign_folds,
    codes,
    permuted_labels,
    resampled_counts,
)
from cytolens.numerics.separability import balanced_accuracies, balanced_accuracy
from cytolens.records.knowledge import Alarm, Confounds

Floats = NDArray[np.float64]

LEAST_SHARE = 0.25
"""Of the network's advantage over chance: what a nuisance must give alone to raise an alarm. A
nuisance that gives less cannot be what most of the decisions rest on."""

MOST_BINS = 10  # quantiles of a number that the label is predicted from
FEWEST_IN_BIN = 10  # cells of the smallest class per bin, on average
MOST_STRATA = 20
FEWEST_IN_STRATUM = 25  # cells per stratum, on average
MOST_FOLDS = 10
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
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
) -> Confounds:
    """Which of ``nuisances`` (N,) predict ``labels`` (N,) alone, and are encoded by the network.

    An alarm is raised where all three hold:

    1. the nuisance predicts the label (`label_from_nuisance`): the lower end of the interval of its
       balanced accuracy (the number itself where groups are too few for one) lies above
       the 95 % limit of the largest over all nuisances under
       permuted labels, so that there is a false one in at most 5 % of studies (maxT, Westfall &
       Young 1993);
    2. it could carry the decision: it gives at least a quarter of the network's advantage over
       chance;
    3. the network encodes it: at some layer of ``features`` (n, F) the nuisance is read clearly
       better than when its values are exchanged among the cells of a class. A network that knew
       the class and nothing else would stay within that. A nuisance that alone does as well as
       the network is almost the class itself, so that no such difference is required: it need
       only be read better than when exchanged among all cells. (This does not apply to parts of
       file names, which no network sees: files are often numbered class by class.)

    ``held_out`` (n,) are the cells, as indices into ``labels``, that ``features``, ``untrained``
    and ``predicted`` (n,), the network's classes, belong to. ``artefacts`` are nuisances that no
    biology can be behind; an alarm by another "may be biology": DNA content is what makes a cell
    G2. Nuisances that order the cells alike are one, named by the first. Of the nuisances that
    are ``file_names``, one that matches the class one to one is probably the class's own name; it
    is left out, with a note.

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
    nuisances = {name: column for name, column in nuisances.items() if name not in names_it}
    alone, left_out = label_from_nuisance(
        nuisances, y, groups=groups, resamples=resamples, permutations=permutations, rng=draw
    )
    seen = y[held_out]
    names = np.unique(np.asarray(labels))
    right = names[seen] == np.asarray(predicted)
    group = None if groups is None else codes(np.asarray(groups)[held_out])
    chance = 1 / max(len(names), 1)
    advantage = balanced_accuracy(right, seen) - chance
    alarms: list[Alarm] = []
    merged = _alike(nuisances, alone)
    for name in sorted(alone, key=lambda name: -alone[name].value):
        estimate = alone[name]
        raised = estimate.null is not None and estimate.least > estimate.null
        if name not in merged or not raised or estimate.value - chance < LEAST_SHARE * advantage:
            continue
        column = nuisances[name][held_out]
        before, fixed, matched = hold_fixed(
            column, seen, right, groups=group, resamples=resamples, rng=draw
        )
        encoded = _encoded(name, column, features, untrained, group, seen, draw)
        if encoded is None and name not in file_names and estimate.value >= before.least:
            encoded = _encoded(name, column, features, untrained, group, None, draw)
        if encoded is None:
            continue
        kind = "artefact" if name in artefacts else "may be biology"
        alarms.append(Alarm(name, kind, merged[name], estimate, *encoded, before, fixed, matched))
    kinds = {name: "artefact" if name in artefacts else "may be biology" for name in alone}
    return Confounds(alone, kinds, tuple(alarms), left_out | names_it, len(y))


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
    Whole ``groups`` are held out, or cells where a category occurs in one group only. Intervals
    are over cells, or over groups. ``null`` is the 95 % limit of the largest over
    all nuisances under permuted labels, the same for all (Westfall & Young 1993).

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
        bins, known, nested = _bins(np.asarray(column)[chosen], y, group)
        if len(np.unique(bins[known])) < 2 or len(np.unique(y[known])) < 2:
            left_out[name] = "the same for all cells" if known.any() else "not known"
            continue
        fold, nulls = plans[nested]
        fold, nulls = fold[known], nulls[:, known]
        answers = _predicted(bins[known], np.concatenate([y[None, known], nulls]), fold, k)
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


def hold_fixed(
    nuisance: NDArray[Any],
    labels: Labels,
    right: NDArray[np.bool_],
    *,
    groups: Labels | None = None,
    resamples: int = 500,
    rng: Rng = None,
) -> tuple[Estimate, Estimate, float]:
    """How well a classifier does where ``nuisance`` (n,) cannot help it.

    Cells fall into strata of like nuisance: up to 20 quantiles of a number, the values of a
    category. Gives balanced accuracy on all cells whose nuisance is known; the same within
    strata, averaged over strata by the number of cells in them that can be paired with a cell of
    another class; and the share of cells that can be. ``right`` (n,) says which cells were given
    their class. Where no stratum has two classes the second is NaN.
    Source: stratification on a confounder, Cochran 1968, Biometrics 24.
    """
    draw = generator(rng)
    values, known, categories = as_values(nuisance)
    y, right = labels[known], right[known]
    group = None if groups is None else groups[known]
    strata = values[known].astype(np.int64)
    if not categories:
        strata = _quantiles(
            values[known], int(np.clip(known.sum() // FEWEST_IN_STRATUM, 2, MOST_STRATA))
        )
    k, s = int(labels.max(initial=0)) + 1, int(strata.max(initial=0)) + 1
    outcome = (strata * k + y) * 2 + right
    counts = resampled_counts(outcome, 2 * k * s, groups=group, resamples=resamples, rng=draw)
    observed = np.bincount(outcome, minlength=2 * k * s)[None]
    drawn = np.concatenate([observed, counts]).reshape(-1, s, k, 2)
    whole = _of_all_classes(drawn.sum(axis=1), y)
    fixed, matched = _stratified(drawn)
    of_all, within = (
        estimate_from(float(one[0]), one[1:], grouped=group is not None, within=SHARE)
        for one in (whole, fixed)
    )
    return of_all, within, float(matched[0])


def _of_all_classes(counts: NDArray[np.int64], labels: Labels) -> Floats:
    """Balanced accuracies (R,) of counts (R, class, 2); NaN where a class that there is is gone."""
    there = np.bincount(labels, minlength=counts.shape[1]) > 0
    gone = (counts.sum(axis=2) == 0)[:, there].any(axis=1)
    return np.where(gone, np.nan, balanced_accuracies(counts))


def _stratified(counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Balanced accuracy within strata, and the share of cells matched, from (R, S, K, 2)."""
    sizes = counts.sum(axis=3)  # (R, S, K)
    whole = sizes.sum(axis=2)
    paired = np.minimum(whole, 2 * (whole - sizes.max(axis=2)))  # (R, S)
    within = np.stack([balanced_accuracies(one) for one in counts])
    total = paired.sum(axis=1)
    fixed = np.divide(
        (within * paired).sum(axis=1), total, out=np.full(len(counts), np.nan), where=total > 0
    )
    return fixed, total / np.maximum(whole.sum(axis=1), 1)


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
    name: str,
    nuisance: NDArray[Any],
    features: Mapping[str, Any],
    untrained: Mapping[str, Any] | None,
    groups: Labels | None,
    within: Labels | None,
    draw: np.random.Generator,
) -> tuple[str, Estimate, str] | None:
    """The layer that the nuisance is read from best, beyond ``within``; None where from none.

    And how well, and by which measure.
    """
    found = measure_knowledge(
        features, {name: nuisance}, groups=groups, untrained=untrained, within=within, rng=draw
    )
    clear = {
        layer: read[name]
        for layer, read in found.layers.items()
        if name in read and (null := read[name].null) is not None and read[name].least > null
    }
    if not clear:
        return None
    best = max(clear, key=lambda layer: clear[layer].value)
    return best, clear[best], found.measures[name]


def _is_bijection(column: NDArray[Any], labels: Labels) -> bool:
    """Whether values and classes match one to one, for at least 9 of 10 cells."""
    values, known, categories = as_values(column)
    if not categories or categories != len(np.unique(labels)):
        return False
    table = np.zeros((categories, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (values[known].astype(np.int64), labels[known]), 1)
    best = table.argmax(axis=1)
    return len(np.unique(best)) == categories and table.max(axis=1).sum() >= 0.9 * known.sum()
