"""Nearest reference cells of new cells, the same to the last bit in any company.

What is computed for many cells at once (matrix products, whose rounding depends on their shape)
only proposes; what counts is computed for each pair by itself, with differences in float64 that
are summed along their own row.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.features import checked_features
from cytolens.numerics.neighbours import EXACT_UP_TO, inverted_lists
from cytolens.numerics.threads import limited_threads, thread_count

Array = NDArray[np.float64]
T = TypeVar("T")
_BLOCK = 4_000_000  # numbers held at once


class Reference:
    """Cells that others are compared with, by their features (M, F) at one depth.

    Raises InputError for features that are not finite.
    """

    def __init__(self, features: Any, *, name: str = "the reference") -> None:
        self.features = checked_features(features, name=name)
        self.mean = self.features.mean(axis=0, dtype=np.float64)
        self._mean = self.mean.astype(np.float32)
        self._lists: Reference | None = None
        if len(self.features) > EXACT_UP_TO:
            self._index = inverted_lists(self.features - self._mean)
            lists = self._index.quantizer.reconstruct_n(0, self._index.nlist)
            self._lists = Reference(lists)
        else:
            _ = self._centred  # made once, before threads ask for it

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def _centred(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features about their mean, and their squared lengths (M,)."""
        centred = self.features - self._mean
        return centred, np.einsum("ij,ij->i", centred, centred)

    def nearest(self, points: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], Array]:
        """Indices and Euclidean distances (n, k) of the nearest reference cells, nearest first.

        Equally near ones come in the order of their index. Up to 30,000 reference cells all are
        compared, beyond those in the lists nearest to a point (Johnson, Douze & Jégou 2019). A
        point's neighbours do not depend on the other points. ``k`` is clipped to M.
        """
        points = self.checked(points)
        k = min(k, len(self))
        indices = np.empty((len(points), k), dtype=np.int64)
        distances = np.empty((len(points), k))
        step = max(1, min(_BLOCK // len(self), 1024)) if self._lists is None else 1024
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            block = points[rows]
            propose = self._candidates if self._lists is None else self._listed
            row, cell = propose(block, k)
            apart = self._apart(block, row, cell)
            order = np.lexsort((cell, apart, row))
            first = np.searchsorted(row[order], np.arange(len(block)))
            kept = order[first[:, None] + np.arange(k)]
            indices[rows], distances[rows] = cell[kept], np.sqrt(apart[kept])
        return indices, distances

    def checked(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """``points`` (n, F) as they can be compared; raises InputError otherwise."""
        points = checked_features(points, name="the new cells")
        if points.shape[1] != self.features.shape[1]:
            raise InputError(
                f"the new cells have {points.shape[1]} features where the reference has "
                f"{self.features.shape[1]}; take them from the same layer"
            )
        return points

    def _candidates(
        self, points: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (point, cell) among which are surely the ``k`` nearest cells of each point.

        Squared distances from a matrix product, but for the point's own square, are wrong by no
        more than ``doubt``: rounding of a sum of F products (Higham 2002, section 3.1) and of
        the centred features. Whatever is within twice that of the k-th is a candidate.
        """
        centred = points - self._mean
        cells, squares = self._centred
        near = squares - 2 * (centred @ cells.T)
        length = np.linalg.norm(centred, axis=1)
        farthest = float(np.sqrt(squares.max()))
        terms = points.shape[1] + 8
        doubt = 2.0**-23 * (
            terms * (2 * length * farthest + farthest**2) + (length + farthest) ** 2
        )
        limit = np.partition(near, k - 1, axis=1)[:, k - 1] + 2 * doubt
        row, cell = np.nonzero(~(near > limit[:, None]))  # so that an overflow is a candidate
        return row, cell

    def _listed(
        self, points: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (point, cell) of the lists nearest to each point, by each point's own search."""
        assert self._lists is not None
        centred = points - self._mean
        lists, distances = self._lists.nearest(centred, self._index.nprobe)
        _, found = self._index.search_preassigned(
            centred, k + 16, lists, distances.astype(np.float32)
        )
        row, place = np.nonzero(found >= 0)
        cell = found[row, place].astype(np.int64)
        short = np.flatnonzero((found >= 0).sum(axis=1) < k)  # these lists were nearly empty
        if len(short):
            more, others = self._candidates(points[short], k)
            kept = ~np.isin(row, short)
            row = np.concatenate([row[kept], short[more]])
            cell = np.concatenate([cell[kept], others])
        return row, cell

    def _apart(
        self, points: NDArray[np.float32], row: NDArray[np.int64], cell: NDArray[np.int64]
    ) -> Array:
        """Squared distances of pairs (P,), float64, each by itself."""
        apart = np.empty(len(row))
        step = max(1, _BLOCK // self.features.shape[1])
        for start in range(0, len(row), step):
            pairs = slice(start, start + step)
            between = points[row[pairs]].astype(np.float64) - self.features[cell[pairs]]
            apart[pairs] = np.square(between, out=between).sum(axis=1)
        return apart


def in_blocks(
    work: Callable[[NDArray[np.float32]], T],
    features: NDArray[np.float32],
    *,
    size: int = 1024,
    threads: int | None = None,
) -> list[T]:
    """``work`` on ``size`` cells at a time, on several threads (all cores by default)."""
    blocks = [features[start : start + size] for start in range(0, max(len(features), 1), size)]
    with limited_threads(1), ThreadPoolExecutor(thread_count(threads)) as pool:
        return list(pool.map(work, blocks))
