"""Files of many cells opened and decoded in a process of their own; see `isolation`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.cell_files import CellFile
from cytolens.images.crops import Crop
from cytolens.images.isolation import SECONDS, ask
from cytolens.images.masks import Mask

_OPENING = 6 * SECONDS  # of the processor: the places of all cells are looked up
_AT_ONCE = 64  # crops of one request
_EACH = 1.0  # second of the processor for each of them


def open_isolated(path: Path, ending: str) -> CellFile:
    """What `cell_files.OPENERS` give for a file with this ending, decoded elsewhere.

    Raises InputError with a message that leaves out the file's name.
    """
    about, (names, own, *columns) = ask("cells", path, seconds=_OPENING, ending=ending)
    classes = about["class_names"]
    return CellFile(
        crops=IsolatedCrops(path, ending, own, int(about["batch"]), bool(about["has_masks"])),
        names=names,
        table=dict(zip(map(str, about["columns"]), columns)),
        class_names=None if classes is None else tuple(map(str, classes)),
        channel_names=tuple(map(str, about["channel_names"])),
        pixel_size=about["pixel_size"],
        remarks=tuple(map(str, about["remarks"])),
    )


def asked_for_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of pictures; False where that cannot be said."""
    try:
        (found,), _ = ask("pictures", path, seconds=_OPENING)
        return bool(found)
    except InputError:
        return False


@dataclass(frozen=True)
class IsolatedCrops:
    """The crops of a file, decoded by other processes."""

    path: Path
    ending: str
    names: NDArray[np.str_]  # (N,), of the crops
    batch: int
    has_masks: bool

    def __len__(self) -> int:
        return len(self.names)

    def name(self, position: int) -> str:
        """As the reader of the format names it."""
        return str(self.names[position])

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each; of the first positions, see `Crops`."""
        return self._ask(positions, masks=False)

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """The masks (h, w), or what is wrong with each."""
        return self._ask(positions, masks=True)

    def _ask(self, positions: NDArray[np.int64], *, masks: bool) -> list[Any]:
        """Of some that cannot be read together, each is asked for alone: others may be whole."""
        found: list[Any] = []
        for start in range(0, len(positions), _AT_ONCE):
            some: list[int] = positions[start : start + _AT_ONCE].tolist()
            try:
                read = self._read(some, masks)
            except InputError as error:
                read = [error] if len(some) == 1 else [self._read_one(row, masks) for row in some]
            found += read
            if len(read) < len(some):
                break
        return found

    def _read_one(self, row: int, masks: bool) -> Any:
        try:
            return self._read([row], masks)[0]
        except InputError as error:
            return error

    def _read(self, rows: list[int], masks: bool) -> list[Any]:
        errors, arrays = ask(
            "crops",
            self.path,
            seconds=max(SECONDS, _EACH * len(rows)),
            ending=self.ending,
            positions=rows,
            masks=masks,
        )
        crops = iter(arrays)
        return [next(crops) if error is None else InputError(str(error)) for error in errors]
