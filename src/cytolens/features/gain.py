"""The gain of a modulated image: an activation map up-scaled to the image's pixels.

Geometry: a map of (h, w) cells lies on an image of (H, W) pixels with its cells ``stride`` pixels
apart and its centre on the image's centre, as for padded ("same") convolutions and poolings. The
stride is taken to be H / h where that is whole, else the whole number below it, which is right for
unpadded convolutions too as long as they lose less than a stride per cell; give ``stride`` where
it is known. Beyond the outermost cells' centres the map stays as it is there.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytolens.errors import InputError, SettingError, choose

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
NORMALISATIONS = ("peak", "percentile", "none")
FORMS = ("blend", "product")
PERCENTILE = 99.0  # per cent of the up-scaled map's pixels that stay below a gain of one

Background = float | Sequence[float]


def gain_of(
    maps: NDArray[np.float32],
    size: tuple[int, ...],
    *,
    interpolation: str = "bicubic",
    normalisation: str = "peak",
    threshold: float = 0.0,
    stride: float | None = None,
) -> NDArray[np.float32]:
    """Gains (K, H, W) from activation maps (K, h, w), see ``modulate``; 0…1 unless "none".

    What bicubic interpolation undershoots below zero is cut off.
    """
    interpolation = choose("interpolation", interpolation, INTERPOLATIONS)
    normalisation = choose("normalisation", normalisation, NORMALISATIONS)
    if not 0 <= threshold < 1:
        raise SettingError(f"threshold {threshold} is not allowed; give a share from 0 to below 1")
    if not np.isfinite(maps).all():
        raise InputError("activation maps hold numbers that are not finite; compute them anew")
    rectified = np.maximum(maps, 0).astype(np.float32)
    gain = np.maximum(upscale(rectified, size, interpolation=interpolation, stride=stride), 0)
    peak = gain.max(axis=(1, 2), keepdims=True)
    if normalisation == "peak":
        gain = gain / np.where(peak > 0, peak, 1)
    elif normalisation == "percentile":
        scale = np.percentile(gain, PERCENTILE, axis=(1, 2), keepdims=True)
        scale = np.where(scale > 0, scale, peak)  # fewer than 1 % of the pixels are active
        gain = np.minimum(gain / np.where(scale > 0, scale, 1), 1)
    largest = gain.max(axis=(1, 2), keepdims=True)
    return np.where(gain >= threshold * largest, gain, 0).astype(np.float32)


def apply_gain(
    images: NDArray[np.float32],
    gain: NDArray[np.float32],
    *,
    background: Background,
    form: str = "blend",
) -> NDArray[np.float32]:
    """background + (image - background) · gain, for images (K, C, H, W) and gains (K, H, W).

    With the form "product" image · gain, whatever the background is.
    """
    if choose("form", form, FORMS) == "product":
        return (images * gain[:, None]).astype(np.float32)
    level = background_levels(background, images.shape[1])
    return (level + (images - level) * gain[:, None]).astype(np.float32)


def moved_to(gains: NDArray[np.floating], order: NDArray[np.floating]) -> NDArray[np.float32]:
    """The same gains (K, H, W), the largest where ``order`` (K, H, W) is largest, and so on."""
    moved = np.empty(gains.shape, np.float32).reshape(len(gains), -1)
    ranked = -np.sort(-gains.reshape(len(gains), -1), axis=1)
    np.put_along_axis(moved, descending(order), ranked.astype(np.float32), axis=1)
    return moved.reshape(gains.shape)


def descending(saliency: NDArray[np.floating]) -> NDArray[np.int64]:
    """Pixels (N, H · W) of each map, the most salient first; ties in the order of the pixels."""
    return np.argsort(-saliency.reshape(len(saliency), -1), axis=1, kind="stable")


def upscale(
    maps: NDArray[np.float32],
    size: tuple[int, ...],
    *,
    interpolation: str = "bicubic",
    stride: float | None = None,
) -> NDArray[np.float32]:
    """Maps (K, h, w) at every pixel of images of ``size`` (H, W), centre on centre."""
    height, width = maps.shape[1:]
    rows = _map_positions(height, size[0], stride)
    columns = _map_positions(width, size[1], stride)
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2), x first
    sampled = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[None],
        grid[None],
        mode=interpolation,
        padding_mode="border",
        align_corners=True,
    )
    return sampled[0].numpy()


def _map_positions(cells: int, pixels: int, stride: float | None) -> Tensor:
    """Where each pixel lies on the map: -1 at the first cell's centre, 1 at the last one's."""
    if cells == 1:
        return torch.zeros(pixels)
    if stride is None:
        stride = max(1.0, float(pixels // cells))
    from_centre = torch.arange(pixels, dtype=torch.float32) - (pixels - 1) / 2
    return (from_centre / (stride * (cells - 1) / 2)).clamp(-1, 1)


def background_levels(background: Background, channels: int) -> NDArray[np.float32]:
    """The background as an array (C, 1, 1)."""
    levels: NDArray[np.float32] = np.atleast_1d(np.asarray(background, dtype=np.float32))
    if levels.size not in (1, channels):
        raise SettingError(
            f"{levels.size} background values came for {channels} image channels; give one number,"
            " or one per channel"
        )
    return np.broadcast_to(levels.reshape(-1, 1, 1), (channels, 1, 1))
