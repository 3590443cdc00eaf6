"""Wavelet scattering: how much structure of every size a crop has, and how it is arranged.

First order: the mean of |x * psi| over a crop for a Morlet wavelet psi of each size, that is edges,
spots and grain. Second order: the same of |x * psi| itself, that is how edges and grain are
arranged. Both know nothing of a network. Source: Bruna & Mallat 2013, Invariant scattering
convolution networks, IEEE TPAMI 35.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.errors import InputError

ORIENTATIONS = 4  # over half a turn
MOST_SIZES = 4  # octaves: wavelengths of about 3, 5, 11 and 21 pixels
_SLANT = 0.5  # width of a wavelet across its stripes relative to along them
_BATCH = 2**21  # numbers of a batch of padded images


@dataclass(frozen=True)
class Scattering:
    """Coefficients of crops, by order, averaged over orientations; one row a crop."""

    first: NDArray[np.float32]  # (N, C · sizes)
    second: NDArray[np.float32]  # (N, C · pairs of sizes · angles between them), smaller size first


def scatter(crops: NDArray[np.float32]) -> Scattering:
    """First- and second-order scattering of crops (N, C, H, W): means over positions and turns.

    There are as many sizes as fit (`sizes_for`) and four orientations. How a cell lies says
    nothing: the first order is the mean over orientations, the second keeps the angle between the
    two wavelets only. Crops are continued by reflection; means are over the crop alone. Raises
    InputError for crops below 8 pixels.

    >>> stripes = np.tile(np.float32([1, 1, -1, -1]), (1, 1, 32, 8))  # a period of 4 pixels
    >>> int(scatter(stripes).first[0].argmax())  # the smallest size
    0
    """
    if crops.ndim != 4 or min(crops.shape[2:]) < 8:
        raise InputError(
            f"crops of shape {crops.shape} came; scattering takes (cell, channel, height, width) "
            "of at least 8 pixels"
        )
    n, channels, height, width = crops.shape
    sizes = sizes_for((height, width))
    margin = 2**sizes // 2
    padded = (_divisible(height + 2 * margin, sizes), _divisible(width + 2 * margin, sizes))
    wavelets = _wavelets(padded, sizes)  # (size, orientation, *padded), in frequency
    batch = max(1, _BATCH // (padded[0] * padded[1] * ORIENTATIONS))
    flat = crops.reshape(n * channels, height, width)
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    found: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(flat), batch):
            images = torch.from_numpy(np.ascontiguousarray(flat[start : start + batch]))
            found.append(_paths(_reflected(images, padded, margin), wavelets, inner))
    first, second = (torch.cat(part).reshape(n, -1).numpy() for part in zip(*found, strict=True))
    return Scattering(first, second)


def sizes_for(size: tuple[int, int]) -> int:
    """How many sizes (octaves) of wavelets fit crops of ``size`` (height, width) pixels, 2 to 4."""
    return int(np.clip(np.log2(min(size) / 4), 2, MOST_SIZES))


def _paths(images: Tensor, wavelets: Tensor, inner: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Means over the ``inner`` crop of first and second paths, (n, paths) each."""
    spectrum = torch.fft.fft2(images)
    first: list[Tensor] = []
    second: list[Tensor] = []
    for size in range(len(wavelets)):
        step = 2**size
        modulus = torch.fft.ifft2(_every(spectrum[:, None] * wavelets[size], step)).abs()
        first.append(_mean_inside(modulus, inner, step).mean(1))
        again = torch.fft.fft2(modulus)  # (n, orientation, h / step, w / step)
        for larger in range(size + 1, len(wavelets)):
            following = _every(wavelets[larger], step) * step**2  # its frequencies at that rate
            both = _every(again[:, :, None] * following, 2**larger // step)
            means = _mean_inside(torch.fft.ifft2(both).abs(), inner, 2**larger)
            second.append(_by_angle(means))
    return torch.stack(first, 1), torch.cat([images.new_zeros(len(images), 0), *second], 1)


def _by_angle(means: Tensor) -> Tensor:
    """Means (n, first orientation, second) as (n, angle between the two)."""
    turns = torch.arange(ORIENTATIONS)
    between = (turns[None] + turns[:, None]) % ORIENTATIONS  # (first, angle) -> second
    return means.gather(2, between.expand(len(means), -1, -1)).mean(1)


def _every(spectra: Tensor, step: int) -> Tensor:
    """Spectra (…, h, w) of what is left when every ``step``-th pixel is taken along each axis.

    The pixels that are left are exact, so means of their moduli are those of a sample.
    """
    if step == 1:
        return spectra
    height, width = spectra.shape[-2:]
    parts = spectra.reshape(*spectra.shape[:-2], step, height // step, step, width // step)
    return parts.mean((-4, -2))


def _mean_inside(maps: Tensor, inner: tuple[slice, slice], step: int) -> Tensor:
    rows, columns = (slice(-(-s.start // step), -(-s.stop // step)) for s in inner)
    return maps[..., rows, columns].mean((-2, -1))


def _reflected(images: Tensor, padded: tuple[int, int], margin: int) -> Tensor:
    """Images (n, H, W), about their own mean, continued by reflection to the ``padded`` size."""
    below, right = (
        whole - length - margin for whole, length in zip(padded, images.shape[1:], strict=True)
    )
    centred = images - images.mean((1, 2), keepdim=True)
    mode = "reflect" if max(margin, below, right) < min(images.shape[1:]) else "replicate"
    return torch.nn.functional.pad(centred[:, None], (margin, right, margin, below), mode=mode)[
        :, 0
    ]


def _divisible(length: int, sizes: int) -> int:
    """The next length of which every pixel that is taken at the largest size has its place."""
    step = 2 ** (sizes - 1)
    return -(-length // step) * step


@cache
@torch.inference_mode(False)
def _wavelets(padded: tuple[int, int], sizes: int) -> Tensor:
    """Morlet wavelets in frequency, (size, orientation, h, w): centre 3π/4 · 2^-size.

    Each has no mean, and a largest value of one.
    """
    axes = [2 * np.pi * np.fft.fftfreq(length) for length in padded]
    wraps = [2 * np.pi * turn for turn in (-1, 0, 1)]  # periodic in frequency, as pixels are
    made = np.zeros((sizes, ORIENTATIONS, *padded))
    for size in range(sizes):
        centre, sigma = 0.75 * np.pi / 2**size, 0.8 * 2**size
        balance = np.exp(-((centre * sigma) ** 2) / 2)
        for turn, wrap_y, wrap_x in product(range(ORIENTATIONS), wraps, wraps):
            angle = np.pi * turn / ORIENTATIONS
            y, x = axes[0][:, None] + wrap_y, axes[1] + wrap_x
            along = x * np.cos(angle) + y * np.sin(angle)
            beside = ((y * np.cos(angle) - x * np.sin(angle)) / _SLANT) ** 2
            made[size, turn] += np.exp(-((along - centre) ** 2 + beside) * sigma**2 / 2)
            made[size, turn] -= balance * np.exp(-(along**2 + beside) * sigma**2 / 2)
    made -= made[..., :1, :1]
    made /= np.abs(made).max((2, 3), keepdims=True)
    return torch.from_numpy(made.astype(np.float32))
