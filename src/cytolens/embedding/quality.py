"""How much of a layer's neighbourhoods a map has kept."""

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.neighbours import find_neighbours, is_constant

QUERIES = 2000
"""Cells asked for their neighbours; the standard error of recall is then below 0.006."""


def measure_quality(
    features: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    neighbours: int = 10,
    queries: int = QUERIES,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Recall and trustworthiness of a map (N, 2) of ``features`` (N, F), 0…1, more is better.

    - ``recall_10``: share of a cell's 10 nearest neighbours in the features that are among its
      10 nearest on the map.
    - ``trustworthiness``: 1 where neighbours on the map are neighbours in the features, less by
      how far down the list of neighbours they come (Venna & Kaski 2001, ICANN, equation 1).

    Both against all cells and exact, averaged over at most ``queries`` cells drawn at random.
    Constant features have no neighbourhoods: an empty dict.
    """
    n = len(features)
    k = min(neighbours, (n - 1) // 2)
    if k < 1 or is_constant(features):
        return {}
    asked = np.arange(n) if n <= queries else np.sort(rng.choice(n, queries, replace=False))
    on_map = find_neighbours(coordinates, k).indices[asked]  # (q, k)
    ranks = _ranks(features, asked, on_map)
    excess = np.maximum(ranks - k, 0).sum()
    worst = len(asked) * k * (2 * n - 3 * k - 1) / 2
    return {
        f"recall_{neighbours}": float((ranks <= k).mean()),
        "trustworthiness": float(1 - excess / worst),
    }


def _ranks(
    features: NDArray[np.float32], asked: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank (1 = nearest) by distance from each cell ``asked`` of the cells ``chosen`` for it.

    Ties are given the mean rank, rounded down: without that, duplicates would count as perfect.
    """
    centred = features - features.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    ranks = np.empty(chosen.shape, dtype=np.int64)
    step = max(1, 4_000_000 // len(features))
    for start in range(0, len(asked), step):
        rows = slice(start, start + step)
        cells = asked[rows]
        distances = squares - 2 * (centred[cells] @ centred.T)  # minus the cell's own square
        distances[np.arange(len(cells)), cells] = -np.inf
        for place in range(chosen.shape[1]):
            limit = np.take_along_axis(distances, chosen[rows, place, None], axis=1)
            closer = (distances < limit).sum(axis=1)  # the cell itself counts: ranks start at 1
            ties = (distances == limit).sum(axis=1) - 1
            ranks[rows, place] = closer + ties // 2
    return ranks
