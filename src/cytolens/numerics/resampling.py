"""Cells drawn again and labels permuted: counts instead of indices, whole groups respected."""

from typing import overload

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
MOST_PARTS = 100
"""Parts that more groups are dealt into before they are left out one by one: an interval from a
hundred is as good as one from a thousand (delete-a-group jackknife, Kott 2001)."""


def resampled_counts(
    categories: Labels,
    n_categories: int,
    *,
    groups: Labels | None = None,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """How often each category comes up when the cells are drawn again: (R, category).

    A statistic that depends on the cells only through such counts (a table, a rate per class)
    can be drawn from them: drawing N cells with replacement is one multinomial draw. With
    ``groups`` (N,) the rows are the counts without each group in turn, as `intervals` needs them;
    a single group stays.
    """
    whole = np.bincount(categories, minlength=n_categories)
    if groups is None:
        present = np.flatnonzero(whole)
        counts = np.zeros((resamples, n_categories), dtype=np.int64)
        shares = whole[present] / whole.sum()
        counts[:, present] = rng.multinomial(len(categories), shares, size=resamples)
        return counts
    parts = parts_of(groups, rng=rng)
    table = np.zeros((int(parts.max(initial=-1)) + 1, n_categories), dtype=np.int64)
    np.add.at(table, (parts, categories), 1)
    return whole - table if len(table) > 1 else table


def drawn_evenly(labels: Labels, n: int, rng: np.random.Generator) -> Labels:
    """At most ``n`` cells, in order, as evenly from the ``labels`` (N,) as their numbers allow.

    >>> drawn_evenly(np.array([0, 0, 0, 0, 1]), 3, np.random.default_rng(0)).tolist()
    [2, 3, 4]
    """
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # of a cell within its class, in random order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((order, rank))[:n])


def are_several(groups: NDArray[np.generic] | None) -> bool:
    """Whether there are groups to hold out whole: two or more."""
    return groups is not None and len(np.unique(groups)) > 1


def parts_of(groups: NDArray[np.generic], *, rng: np.random.Generator) -> Labels:
    """The part (N,) that each cell is left out with: its group, or one of a hundred parts."""
    part = codes(groups)
    count = int(part.max(initial=-1)) + 1
    return part if count <= MOST_PARTS else rng.permutation(np.arange(count) % MOST_PARTS)[part]


def left_in(parts: Labels, out: Labels) -> NDArray[np.float64]:
    """1 for each cell that is there without each of the parts ``out`` (R,), else 0: (R, N).

    Without the only part nothing would be left: it stays.
    """
    alone = parts.max(initial=-1) < 1
    return ((parts != out[:, None]) | alone).astype(np.float64)


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
    """How often each of ``n`` cells is there when cells are drawn again: (R, n).

    In bootstrap resamples of the cells; with ``groups`` (n,), without each group in turn.
    """
    if groups is None:
        drawn = (rng.integers(0, n, size=n) for _ in range(resamples))
        return np.stack([np.bincount(cells, minlength=n) for cells in drawn]).astype(np.float64)
    parts = parts_of(groups, rng=rng)
    return left_in(parts, np.arange(parts.max(initial=-1) + 1))


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
