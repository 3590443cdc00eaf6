"""Bootstrap and permutation for the many: counts instead of indices, whole groups respected."""

from typing import overload

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import resample

Labels = NDArray[np.int64]


def resampled_counts(
    categories: Labels,
    n_categories: int,
    *,
    groups: Labels | None = None,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """How often each category comes up in bootstrap resamples of the cells: (resamples, category).

    A statistic that depends on the cells only through such counts (a table, a rate per class)
    can be resampled from them: drawing n cells with replacement is one multinomial draw. With
    ``groups`` (N,) the same two-stage bootstrap as `estimates.resample`: groups with
    replacement, then cells within each, for a group drawn m times m × n_g cells.
    """
    if groups is None:
        groups = np.zeros(len(categories), dtype=np.int64)
    names = np.unique(groups)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    counts = np.zeros((resamples, n_categories), dtype=np.int64)
    for place, name in enumerate(names):
        of_group = np.bincount(categories[groups == name], minlength=n_categories)
        present = np.flatnonzero(of_group)
        shares = of_group[present] / of_group.sum()
        counts[:, present] += rng.multinomial(times[:, place] * of_group.sum(), shares)
    return counts


def permuted_labels(
    labels: Labels, *, groups: Labels | None = None, permutations: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels that say nothing about the cells: (permutations, N).

    With ``groups`` labels are exchanged within each group where most cells lie in groups of more
    than one class; else (a class is a property of the group) whole groups exchange the class
    most frequent in them. Source: restricted permutation, Winkler et al. 2015, NeuroImage 123.
    """
    if groups is None or len(np.unique(groups)) < 2:
        return np.stack([rng.permutation(labels) for _ in range(permutations)])
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    mixed = sum(len(cells) for cells in members if len(np.unique(labels[cells])) > 1)
    permuted = np.tile(labels, (permutations, 1))
    if 2 * mixed > len(labels):
        for row in permuted:
            for cells in members:
                row[cells] = rng.permutation(row[cells])
        return permuted
    owned = np.array([np.bincount(labels[cells]).argmax() for cells in members])
    for row in permuted:
        for cells, label in zip(members, rng.permutation(owned)):
            row[cells] = label
    return permuted


def resample_weights(
    n: int, *, groups: NDArray[np.generic] | None, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each of ``n`` cells is drawn in each bootstrap resample: (resamples, n).

    Draw by draw as `estimates.resample`; `resampled_counts` is faster where cells are alike.
    """
    group = codes(groups)  # numbers compare faster than names
    drawn = (resample(n, groups=group, rng=rng) for _ in range(resamples))
    return np.stack([np.bincount(cells, minlength=n) for cells in drawn]).astype(np.float64)


@overload
def codes(values: NDArray[np.generic]) -> Labels: ...
@overload
def codes(values: NDArray[np.generic] | None) -> Labels | None: ...
def codes(values: NDArray[np.generic] | None) -> Labels | None:
    """Names as integers from 0, in sorted order; None stays None."""
    if values is None:
        return None
    return np.unique(np.asarray(values), return_inverse=True)[1].ravel().astype(np.int64)


def assign_folds(
    labels: Labels, *, groups: Labels | None, most: int, rng: np.random.Generator
) -> Labels:
    """The fold of each cell (N,), at most ``most``; no group is cut.

    With two groups or more, each group is a fold where there are at most ``most``, else the
    groups are dealt out, largest first, to the fold with fewest cells. Without groups the cells
    of each class are dealt out in turn.
    """
    if groups is None or groups.max() == 0:
        return deal_cells(labels, int(np.clip(np.bincount(labels).max(), 2, most)), rng=rng)
    sizes = np.bincount(groups)
    count = min(most, len(sizes))
    filled = np.zeros(count)
    place = np.empty(len(sizes), dtype=np.int64)
    shuffled = rng.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        place[group] = filled.argmin()
        filled[place[group]] += sizes[group]
    return place[groups]


def deal_cells(labels: Labels, count: int, *, rng: np.random.Generator) -> Labels:
    """The part of each cell (N,), of ``count``: every class is dealt out in turn.

    A class starts where the last one ended, so that parts differ by one cell at most.
    """
    part, dealt = np.empty(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        cells = rng.permutation(np.flatnonzero(labels == label))
        part[cells] = (dealt + np.arange(len(cells))) % count
        dealt += len(cells)
    return part


def draw_by_class(labels: Labels, most: int, rng: np.random.Generator) -> Labels:
    """About ``most`` cells, in each class in proportion but no fewer than 10, in order.

    All where there are no more.
    """
    n = len(labels)
    if n <= most:
        return np.arange(n)
    chosen: list[Labels] = []
    for name in np.unique(labels):
        cells = np.flatnonzero(labels == name)
        wanted = min(len(cells), max(10, round(len(cells) * most / n)))
        chosen.append(rng.choice(cells, wanted, replace=False))
    return np.sort(np.concatenate(chosen))
