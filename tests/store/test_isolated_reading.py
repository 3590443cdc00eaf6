"""Stored arrays read by a process of their own: the same numbers; strange codecs are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import DamagedError
from cytolens.images.isolation import isolated
from cytolens.store.stored_array import Origin, StoredArray, checksum_of_array, create_array

VALUES = np.random.default_rng(0).normal(size=(3000, 4, 5)).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> StoredArray:
    path = tmp_path / "x.zarr"
    create_array(path, VALUES.shape, VALUES.dtype, rows=256, chunks_per_shard=2)[:] = VALUES
    return StoredArray(path, Origin(tmp_path, "activations"), checksum_of_array(path))


@pytest.mark.parametrize(
    "index",
    [
        slice(None), 7, np.array([9, 3, 2999, 3]), slice(5, 1800), np.arange(3000) % 7 == 0,
        (slice(None), 2), (np.array([4, 1]), slice(1, 3), 0), slice(0, 0), (5, 1, 2),
        slice(None, None, -300),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_are_the_same_in_a_process_of_its_own(
    stored: StoredArray, index: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytolens.store.stored_array._AT_ONCE", 50_000)  # several questions
    here = stored[index]
    with isolated():
        there = stored[index]
    np.testing.assert_array_equal(there, here)
    assert there.shape == here.shape


def test_a_chunk_that_ends_the_process_is_damage(stored: StoredArray) -> None:
    chunk = stored.path / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:100] + bytes(200) + content[300:])
    with isolated(), pytest.raises(DamagedError, match="make it again with"):
        stored[:10]


def test_codecs_that_no_run_has_are_refused(stored: StoredArray) -> None:
    file = stored.path / "zarr.json"
    described = json.loads(file.read_text())
    described["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.zfpy"})
    file.write_text(json.dumps(described))
    strange = StoredArray(stored.path, stored.origin, checksum_of_array(stored.path))
    with pytest.raises(DamagedError, match="stored as no run is"):
        strange[:10]
