"""Statistics of an image under random filters: what texture it has, whatever it shows and where.

The means and standard deviations of a few layers of random convolutions, which were never
trained, tell textures apart about as well as those of trained networks (Ustyuzhaninov et al. 2017,
arXiv:1606.00021; after Gatys et al. 2015, arXiv:1505.07376, and Portilla & Simoncelli 2000).
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

VIEWS = 8  # quarter turns and their mirror images: on the pixel grid all are exact
_PIXELS_AT_ONCE = 2**15  # that are described together: what stays in a core's cache, half the time


class RandomFilters:
    """Layers of random 3 × 3 filters (He et al. 2015) with ReLU, each half the size of the last.

    Called with images (N, C, H, W), zero where there is nothing, it gives (N, F): the mean and the
    standard deviation over positions of the image channels and of every channel of every layer.
    The filters depend on ``seed``, ``widths`` and the number of image channels only.
    """

    @torch.inference_mode(False)  # they are kept, and gradients pass through them
    def __init__(
        self, n_channels: int, *, widths: Sequence[int], seed: int, pooling: str = "mean"
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.filters: list[Tensor] = []  # (out, in, 3, 3) each
        before = n_channels
        for width in widths:
            weights = torch.randn((width, before, 3, 3), generator=draw)
            self.filters.append(weights * math.sqrt(2 / (9 * before)))
            before = width
        self.largest = pooling == "largest"
        sizes = [2 * n_channels, *(2 * width for width in widths)]
        shares = [torch.full((size,), 1 / (size * len(sizes))) for size in sizes]
        self.weights = torch.cat(shares)  # (F,), adding up to one: every layer counts alike

    def __call__(self, images: Tensor) -> Tensor:
        """Statistics (N, F) of images (N, C, H, W) as they are."""
        found = [moments_of(images)]
        for weights in self.filters:
            if len(found) > 1 and min(images.shape[-2:]) >= 4:
                joined = _joined(images, torch.maximum if self.largest else torch.add)
                images = joined if self.largest else joined / 4
            images = functional.conv2d(images, weights.to(images), padding=1).relu_()
            found.append(moments_of(images))
        return torch.cat(found, 1)

    def over_views(self, images: Tensor) -> Tensor:
        """(N, F), averaged over the eight orientations, or the four of an oblong image."""
        views = range(VIEWS) if images.shape[-1] == images.shape[-2] else (0, 1, 4, 5)
        total = sum((self(view_of(images, k)) for k in views), torch.zeros(()).to(images))
        return total / len(views)


def view_of(images: Tensor, k: int) -> Tensor:
    """The ``k``-th of eight views (N, C, H, W): turned k times, from the fifth on mirrored too.

    Images that are not square are turned by half turns only.
    """
    turns = k % 4 if images.shape[-1] == images.shape[-2] else 2 * (k % 2)
    turned = torch.rot90(images, turns, (2, 3))
    return turned.flip(3) if k % VIEWS >= 4 else turned


def _joined(maps: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Each four neighbours of maps (N, C, H, W) joined, (N, C, H // 2, W // 2).

    As PyTorch's pooling; on the CPU whole slices are several times as fast.
    """
    height, width = (2 * (length // 2) for length in maps.shape[-2:])
    quarters = (maps[..., y:height:2, x:width:2] for y in (0, 1) for x in (0, 1))
    return reduce(join, quarters)


def describe(filters: RandomFilters, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Statistics (N, F) of images (N, C, H, W), averaged over their views."""
    rows: list[NDArray[np.float32]] = []
    batch = max(1, _PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch]))
            rows.append(filters.over_views(part).numpy())
    return np.concatenate(rows)


def moments_of(maps: Tensor) -> Tensor:
    """Mean and standard deviation over positions, (N, 2 C) of (N, C, H, W)."""
    values = maps.flatten(2)
    mean = values.mean(2, keepdim=True)
    square = (values - mean).square().mean(2)  # four times faster than var()
    return torch.cat([mean[..., 0], (square + 1e-8).sqrt()], 1)


@cache
def texture_filters(n_channels: int) -> RandomFilters:
    """The filters of the prior from the cells."""
    return RandomFilters(n_channels, widths=(16, 32, 32, 64), seed=7)
