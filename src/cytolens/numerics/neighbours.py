"""Nearest neighbours of cells in a layer's features, exact or from an inverted-file index."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.features import centred

EXACT_UP_TO = 30_000
"""Cells up to which all pairs are compared; beyond, an inverted-file index with recall ≥ 0.99."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest other cells of each cell, nearest first."""

    indices: NDArray[np.int64]  # (N, k)
    distances: NDArray[np.float32]  # (N, k), Euclidean

    def nearest(self, k: int) -> "Neighbours":
        """The first ``k`` of each cell."""
        return Neighbours(
            np.ascontiguousarray(self.indices[:, :k]), np.ascontiguousarray(self.distances[:, :k])
        )


def find_neighbours(
    features: NDArray[np.float32],
    k: int,
    *,
    asked: NDArray[np.int64] | None = None,
) -> Neighbours:
    """The ``k`` nearest other cells of each cell, or of those ``asked``, by Euclidean distance.

    Exact up to `EXACT_UP_TO` cells; beyond, 4 sqrt(N) inverted lists of which 16 to 64 are
    searched (Johnson, Douze & Jégou 2019). ``k`` is clipped to N - 1. The cell itself is never
    among its neighbours, also where others coincide with it.
    """
    k = min(k, len(features) - 1)
    asked = np.arange(len(features)) if asked is None else asked
    about = centred(features)
    squared, found = _index(about).search(about[asked], k + 1)
    return without_itself(squared, found, asked)


def without_itself(
    squared: NDArray[np.float32], found: NDArray[np.int64], asked: NDArray[np.int64]
) -> Neighbours:
    """Those ``found`` (Q, k + 1) at ``squared`` distances without the cells ``asked`` (Q,) for.

    Where a cell is hidden behind others that coincide with it, the farthest is dropped instead.
    """
    own = found == asked[:, None]
    own[~own.any(axis=1), -1] = True
    k = found.shape[1] - 1
    indices = found[~own].reshape(len(asked), k).astype(np.int64)
    distances = np.sqrt(np.maximum(squared[~own].reshape(len(asked), k), 0))
    return Neighbours(indices, distances.astype(np.float32))


def find_neighbours_elsewhere(
    features: NDArray[np.float32],
    k: int,
    *,
    folds: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> Neighbours:
    """As `find_neighbours`, but only among cells of other ``folds`` (N,) than the cell's own.

    ``k`` is clipped to the cells outside of the largest fold.
    """
    k = min(k, len(features) - int(np.bincount(folds).max()))
    about = centred(features)
    indices = np.empty((len(asked), k), dtype=np.int64)
    distances = np.empty((len(asked), k), dtype=np.float32)
    for fold in np.unique(folds[asked]):
        rows = np.flatnonzero(folds[asked] == fold)
        elsewhere = np.flatnonzero(folds != fold)
        squared, found = _index(about[elsewhere]).search(about[asked[rows]], k)
        indices[rows] = elsewhere[found]
        distances[rows] = np.sqrt(np.maximum(squared, 0))
    return Neighbours(indices, distances)


def nearest_of(points: NDArray[np.float32], references: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each of ``points`` (N, F) the index of the nearest of ``references`` (M, F)."""
    return _nearest(points, references)[1]


def distance_to_nearest(
    points: NDArray[np.float32], references: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The Euclidean distance (N,) of each of ``points`` (N, F) to the nearest of ``references``."""
    return np.sqrt(np.maximum(_nearest(points, references)[0], 0))


def _nearest(
    points: NDArray[np.float32], references: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    centre = references.mean(axis=0)
    index = _index(np.ascontiguousarray(references - centre))
    squared, found = index.search(np.ascontiguousarray(points - centre), 1)
    return squared[:, 0], found[:, 0].astype(np.int64)


def _index(features: NDArray[np.float32]) -> Any:
    """A faiss index over ``features`` (N, F): all of them, or lists where there are very many."""
    import faiss  # slow to load

    if len(features) > EXACT_UP_TO:
        return inverted_lists(features)
    index: Any = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return index


def inverted_lists(features: NDArray[np.float32], *, drawn_per_list: int | None = None) -> Any:
    """A faiss index over ``features`` (N, F) of 4 sqrt(N) lists, of which 16 to 64 are searched.

    ``drawn_per_list``: cells that the lists are made from, in ten rounds; None: 256, in 25.
    """
    import faiss

    n, dimension = features.shape
    lists = max(1, min(int(4 * n**0.5), n // 10))
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists)
    if drawn_per_list is not None:
        index.cp.niter, index.cp.max_points_per_centroid = 10, drawn_per_list
        index.cp.min_points_per_centroid = 1
    index.train(features)  # k-means with faiss's own fixed seed
    index.add(features)
    index.nprobe = int(np.clip(lists // 32, 16, 64))
    return index
