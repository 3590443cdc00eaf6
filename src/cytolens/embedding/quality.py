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
        apart = squares - 2 * (centred[rows] @ centred.T)  # minus the cell's own square
        apart[np.arange(len(rows)), rows] = -np.inf
        closest = np.partition(apart, sizes[-1], axis=1)[:, : sizes[-1] + 1]
        closest.sort(axis=1)
        for row, (cell, limits) in enumerate(zip(rows, closest, strict=True)):
            chosen = on_map[start + row]
            distances = apart[row]
            for which, size in enumerate(sizes):
                kept[which] += _shared(distances, chosen[:size], limits[size])
            false += _excess(distances, distances[chosen[:near]], near)
            relatives = np.flatnonzero(distances <= limits[near])
            relatives = relatives[np.argsort(distances[relatives], kind="stable")][1 : near + 1]
            drawn = (x - x[cell]) ** 2 + (y - y[cell]) ** 2
            torn += _excess(drawn, drawn[relatives], near)
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


def _shared(distances: NDArray[np.float32], chosen: NDArray[np.int64], limit: np.floating) -> float:
    """How many ``chosen`` (k,) cells are among the k nearest, whose farthest is at ``limit``.

    Cells at the limit count by the chance that they are among the k.
    """
    picked = distances[chosen]
    tied = int((picked == limit).sum())
    within = int((picked < limit).sum())
    if tied:
        free = len(chosen) + 1 - np.count_nonzero(distances < limit)  # the cell itself is nearest
        return within + tied * free / np.count_nonzero(distances == limit)
    return float(within)


def _excess(distances: NDArray[np.float32], chosen: NDArray[np.float32], near: int) -> int:
    """By how much the ranks (1 = nearest) of cells at the ``chosen`` distances exceed ``near``.

    The cell itself is among the ``distances`` (N,) and has rank 0.
    """
    total = 0
    for distance in chosen:
        upto = np.count_nonzero(distances <= distance)
        if upto - 1 > near:
            closer = np.count_nonzero(distances < distance)
            total += max(int(closer + upto - 1) // 2 - near, 0)
    return total


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
