"""The area under the ROC curve: the share of pairs of cells in which the one of a class is higher.

Ties count half, so that it is the Mann-Whitney statistic over the number of pairs (1947).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolens.numerics.estimates import mean_ranks
from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]


def area_under_curve(positive: ArrayLike, negative: ArrayLike) -> float:
    """Share of pairs, one of each, in which the positive (n,) is higher than the negative (m,).

    NaN without pairs.
    """
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    inside = np.arange(len(high) + len(low)) < len(high)
    return float(areas_by_column(np.concatenate([high, low])[:, None], inside[:, None])[0])


def areas_between(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Floats:
    """The area (M,) for each column of (n, M) against that of (m, M); loads nothing to do it.

    NaN without pairs.

    >>> areas_between(np.array([[1.0], [3.0]]), np.array([[0.0], [3.0]]))
    array([0.625])
    """
    areas = np.full(positive.shape[1], np.nan)
    for column in range(len(areas) if len(positive) and len(negative) else 0):
        low, high = np.sort(negative[:, column]), positive[:, column]
        sides = (np.searchsorted(low, high, side).mean() for side in ("left", "right"))
        areas[column] = sum(sides) / (2 * len(low))
    return areas


def areas_by_column(scores: Floats, inside: NDArray[np.bool_]) -> Floats:
    """The area (M,) for each column of (n, M), of cells ``inside`` against the others."""
    n = inside.sum(axis=0)
    sums = (mean_ranks(scores, axis=0) * inside).sum(axis=0)
    return areas_from_ranks(sums, n, len(scores) - n)


def areas_from_ranks(sums: Floats, n: NDArray[np.number], m: NDArray[np.number]) -> Floats:
    """The area from the ``sums`` of the ranks of ``n`` cells among these and ``m`` others.

    The shapes broadcast. NaN without pairs.
    """
    pairs = n * m
    return np.divide(
        sums - n * (n + 1) / 2, pairs, out=np.full(np.shape(pairs), np.nan), where=pairs > 0
    )


def weighted_areas(scores: Floats, inside: NDArray[np.bool_], weights: Floats) -> Floats:
    """The area of ``scores`` (n,) for each row of ``weights`` (R, n), of cells: (R,).

    Cells that lie ``inside`` (n,) against the others. NaN without pairs.
    """
    order = np.argsort(scores, kind="stable")
    ordered, within, ranked = weights[:, order], inside[order], scores[order]
    below = np.zeros((len(weights), len(scores) + 1))
    np.cumsum(np.where(within, 0, ordered), axis=1, out=below[:, 1:])
    first = np.searchsorted(ranked, ranked[within], side="left")
    after = np.searchsorted(ranked, ranked[within], side="right")
    inner = ordered[:, within]
    lower = (below[:, first] + below[:, after]) / 2  # of the others, ties counting half
    with np.errstate(invalid="ignore", divide="ignore"):
        return (inner * lower).sum(axis=1) / (inner.sum(axis=1) * below[:, -1])


def area_error(inside: NDArray[np.bool_], scores: Floats, groups: Labels | None) -> float:
    """Standard error of the area of ``scores`` (n,) for cells ``inside`` (n,) against the others.

    By DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44; over ``groups`` (n,) where there are
    several, by Obuchowski 1997, Biometrics 53.
    """
    n, m = int(inside.sum()), int((~inside).sum())
    ranks = mean_ranks(scores)
    share = np.empty(len(scores))  # of the other side that a cell is above, or below
    share[inside] = (ranks[inside] - mean_ranks(scores[inside])) / m
    share[~inside] = 1 - (ranks[~inside] - mean_ranks(scores[~inside])) / n
    pull = (share - share[inside].mean()) / np.where(inside, n, m)
    if groups is not None and len(np.unique(groups)) > 1:
        pull = np.bincount(np.unique(groups, return_inverse=True)[1], weights=pull)
    return float(np.sqrt(len(pull) / (len(pull) - 1) * (pull**2).sum()))
