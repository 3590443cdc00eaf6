"""Raw crops as files and arrays hold them: any size, own dtype, one by one or in batches."""

import mmap
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError

Crop = NDArray[Any]
"""One cell's picture, (C, h, w), in the file's own dtype and intensities."""


class Crops(Protocol):
    """What a reader gives: crops that are read on demand."""

    def __len__(self) -> int: ...

    @property
    def batch(self) -> int:
        """How many crops may be read at once without filling the memory."""
        ...

    def name(self, position: int) -> str:
        """How messages call this crop: its file, and its place in it."""
        ...

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops at these positions, or what is wrong with each.

        Of the first positions only, at least one, where all would fill the memory.
        """
        ...


def in_batches(
    crops: Crops, positions: NDArray[np.int64]
) -> Iterator[tuple[int, list[Crop | InputError]]]:
    """All crops at these positions, as many at a time as the memory allows; each with its start."""
    start = 0
    while start < len(positions):
        loaded = crops.load(positions[start : start + crops.batch])
        yield start, loaded
        start += len(loaded)


def locate(parts: Iterable[Sized], position: int) -> tuple[int, int]:
    """In which of the parts, one after the other, a position lies, and where in it."""
    for part, rows in enumerate(parts):
        if position < len(rows):
            return part, position
        position -= len(rows)
    raise IndexError(position)


BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class ArrayCrops:
    """Rows of one or more arrays, (n, C, H, W) or, with ``channel_axis`` 3, (n, H, W, C).

    ``windows`` (N, 4), if given, are top, left, height and width of the measured part of each
    row, where the array's maker has padded crops of different sizes to one.
    """

    parts: tuple[Any, ...]  # array-likes: ndarray or memmap
    labels: tuple[str, ...]  # "cells.npz", or "cells.npz[train]" where there is more than one part
    channel_axis: int | None  # 1, 3, or None where there is none: (n, H, W)
    windows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def batch(self) -> int:
        """About 32 MiB worth of crops."""
        row = self.parts[0]
        size = row.dtype.itemsize * int(np.prod(row.shape[1:], dtype=np.int64))
        return int(np.clip(BATCH_BYTES // max(size, 1), 1, 4096))

    def name(self, position: int) -> str:
        """Such as "cells.npz[17]"."""
        part, row = locate(self.parts, position)
        return f"{self.labels[part]}[{row}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """Views of the rows, (C, h, w); nothing here can be wrong with them."""
        for part in self.parts:
            _let_go(part)
        crops: list[Crop | InputError] = []
        for position in positions.tolist():
            part, row = locate(self.parts, position)
            crop = np.asarray(self.parts[part][row])
            if self.channel_axis is None:
                crop = crop[None]
            elif self.channel_axis == 3:
                crop = np.moveaxis(crop, -1, 0)
            if self.windows is not None:
                top, left, height, width = self.windows[position].tolist()
                crop = crop[:, top : top + height, left : left + width]
            crops.append(native(crop))
        return crops


@dataclass(frozen=True)
class ListCrops:
    """Arrays of different sizes, each (C, h, w) once ``channel_axis`` (of the array) is first."""

    arrays: Sequence[Any]
    label: str
    channel_axis: int | None  # 0, 2, or None where there is none: (h, w)
    batch: int = 256

    def __len__(self) -> int:
        return len(self.arrays)

    def name(self, position: int) -> str:
        """Such as "arrays[17]"."""
        return f"{self.label}[{position}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The arrays, (C, h, w), or what is wrong with them."""
        crops: list[Crop | InputError] = []
        for position in positions.tolist():
            crop = np.asarray(self.arrays[position])
            if crop.ndim != (2 if self.channel_axis is None else 3):
                crops.append(InputError(f"has {crop.ndim} axes, unlike the others"))
            else:
                crop = crop[None] if self.channel_axis is None else crop
                crops.append(native(np.moveaxis(crop, self.channel_axis or 0, 0)))
        return crops


def _let_go(array: Any) -> None:
    """Of a file that is mapped to memory what was read before: it would count as held by us."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(array, "madvise"):
        array.madvise(mmap.MADV_DONTNEED)


def native(crop: Crop) -> Crop:
    """The same numbers in the machine's byte order; truth values become 0 and 1."""
    if crop.dtype == bool:
        return crop.astype(np.uint8)
    return crop.astype(crop.dtype.newbyteorder("="), copy=False)


def find_channel_axis(shapes: NDArray[np.int64], n_names: int) -> int | None:
    """Which axis of crops with these shapes (n, 2 or 3) holds the channels: 0, 2, or None.

    The number of names decides, where it equals the length of one axis; otherwise the shorter of
    the axes of constant length is taken. Raises InputError where both ends are equally short.
    """
    if shapes.shape[1] == 2:
        return None
    constant = {axis: bool((shapes[:, axis] == shapes[0, axis]).all()) for axis in (0, 2)}
    lengths = {axis: int(shapes[0, axis]) for axis in (0, 2) if constant[axis]}
    named = [axis for axis, length in lengths.items() if length == n_names]
    if len(named) == 1:
        return named[0]
    shortest = [axis for axis, length in lengths.items() if length == min(lengths.values())]
    if len(shortest) == 1:
        return shortest[0]
    raise InputError(
        f"images of shape {tuple(shapes[0].tolist())} may have their channels first or last; "
        "add channel_names, as many as there are channels"
    )
