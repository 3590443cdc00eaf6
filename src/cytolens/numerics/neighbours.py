"""Nearest neighbours, thread limits and the reduction of high-dimensional layers, shared by all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from cytolens.errors import InputError

EXACT_UP_TO = 30_000
"""Cells up to which all pairs are compared; beyond, an inverted-file index with recall ≥ 0.99."""

REDUCE_ABOVE = 256
"""Features above which a layer is reduced before a map is made. Reducing costs recall (128-D
features cut to 50: 0.94 at best), so it is done only where distances would dominate the time."""

REDUCED_TO = 50

ONE_THREAD_UP_TO = 5000
"""Cells up to which clusters and separation are found on one thread where none are asked for."""


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


def checked_features(features: Any, *, name: str = "features") -> NDArray[np.float32]:
    """``features`` as a C-contiguous float32 array (N, F).

    Raises InputError, naming the layer, where it is not a matrix or holds NaN or infinity.
    """
    array = np.ascontiguousarray(features, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name}: an array (cells, features) is needed, got shape {array.shape}")
    broken = int((~np.isfinite(array).all(axis=1)).sum())
    if broken:
        raise InputError(
            f"{name}: {broken} of {len(array)} cells have NaN or infinite features; leave them out"
        )
    return array


def is_constant(features: NDArray[np.float32]) -> bool:
    """Whether all cells have the same features, as at a layer of dead channels."""
    return bool((features == features[:1]).all())


def thread_count(threads: int | None) -> int:
    """``threads``; where None, OMP_NUM_THREADS, or the cores this process may use."""
    if threads is not None:
        return max(1, threads)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited_threads(threads: int | None, *, cells: int | None = None) -> Generator[int]:
    """Within the block BLAS and OpenMP (faiss, scikit-learn) use `thread_count` threads.

    Where ``threads`` is None and there are at most `ONE_THREAD_UP_TO` ``cells``, one thread: many
    short parallel steps gain little, and on a busy machine wait for each other many times longer.
    """
    small = threads is None and cells is not None and cells <= ONE_THREAD_UP_TO
    count = 1 if small else thread_count(threads)
    with threadpool_limits(limits=count):
        yield count


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
    centred = _centred(features)
    squared, found = _index(centred).search(centred[asked], k + 1)
    own = found == asked[:, None]
    own[~own.any(axis=1), -1] = True  # hidden behind duplicates: drop the farthest instead
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
    centred = _centred(features)
    indices = np.empty((len(asked), k), dtype=np.int64)
    distances = np.empty((len(asked), k), dtype=np.float32)
    for fold in np.unique(folds[asked]):
        rows = np.flatnonzero(folds[asked] == fold)
        elsewhere = np.flatnonzero(folds != fold)
        squared, found = _index(centred[elsewhere]).search(centred[asked[rows]], k)
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


def _centred(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features about their mean: distances from squares then keep the digits of float32."""
    mean = features.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray(features - mean.astype(np.float32))


def _index(features: NDArray[np.float32]) -> Any:
    """A faiss index over ``features``."""
    n, dimension = features.shape
    if n <= EXACT_UP_TO:
        index: Any = faiss.IndexFlatL2(dimension)
    else:
        lists = int(4 * n**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists)
        index.nprobe = int(np.clip(lists // 32, 16, 64))
        index.train(features)  # k-means with faiss's own fixed seed
    index.add(features)
    return index


def principal_components(
    features: NDArray[np.float32], dimensions: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The first principal components (N, d) and the share of variance each explains (d,).

    d is ``dimensions``, or as many as there are. Signs are fixed, so the result is determined.
    """
    dimensions = min(dimensions, *features.shape)
    if is_constant(features):
        return np.zeros((len(features), dimensions), dtype=np.float32), np.zeros(dimensions)
    centred = _centred(features)
    scale = float(np.abs(centred).max())  # tiny or huge features keep their digits
    pca = PCA(dimensions, random_state=seed)
    components = pca.fit_transform(centred / scale) * scale
    return np.ascontiguousarray(components, dtype=np.float32), pca.explained_variance_ratio_


def reduce_features(features: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """The first `REDUCED_TO` principal components where there are over `REDUCE_ABOVE` features."""
    if features.shape[1] <= REDUCE_ABOVE:
        return features
    return principal_components(features, REDUCED_TO, seed=seed)[0]
