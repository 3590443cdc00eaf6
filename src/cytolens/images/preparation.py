"""How crops of any size and bit depth become (C, H, W) float32, and how this is chosen.

Crops are padded or cut around their centre, never rescaled: a pixel stays a pixel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError, choose
from cytolens.records.cells import Preparation

INTENSITIES = ("dataset", "image", "none")
LARGEST_SIDE = 4096  # pixels; a larger "crop" is a field of view, or a decompression bomb
COVERED = 0.95  # share of crops that the default size holds whole
LIMIT_PERCENTILES = (0.1, 99.9)  # of pixel values; a few hot pixels must not set the scale


def pad_or_crop(
    crop: NDArray[np.generic], size: tuple[int, int], background: Sequence[float]
) -> NDArray[np.generic]:
    """The crop (C, h, w) at ``size`` (H, W), centred, in its own dtype; (C, H, W).

    Where it is smaller it is padded with ``background`` (C,), where larger it is cut. An odd
    difference leaves the extra row or column at the bottom or right.
    """
    channels, height, width = crop.shape
    out = np.empty((channels, *size), dtype=crop.dtype)
    out[:] = np.asarray(background).astype(crop.dtype)[:, None, None]
    (to_y, from_y), (to_x, from_x) = _overlap(height, size[0]), _overlap(width, size[1])
    out[:, to_y, to_x] = crop[:, from_y, from_x]
    return out


def _overlap(length: int, wanted: int) -> tuple[slice, slice]:
    """Where a centred line of ``length`` lands in one of ``wanted``, and which part of it does."""
    shared = min(length, wanted)
    start_to, start_from = (wanted - shared) // 2, (length - shared) // 2
    return slice(start_to, start_to + shared), slice(start_from, start_from + shared)


def measured_masks(sizes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(n, H, W), True where `pad_or_crop` to ``size`` puts a measured pixel; sizes (n, 2)."""
    inside: list[NDArray[np.bool_]] = []
    for axis in (0, 1):
        shared = np.minimum(sizes[:, axis], size[axis])
        start = (size[axis] - shared) // 2
        place = np.arange(size[axis])
        inside.append((place >= start[:, None]) & (place < (start + shared)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]


def prepare(
    raw: NDArray[np.generic], preparation: Preparation, *, masks: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Crops (n, C, H, W) in the file's intensities, scaled as ``preparation`` says; float32.

    With ``intensity="image"`` the darkest and brightest measured pixel of each crop and channel
    become 0 and 1; the padding, which does not set the limits, is clipped to them. A channel
    without contrast becomes 0. ``masks`` (n, H, W) is True where measured (default: everywhere).
    """
    values = raw.astype(np.float32)
    if preparation.intensity == "none":
        return values
    if preparation.intensity == "dataset":
        low = np.array(preparation.low, dtype=np.float32)[:, None, None]
        high = np.array(preparation.high, dtype=np.float32)[:, None, None]
        values -= low
        values /= high - low
        return values
    measured = np.ones((len(raw), 1, 1, 1), bool) if masks is None else masks[:, None]
    low = values.min(axis=(2, 3), keepdims=True, where=measured, initial=np.inf)
    high = values.max(axis=(2, 3), keepdims=True, where=measured, initial=-np.inf)
    contrast = np.where(high > low, high - low, np.inf)
    values -= low
    values /= contrast
    return np.where(measured, values, values.clip(0, 1))


def fit_size(sizes: NDArray[np.int64]) -> tuple[int, int]:
    """The smallest square, in multiples of 8 pixels, that holds 95 % of the crops (n, 2) whole.

    At least 16, so that a network can pool twice; at most 128 unless asked for.
    """
    side = np.quantile(sizes.max(axis=1), COVERED, method="inverted_cdf")
    side = int(np.clip(-(-side // 8) * 8, 16, 128))
    return side, side


def border_background(crops: NDArray[Any]) -> NDArray[Any]:
    """Background of each crop and channel (n, C), from the border pixels of crops (n, C, h, w).

    The median of the shortest interval that holds half of the border pixels (the "shorth"). On
    an even border that is the border's median; where up to half of the border is taken by other
    things, bright neighbours of a fluorescent cell or dark ones in bright field, it stays with
    the more even half, the background, with no need to know which of the two is the brighter.
    Source: Andrews et al. 1972, Robust Estimates of Location; Rousseeuw & Leroy 1987, section 4.1.
    """
    edge = np.ones(crops.shape[2:], dtype=bool)
    edge[1:-1, 1:-1] = False
    border = np.sort(crops[:, :, edge], axis=-1)  # (n, C, B)
    half = border.shape[-1] // 2 + 1
    widths = border[..., half - 1 :] - border[..., : border.shape[-1] - half + 1]
    middle = widths.argmin(axis=-1) + (half - 1) // 2
    return np.take_along_axis(border, middle[..., None], axis=-1)[..., 0]


def prepared_background(preparation: Preparation) -> NDArray[np.float64]:
    """Prepared intensity of the background, per image channel (C,).

    Where each crop has limits of its own that is 0, as its darkest pixel.
    """
    values, low, high = (
        np.array(v) for v in (preparation.background, preparation.low, preparation.high)
    )
    if preparation.intensity == "none":
        return values
    if preparation.intensity == "dataset":
        return (values - low) / (high - low)
    return np.zeros(len(values))


def check_intensity(intensity: str) -> str:
    """The intensity scaling that is meant; raises SettingError when unknown."""
    return choose("intensity", intensity, INTENSITIES)


def check_size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """A size as (height, width) in pixels, or None to fit it; raises SettingError."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)
    if len(sides) != 2 or not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise SettingError(
            f"size {size} is not allowed; give one or two numbers of 1 to {LARGEST_SIDE} pixels"
        )
    return sides[0], sides[1]


def choose_background(
    background: str | float | Sequence[float],
    estimated: NDArray[np.float64],
    dtype: np.dtype[Any],
) -> tuple[float, ...]:
    """The padding value per channel, in the file's units and within what its dtype can hold."""
    channels = len(estimated)
    if isinstance(background, str):
        choose("background", background, ("border",))
        values = estimated
    else:
        values = np.atleast_1d(np.asarray(background, dtype=np.float64))
    if values.shape not in {(1,), (channels,)} or not np.isfinite(values).all():
        raise SettingError(
            f"background {background} is not allowed; give 'border', a number, or one per channel "
            f"({channels})"
        )
    values = np.broadcast_to(values, (channels,))
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.rint(values)
        if values.min() < limits.min or values.max() > limits.max:
            raise SettingError(
                f"background {background} does not fit into {dtype} images; "
                f"give {limits.min} to {limits.max}"
            )
    return tuple(float(value) for value in values)
