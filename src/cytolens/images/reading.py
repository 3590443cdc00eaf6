"""``read_cells``: a folder, file or table of images as Cells, checked and read on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytolens.errors import InputError
from cytolens.images import manifest
from cytolens.images.array_files import find_in_npy, find_in_npz
from cytolens.images.assembly import Choices, Found, make_cells
from cytolens.images.bsccm import find_in_bsccm, folder_of_bsccm
from cytolens.images.cell_files import OPENERS, find_in_cell_file, is_cell_file
from cytolens.images.field_crops import Cutting
from cytolens.images.field_tables import find_in_field_table, is_field_table
from cytolens.images.folders import find_in_fields, find_in_folder
from cytolens.images.huggingface import find_in_dataset, find_in_metadata, metadata_files
from cytolens.images.image_files import ENDINGS, TIFF_ENDINGS
from cytolens.images.opening import check_file
from cytolens.images.tables import ENDINGS as TABLE_ENDINGS
from cytolens.images.tables import SQLITE_ENDINGS
from cytolens.images.tiff_stacks import find_in_stack
from cytolens.images.zarr_fields import label_fields
from cytolens.records.cells import Cells, Progress


def read_cells(
    path: str | Path | Any,
    *,
    labels: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | str | None = None,
    channels: Sequence[str | int] | str | None = None,
    size: int | Sequence[int] | None = None,
    intensity: str = "dataset",
    background: str | float | Sequence[float] = "border",
    pixel_size: float | None = None,
    skip_bad: bool = False,
    relabel: str | Path | None = None,
    window: int | None = None,
    blank: str = "nothing",
    masks: str = "ignore",
    progress: Progress | None = None,
) -> Cells:
    """Single-cell crops from a folder of images, an ``.npz``, ``.npy``, stack or manifest, a file
    of many cells (CIF, HDF5, AnnData, Zarr, Parquet), or what ``datasets.load_dataset`` gives.

    Or cut from field images, where a table (of CellProfiler, for one) or label images beside them
    say where cells are.

    Every image is read once, a few at a time, and checked; later, images are read on demand.
    ``remarks`` say how the data were understood.

    labels: None for the usual (the innermost folder, the array or column ``labels``); or
        "folder", "level 1" …, the name of an array or column; or a regular expression with
        ``(?P<label>…)`` for file names, whose other named groups become columns.
    group: what a split must not cut: a folder level, array or column by name, or "none"; or a
        regular expression with ``(?P<group>…)`` for the files' paths below the data folder. By
        default the outer folder, or what is called ``group``.
    classes, channels: those to keep, by name or any unambiguous part of it, in that order;
        channels by number from 0, too.
    size: in pixels, (height, width) or one number; by default the smallest multiple of 8 that
        holds 95 % of the crops whole. Crops are padded or cut around their centre, never rescaled.
    intensity: "dataset" (the 0.1 and 99.9 percentiles of each channel become 0 and 1), "image"
        (each crop's own extremes do) or "none".
    background: the padding value, in the file's units; "border" takes it from the border pixels
        of the crops, see `preparation.border_background`.
    pixel_size: µm, overrides what the files say.
    skip_bad: leave unusable images out, listed in ``skipped``, instead of raising.
    relabel: a CSV with the columns ``name``, ``use`` and ``label``, such as the suspects.csv of a
        run after a person has edited it: cells to leave out, and other classes. What changes is
        listed in ``decisions``.
    masks: where the data come with masks (CIF, scPortrait, HDF5): "ignore" them, "blank" what is
        not the cell, or "crop" to it; see `masks.MaskedCrops`.
    window, blank: how cells are cut from field images, see `field_crops.Cutting`.

    Raises InputError for data that cannot be used, and SettingError for unknown names.

    >>> import tempfile
    >>> import numpy as np
    >>> crops = np.random.default_rng(0).integers(0, 99, (40, 20, 20), dtype=np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", images=crops, labels=["G1", "G2"] * 20, donor=[1, 2] * 20)
    ...     cells = read_cells(f"{folder}/a.npz", group="donor")
    >>> len(cells), cells.class_names, cells.shape, cells.group_name
    (40, ('G1', 'G2'), (1, 24, 24), 'donor')
    """
    choices = Choices(
        group=group,
        classes=classes,
        channels=channels,
        size=size,
        intensity=intensity,
        background=background,
        pixel_size=pixel_size,
        skip_bad=skip_bad,
        relabel=relabel,
        masks=masks,
        progress=progress,
    )
    if not isinstance(path, str | Path):
        return make_cells(find_in_dataset(path, labels), choices, source="dataset")
    path = Path(path).expanduser()
    try:
        found = find_cells(path, labels, skip_bad=skip_bad, cutting=Cutting(window, blank))
        return make_cells(found, choices, source=str(path))
    except OSError as error:
        raise InputError(f"{error.filename or path} cannot be read ({error.strerror})") from None


def find_cells(
    path: Path, labels: str | None, *, skip_bad: bool = False, cutting: Cutting | None = None
) -> Found:
    """What there is at ``path``, by its kind; nothing is decoded yet."""
    kind, place = locate(path)
    if kind == "folder":
        return find_in_folder(place, labels, skip_bad=skip_bad, cutting=cutting)
    if kind == "fields":
        return find_in_field_table(place, labels, cutting or Cutting())
    if kind == "npz":
        return find_in_npz(place, labels)
    if kind == "npy":
        return find_in_npy(place, labels)
    if kind == "manifest":
        return manifest.find_in_manifest(place, labels, skip_bad=skip_bad)
    if kind == "stack":
        return find_in_stack(place, labels)
    if kind == "bsccm":
        return find_in_bsccm(place, labels)
    if kind == "metadata":
        return find_in_metadata(place, labels, skip_bad=skip_bad)
    if kind == "cells":
        pairs = label_fields(place.parent, [place.name])
        if pairs:
            return find_in_fields(
                place.parent, [place.name], pairs, labels, cutting, skip_bad=skip_bad
            )
        return find_in_cell_file(place, labels)
    raise InputError(f"{path} is one image; give the folder that holds a folder per class")


def locate(path: Path) -> tuple[str, Path]:
    """The kind of the data at ``path``, and the file or folder that is read.

    The kind is "folder", "npz", "npy", "manifest", "fields" (a table of cells in field images),
    "stack" (any TIFF file), "image", "cells" (another file of many cells, see `cell_files`),
    "metadata" (see `huggingface`) or "bsccm" (see `bsccm`).
    Raises InputError if there is nothing, or nothing that can be read.
    """
    ending = path.suffix.lower()
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder, .npz, .npy, stack or manifest")
    if not path.is_dir():
        try:
            check_file(path)
        except InputError as error:
            raise InputError(f"{path} {error}") from None
    if is_cell_file(path):
        return "cells", path
    if path.is_dir():
        berkeley = folder_of_bsccm(path)
        if berkeley is not None:
            return "bsccm", berkeley
        packed = path / "cells.npz"
        if packed.is_file():
            return "npz", packed
        return ("metadata" if metadata_files(path) else "folder"), path
    if ending in (".npz", ".npy"):
        return ending[1:], path
    if ending in (*TABLE_ENDINGS, *SQLITE_ENDINGS):
        return "fields" if is_field_table(path) else "manifest", path
    if ending in ENDINGS:
        return "stack" if ending in TIFF_ENDINGS else "image", path
    raise InputError(
        f"{path} is of a kind that is not read; give a folder of images ({', '.join(ENDINGS)}), "
        f".npz, .npy, a TIFF stack, {', '.join(OPENERS)}, or a manifest "
        f"({', '.join(TABLE_ENDINGS)})"
    )
