"""Crops of noise, and how to write one."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from imagecodecs import png_encode


def make_crops(n: int, *shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (n, *shape)).astype(dtype)


def write_crop(path: Path, crop: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(png_encode(np.ascontiguousarray(crop)))
    else:
        tifffile.imwrite(path, crop)
    return path
