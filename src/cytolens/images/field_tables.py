"""Cells in field images, placed by a table: CellProfiler, Cell Painting, ilastik and the like."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, choose
from cytolens.images.array_files import choose_labels
from cytolens.images.assembly import Found
from cytolens.images.columns import NO_LABELS
from cytolens.images.field_columns import FieldColumns, find_columns
from cytolens.images.field_crops import (
    Cutting,
    Field,
    FieldCrops,
    FieldFiles,
    boxes_of,
    read_field,
    read_labels,
    windows,
)
from cytolens.images.field_rows import (
    EMPTY,
    GROUPS,
    LABELS,
    Columns,
    Table,
    fields_of,
    is_profiler,
    read_rows,
)
from cytolens.images.isolation import is_isolated
from cytolens.images.tables import SQLITE_ENDINGS, columns_of, headers_of
from cytolens.records.cells import Skipped

_FEWEST_GROUPS = 3  # of a class: for training, validation and test
_FARTHEST = 1e6  # pixels from the corner of a field
_MANIFEST = ("path", "file", "filename", "image")  # columns that may as well name crops


def is_field_table(path: Path) -> bool:
    """Whether the table at ``path`` says where cells are in field images.

    A table of one image per row and columns ``x`` and ``y`` is a manifest of crops. A table that
    cannot be read is none; that is said where it is read.
    """
    if path.suffix.lower() in SQLITE_ENDINGS:
        return True
    try:
        (names,) = headers_of(path).values()
        columns = find_columns(names)
        if columns is None:
            return False
        one = columns.files.get("")
        if one is None or columns.mask or one.lower() not in _MANIFEST:
            return True
        named = columns_of(path, [one])[0][one]
    except (InputError, ValueError, KeyError):
        return False
    return len(np.unique(named)) < len(named)


def find_in_field_table(path: Path, labels: str | None, cutting: Cutting) -> Found:
    """The cells that a table places in field images; nothing is cut yet.

    Label images, where the table names them, are read for the boxes of cells. Paths of another
    machine are looked for beside the table. Of CellProfiler's columns those that describe the
    experiment (``Metadata_…``) become covariates, and so does the place in the field; what was
    measured does not. Cells without a label are left out.

    Raises InputError where the table cannot be read, does not say which images it speaks of, or
    has no cells with a label.
    """
    table = read_rows(path)
    fields, places = fields_of(path, table)
    numbers = _numbers(table, places)
    boxes, centres, kept, skipped = _places(table, fields, places, numbers, path)
    chosen = table.columns
    window = windows(boxes, cutting, centres)
    if cutting.window is None and chosen.box is None and chosen.mask is None:
        raise InputError(
            f"{path} gives the centres of cells only; say how many pixels to cut: --window 64"
        )
    if cutting.blank != "nothing" and chosen.mask is None:
        raise InputError(
            f"--blank {cutting.blank} needs label images, in a column 'mask'; {path} has none"
        )
    names = np.array(
        [f"{fields[f].name}[{n}]" for f, n in zip(places.tolist(), numbers.tolist())], dtype=np.str_
    )
    columns = _covariates(table, names, places, fields, centres)
    codes, known, remark, labelled = _labels(path, columns, names, labels)
    kept &= labelled
    order = np.flatnonzero(kept)
    order = order[np.argsort(places[order], kind="stable")]
    if len(order) == 0:
        raise InputError(f"{path} has no cells with a place and a label")
    first, channel_names = _first_field(fields, places[order], table.columns)
    crops = FieldCrops(
        fields, places[order], window[order], numbers[order], cutting.blank, len(first.image)
    )
    return Found(
        crops=crops,
        labels=codes[order],
        class_names=known,
        names=names[order],
        columns={name: column[order] for name, column in columns.items()},
        group=_group(columns, order, codes),
        channel_names=channel_names,
        pixel_size=first.pixel_size,
        remarks=(remark, *_remarks(table, fields, cutting, int((kept < labelled).sum()), labelled)),
        skipped=tuple(skipped),
    )


def files_of_field_table(path: Path) -> list[Path]:
    """The tables, and every image and label image that they name."""
    table = read_rows(path)
    fields, _ = fields_of(path, table)
    images = [file for one in fields for file in (*one.files, *([one.mask] if one.mask else []))]
    return [*table.files, *dict.fromkeys(images)]


def _numbers(table: Table, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number (N,) of each cell in its field: as the table says, else counted from 1."""
    name = table.columns.object_number
    if name is not None:
        values = _real(table.rows[name])
        if np.isfinite(values).all() and (np.abs(values) < 2**53).all():
            return values.astype(np.int64)
    order = np.argsort(places, kind="stable")
    counts = np.bincount(places)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    numbers = np.empty(len(places), dtype=np.int64)
    numbers[order] = np.arange(len(places)) - starts + 1
    return numbers


def _real(column: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers (N,); NaN where a field is empty. Raises InputError for text."""
    if column.dtype.kind in "iufb":
        return column.astype(np.float64)
    texts = np.where(np.isin(column, EMPTY), "nan", column)
    try:
        return texts.astype(np.float64)
    except ValueError as error:
        raise InputError(f"a place of a cell is no number ({str(error)[:60]})") from None


def _places(
    table: Table,
    fields: list[FieldFiles],
    places: NDArray[np.int64],
    numbers: NDArray[np.int64],
    path: Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_], list[Skipped]]:
    """Boxes (N, 4), centres (N, 2) or None, which cells have a place (N,), and what is skipped."""
    columns = table.columns
    n = len(places)
    boxes = np.full((n, 4), np.nan)
    centres = None
    skipped: list[Skipped] = []
    try:
        if columns.centre is not None:
            centres = np.stack([_real(table.rows[name]) for name in columns.centre], axis=1)
        if columns.box is not None:
            boxes = np.stack([_real(table.rows[name]) for name in columns.box], axis=1)
        elif columns.mask is not None and columns.object_number is not None:
            for place in np.unique(places).tolist():
                mask = fields[place].mask
                rows = np.flatnonzero(places == place)
                if mask is None:
                    continue
                try:
                    known, found = boxes_of(read_labels(mask, isolated=is_isolated()))
                except InputError as error:
                    skipped.append(Skipped(fields[place].name, str(error)))
                    continue
                at = np.clip(np.searchsorted(known, numbers[rows]), 0, max(len(known) - 1, 0))
                there = (
                    known[at] == numbers[rows] if len(known) else np.zeros(len(rows), dtype=bool)
                )
                boxes[rows[there]] = found[at[there]]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if np.isnan(boxes).all() and centres is not None:
        boxes = np.concatenate([centres, centres + 1], axis=1)
    with np.errstate(invalid="ignore"):
        usable = np.asarray((np.abs(boxes) < _FARTHEST).all(axis=1))  # no NaN is
        usable &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if centres is not None:
        usable &= (np.abs(centres) < _FARTHEST).all(axis=1)
        centres = np.where(usable[:, None], centres, 0)
    boxes = np.where(usable[:, None], boxes, [[0.0, 0.0, 1.0, 1.0]])
    return boxes, centres, usable, skipped


def _covariates(
    table: Table,
    names: NDArray[np.str_],
    places: NDArray[np.int64],
    fields: list[FieldFiles],
    centres: NDArray[np.float64] | None,
) -> Columns:
    columns = table.columns
    used = {
        *(columns.centre or ()),
        *(columns.box or ()),
        *columns.files.values(),
        *columns.folders.values(),
        columns.image_number,
        columns.object_number,
        columns.mask,
    }
    kept = {name: column for name, column in table.rows.items() if name not in used}
    kept = {name.removeprefix("Image_"): column for name, column in kept.items()}
    kept["field"] = np.array([one.name for one in fields], dtype=np.str_)[places]
    if centres is not None:
        kept["x in field"], kept["y in field"] = centres[:, 0], centres[:, 1]
    assert all(len(column) == len(names) for column in kept.values())
    return kept


def _labels(
    path: Path, columns: Columns, names: NDArray[np.str_], labels: str | None
) -> tuple[NDArray[np.int64], tuple[str, ...], str, NDArray[np.bool_]]:
    """Codes (N,), class names, a remark, and which cells have a label (N,)."""
    n = len(names)
    if labels is None:
        labels = next((name for name in LABELS if name in columns), None)
    if labels is None or labels == NO_LABELS or "(?P<" in labels:
        codes, known, remark = choose_labels(path, columns, names, labels, None)
        return codes, known, remark, np.ones(n, dtype=bool)
    key = choose("labels", labels, list(columns))
    has = ~np.isin(columns[key].astype(np.str_), EMPTY)
    if not has.any():
        raise InputError(f"{path}: no cell has a label in '{key}'")
    some = {key: columns.pop(key)[has]}
    found, known, remark = choose_labels(path, some, names[has], key, None)
    codes = np.zeros(n, dtype=np.int64)
    codes[has] = found
    return codes, known, remark, has


def _group(columns: Columns, order: NDArray[np.int64], codes: NDArray[np.int64]) -> str:
    """The first of donor, plate and well of which every class has three or more; else the field.

    With fewer, no split of whole groups would give every class to each part.
    """
    for name in (name for name in GROUPS if name in columns):
        pairs = np.stack([codes[order].astype(np.str_), columns[name][order].astype(np.str_)])
        classes = np.unique(pairs, axis=1)[0]
        if np.unique(classes, return_counts=True)[1].min() >= _FEWEST_GROUPS:
            return name
    return "field"


def _first_field(
    fields: list[FieldFiles], places: NDArray[np.int64], columns: FieldColumns
) -> tuple[Field, tuple[str, ...]]:
    """The first field that can be read, and the names of the image channels."""
    error = InputError("there are no fields")
    for place in np.unique(places).tolist()[:8]:
        try:
            first = read_field(fields[place], isolated=is_isolated(), masked=False)
        except InputError as problem:
            error = InputError(f"{fields[place].name} {problem}")
            continue
        channels = tuple(columns.files)
        if channels == ("",):
            return first, first.names
        return first, channels if len(channels) == len(first.image) else ()
    raise error


def _remarks(
    table: Table,
    fields: list[FieldFiles],
    cutting: Cutting,
    lost: int,
    labelled: NDArray[np.bool_],
) -> list[str]:
    cut = "their own boxes and 4 px" if cutting.window is None else f"{cutting.window} px"
    remarks = [f"cells are cut from {len(fields)} fields: {cut} around each"]
    if cutting.blank != "nothing":
        remarks.append(f"{cutting.blank} of each cell are blanked by its label image")
    if table.unread and is_profiler(list(table.rows)):
        remarks.append(f"{table.unread} measured columns of the table were left out")
    if lost:
        remarks.append(f"warning: {lost} cells without a place in a field were left out")
    without = int((~labelled).sum())
    if without:
        remarks.append(f"warning: {without} cells without a label were left out")
    return remarks
