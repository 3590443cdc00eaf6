"""Crops in image files: one to a file, or one to a page of a stack; decoded when asked for."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import Crop, native
from cytolens.images.image_files import Picture, read_pages, read_picture

THREADS = 4  # decoders and disks leave the interpreter free for so many
_FEW = 8  # files that are not worth a thread


@dataclass(frozen=True)
class FileCrops:
    """Files below ``root``, each a crop, or (with ``pages``) pages of these files.

    ``channel_names`` hold for all files: a file that names other channels, or the same in another
    order, is refused, since its channels would be mixed up.
    """

    root: Path
    files: NDArray[np.str_]  # (F,), relative to root
    channel_names: tuple[str, ...] = ()
    pages: NDArray[np.int64] | None = None  # (N, 2): file, page
    batch: int = 64

    def __len__(self) -> int:
        return len(self.files) if self.pages is None else len(self.pages)

    def name(self, position: int) -> str:
        """The file, relative to the root, and the page in brackets if there are pages."""
        if self.pages is None:
            return str(self.files[position])
        file, page = self.pages[position].tolist()
        return f"{self.files[file]}[{page}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), decoded by a few threads, or what is wrong with each."""
        if self.pages is None:
            paths = [self.root / str(self.files[i]) for i in positions.tolist()]
            return [self._checked(picture) for picture in read_pictures(paths)]
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for row, (file, _) in enumerate(self.pages[positions].tolist()):
            wanted[file].append(row)
        crops: list[Crop | InputError] = [InputError("was not read")] * len(positions)
        for file, rows in wanted.items():
            pages = self.pages[positions[rows], 1].tolist()
            read = read_pages(self.root / str(self.files[file]), pages)
            for row, picture in zip(rows, read):
                crops[row] = self._checked(picture)
        return crops

    def _checked(self, picture: Picture | InputError) -> Crop | InputError:
        if isinstance(picture, InputError):
            return picture
        named = picture.channel_names
        if named and self.channel_names and named != self.channel_names:
            return InputError(
                f"has channels {', '.join(named)} where the others have "
                f"{', '.join(self.channel_names)}"
            )
        return native(picture.crop)


def read_pictures(paths: list[Path]) -> list[Picture | InputError]:
    """Pictures, decoded by a few threads, or what is wrong with each."""
    if len(paths) <= _FEW:
        return [_read(path) for path in paths]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(_read, paths))


def _read(path: Path) -> Picture | InputError:
    try:
        return read_picture(path)
    except InputError as error:
        return error
