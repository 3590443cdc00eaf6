"""What else a network knows: how well properties of the cells can be read from every layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.knowledge.values import as_values
from cytolens.numerics.auc import areas_by_column, weighted_areas
from cytolens.numerics.estimates import (
    Estimate,
    Rng,
    estimate_from,
    generator,
    null_limit,
)
from cytolens.numerics.features import checked_features
from cytolens.numerics.intervals import AT_MOST_ONE, SHARE
from cytolens.numerics.probe import probe_features
from cytolens.numerics.resampling import (
    Labels,
    are_several,
    assign_folds,
    codes,
    permuted_labels,
    resample_weights,
)
from cytolens.numerics.ridge import held_out_fits
from cytolens.numerics.threads import limited_threads
from cytolens.records.cells import Progress
from cytolens.records.knowledge import Knowledge

Floats = NDArray[np.float64]

MOST_CELLS = 5000  # a seeded draw of more
MOST_FOLDS = 6
FEWEST_CELLS = 20  # with a known value


def measure_knowledge(
    features: Mapping[str, Any],
    properties: Mapping[str, NDArray[Any]],
    *,
    groups: NDArray[np.generic] | None = None,
    untrained: Mapping[str, Any] | None = None,
    within: NDArray[np.generic] | None = None,
    resamples: int = 300,
    permutations: int = 50,
    folds: int = 5,
    rng: Rng = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Knowledge:
    """How well each of ``properties`` (N,) can be read from ``features`` (N, F), by layer.

    A linear probe with a ridge penalty chosen in the training folds (`held_out_fits`) answers for
    held-out cells:

    - of a number, R² = 1 - Σ(y - ŷ)² / Σ(y - ȳ)², ȳ being the mean of the training folds; 0 or
      below where nothing can be read. Values beyond Tukey's outer fences (three interquartile
      ranges outside of the quartiles, Tukey 1977) are set to the fence.
    - of a category (text, bool, or two values), the area under the ROC curve; with more than two
      values the mean of one against the rest. Scores are taken about the midpoint between the
      means of a category and of the rest, as in discriminant analysis with equal priors, so that
      folds of unlike composition can be ranked together.

    Folds hold out whole ``groups`` (N,), a group a fold up to 6. A category with a value that
    occurs in a single group (the group itself, or what depends on it) cannot be learnt elsewhere:
    for it cells are held out, and ``Knowledge.by_cells`` names it. Each number has a 95 %
    interval over cells, or over groups, of the held-out answers; ``null``,
    the 95 % limit under permutation within or among groups (`permuted_labels`); and ``untrained``
    where features of the network before training are given. ``Knowledge.gains`` are then the
    differences between the two, paired: on the same draws of the cells or groups. With ``within``
    (N,), e.g. the class, values are permuted among the cells that share it: what goes beyond
    ``null`` is then known beyond what the class alone says.

    NaN, infinite, empty and masked values leave a cell out of that property alone. A property
    that is constant, or known for fewer than 20 cells, is named in ``left_out`` with the reason.
    All properties and permutations share one eigendecomposition per fold. At most 5,000 cells
    are used. Raises InputError where lengths differ or features are NaN or infinite.

    >>> features = np.random.default_rng(0).normal(size=(80, 4))
    >>> found = measure_knowledge({"conv1": features}, {"area": features[:, 0]}, rng=0)
    >>> print(found.layers["conv1"]["area"], found.measures["area"])
    1.000 [1.000, 1.000] r2
    """
    draw = generator(rng)
    n = len(next(iter(features.values()))) if features else 0
    for name, column in (*properties.items(), *features.items(), *(untrained or {}).items()):
        if len(column) != n:
            raise InputError(f"{name}: {len(column)} values for {n} cells; lengths must agree")
    group = codes(groups)
    if group is not None and len(group) != n:
        raise InputError(f"groups: {len(group)} values for {n} cells; lengths must agree")
    alone = group is not None and not are_several(group)  # the only group: none to hold out
    group = None if alone else group
    chosen = np.sort(draw.permutation(n)[:MOST_CELLS])
    group = None if group is None else group[chosen]
    targets, left_out = _targets(
        {name: np.asarray(column)[chosen] for name, column in properties.items()}, group,
        within=None if within is None else codes(np.asarray(within)[chosen]),
        permutations=permutations, draw=draw,
    )  # fmt: skip
    blocks = _blocks(targets, group, alone, folds, resamples, draw)
    found: dict[str, dict[str, Estimate]] = {}
    gains: dict[str, dict[str, Estimate]] = {}
    with limited_threads(threads, cells=len(chosen)):
        for done, (layer, given) in enumerate(features.items()):
            if progress is not None:
                progress(done, len(features), layer)
            rows = checked_features(np.asarray(given)[chosen], name=layer)
            before = None
            if untrained is not None and layer in untrained:
                before = checked_features(np.asarray(untrained[layer])[chosen], name=layer)
            read: dict[str, Estimate] = {}
            gained: dict[str, Estimate] = {}
            for block in blocks:
                of_block, ahead = _read(rows, before, block)
                read |= of_block
                gained |= ahead
            found[layer] = {target.name: read[target.name] for target in targets}
            if before is not None:
                gains[layer] = {target.name: gained[target.name] for target in targets}
    return Knowledge(
        layers=found,
        measures={target.name: "auc" if target.values else "r2" for target in targets},
        counts={target.name: int(target.known.sum()) for target in targets},
        by_cells=tuple(t.name for t in targets if t.by_cells and group is not None),
        left_out=left_out,
        gains=gains,
    )


@dataclass(frozen=True)
class _Target:
    """A property of the cells that have it, and what it would be if it said nothing."""

    name: str
    known: NDArray[np.bool_]  # (N,)
    columns: Floats  # (n, 1 + P): as it is, permuted; codes where it is a category
    values: int  # number of categories; 0 for a number
    by_cells: bool  # folds cut through groups


@dataclass(frozen=True)
class _Block:
    """Targets known for the same cells and judged in the same folds."""

    known: NDArray[np.bool_]  # (N,)
    folds: Labels  # (n,)
    grouped: bool  # whether folds are of whole groups
    over_groups: bool  # whether intervals are
    drawn: Floats  # (R, n), how often each cell is there once cells are drawn again
    targets: tuple[_Target, ...]


def _targets(
    properties: Mapping[str, NDArray[Any]],
    groups: Labels | None,
    *,
    within: Labels | None,
    permutations: int,
    draw: np.random.Generator,
) -> tuple[list[_Target], dict[str, str]]:
    targets: list[_Target] = []
    left_out: dict[str, str] = {}
    for name, column in properties.items():
        values, known, categories = as_values(column)
        of_known = values[known]
        if known.sum() < FEWEST_CELLS:
            number = np.asarray(column).dtype.kind in "biuf"
            why = "known for" if number else "values that five cells share are known for"
            left_out[name] = f"{why} {int(known.sum())} cells only"
            continue
        if len(np.unique(of_known)) < 2:
            left_out[name] = "the same for all cells"
            continue
        group = None if groups is None else groups[known]
        by_cells = group is None or (categories > 0 and _nested(of_known, group))
        order, inverse = np.unique(of_known, return_inverse=True)
        labels = inverse.ravel().astype(np.int64)
        if within is None:
            exchanged = None if by_cells else group
            permuted = permuted_labels(
                labels, groups=exchanged, permutations=permutations, rng=draw
            )
        else:
            strata = _strata(labels, within[known], group)
            permuted = np.stack([_shuffled(labels, strata, draw) for _ in range(permutations)])
        columns = order[np.concatenate([inverse.reshape(1, -1), permuted])].T
        targets.append(_Target(name, known, columns, categories, by_cells))
    return targets, left_out


def _strata(labels: Labels, within: Labels, groups: Labels | None) -> Labels:
    """``within``, cut up by group where most cells then still have others to exchange with."""
    if groups is None:
        return within
    finer = within * (int(groups.max()) + 1) + groups
    mixed = sum(
        int((finer == one).sum())
        for one in np.unique(finer)
        if len(np.unique(labels[finer == one])) > 1
    )
    return finer if 2 * mixed > len(labels) else within


def _shuffled(labels: Labels, strata: Labels, draw: np.random.Generator) -> Labels:
    shuffled = np.empty_like(labels)
    place = np.argsort(strata, kind="stable")
    shuffled[place] = labels[np.lexsort((draw.random(len(labels)), strata))]
    return shuffled


def _nested(values: Floats, groups: Labels) -> bool:
    """Whether some value occurs in a single group only."""
    return any(len(np.unique(groups[values == value])) < 2 for value in np.unique(values))


def _blocks(
    targets: list[_Target],
    groups: Labels | None,
    alone: bool,
    folds: int,
    resamples: int,
    draw: np.random.Generator,
) -> list[_Block]:
    """Targets by the cells that have them and by how these are held out.

    A category judged by cells has folds of its own, in which its values are dealt out evenly.
    """
    together: dict[tuple[bytes, str], list[_Target]] = {}
    for target in targets:
        own = target.name if target.by_cells and target.values else ""
        together.setdefault((target.known.tobytes(), own), []).append(target)
    blocks: list[_Block] = []
    for shared in together.values():
        first = shared[0]
        n = int(first.known.sum())
        group = None if first.by_cells or groups is None else groups[first.known]
        if group is not None:
            group = codes(group)
        units = np.zeros(n, dtype=np.int64) if alone else group
        group = group if are_several(group) else None
        even = first.columns[:, 0].astype(np.int64) if first.values else np.zeros(n, dtype=np.int64)
        most = folds if group is None else MOST_FOLDS
        drawn = resample_weights(n, groups=units, resamples=resamples, rng=draw)
        blocks.append(
            _Block(
                first.known,
                assign_folds(even, groups=group, most=most, rng=draw),
                group is not None,
                units is not None,
                drawn,
                tuple(shared),
            )
        )
    return blocks


def _read(
    features: NDArray[np.float32], untrained: NDArray[np.float32] | None, block: _Block
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """The estimates of a block's targets at one layer, and how far they are above the untrained."""
    answers = _answers(features[block.known], block, nulls=True)
    before = None if untrained is None else _answers(untrained[block.known], block, nulls=False)
    found: dict[str, Estimate] = {}
    gains: dict[str, Estimate] = {}
    for place, target in enumerate(block.targets):
        judge = _judge_category if target.values else _judge_number
        value, nulls, resampled = judge(answers[place], target, block)
        start = None
        if before is not None:
            start, _, drawn = judge(before[place], target, block)
            gains[target.name] = estimate_from(
                value - start, resampled - drawn, grouped=block.over_groups
            )
        found[target.name] = estimate_from(
            value, resampled,
            grouped=block.over_groups, within=SHARE if target.values else AT_MOST_ONE,
            null=null_limit(nulls), untrained=start,
        )  # fmt: skip
    return found, gains


def _answers(features: NDArray[np.float32], block: _Block, *, nulls: bool) -> list[Floats]:
    """Held-out answers (n, 1 or 1 + P, values or 1) to each target of a block.

    Of a number the error left and the deviation from the training mean, as (n, …, 2).
    """
    parts: list[Floats] = []
    for target in block.targets:
        columns = target.columns if nulls else target.columns[:, :1]
        if target.values:
            of_value = columns[:, :, None] == np.arange(target.values)
            columns = of_value.astype(np.float64).reshape(len(columns), -1)
        parts.append(columns)
    edges = np.cumsum([0, *(part.shape[1] for part in parts)])
    stacked = np.concatenate(parts, axis=1)
    as_it_is = np.zeros(stacked.shape[1], dtype=bool)
    for target, start in zip(block.targets, edges):
        as_it_is[start : start + max(target.values, 1)] = True
    fits, means, powers = held_out_fits(
        probe_features(features), stacked, block.folds, blocked=as_it_is & block.grouped
    )
    answers: list[Floats] = []
    for target, start, stop in zip(block.targets, edges, edges[1:]):
        some = slice(start, stop)
        if target.values:
            shares = np.clip(means[:, some], 1e-12, 1 - 1e-12)
            # The fits of a value's cells sum up to n · powers, those of the rest to minus that.
            middle = powers[:, some] / 2 * (1 / shares - 1 / (1 - shares))
            answers.append((fits[:, some] - middle).reshape(len(fits), -1, target.values))
        else:
            off = stacked[:, some] - means[:, some]
            answers.append(np.stack([(off - fits[:, some]) ** 2, off**2], axis=2))
    return answers


def _judge_number(answers: Floats, target: _Target, block: _Block) -> tuple[float, Floats, Floats]:
    """R², the same under permutation (P,), and over resamples (R,)."""
    sums = answers.sum(axis=0)  # (1 + P, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = 1 - sums[:, 0] / sums[:, 1]
        drawn = block.drawn @ answers[:, 0]
        resampled = 1 - drawn[:, 0] / drawn[:, 1]
    return float(values[0]), values[1:], resampled


def _judge_category(
    answers: Floats, target: _Target, block: _Block
) -> tuple[float, Floats, Floats]:
    """The mean AUC, the same under permutation (P,), and over resamples (R,)."""
    used = range(1 if target.values == 2 else 0, target.values)
    tried = answers.shape[1]
    values, resampled = np.zeros(tried), np.zeros(len(block.drawn))
    for value in used:
        scores = answers[:, :, value]
        inside = target.columns[:, :tried] == value
        values += areas_by_column(scores, inside) / len(used)
        resampled += weighted_areas(scores[:, 0], inside[:, 0], block.drawn) / len(used)
    return float(values[0]), values[1:], resampled
