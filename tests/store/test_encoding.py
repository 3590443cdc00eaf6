from dataclasses import dataclass

import numpy as np
import pytest

from cytolens.errors import RunError
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Split
from cytolens.records.maps import Embedding
from cytolens.store.encoding import decode, encode


def test_records_mappings_and_arrays_come_back_as_they_were():
    value = {
        "maps": {"conv1": Embedding("conv1", "pca", np.ones((3, 2), "f4"), {"a": 0.5}, {"k": [1]})},
        "split": Split(np.arange(2), np.arange(0), np.array([5])),
        "estimates": (Estimate(1.0, 0.0, 2.0, null=float("nan")), None, "text", True, 3),
        "names": np.array(["a", "bc"]),
    }
    back = decode(encode(value))
    assert back["maps"]["conv1"].settings == {"k": [1]}
    assert back["maps"]["conv1"].coordinates.dtype == np.float32
    np.testing.assert_array_equal(back["split"].test, [5])
    assert back["estimates"][1:] == (None, "text", True, 3)
    assert np.isnan(back["estimates"][0].null)
    assert list(back["names"]) == ["a", "bc"]


def test_what_cannot_be_read_back_is_not_stored():
    @dataclass
    class Stranger:
        x: int = 0

    for value in (Stranger(), np.array([object()]), {1, 2}):
        with pytest.raises(RunError):
            encode(value)


@pytest.mark.parametrize("data", [b"", b"not a zip", encode({"a": np.arange(9)})[:-40]])
def test_damage_is_noticed(data: bytes):
    with pytest.raises(ValueError, match="checksum"):
        decode(data)
