"""Crops in arrays on the disk (HDF5, Zarr), with their masks where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import BATCH_BYTES, Crop, native
from cytolens.images.image_files import unreadable
from cytolens.images.masks import Mask


class Rows(Protocol):
    """An array (N, …) that is read row by row, or by slices of rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        ...

    def __getitem__(self, rows: slice) -> NDArray[Any]: ...


@dataclass(frozen=True)
class StackCrops:
    """One array with all image channels, or an array (N, H, W) for each of them.

    ``channel_axis`` is 1, 3 (last) or None where there is none. ``channels`` and ``masks`` are the
    places on it that are image channels and masks; ``mask_rows`` is an array of masks of their
    own, (N, H, W), (N, C, H, W) or (N, H, W, C).
    """

    arrays: Sequence[Rows]
    label: str
    channel_axis: int | None = None
    channels: tuple[int, ...] | None = None  # None: all
    masks: tuple[int, ...] = ()
    mask_rows: Rows | None = None

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    @property
    def batch(self) -> int:
        """About 32 MiB worth of crops."""
        size = sum(
            a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in self.arrays
        )
        return int(np.clip(BATCH_BYTES // max(size, 1), 1, 4096))

    @property
    def has_masks(self) -> bool:
        """Whether there are masks."""
        return bool(self.masks) or self.mask_rows is not None

    def name(self, position: int) -> str:
        """Such as "cells.h5[17]"."""
        return f"{self.label}[{position}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each."""

        def take(rows: slice) -> NDArray[Any]:
            if len(self.arrays) > 1:
                return np.stack([array[rows] for array in self.arrays], axis=1)
            block = _channels_first(self.arrays[0][rows], self.channel_axis)
            return block if self.channels is None else block[:, list(self.channels)]

        return [
            one if isinstance(one, InputError) else native(one) for one in _read(positions, take)
        ]

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """Where any mask is not 0, (h, w), or what is wrong with each."""

        def take(rows: slice) -> NDArray[Any]:
            if self.mask_rows is None:
                block = _channels_first(self.arrays[0][rows], self.channel_axis)
                return (block[:, list(self.masks)] != 0).any(axis=1)
            block = self.mask_rows[rows] != 0
            if block.ndim == 4:
                last = self.channel_axis == 3
                block = block.any(axis=3 if last else 1)
            return block

        return _read(positions, take)


def _channels_first(block: NDArray[Any], axis: int | None) -> NDArray[Any]:
    if axis is None:
        return block[:, None]
    return np.moveaxis(block, axis, 1)


def _read(positions: NDArray[np.int64], take: Any) -> list[Any]:
    """Rows in runs of neighbours; where a run cannot be read, one by one."""
    found: list[Any] = []
    for run in np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1):
        if not len(run):
            continue
        try:
            found += list(take(slice(int(run[0]), int(run[-1]) + 1)))
        except Exception:
            found += [_read_one(int(row), take) for row in run]
    return found


def _read_one(row: int, take: Any) -> Any:
    try:
        return take(slice(row, row + 1))[0]
    except InputError as error:
        return error
    except Exception as error:
        return unreadable(error)
