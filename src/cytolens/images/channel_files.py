"""Crops with a file for each image channel: ``12_Ch1.tif``, ``12_Ch2.tif`` …, as IDEAS exports."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import Crop, native
from cytolens.images.file_crops import read_pictures
from cytolens.images.image_files import Picture
from cytolens.images.isolation import is_isolated

_NAME = re.compile(
    r"^(?P<cell>.*?)[ _.-]*ch(?:annel)?[ _-]?0?(?P<channel>\d{1,2})(?:\.ome)?\.(?:tiff?|png)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ChannelGroups:
    """Files that belong together."""

    cells: list[str]  # (N,), paths without the channel, in the order of the files
    files: NDArray[np.str_]  # (N, C), relative
    channel_names: tuple[str, ...]  # "Ch1" …


def group_channels(files: Sequence[str]) -> ChannelGroups | None:
    """The cells whose channels these files are; None where they are anything else.

    That is so where every file's name ends in "Ch" and a number, of which there are two or more.
    Raises InputError where a channel of a cell is missing.
    """
    found: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for file in files:
        folder, _, name = file.rpartition("/")
        match = _NAME.match(name)
        if match is None:
            return None
        cell = f"{folder}/{match['cell']}" if folder else match["cell"]
        if int(match["channel"]) in found[cell]:
            return None
        found[cell][int(match["channel"])] = file
    channels = sorted({channel for of_cell in found.values() for channel in of_cell})
    if len(channels) < 2:
        return None
    for cell, of_cell in found.items():
        missing = [channel for channel in channels if channel not in of_cell]
        if missing:
            raise InputError(
                f"{next(iter(of_cell.values()))} is a channel of '{cell}', which has no file of "
                f"channel {missing[0]}; {len(found)} cells have one"
            )
    return ChannelGroups(
        list(found),
        np.array([[of_cell[c] for c in channels] for of_cell in found.values()]),
        tuple(f"Ch{channel}" for channel in channels),
    )


@dataclass(frozen=True)
class ChannelFileCrops:
    """Crops of which each image channel is a file below ``root``."""

    root: Path
    cells: NDArray[np.str_]  # (N,)
    files: NDArray[np.str_]  # (N, C)
    batch: int = 64
    isolated: bool = field(default_factory=is_isolated)

    def __len__(self) -> int:
        return len(self.cells)

    def name(self, position: int) -> str:
        """The path of the files without the channel."""
        return str(self.cells[position])

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each; of the first positions, see `Crops`."""
        wanted = self.files[positions]
        width = wanted.shape[1]
        paths = [self.root / name for name in wanted.ravel().tolist()]
        read = read_pictures(paths, isolated=self.isolated)
        while len(read) < min(width, len(paths)):  # the first crop's channels fill the memory
            read += read_pictures(paths[len(read) : width], isolated=self.isolated)
        whole = len(read) // width
        return [_joined(read[i * width : (i + 1) * width], wanted[i]) for i in range(whole)]


def _joined(pictures: list[Picture | InputError], names: NDArray[np.str_]) -> Crop | InputError:
    crops: list[Crop] = []
    for picture, name in zip(pictures, names.tolist()):
        if isinstance(picture, InputError):
            return InputError(f"in {Path(name).name} {picture}")
        if len(picture.crop) != 1:
            return InputError(f"in {Path(name).name} has {len(picture.crop)} channels, not one")
        crops.append(picture.crop)
    if len({(crop.shape, crop.dtype.str) for crop in crops}) > 1:
        shapes = ", ".join(f"{crop.dtype} {crop.shape[1]} × {crop.shape[2]}" for crop in crops)
        return InputError(f"has channels of different sizes or types: {shapes}")
    return native(np.concatenate(crops))
