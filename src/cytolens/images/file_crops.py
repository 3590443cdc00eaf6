"""Crops in image files: one to a file, or one to a page of a stack; decoded when asked for."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.allowance import Allowance, PostponedError
from cytolens.images.crops import Crop, native
from cytolens.images.decoded import read_pages, read_picture
from cytolens.images.image_files import Limits, Picture
from cytolens.images.isolation import is_isolated
from cytolens.images.opening import shown

T = TypeVar("T")

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
    isolated: bool = field(default_factory=is_isolated)

    def __len__(self) -> int:
        return len(self.files) if self.pages is None else len(self.pages)

    def name(self, position: int) -> str:
        """The file, relative to the root, and the page in brackets if there are pages."""
        if self.pages is None:
            return shown(str(self.files[position]))
        file, page = self.pages[position].tolist()
        return f"{shown(str(self.files[file]))}[{page}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), decoded by a few threads, or what is wrong with each.

        Those of the first positions only where together they would fill the memory.
        """
        if self.pages is None:
            paths = [self.root / str(self.files[i]) for i in positions.tolist()]
            return [
                self._checked(picture) for picture in read_pictures(paths, isolated=self.isolated)
            ]
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for row, (file, _) in enumerate(self.pages[positions].tolist()):
            wanted[file].append(row)
        crops: list[Crop | InputError | None] = [None] * len(positions)
        allowance = Allowance()
        for file, rows in wanted.items():
            pages = self.pages[positions[rows], 1].tolist()
            first = iter([rows[0] == 0])

            def take(size: int, first: Iterator[bool] = first) -> None:
                allowance.take(size, first=next(first, False))

            read = read_pages(
                self.root / str(self.files[file]), pages, Limits(take=take), isolated=self.isolated
            )
            for row, picture in zip(rows, read):
                crops[row] = self._checked(picture)
        return [
            crop for crop in takewhile(lambda crop: crop is not None, crops) if crop is not None
        ]

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


def read_pictures(paths: list[Path], *, isolated: bool) -> list[Picture | InputError]:
    """Pictures, decoded by a few threads, or what is wrong with each.

    Those of the first paths only, at least one, where all would fill the memory.
    """
    return decode_within(
        paths, lambda path, limits: read_picture(path, limits, isolated=isolated), few=_FEW
    )


def decode_within(
    stored: Sequence[T], decode: Callable[[T, Limits], Picture | InputError], *, few: int
) -> list[Picture | InputError]:
    """What ``decode`` gives of each, by a few threads, or the InputError that it raises.

    Of the first only, at least one, where all would fill the memory. So many as ``few`` are not
    worth a thread.
    """
    allowance = Allowance()

    def one(item: T, first: bool) -> Picture | InputError | None:
        try:
            return decode(item, Limits(take=lambda size: allowance.take(size, first=first)))
        except InputError as error:
            return error
        except PostponedError:
            return None

    firsts = [place == 0 for place in range(len(stored))]
    if len(stored) <= few:
        found = list(map(one, stored, firsts))
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(one, stored, firsts))
    return [each for each in takewhile(lambda each: each is not None, found) if each is not None]
