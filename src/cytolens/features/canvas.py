"""What feature images are painted on: size, value range, start, all taken from the cells."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cytolens.errors import InputError, SettingError
from cytolens.records.cells import Cells


@dataclass(frozen=True)
class Canvas:
    """What images are painted on: size, value range, where they start, how channels go together.

    Arrays are tensors of the network's dtype, on its device.
    """

    shape: tuple[int, int, int]  # image channel, height, width
    low: Tensor  # (C, 1, 1), prepared intensities
    high: Tensor  # (C, 1, 1)
    background: Tensor  # (C, 1, 1), prepared intensities
    start: Tensor  # (C, H, W) of all images or (N, C, H, W), prepared intensities
    deviation: Tensor | None = None  # (C, H, W), standard deviation of the cells
    mixing: Tensor | None = None  # (C, C), how independent channels become correlated ones

    def unit(self, image: Tensor) -> Tensor:
        """Prepared intensities in units of the value range, 0…1."""
        return (image - self.low) / (self.high - self.low)

    def paint(self, raw: Tensor) -> Tensor:
        """Images (N, C, H, W) within the value range, from unbounded numbers about zero.

        A sigmoid about the start: zero gives the start itself, kept at least 5 % inside the value
        range, where the sigmoid still has a slope.
        """
        if self.mixing is not None:
            raw = torch.einsum("dc,nchw->ndhw", self.mixing, raw)
        offset = torch.logit(self.unit(self.start).clamp(0.05, 0.95))
        return self.low + (self.high - self.low) * torch.sigmoid(offset + raw)

    def starting_at(self, start: Tensor | None, rows: list[int]) -> "Canvas":
        """The canvas of some images, each with its own start (K, C, H, W)."""
        if start is None:
            return self
        return replace(self, start=start[rows].to(self.low))

    def clip(self, image: Tensor) -> Tensor:
        """Images within the value range; the gradient passes as if they had not been clipped."""
        inside = torch.maximum(torch.minimum(image, self.high), self.low)
        return image + (inside - image).detach()


def prepare_canvas(
    shape: tuple[int, int, int],
    value_range: ArrayLike | None,
    background: ArrayLike | None,
    start: ArrayLike | None,
    cells: Cells | NDArray[np.float32] | None,
    like: Tensor,
) -> Canvas:
    """Value range, background, start and channel mixing, from what is given and from the cells."""
    n_channels = shape[0]
    crops = None if cells is None else _some(cells, shape)
    if value_range is None and crops is not None:
        value_range = np.quantile(crops, [0.001, 0.999], axis=(0, 2, 3)).T  # (C, 2)
    limits = np.broadcast_to(
        np.asarray((0, 1) if value_range is None else value_range, np.float64), (n_channels, 2)
    )
    if not (np.isfinite(limits).all() and (limits[:, 0] < limits[:, 1]).all()):
        raise SettingError(f"value_range {limits.tolist()} cannot be used; give low < high")

    def column(values: ArrayLike) -> Tensor:
        row = np.broadcast_to(np.asarray(values, np.float64), (n_channels,))
        return torch.tensor(row.copy()).to(like)[:, None, None]

    paper = column(0.0 if background is None else background)
    begin = ((column(limits[:, 0]) + column(limits[:, 1])) / 2).expand(shape)
    deviation = None if crops is None else torch.from_numpy(crops.std(0, dtype=np.float64)).to(like)
    if start is not None:
        begin = torch.tensor(np.broadcast_to(np.asarray(start, np.float64), shape).copy()).to(like)
    elif crops is not None:
        begin = torch.from_numpy(crops.mean(0, dtype=np.float64)).to(like)
    mixing = None
    if crops is not None and n_channels > 1:
        mixing = torch.from_numpy(_channel_mixing(crops)).to(like)
    return Canvas(
        shape=shape,
        low=column(limits[:, 0]),
        high=column(limits[:, 1]),
        background=paper,
        start=begin,
        deviation=deviation,
        mixing=mixing,
    )


def _some(
    cells: Cells | NDArray[np.float32], shape: tuple[int, int, int], n: int = 1024
) -> NDArray[np.float32]:
    """At most ``n`` cells, evenly spread over all of them."""
    total = len(cells)
    if total == 0:
        raise InputError("no cells came; give at least one to compare feature images with")
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).astype(np.int64))
    if isinstance(cells, Cells):
        cells = cells.subset(chosen)
        return np.concatenate(list(batches_of(cells, shape, 256)))
    return np.concatenate(list(batches_of(cells[chosen], shape, 256)))


def _channel_mixing(crops: NDArray[np.float32]) -> NDArray[np.float64]:
    """Symmetric root (C, C) of the cells' correlation between image channels.

    What colour decorrelation does for photographs (Olah et al. 2017), from the data at hand.
    """
    columns = crops.transpose(1, 0, 2, 3).reshape(crops.shape[1], -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.asarray(np.corrcoef(columns)), nan=0.0)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def batches_of(
    cells: Cells | NDArray[np.float32], shape: tuple[int, int, int], size: int
) -> Iterator[NDArray[np.float32]]:
    """Crops (n, C, H, W), a batch at a time; raises InputError if they are of another shape."""
    came = tuple(cells.shape) if isinstance(cells, Cells) else tuple(cells.shape[1:])
    if came != shape:
        raise InputError(
            f"cells of shape {came} (channel, height, width) came; the network takes {shape}; "
            "prepare them to that size"
        )
    if isinstance(cells, Cells):
        yield from (images for _, images in cells.batches(size))
    else:
        yield from (cells[start : start + size] for start in range(0, len(cells), size))
