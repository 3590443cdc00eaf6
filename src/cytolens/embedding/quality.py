"""How much of a layer's neighbourhoods and distances a map has kept."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import spearman
from cytolens.numerics.features import is_constant

QUERIES = 1000
"""Cells asked for their neighbours; the standard error of recall@10 is then about 0.007."""

PAIRS = 10_000
"""Pairs of cells behind the correlation of distances; its standard error is at most 0.01."""

NEAR, WIDE = 10, 100
_BLOCK = 4_000_000  # distances held at once


def measure_quality(
    features: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    neighbours: int = NEAR,
    queries: int = QUERIES,
    rng: np.random.Generator,
) -> dict[str, float]:
    """What a map (N, 2) of ``features`` (N, F) has kept; 1 is all, and more is better.

    - ``recall_10``, ``recall_100``: share of a cell's 10 (or 100) nearest neighbours in the
      features that are among its 10 (100) nearest on the map. ``recall_100`` needs 201 cells;
      with fewer than 21 ``recall_10`` is over half of the other cells.
    - ``trustworthiness``: 1 where neighbours on the map are neighbours in the features, less by
      how far down the list of neighbours they come; ``continuity``: the same with the two
      exchanged, less where neighbours were torn apart. Source: Venna & Kaski 2006, Neural
      Networks 19, equations 1 and 2, for 10 neighbours.
    - ``distance_correlation``: Spearman's, of distances in the features and on the map, over
      random pairs of cells. Source: Kobak & Berens 2019, Nature Communications 10, "CPD".

    The first four are against all cells and exact, averaged over at most ``queries`` cells drawn
    at random. Cells at the same distance share the mean of their ranks, so duplicates gain
    nothing. Constant features have no neighbourhoods: an empty dict.
    """
    n = len(features)
    near = min(neighbours, (n - 1) // 2)
    if near < 1 or is_constant(features):
        return {}
    sizes = [near, WIDE] if (n - 1) // 2 >= WIDE else [near]
    asked = np.arange(n) if n <= queries else np.sort(rng.choice(n, queries, replace=False))
    places = np.ascontiguousarray(coordinates, dtype=np.float32)
    on_map = _nearest_on_map(places, asked, sizes[-1])  # (q, largest size)
    x, y = np.ascontiguousarray(places.T)
    centred = features - features.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    kept, false, torn = np.zeros(len(sizes)), 0, 0
    step = max(1, _BLOCK // n)
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        chosen = on_map[start : start + step]
        own = np.arange(len(rows)), rows
        apart = squares - 2 * (centred[rows] @ centred.T)  # minus the cell's own square
        apart[own] = -np.inf
        relatives = np.argpartition(apart, near, axis=1)[:, : near + 1]
        relatives = relatives[relatives != rows[:, None]].reshape(-1, near)
        picked = np.take_along_axis(apart, chosen, axis=1)
        apart.sort(axis=1)
        for which, size in enumerate(sizes):
            kept[which] += _shared(apart, picked[:, :size], size)
        false += _excess(apart, picked[:, :near], near)
        drawn = (x - x[rows, None]) ** 2 + (y - y[rows, None]) ** 2
        drawn[own] = -np.inf
        picked = np.take_along_axis(drawn, relatives, axis=1)
        drawn.sort(axis=1)
        torn += _excess(drawn, picked, near)
    worst = len(asked) * near * (2 * n - 3 * near - 1) / 2
    shares = kept / (len(asked) * np.array(sizes))
    quality = {f"recall_{neighbours}": float(shares[0])}
    if len(sizes) > 1:
        quality[f"recall_{WIDE}"] = float(shares[1])
    quality |= {
        "trustworthiness": float(1 - false / worst),
        "continuity": float(1 - torn / worst),
    }
    return quality | _distance_correlation(features, places, rng)


def _nearest_on_map(
    places: NDArray[np.float32], asked: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """The ``k`` nearest other cells of each cell ``asked`` (q, k), nearest first."""
    from scipy.spatial import KDTree  # slow to load

    _, found = KDTree(places).query(places[asked], k + 1)
    found = np.asarray(found, dtype=np.int64)
    own = found == asked[:, None]
    own[~own.any(axis=1), -1] = True  # hidden behind others at its place: drop the farthest
    return found[~own].reshape(len(asked), k)


def _shared(ordered: NDArray[np.float32], picked: NDArray[np.float32], size: int) -> float:
    """How many cells at ``picked`` distances (q, size) are among the ``size`` nearest, in all.

    ``ordered`` (q, N) are the distances to all cells, ascending, the cell itself first. Cells at
    the limit count by the chance that they are among the nearest.
    """
    limits = ordered[:, size, None]
    below, upto = _counts(ordered, limits)
    within, tied = (picked < limits).sum(axis=1), (picked == limits).sum(axis=1)
    return float((within + tied * (size + 1 - below[:, 0]) / (upto - below)[:, 0]).sum())


def _excess(ordered: NDArray[np.float32], picked: NDArray[np.float32], near: int) -> int:
    """By how much the ranks (1 = nearest) of cells at ``picked`` (q, k) distances exceed ``near``.

    ``ordered`` (q, N) are the distances to all cells, ascending; the cell itself has rank 0.
    """
    below, upto = _counts(ordered, picked)
    excess = np.maximum((below + upto - 1) // 2 - near, 0)
    return int(excess[upto - 1 > near].sum())


def _counts(
    ordered: NDArray[np.float32], limits: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of each row of ``ordered`` (q, N) are below ``limits`` (q, k), and at most these."""
    below, upto = np.empty(limits.shape, np.int64), np.empty(limits.shape, np.int64)
    for row, (distances, some) in enumerate(zip(ordered, limits, strict=True)):
        below[row], upto[row] = distances.searchsorted(some), distances.searchsorted(some, "right")
    return below, upto


def _distance_correlation(
    features: NDArray[np.float32], places: NDArray[np.float32], rng: np.random.Generator
) -> dict[str, float]:
    one = rng.integers(0, len(features), PAIRS)
    other = (one + rng.integers(1, len(features), PAIRS)) % len(features)
    apart = np.empty((2, PAIRS))
    step = max(1, _BLOCK // features.shape[1])
    for start in range(0, PAIRS, step):
        pairs = slice(start, start + step)
        for space, rows in enumerate((features, places)):
            between = rows[one[pairs]] - rows[other[pairs]]
            apart[space, pairs] = np.einsum("ij,ij->i", between, between)
    found = float(spearman(apart[:1], apart[1:])[0])
    return {"distance_correlation": found} if np.isfinite(found) else {}
