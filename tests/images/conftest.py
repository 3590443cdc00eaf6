"""Small made-up cells, as arrays and as folders of files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_crops import make_crops, write_crop


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[..., Path]:
    """Writes folders a/ and b/ (or those named) of crops, each with its own seed."""

    def write(
        folders: tuple[str, ...] = ("a", "b"),
        *,
        n: int = 12,
        shape: tuple[int, ...] = (20, 18),
        dtype: Any = np.uint8,
        ending: str = ".png",
    ) -> Path:
        for seed, folder in enumerate(folders):
            for i, crop in enumerate(make_crops(n, *shape, dtype=dtype, seed=seed)):
                write_crop(tmp_path / "data" / folder / f"cell_{i}{ending}", crop)
        return tmp_path / "data"

    return write


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Writes an .npz of 24 cells in two classes; arrays given replace or add to these."""

    def write(**arrays: Any) -> Path:
        path = tmp_path / "file.npz"
        content = {"images": make_crops(24, 20, 20), "labels": np.arange(24) % 2, **arrays}
        np.savez(path, **{key: value for key, value in content.items() if value is not None})
        return path

    return write
