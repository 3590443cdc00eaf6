import json
from pathlib import Path

import numpy as np
import pytest

from cytolens.store.files import write_bytes, write_json


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(TypeError):
        write_bytes(path, "text, not bytes")  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_nan_becomes_null_and_arrays_become_lists(tmp_path: Path):
    write_json(
        tmp_path / "a.json", {"x": float("nan"), "y": np.array([1.5, np.inf]), "p": tmp_path}
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["y"] == [1.5, None]
