"""The Berkeley Single Cell Computational Microscopy data (BSCCM, BSCCMNIST): white blood cells.

A folder with tables of the cells and an array for each cell in one Zarr folder. Cells have a type
where it was gated by fluorescence; the pictures are label-free. Written from the layout that the
authors' own reader (github.com/Waller-Lab/BSCCM) expects. Source: Pinkard et al. 2024,
arXiv:2402.06191.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels
from cytolens.images.assembly import Found
from cytolens.images.crops import BATCH_BYTES, Crop
from cytolens.images.image_files import check_extent, unreadable
from cytolens.images.isolation import is_isolated
from cytolens.images.opening import check_file
from cytolens.images.tables import columns_of, headers_of
from cytolens.images.zarr_files import check_array, member, open_group

_ABOUT, _INDEX = "BSCCM_global_metadata.json", "BSCCM_index.csv"
_MARKERS, _IMAGES = "BSCCM_surface_markers.csv", "BSCCM_images.zarr"
_LARGEST = 16 << 20  # bytes of the file that describes the data
_GATED = "selection_gated"  # in the names of the columns of cell types, in the authors' order
_TYPES = {0: "lymphocyte", 1: "granulocyte", 2: "granulocyte", 3: "granulocyte",
          7: "monocyte", 8: "monocyte", 9: "monocyte"}  # fmt: skip
_KEPT = ("batch", "slide_replicate", "antibodies")


def folder_of_bsccm(path: Path) -> Path | None:
    """The folder of such data, which is ``path`` or the only folder in it; else None."""
    if (path / _ABOUT).is_file():
        return path
    inner = list(path.glob(f"*/{_ABOUT}")) if path.is_dir() else []
    return inner[0].parent if len(inner) == 1 else None


def files_of_bsccm(folder: Path) -> list[Path]:
    """The files by which changes are noticed: the tables, not the millions of chunks."""
    return [folder / name for name in (_ABOUT, _INDEX, _MARKERS) if (folder / name).is_file()]


def find_in_bsccm(folder: Path, labels: str | None) -> Found:
    """The cells, with the pictures of the LED array; nothing is decoded yet.

    The class is the cell type (lymphocyte, granulocyte, monocyte) of cells that have one, or the
    column that ``labels`` names. Surface markers, measured by fluorescence, become covariates.
    Raises InputError where files are missing or damaged.
    """
    if is_isolated():
        raise InputError(f"{folder} holds BSCCM data, which --isolate does not read; leave it away")
    names = _channels(folder)
    index, _ = columns_of(folder / _INDEX)
    if not {"global_index", "data_path"} <= set(index):
        raise InputError(f"{folder / _INDEX} has no columns global_index and data_path")
    numbers = index["global_index"].astype(np.int64)
    columns = {name: index[name] for name in _KEPT if name in index}
    types, markers = _of_markers(folder, numbers)
    columns |= markers
    rows = np.arange(len(numbers))
    if labels is None:
        if types is None or not (types != "").any():
            raise InputError(
                f"{folder} has no cell types ('{_GATED}' in {_MARKERS}); name a column with "
                f"--labels: {', '.join(columns)}"
            )
        rows = np.flatnonzero(types != "")
        columns = {name: column[rows] for name, column in columns.items()} | {"label": types[rows]}
    cells = np.array([f"cell_{number}" for number in numbers[rows].tolist()], dtype=np.str_)
    codes, known, remark = choose_labels(folder, columns, cells, labels, None)
    left = len(numbers) - len(rows)
    lost = (f"{left:,} cells without a type were left out",) if left else ()
    paths = index["data_path"].astype(np.str_)[rows]
    return Found(
        crops=LedArrayCrops(folder / _IMAGES, paths, cells, len(names)),
        labels=codes,
        class_names=known,
        names=cells,
        columns=columns,
        channel_names=names,
        remarks=(remark if labels else "class = cell type, gated by fluorescence", *lost),
    )


@dataclass(frozen=True)
class LedArrayCrops:
    """The pictures of each cell under the patterns of the LED array, an array per cell."""

    store: Path
    folders: NDArray[np.str_]  # (N,), in the store
    names: NDArray[np.str_]  # (N,)
    channels: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def batch(self) -> int:
        """As many as fit, at 128 × 128 px of 16 bits, the largest there are."""
        return int(np.clip(BATCH_BYTES // (self.channels * 2 * 128 * 128), 1, 256))

    def name(self, position: int) -> str:
        """As the authors' reader calls it."""
        return str(self.names[position])

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each."""
        group = open_group(self.store)
        return [self._read(group, position) for position in positions.tolist()]

    def _read(self, group: Any, position: int) -> Crop | InputError:
        try:
            array = member(group, f"{self.folders[position]}/led_array/{self.names[position]}")
            check_array(array)
            if len(array.shape) != 3 or array.shape[0] != self.channels:
                return InputError(f"has shape {array.shape}, not ({self.channels}, h, w)")
            check_extent(array.shape, array.dtype.itemsize)
            return np.asarray(array[...])
        except InputError as error:
            return error
        except Exception as error:  # KeyError where it is not there, or a codec's own
            return unreadable(error)


def _channels(folder: Path) -> tuple[str, ...]:
    for name in (_INDEX, _IMAGES):
        if not (folder / name).exists():
            raise InputError(f"{folder} lacks {name}; unpack the whole archive")
    try:
        check_file(folder / _ABOUT, most=_LARGEST)
        about = json.loads((folder / _ABOUT).read_text("utf-8"))
        names = tuple(str(name) for name in about["led_array"]["channel_names"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / _ABOUT} names no channels of the LED array ({error})"
        ) from None
    return names


def _of_markers(
    folder: Path, numbers: NDArray[np.int64]
) -> tuple[NDArray[np.str_] | None, dict[str, NDArray[Any]]]:
    """The type of each cell (N,), "" where there is none, and its surface markers."""
    path = folder / _MARKERS
    if not path.is_file():
        return None, {}
    (headers,) = headers_of(path).values()
    gates = [name for name in headers if _GATED in name]
    measured = [name for name in headers if name.endswith("_unmixed")]
    table, _ = columns_of(path, ["global_index", *gates, *measured])
    known = table["global_index"].astype(np.int64)
    order = np.argsort(known, kind="stable")
    at = order[np.clip(np.searchsorted(known[order], numbers), 0, max(len(known) - 1, 0))]
    there = known[at] == numbers
    types = np.full(len(numbers), "", dtype="<U11")
    for place, name in enumerate(gates):
        inside = np.char.lower(table[name].astype(np.str_)) == "true"
        if place in _TYPES:
            types[there & inside[at]] = _TYPES[place]
    columns = {
        name.removesuffix("_unmixed").replace("_full_model", ""): np.where(
            there, table[name].astype(np.float64)[at], np.nan
        )
        for name in measured
        if table[name].dtype.kind in "fiu"
    }
    return (types if gates else None), columns
