"""Image sources: prepared crops, read in batches when they are asked for."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import Crops, in_batches
from cytolens.images.preparation import measured_masks, pad_or_crop, prepare
from cytolens.records.cells import Cells, Index, Preparation


@dataclass(frozen=True)
class ArrayImages:
    """Crops already at one size, in an array-like (N, C, H, W): ndarray, memmap or Zarr array.

    ``sizes`` (N, 2) are heights and widths before padding, ``preparation`` how to scale.
    """

    raw: Any
    sizes: NDArray[np.int64]
    preparation: Preparation

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        n, channels, height, width = self.raw.shape
        return int(n), int(channels), int(height), int(width)

    def read_raw(self, index: Index) -> NDArray[Any]:
        """The chosen crops (n, C, H, W) in the file's own dtype."""
        positions = np.arange(len(self.sizes))[index]
        if len(positions) == 0:
            return np.empty((0, *self.shape[1:]), dtype=self.raw.dtype)
        first, last = int(positions[0]), int(positions[-1])
        if last - first + 1 == len(positions) and (np.diff(positions) == 1).all():
            return np.asarray(self.raw[first : last + 1])
        by_axis = getattr(self.raw, "oindex", self.raw)  # Zarr's name for NumPy's own indexing
        return np.asarray(by_axis[positions])

    def read(self, index: Index) -> NDArray[np.float32]:
        """The chosen crops, scaled, float32 (n, C, H, W)."""
        return prepare(self.read_raw(index), self.preparation, masks=self.masks(index))

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W), True where measured, False where padded."""
        return measured_masks(self.sizes[index], self.preparation.size)


def with_crops(cells: Cells, raw: NDArray[Any]) -> Cells:
    """The same cells with other crops (N, C, H, W) in the files' intensities, measured all over."""
    sizes = np.tile(raw.shape[2:], (len(raw), 1)).astype(np.int64)
    return replace(cells, images=ArrayImages(raw, sizes, cells.preparation), original_sizes=sizes)


@dataclass(frozen=True)
class CropImages:
    """Crops of any size in files or arrays, decoded, padded and scaled as they are read.

    ``positions`` (N,) are the cells among all ``crops``, ``channels`` the image channels taken.
    """

    crops: Crops
    positions: NDArray[np.int64]
    channels: tuple[int, ...]
    sizes: NDArray[np.int64]  # (N, 2)
    preparation: Preparation

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        return (len(self.positions), len(self.channels), *self.preparation.size)

    def read_raw(self, index: Index) -> NDArray[Any]:
        """The chosen crops at one size (n, C, H, W), in the file's own dtype.

        Raises InputError when a file has changed since it was checked.
        """
        positions = self.positions[index]
        size, background = self.preparation.size, self.preparation.background
        dtype = np.dtype(self.preparation.dtype)
        out = np.empty((len(positions), len(self.channels), *size), dtype=dtype)
        channels = list(self.channels)
        for start, loaded in in_batches(self.crops, positions):
            for row, crop in enumerate(loaded, start):
                if isinstance(crop, InputError):
                    name = self.crops.name(int(positions[row]))
                    raise InputError(f"{name} {crop}; it has changed since it was checked")
                out[row] = pad_or_crop(crop[channels], size, background)
        return out

    def read(self, index: Index) -> NDArray[np.float32]:
        """The chosen crops, padded or cut and scaled, float32 (n, C, H, W)."""
        return prepare(self.read_raw(index), self.preparation, masks=self.masks(index))

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W), True where measured, False where padded."""
        return measured_masks(self.sizes[index], self.preparation.size)
