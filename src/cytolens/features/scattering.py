"""Wavelet scattering: how much structure of every size a crop has, and how it is arranged.

First order: moduli of oriented wavelets of each size, that is edges, spots and grain. Second order:
the same of these moduli, that is how edges and grain are arranged (Bruna & Mallat 2013,
arXiv:1203.1513, section 2; Sifre & Mallat 2013 for the angles). Nothing is learnt, and nothing is
random; an image and its quarter turns have the same, to 1 %.
Written out here since kymatio, the library for it, has not been kept up since its 0.3.0 of 2022.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.errors import InputError

_TURNS = 4  # orientations, an eighth of a circle apart
_CENTRE, _WIDTH, _SLANT = 0.375, 0.11, 0.6  # cycles per pixel of the finest wavelet; its angle
_KEPT = 1.3  # of the spectrum, over 2^scale: beyond it a wavelet is below 0.05 of its peak
_AT_ONCE = 2**19  # pixels


@dataclass(frozen=True)
class Scattering:
    """Coefficients of crops by order, one row a crop, image channel by image channel."""

    levels: NDArray[np.float32]  # (N, C · 2), mean and s.d.
    first: NDArray[np.float32]  # (N, C · sizes · 3), the finest first
    second: NDArray[np.float32]  # (N, C · pairs of sizes · 3), by the angle between the two

    @property
    def rows(self) -> NDArray[np.float32]:
        """All of them, (N, F)."""
        return np.concatenate([self.levels, self.first, self.second], axis=1)


def scatter(crops: NDArray[np.float32]) -> Scattering:
    """Scattering of crops (N, C, H, W), zero where there is nothing.

    ``first``: of the modulus at each size, from 2 pixels to about a quarter of the crop, mean, root
    mean square and s.d. over angles. ``second``: of each pair of sizes the mean of the coarser
    wavelet of the finer modulus, by the angle between the two. How a cell lies says nothing.
    Raises InputError for crops below 8 pixels.

    >>> crops = np.random.default_rng(0).random((3, 1, 16, 16)).astype(np.float32)
    >>> turned = scatter(np.rot90(crops, axes=(2, 3)).copy())
    >>> bool(np.allclose(scatter(crops).rows, turned.rows, rtol=0.02))
    True
    """
    if crops.ndim != 4 or min(crops.shape[2:]) < 8:
        raise InputError(
            f"crops of shape {crops.shape} came; scattering takes (cell, channel, height, width) "
            "of at least 8 pixels"
        )
    step = max(1, _AT_ONCE // max(int(np.prod(crops.shape[1:])), 1))
    orders: tuple[list[Tensor], ...] = ([], [], [])
    with torch.inference_mode():
        for start in range(0, len(crops), step):
            part = torch.from_numpy(np.ascontiguousarray(crops[start : start + step]))
            found: tuple[list[Tensor], ...] = ([], [], [])
            for order, values in _coefficients(part.flatten(0, 1)):
                found[order].append(values)
            for order, columns in zip(orders, found, strict=True):
                order.append(torch.stack(columns, 1).reshape(len(part), -1).float())
    return Scattering(*(torch.cat(parts).numpy() for parts in orders))


def sizes_for(size: tuple[int, int]) -> int:
    """How many sizes (octaves) of wavelets are used on crops of ``size`` (height, width)."""
    return max(2, round(math.log2(min(size))) - 1)


def _coefficients(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Order, and one number (n,) per image (n, H, W), one after another."""
    size = (x.shape[1], x.shape[2])
    scales = sizes_for(size)
    yield 0, x.mean((1, 2))
    yield 0, x.flatten(1).std(1)
    spectrum = torch.fft.fft2(x)
    for fine in range(scales):
        small = _size(size, fine)
        first = _modulus(_low(spectrum, small)[:, None], _wavelets(size, small, fine))
        yield 1, first.mean((1, 2, 3))
        yield 1, first.square().mean((1, 2, 3)).sqrt()
        yield 1, first.mean((2, 3)).std(1)
        again = torch.fft.fft2(first)  # (n, turn, h, w)
        for coarse in range(fine + 1, scales):
            smaller = _size(size, coarse)
            bank = _wavelets(size, smaller, coarse)
            seen = _low(again, smaller)
            for between in range(_TURNS // 2 + 1):
                both = [bank.roll(-side * between, 0) for side in (1, -1)[: 1 + (between > 0)]]
                found = [_modulus(seen, turned).mean((1, 2, 3)) for turned in both]
                yield 2, torch.stack(found).mean(0)


def _modulus(spectrum: Tensor, bank: Tensor) -> Tensor:
    return torch.fft.ifft2(spectrum * bank).abs()


def _size(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Samples along each side that a scale needs."""
    share = min(1.0, _KEPT / 2**scale)
    rows, columns = (min(n, max(4, 2 * math.ceil(share * n / 2))) for n in size)
    return rows, columns


def _kept(n: int, kept: int) -> Tensor:
    """The lowest ``kept`` of ``n`` frequencies, in the order of the transform."""
    positive = (kept + 1) // 2
    return torch.cat([torch.arange(positive), torch.arange(n - (kept - positive), n)])


def _low(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """The spectrum (…, H, W) of the same image sampled at ``size``."""
    height, width = spectrum.shape[-2:]
    if (height, width) == size:
        return spectrum
    rows, columns = _kept(height, size[0]), _kept(width, size[1])
    share = size[0] * size[1] / (height * width)
    return spectrum[..., rows, :][..., columns] * share


def _wavelets(size: tuple[int, int], kept: tuple[int, int], scale: int) -> Tensor:
    """One scale of wavelets in all orientations (turn, h, w), on the lowest frequencies kept."""
    down = torch.fft.fftfreq(size[0])[_kept(size[0], kept[0])][:, None]
    across = torch.fft.fftfreq(size[1])[_kept(size[1], kept[1])][None]
    centre, width = _CENTRE / 2**scale, _WIDTH / 2**scale
    turned: list[Tensor] = []
    for turn in range(_TURNS):
        c, s = math.cos(math.pi * turn / _TURNS), math.sin(math.pi * turn / _TURNS)
        u, v = across * c + down * s, down * c - across * s
        turned.append(torch.exp(-((u - centre) ** 2 + _SLANT * v**2) / (2 * width**2)))
    bank = torch.stack(turned)
    if kept[0] % 2 == 0:  # the fastest wave has no mirror image, and turned ones would differ
        bank[:, kept[0] // 2] = 0
    if kept[1] % 2 == 0:
        bank[:, :, kept[1] // 2] = 0
    return bank
