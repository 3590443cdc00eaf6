"""Files that hold many cells each: one of them, or a folder with one per class, donor or sample.

A format is a function from a path to `CellFile`, and its endings in ``OPENERS``. What a file says
of its cells besides their pictures is a table; which of its columns is the class is decided here.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels, read_sidecar, sidecar_of
from cytolens.images.assembly import Found
from cytolens.images.columns import encode_labels, group_column, listed, split_columns
from cytolens.images.crops import Crop, Crops
from cytolens.images.image_files import unreadable
from cytolens.images.isolation import is_isolated
from cytolens.images.masks import CropsWithMasks, Mask
from cytolens.images.opening import check_file
from cytolens.records.cells import Skipped

_LABELS = ("label", "labels", "class")


@dataclass(frozen=True)
class CellFile:
    """The cells of one file, and what it says of them; no picture is decoded yet."""

    crops: Crops
    names: NDArray[np.str_]  # (N,)
    table: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])  # (N, …)
    class_names: tuple[str, ...] | None = None
    channel_names: tuple[str, ...] = ()
    pixel_size: float | None = None  # µm
    remarks: tuple[str, ...] = ()


def _open_cif(path: Path) -> CellFile:
    from cytolens.images.amnis_cells import open_cif

    return open_cif(path)


def _open_hdf5(path: Path) -> CellFile:
    from cytolens.images.hdf5_files import open_hdf5

    return open_hdf5(path)


def _open_zarr(path: Path) -> CellFile:
    from cytolens.images.zarr_files import open_zarr

    return open_zarr(path)


def _open_parquet(path: Path) -> CellFile:
    from cytolens.images.parquet_files import open_parquet

    return open_parquet(path)


OPENERS: dict[str, Callable[[Path], CellFile]] = {
    ".cif": _open_cif,
    ".h5sc": _open_hdf5,
    ".h5ad": _open_hdf5,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".zarr": _open_zarr,
    ".parquet": _open_parquet,
}
"""By the ending of a file. Each raises InputError with a message that leaves out its name."""


ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
"""A folder with one of these files is a Zarr array or group."""


def is_cell_file(path: Path) -> bool:
    """Whether the ending is one of ``OPENERS``, or it is a Zarr folder of any name.

    A Parquet file is one only where it holds pictures; else it is a manifest.
    """
    if path.is_dir():
        return any((path / mark).is_file() for mark in ZARR_MARKS)
    if path.suffix.lower() == ".parquet":
        return path.is_file() and _has_pictures(path)
    return path.name.lower().endswith(tuple(OPENERS))


def _has_pictures(path: Path) -> bool:
    if is_isolated():
        from cytolens.images.isolated_cells import asked_for_pictures

        return asked_for_pictures(path)
    from cytolens.images.parquet_files import has_pictures

    return has_pictures(path)


def _open(path: Path, ending: str) -> CellFile:
    if is_isolated():
        from cytolens.images.isolated_cells import open_isolated

        return open_isolated(path, ending)
    return OPENERS[ending](path)


def open_cell_file(path: Path, *, alone: bool = False) -> CellFile:
    """What a file holds, with the table next to it, ``<stem>_labels.csv``, where there is one.

    With ``alone`` it may be called ``labels.csv``, too. Raises InputError, with the file's name.
    """
    folder = path.is_dir()
    ending = ".zarr" if folder else next(e for e in OPENERS if path.name.lower().endswith(e))
    try:
        if not folder and check_file(path) == 0:
            raise InputError("is empty (zero bytes)")
        found = _open(path, ending)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None
    if not _tables_beside(path, alone=alone):
        return found
    beside = read_sidecar(path)
    wrong = next((name for name, column in beside.items() if len(column) != len(found.names)), None)
    if wrong is not None:
        raise InputError(
            f"{sidecar_of(path)[0]} has {len(beside[wrong])} rows for the {len(found.names)} cells "
            f"of {path.name}"
        )
    return CellFile(
        found.crops, found.names, found.table | beside, None, found.channel_names,
        found.pixel_size, found.remarks,
    )  # fmt: skip


def find_in_cell_file(path: Path, labels: str | None) -> Found:
    """The cells of one file, labelled by a column of its own or of the table next to it."""
    file = open_cell_file(path, alone=True)
    table = dict(file.table)
    if labels is None and not any(name in table for name in _LABELS):
        raise InputError(
            f"{path} holds {len(file.names)} cells but no labels; put "
            f"{path.name.split('.')[0]}_labels.csv with a column 'label' next to it, name a column "
            f"with --labels ({listed(list(table)) or 'there are none'}), or give a folder with a "
            "file per class"
        )
    if labels is None and "class" in table and not {"label", "labels"} & set(table):
        labels = "class"
    codes, known, remark = choose_labels(path, table, file.names, labels, file.class_names)
    columns = _columns(path, table, len(file.names))
    return Found(
        crops=file.crops,
        labels=codes,
        class_names=known,
        names=file.names,
        columns=columns,
        group=group_column(columns),
        channel_names=file.channel_names,
        pixel_size=file.pixel_size,
        remarks=(remark, *file.remarks),
    )


def find_in_cell_files(
    root: Path,
    files: Sequence[str],
    classes: NDArray[np.str_] | None,
    labels: str | None,
    *,
    skip_bad: bool = False,
    own_first: bool = False,
    columns: dict[str, NDArray[Any]] | None = None,
    group: str | None = None,
    remarks: tuple[str, ...] = (),
) -> Found:
    """The cells of several files below ``root``; ``classes`` and ``columns`` have one per file.

    Where ``classes`` is None, ``labels`` names a column of the files; with ``own_first`` their own
    labels come before ``classes`` where every file has them. Raises InputError for a file
    that cannot be opened, or lists it with ``skip_bad``, and for files whose image channels
    differ.
    """
    opened: list[CellFile] = []
    kept: list[int] = []
    skipped: list[Skipped] = []
    for index, name in enumerate(files):
        try:
            opened.append(open_cell_file(root / name))
            kept.append(index)
        except InputError as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(name, str(error).removeprefix(f"{root / name} ")))
    if not opened:
        raise InputError(f"none of {len(files)} files in {root} can be used: {skipped[0].reason}")
    _check_alike(opened, [files[i] for i in kept])
    counts = [len(file.names) for file in opened]
    rows = np.repeat(np.array(kept, dtype=np.int64), counts)
    crops = JoinedCrops(
        tuple(file.crops for file in opened),
        tuple(f"{Path(files[i]).parent.as_posix()}/".removeprefix("./") for i in kept),
    )
    names = np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_)
    shared = [n for n in opened[0].table if all(n in file.table for file in opened)]
    table = {name: np.concatenate([file.table[name] for file in opened]) for name in shared}
    if own_first and any(name in table for name in _LABELS):
        classes, remarks = None, ()
        labels = "class" if not {"label", "labels"} & set(table) else labels
    if classes is None:
        codes, known, remark = choose_labels(root, table, names, labels, opened[0].class_names)
        remarks = (remark, *remarks)
    else:
        of_file, known = encode_labels(classes, None, what="labels")
        codes = of_file[rows]
    further = {name: column[rows] for name, column in (columns or {}).items()}
    every = {**_columns(root, table, len(names)), **further}
    default = group or group_column(every)
    return Found(
        crops=crops,
        labels=codes,
        class_names=known,
        names=names,
        columns=every,
        group=default,
        channel_names=opened[0].channel_names,
        pixel_size=opened[0].pixel_size,
        remarks=(*remarks, f"{len(names)} cells in {len(opened)} files", *opened[0].remarks),
        skipped=tuple(skipped),
    )


def files_of_cell_file(path: Path, *, alone: bool = False) -> list[Path]:
    """The files whose bytes decide what `open_cell_file` gives; all below a Zarr folder."""
    from cytolens.images.amnis_cells import tables_of_cif

    own = [path]
    if path.is_dir():
        own = [Path(folder) / name for folder, _, names in os.walk(path) for name in sorted(names)]
    tables = tables_of_cif(path) if path.suffix.lower() == ".cif" else []
    return [*own, *tables, *_tables_beside(path, alone=alone)]


def _tables_beside(path: Path, *, alone: bool) -> list[Path]:
    stem = path.name.split(".")[0]
    return [place for place in sidecar_of(path) if alone or place.name.startswith(f"{stem}_")]


def _check_alike(opened: list[CellFile], names: list[str]) -> None:
    """Refuses files whose image channels or pixel sizes differ: they would be mixed up."""
    for file, name in zip(opened, names):
        if file.channel_names != opened[0].channel_names:
            raise InputError(
                f"{name} has channels {listed(file.channel_names) or 'without names'} where "
                f"{names[0]} has {listed(opened[0].channel_names) or 'channels without names'}"
            )
        if file.pixel_size != opened[0].pixel_size:
            raise InputError(
                f"{name} has pixels of {file.pixel_size} µm where {names[0]} has "
                f"{opened[0].pixel_size}; crops are never rescaled"
            )


def _columns(path: Path, table: dict[str, NDArray[Any]], n: int) -> dict[str, NDArray[Any]]:
    try:
        return split_columns(table, n)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@dataclass(frozen=True)
class JoinedCrops:
    """The crops of several files one after the other; ``folders`` come before their names."""

    parts: tuple[Crops, ...]
    folders: tuple[str, ...]

    def __post_init__(self) -> None:
        ends = np.cumsum([len(part) for part in self.parts])
        object.__setattr__(self, "_ends", ends)

    def __len__(self) -> int:
        return int(self._ends[-1])  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def batch(self) -> int:
        """As many as the most careful of the parts allows, but enough of small ones."""
        several = [part.batch for part in self.parts if len(part) > 1]
        return min(several) if several else 64

    @property
    def has_masks(self) -> bool:
        """Whether every part has masks."""
        return all(isinstance(part, CropsWithMasks) and part.has_masks for part in self.parts)

    def name(self, position: int) -> str:
        """Such as "donor_1/cells.cif[17]"."""
        part, row = self._locate(position)
        return f"{self.folders[part]}{self.parts[part].name(row)}"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops, or what is wrong with each; of the first positions, see `Crops`."""
        return self._gather(positions, lambda part, rows: part.load(rows))

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """The masks, or what is wrong with each."""

        def load(part: Crops, rows: NDArray[np.int64]) -> list[Mask | InputError]:
            assert isinstance(part, CropsWithMasks)
            return part.load_masks(rows)

        return self._gather(positions, load)

    def _locate(self, position: int) -> tuple[int, int]:
        ends: NDArray[np.int64] = self._ends  # pyright: ignore[reportAttributeAccessIssue]
        part = int(np.searchsorted(ends, position, side="right"))
        return part, position - (int(ends[part - 1]) if part else 0)

    def _gather(self, positions: NDArray[np.int64], load: Callable[..., list[Any]]) -> list[Any]:
        places = [self._locate(position) for position in positions.tolist()]
        found: list[Any] = [None] * len(places)
        for part in dict.fromkeys(part for part, _ in places):
            rows = [i for i, place in enumerate(places) if place[0] == part]
            wanted = np.array([places[i][1] for i in rows], dtype=np.int64)
            for i, crop in zip(rows, load(self.parts[part], wanted)):
                found[i] = crop
        return list(takewhile(lambda crop: crop is not None, found))
