"""Which cells train, validate and test: groups stay whole, classes keep their shares."""

from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.resampling import codes, deal_cells
from cytolens.records.cells import Cells, Split

Indices = NDArray[np.int64]
CANDIDATES = 2000  # choices of groups that are compared


def split_cells(
    cells: Cells,
    *,
    validation: float = 0.15,
    test: float = 0.2,
    together: Indices | None = None,
    rng: Rng = None,
) -> Split:
    """Divide the cells into training, validation and test.

    Without groups: at random within each class, so that every part has the whole's class shares.
    With groups: whole groups go to a part, at least one each; of the possible choices that one is
    taken whose parts come closest to the wanted sizes and to the whole's class shares. One single
    group is the same as none: what is measured then speaks of that group alone.

    ``together`` (P, 2) are pairs of cells that stay in one part, such as crops of the same cell;
    groups that such a pair connects count as one.

    ``validation`` and ``test`` are shares of the cells (of the groups where there are any).
    Raises SettingError where no division gives every class to every part, as with two groups.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise SettingError(
            f"validation {validation} and test {test} must be above 0 and together below 1"
        )
    draw = generator(rng)
    everything = np.arange(len(cells))
    units = None
    if together is not None and len(together):
        if _group_codes(cells) is None:
            units = connected(len(cells), together)
        else:
            cells = joined(cells, together)
    groups = _group_codes(cells)
    rest, held_out = _hold_out(cells, everything, groups, units, test, 2, "test", draw)
    share = validation / (1 - test)
    train, valid = _hold_out(cells, rest, groups, units, share, 1, "validation", draw)
    return Split(train=train, validation=valid, test=held_out)


def split_held_out(cells: Cells, trained_on: Indices, *, rng: Rng = None) -> Split:
    """A split whose training cells are ``trained_on``; of the others a third validates.

    Groups stay whole where the others have two or more. Raises SettingError where a class has
    fewer than two of the other cells.
    """
    rest = np.setdiff1d(np.arange(len(cells)), trained_on)
    counts = np.bincount(cells.labels[rest], minlength=len(cells.class_names))
    if counts.min() < 2:
        name = cells.class_names[int(counts.argmin())]
        raise SettingError(
            f"{counts.min()} held-out cells are {name}; every class needs at least two cells that "
            "the network was not trained on"
        )
    groups = _group_codes(cells)
    if groups is not None and len(np.unique(groups[rest])) < 2:
        groups = None
    test, valid = _hold_out(cells, rest, groups, None, 1 / 3, 1, "validation", generator(rng))
    return Split(train=np.sort(trained_on), validation=valid, test=test)


def connected(n: int, pairs: Indices) -> Indices:
    """A number for each of ``n`` cells (n,), the same for those that ``pairs`` (P, 2) connect."""
    from scipy.sparse import coo_array  # slow to load
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)


def joined(cells: Cells, pairs: Indices) -> Cells:
    """The cells in groups that ``pairs`` (P, 2) of them do not connect.

    Groups that are connected become one, "donor 1 + donor 2". Without groups each cell is one,
    with those that it is connected to.
    """
    if not len(pairs):
        return cells
    if cells.groups is None:
        return replace(cells, groups=connected(len(cells), pairs).astype(np.str_))
    names, group = np.unique(cells.groups, return_inverse=True)
    whole = connected(len(names), group.reshape(-1)[pairs])
    named = [" + ".join(names[whole == one].tolist()) for one in range(int(whole.max()) + 1)]
    return replace(cells, groups=np.array(named, dtype=np.str_)[whole[group.reshape(-1)]])


def held_out_parts(cells: Cells, folds: str | int, *, rng: Rng = None) -> dict[str, Indices]:
    """Held-out cells by fold name: each group once ("group"), or ``folds`` equal parts.

    A number of folds without groups is stratified by class; with groups, whole groups are dealt
    out so that the folds come close to the whole's size and class shares.
    """
    groups = _group_codes(cells)
    if folds == "group":
        if groups is None or cells.groups is None:
            raise SettingError(
                "folds by group need at least two groups; name them when reading the cells, "
                "or give a number of folds"
            )
        return {str(name): np.flatnonzero(cells.groups == name) for name in np.unique(cells.groups)}
    count = folds if isinstance(folds, int) else int(folds) if str(folds).isdigit() else 0
    available = len(cells) if groups is None else int(groups.max()) + 1
    if not 2 <= count <= available:
        raise SettingError(f"folds '{folds}': give 'group' or a number from 2 to {available}")
    draw = generator(rng)
    part = (
        deal_cells(cells.labels, count, rng=draw)
        if groups is None
        else _deal_groups(cells, groups, count, draw)
    )
    return {f"fold {k + 1}": np.flatnonzero(part == k) for k in range(count)}


def describe_split(cells: Cells, split: Split) -> str:
    """One line for the report: sizes, groups and class shares of the parts."""
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    counts = ", ".join(f"{len(index)} {name}" for name, index in parts.items())
    if cells.groups is None:
        return f"{counts} cells, drawn at random within each class"
    noun = cells.group_name or "group"
    if len(np.unique(cells.groups)) == 1:
        return f"{counts} cells of one {noun}: the measures speak of it alone"
    held = {
        name: ", ".join(map(str, np.unique(cells.groups[index])))
        for name, index in parts.items()
        if name != "training"
    }
    return (
        f"{counts} cells; no {noun} is in two parts (validation: {held['validation']}; "
        f"test: {held['test']}), chosen so that sizes and class shares come close to the whole's"
    )


def _group_codes(cells: Cells) -> Indices | None:
    """Groups as numbers; None where there are fewer than two."""
    group = codes(cells.groups)
    return group if group is not None and group.max(initial=0) > 0 else None


def _hold_out(
    cells: Cells,
    among: Indices,
    groups: Indices | None,
    units: Indices | None,
    share: float,
    leave: int,
    part: str,
    draw: np.random.Generator,
) -> tuple[Indices, Indices]:
    """(rest, held out); at least ``leave`` groups stay in the rest."""
    if groups is None:
        held = _stratified(cells, among, share, part, draw)
        if units is not None:  # a unit goes where the first of its cells was dealt
            _, first, unit = np.unique(units[among], return_index=True, return_inverse=True)
            held = among[np.isin(among[first], held)[unit.reshape(-1)]]
    else:
        held = _whole_groups(cells, among, groups, share, leave, part, draw)
    return np.setdiff1d(among, held), np.sort(held)


def _stratified(
    cells: Cells, among: Indices, share: float, part: str, draw: np.random.Generator
) -> Indices:
    chosen: list[Indices] = []
    for code, name in enumerate(cells.class_names):
        members = draw.permutation(among[cells.labels[among] == code])
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise SettingError(
                f"class '{name}' has {len(members)} cells left when {part} cells are drawn; "
                "give more cells, or leave the class out"
            )
        chosen.append(members[:count])
    return np.concatenate(chosen)


def _whole_groups(
    cells: Cells,
    among: Indices,
    groups: Indices,
    share: float,
    leave: int,
    part: str,
    draw: np.random.Generator,
) -> Indices:
    present = draw.permutation(np.unique(groups[among]))
    n_classes = len(cells.class_names)
    table = np.array(  # (group, class): number of cells
        [np.bincount(cells.labels[among[groups[among] == g]], minlength=n_classes) for g in present]
    )
    noun = cells.group_name or "group"
    if len(present) <= leave:
        raise SettingError(
            f"{len(np.unique(groups))} groups ({noun}) cannot fill training, validation and test "
            "without cutting one; give at least three, or read the cells with group='none'"
        )
    count = min(max(1, round(share * len(present))), len(present) - leave)
    best = None
    while best is None and count <= len(present) - leave:  # groups of one class: more are needed
        best = _best_groups(table, count, share, leave, draw)
        count += 1
    if best is None:
        raise SettingError(
            f"no choice of whole groups ({noun}) gives every class to both the {part} cells and "
            "the rest; leave the rare class out, or read the cells with group='none'"
        )
    return among[np.isin(groups[among], present[list(best)])]


def _best_groups(
    table: Indices, count: int, share: float, leave: int, draw: np.random.Generator
) -> tuple[int, ...] | None:
    """Of the choices of ``count`` groups the one nearest to the share and to the whole's classes.

    ``table`` (group, class) are numbers of cells. None where no choice gives every class to both
    parts.
    """
    whole = table.sum(0)
    best, least = None, np.inf
    for choice in _choices(len(table), count, draw):
        held = table[list(choice)].sum(0)
        # The rest must still be able to give every class to each of its `leave` parts.
        spread = (np.delete(table, list(choice), axis=0) > 0).sum(0)
        if (held == 0).any() or (spread < leave).any():
            continue
        shares, of_rest = held / held.sum(), (whole - held) / (whole - held).sum()
        wanted = whole / whole.sum()
        cost = abs(held.sum() / whole.sum() - share) + np.abs(shares - wanted).sum()
        cost += np.abs(of_rest - wanted).sum()
        if cost < least - 1e-12:
            best, least = choice, cost
    return best


def _choices(n: int, count: int, draw: np.random.Generator) -> list[tuple[int, ...]]:
    if comb(n, count) <= CANDIDATES:
        return list(combinations(range(n), count))
    return [tuple(draw.choice(n, count, replace=False)) for _ in range(CANDIDATES)]


def _deal_groups(cells: Cells, groups: Indices, count: int, draw: np.random.Generator) -> Indices:
    """Fold of each cell (N,): largest group first, to the fold where it evens out the classes."""
    n_groups, n_classes = int(groups.max()) + 1, len(cells.class_names)
    table = np.zeros((n_groups, n_classes))
    np.add.at(table, (groups, cells.labels), 1)
    table /= table.sum(0)  # each class counts alike
    dealt, fold_of = np.zeros((count, n_classes)), np.empty(n_groups, dtype=np.int64)
    order = draw.permutation(n_groups)
    waiting = count
    for place, group in enumerate(order[np.argsort(-table[order].sum(1), kind="stable")]):
        candidates = np.arange(count)
        if n_groups - place <= waiting:  # as many groups left as empty folds
            candidates = np.flatnonzero(dealt.sum(1) == 0)
        cost = [
            np.square(dealt + table[group] * (np.arange(count) == k)[:, None]).sum()
            for k in candidates
        ]
        fold = int(candidates[int(np.argmin(cost))])
        waiting -= int(dealt[fold].sum() == 0)
        dealt[fold] += table[group]
        fold_of[group] = fold
    return fold_of[groups]
