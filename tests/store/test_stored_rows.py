"""Rows of stored arrays, taken in any order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.store.stored_array import Origin, StoredArray, checksum_of_array, create_array

N = 700
Both = tuple[StoredArray, NDArray[np.uint16]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A stored array of several shards, and the same in memory."""
    path: Path = tmp_path_factory.mktemp("rows") / "a.zarr"
    there = np.random.default_rng(0).integers(0, 60_000, size=(N, 2, 3)).astype(np.uint16)
    array = create_array(path, there.shape, there.dtype, rows=16, chunks_per_shard=8)
    array[:] = there
    return StoredArray(path, Origin(path.parent, None), checksum_of_array(path)), there


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(N)[::-1],
        np.random.default_rng(1).integers(0, N, size=2000),  # some of them twice
        np.array([3, 3, 699, 0]),
        np.array([], dtype=np.int64),
        [5, 4, -1],
        np.arange(N) % 7 == 0,
        slice(650, 20, -3),
        slice(10, 300),
        17,
    ],
)
def test_rows_in_any_order_are_those_of_numpy(both: Both, rows: Any) -> None:
    stored, there = both
    assert np.array_equal(stored[rows], there[rows])


def test_other_axes_are_indexed_by_themselves(both: Both) -> None:
    stored, there = both
    rows = np.array([600, 2, 2])
    assert np.array_equal(stored[rows, [1, 0]], there[rows][:, [1, 0]])
    assert np.array_equal(stored[rows, 1, 1:], there[rows][:, 1, 1:])
    assert np.array_equal(stored[4, [1, 0]], there[4, [1, 0]])
    assert stored[4, 1, 2] == there[4, 1, 2]
