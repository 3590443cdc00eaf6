"""How well a classifier does in pairs of cells of two classes that are alike in a nuisance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.knowledge.values import as_values
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator
from cytolens.numerics.intervals import SHARE
from cytolens.numerics.resampling import Labels, resample_weights

Floats = NDArray[np.float64]

CALIPER = 0.1  # s.d. within classes, that the cells of a pair may differ by in a nuisance
CALIPER_OF_ALL = 0.2  # the same in what all that is measured off the cell says together
FEWEST_PARTNERS = 15  # cells of each of two classes that have one
LEAST_OF_A_SIGN = 0.02  # of the pairs, in which either class has more of the nuisance
MOST_PAIRED = 3000  # a seeded draw of more


def hold_fixed(
    nuisance: NDArray[Any],
    labels: Labels,
    answers: Floats,
    *,
    groups: Labels | None = None,
    alike: NDArray[Any] | None = None,
    resamples: int = 500,
    rng: Rng = None,
) -> tuple[Estimate, Estimate, float]:
    """How well a classifier does where ``nuisance`` (n,) cannot help it.

    Cells of two classes are paired where they are alike in it: values that differ by at most a
    tenth of the standard deviation within classes, the same category; and within two tenths in
    ``alike`` (n,), if given. ``answers`` (n, K) are the classifier's scores: a cell counts as right
    where its own class has more than that of its partner, half where they have the same. Pairs
    in which the one class has more of the nuisance weigh as much as those in which the other has,
    so that what is left of it within pairs cancels. A classifier that knows nothing else gives
    both cells of a pair the same answer and has 0.5.

    Gives the mean over pairs of classes of the balanced accuracy between the two, on all cells
    whose nuisance is known; the same within pairs of cells; and the share of cells with a partner.
    The second is NaN where fewer than 15 cells of each class have one, or where nearly always
    the same class has more of the nuisance: then the classes do not overlap in it, and it cannot
    be held fixed. Source: matching within calipers, Cochran & Rubin 1973, Sankhya A 35; Austin
    2011, Pharmaceutical Statistics 10.
    """
    draw = generator(rng)
    values, known, categories = as_values(nuisance)
    second, also, kinds = values, known, 1
    if alike is not None:
        second, also, kinds = as_values(alike)
    known = np.flatnonzero(known & also)
    if len(known) > MOST_PAIRED:
        known = np.sort(draw.choice(known, MOST_PAIRED, replace=False))
    y, answers = labels[known], answers[known]
    again = resample_weights(
        len(known), groups=None if groups is None else groups[known], resamples=resamples, rng=draw
    )
    drawn = np.concatenate([np.ones((1, len(known))), again])
    partner = np.zeros(len(known), dtype=bool)
    before: list[Floats] = []
    within: list[Floats] = []
    sizes: list[int] = []
    calipers = [
        0.0 if categories else CALIPER * _scale(values[known], y),
        0.0 if kinds else CALIPER_OF_ALL * _scale(second[known], y),
    ]
    if alike is None:
        calipers[1] = np.inf
    present = np.unique(y)
    for place, a in enumerate(present):
        for b in present[place + 1 :]:
            first, other = np.flatnonzero(y == a), np.flatnonzero(y == b)
            right = _right(answers, first, int(a), int(b)), _right(answers, other, int(b), int(a))
            weights = drawn[:, first], drawn[:, other]
            before.append((_weighted(right[0], weights[0]) + _weighted(right[1], weights[1])) / 2)
            more = values[known][other] - values[known][first][:, None]  # (n_a, n_b)
            apart = second[known][other] - second[known][first][:, None]
            pairs = (np.abs(more) <= calipers[0]) & (np.abs(apart) <= calipers[1])
            partner[first] |= pairs.any(axis=1)
            partner[other] |= pairs.any(axis=0)
            size = int(min(pairs.any(axis=1).sum(), pairs.any(axis=0).sum()))
            paired = _in_pairs(pairs, more, right, weights) if size >= FEWEST_PARTNERS else None
            if paired is not None:
                within.append(paired)
                sizes.append(size)
    nothing = np.full(len(drawn), np.nan)
    whole = np.mean(before, axis=0) if before else nothing
    fixed = np.average(within, axis=0, weights=sizes) if within else nothing
    of_all, in_pairs = (
        estimate_from(float(one[0]), one[1:], grouped=groups is not None, within=SHARE)
        for one in (whole, fixed)
    )
    return of_all, in_pairs, float(partner.mean()) if len(partner) else 0.0


def _in_pairs(
    pairs: NDArray[np.bool_], more: Floats, right: tuple[Floats, Floats],
    weights: tuple[Floats, Floats],
) -> Floats | None:  # fmt: skip
    """Share right (R,) over ``pairs`` (n_a, n_b), either sign of ``more`` counting half.

    None where nearly all pairs have the same sign.
    """
    halves: list[tuple[Floats, Floats]] = []
    for sign in (1, -1):
        chosen = (pairs * ((np.sign(more) == sign) + 0.5 * (more == 0))).astype(np.float64)
        met = weights[0] @ chosen  # (R, n_b)
        total = (met * weights[1]).sum(axis=1)
        good = (((weights[0] * right[0]) @ chosen) * weights[1]).sum(axis=1)
        good += (met * weights[1] * right[1]).sum(axis=1)
        halves.append((good / 2, total))
    sums = [total[0] for _, total in halves]
    if min(sums) < LEAST_OF_A_SIGN * sum(sums):
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        return (halves[0][0] / halves[0][1] + halves[1][0] / halves[1][1]) / 2


def _right(answers: Floats, cells: Labels, own: int, other: int) -> Floats:
    """1 where a cell is given its own class rather than the other, 0.5 where neither (n,)."""
    return 0.5 + 0.5 * np.sign(answers[cells, own] - answers[cells, other])


def _weighted(right: Floats, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ right / weights.sum(axis=1)


def _scale(values: Floats, labels: Labels) -> float:
    """The standard deviation within classes, from quartiles where these differ."""
    spread = np.zeros(len(values))
    for label in np.unique(labels):
        own = values[labels == label]
        low, high = np.percentile(own, [25, 75])
        spread[labels == label] = (high - low) / 1.349 or own.std()
    return float(spread.mean()) if len(spread) else 0.0
