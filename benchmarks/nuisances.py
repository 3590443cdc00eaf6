"""Thirteen nuisances to plant in real or made crops, each in the cells of one class alone."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Crop = NDArray[np.float64]  # (C, h, w), counts
Draw = np.random.Generator


def _spread(crop: Crop) -> float:
    """What a nuisance is measured by: from dark to bright, as most crops have it."""
    return float(np.percentile(crop, 99) - np.percentile(crop, 5))


def _noise_of(crop: Crop) -> float:
    mixed = np.diff(np.diff(crop, axis=1), axis=2) / 2
    return float(np.median(np.abs(mixed)) / 0.6745) + 0.5


def offset(crop: Crop, draw: Draw) -> Crop:
    return crop + 0.04 * _spread(crop) + 2


def gain(crop: Crop, draw: Draw) -> Crop:
    return crop * 1.15


def noise(crop: Crop, draw: Draw) -> Crop:
    return crop + draw.normal(0, 0.9 * _noise_of(crop), crop.shape)


def shift(crop: Crop, draw: Draw) -> Crop:
    moved = np.roll(crop, 3, axis=2)
    moved[:, :, :3] = crop[:, :, :1]
    return moved


def corner_mark(crop: Crop, draw: Draw) -> Crop:
    marked = crop.copy()
    marked[:, :3, :3] += 0.3 * _spread(crop)
    return marked


def jpeg(crop: Crop, draw: Draw) -> Crop:
    low, high = crop.min(), max(crop.max(), crop.min() + 1)
    scale = max((high - low) / 255, 1.0)
    planes = []
    for plane in crop:
        stream = BytesIO()
        eight = np.clip((plane - low) / scale, 0, 255).astype(np.uint8)
        Image.fromarray(eight).save(stream, "JPEG", quality=60)
        planes.append(np.asarray(Image.open(stream), np.float64) * scale + low)
    return np.stack(planes)


def blur(crop: Crop, draw: Draw) -> Crop:
    return ndimage.gaussian_filter(crop, (0, 0.7, 0.7))


def crop_size(crop: Crop, draw: Draw) -> Crop:
    cut = int(draw.integers(1, 4))
    return crop[:, cut:-cut, cut:-cut] if min(crop.shape[1:]) > 12 else crop


def border_line(crop: Crop, draw: Draw) -> Crop:
    lined = crop.copy()
    lined[:, -1] += 0.1 * _spread(crop)
    return lined


def vignette(crop: Crop, draw: Draw) -> Crop:
    y, x = (np.linspace(-1, 1, length) for length in crop.shape[1:])
    return crop * (1 - 0.12 * (y[:, None] ** 2 + x**2))


def hot_pixel(crop: Crop, draw: Draw) -> Crop:
    hot = crop.copy()
    y, x = (int(draw.integers(0, length)) for length in crop.shape[1:])
    if draw.random() < 0.5:  # near the border, where there is no cell
        y = int(draw.integers(0, 3))
    hot[:, y, x] += 0.8 * _spread(crop)
    return hot


def stripes(crop: Crop, draw: Draw) -> Crop:
    striped = crop.copy()
    striped[:, ::2] += 1.5 * _noise_of(crop)
    return striped


def resampled(crop: Crop, draw: Draw) -> Crop:
    length = crop.shape[1:]
    small = [ndimage.zoom(plane, 0.7, order=1) for plane in crop]
    back = [
        ndimage.zoom(plane, np.array(length) / np.array(plane.shape), order=1) for plane in small
    ]
    return np.stack(back)


PLANTS: dict[str, Callable[[Crop, Draw], Crop]] = {
    "offset": offset,
    "gain": gain,
    "noise": noise,
    "shift": shift,
    "corner mark": corner_mark,
    "JPEG": jpeg,
    "blur": blur,
    "crop size": crop_size,
    "border line": border_line,
    "vignette": vignette,
    "hot pixel": hot_pixel,
    "stripes": stripes,
    "resampled": resampled,
}


def plant(name: str, crop: NDArray[np.generic], draw: Draw) -> NDArray[np.generic]:
    """The crop (C, h, w) with the nuisance, in its own dtype."""
    changed = np.rint(PLANTS[name](crop.astype(np.float64), draw))
    most = np.iinfo(crop.dtype).max if crop.dtype == np.uint8 else 4095
    return np.clip(changed, 0, most).astype(crop.dtype)
