"""The rows of a table of cells, joined with those of their images; and where these images are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.field_columns import FieldColumns, channel_files, find_columns, is_metadata
from cytolens.images.field_crops import FieldFiles
from cytolens.images.image_files import ENDINGS
from cytolens.images.opening import shown
from cytolens.images.tables import SQLITE_ENDINGS, columns_of, headers_of

Columns = dict[str, NDArray[Any]]

EMPTY = ("", "nan", "None", "<NA>")
LABELS = ("label", "labels", "class", "Predicted Class", "User Label")
GROUPS = ("group", "groups", "donor", "Metadata_Donor", "Metadata_Plate", "Metadata_Well")
_DEEPEST = 4  # folders of a path from another machine that are looked for beside the table


@dataclass(frozen=True)
class Table:
    """The rows of cells, joined with those of their images."""

    columns: FieldColumns
    rows: Columns
    files: list[Path]  # the tables themselves
    unread: int  # measured columns that were left out


def read_rows(path: Path) -> Table:
    """The cells at ``path``. Raises InputError where it does not say which images they are in."""
    headers = headers_of(path)
    if path.suffix.lower() in SQLITE_ENDINGS:
        return _read_database(path, headers)
    (names,) = headers.values()
    columns = find_columns(names)
    if columns is None:
        raise InputError(f"{path} does not say where cells are")
    own = _needed(columns, names, measured=not channel_files(names) and not is_profiler(names))
    rows, _ = columns_of(path, own)
    unread = len(names) - len(own)
    if columns.files:
        return Table(columns, rows, [path], unread)
    beside = _image_table(path)
    if beside is not None and columns.image_number is not None:
        (image_names,) = headers_of(beside).values()
        images, _ = columns_of(beside, _of_images(image_names))
        return _joined(columns, rows, images, [path, beside], unread)
    image = _image_of_table(path)
    if image is None:
        raise InputError(
            f"{path} says where cells are, but not in which images: it has no column FileName_… or "
            "'image', and no table of images (…Image.csv) and no image of its name lies beside it"
        )
    n = len(next(iter(rows.values()), np.empty(0)))
    rows["image"] = np.full(n, image.name)
    named = find_columns([*names, "image"])
    assert named is not None
    return Table(named, rows, [path], unread)


def _read_database(path: Path, headers: Mapping[str, list[str]]) -> Table:
    """CellProfiler's ExportToDatabase (Per_Image, Per_Object), or cytominer's Image and Nuclei."""
    found = {table: find_columns(names) for table, names in headers.items()}
    objects = [table for table, columns in found.items() if columns is not None]
    images = [table for table, names in headers.items() if channel_files(names)]
    if not objects or not (images or (found[objects[0]] or _NONE).files):
        raise InputError(
            f"{path} has no table of cells with their places and of images with FileName_…; it "
            f"has: {', '.join(headers) or 'none'}"
        )
    rank = {"object": 0, "cells": 1, "nuclei": 2}
    objects.sort(key=lambda table: rank.get(re.sub(r".*per_|\d", "", table.lower()), 3))
    columns = found[objects[0]]
    assert columns is not None
    names = headers[objects[0]]
    own = _needed(columns, names, measured=False)
    rows, _ = columns_of(path, own, table=objects[0])
    unread = len(names) - len(own)
    if columns.files:
        return Table(columns, rows, [path], unread)
    table = next((t for t in images if t not in objects), images[0])
    described, _ = columns_of(path, _of_images(headers[table]), table=table)
    return _joined(columns, rows, described, [path], unread)


_NONE = FieldColumns(None, None, {}, {}, None, None, None, "")


def is_profiler(names: list[str]) -> bool:
    """Whether the columns are CellProfiler's, of which most are measured."""
    return any(name.endswith("Location_Center_X") or "AreaShape_" in name for name in names)


def _needed(columns: FieldColumns, names: list[str], *, measured: bool) -> list[str]:
    """Columns to read: those that place cells and describe them; all where ``measured``."""
    if measured:
        return list(names)
    single = (columns.image_number, columns.object_number, columns.mask)
    needed = {
        *(columns.centre or ()),
        *(columns.box or ()),
        *columns.files.values(),
        *columns.folders.values(),
        *(name for name in single if name),
        *(name for name in names if is_metadata(name) or name in LABELS or name in GROUPS),
    }
    return [name for name in names if name in needed]


def _of_images(names: list[str]) -> list[str]:
    numbers = ("imagenumber", "image_imagenumber", "metadata_imagenumber")
    kept = {*channel_files(names).values(), *channel_files(names, "PathName").values()}
    return [n for n in names if n in kept or is_metadata(n) or n.lower() in numbers]


def _joined(
    columns: FieldColumns, rows: Columns, images: Columns, files: list[Path], unread: int
) -> Table:
    """Rows of cells with the columns of their images, by ImageNumber."""
    key = next((name for name in images if name.lower().endswith("imagenumber")), None)
    if key is None or columns.image_number is None:
        raise InputError(f"{files[0]}: cells and images have no column ImageNumber in common")
    known, own = images[key].astype(np.str_), rows[columns.image_number].astype(np.str_)
    order = np.argsort(known, kind="stable")
    at = np.clip(np.searchsorted(known[order], own), 0, max(len(known) - 1, 0))
    matches = order[at] if len(known) else at
    if len(known) == 0 or (known[matches] != own).any():
        missing = own if len(known) == 0 else own[known[matches] != own]
        raise InputError(f"{files[-1]} has no image with ImageNumber {missing[0]}")
    more = {name: column[matches] for name, column in images.items() if name not in rows}
    joined = find_columns([*rows, *more])
    assert joined is not None
    return Table(joined, rows | more, files, unread)


def _image_table(path: Path) -> Path | None:
    """CellProfiler's table of images beside a table of objects: Image.csv, MyExpt_Image.csv."""
    prefix = path.stem.rpartition("_")[0]
    for name in (f"{prefix}_Image", "Image") if prefix else ("Image",):
        place = path.with_name(name + path.suffix)
        if place.is_file() and place != path:
            return place
    found = [p for p in sorted(path.parent.glob(f"*Image{path.suffix}")) if p != path]
    return found[0] if len(found) == 1 else None


def _image_of_table(path: Path) -> Path | None:
    """The image of an ilastik table: cells_table.csv lies beside cells.tif."""
    stem = re.sub(r"[_-]?(?:table|objects?)$", "", path.stem, flags=re.IGNORECASE)
    found = (path.with_name(stem + ending) for ending in ENDINGS)
    return next((place for place in found if place.is_file()), None)


def fields_of(path: Path, table: Table) -> tuple[list[FieldFiles], NDArray[np.int64]]:
    """The fields, each once, and which of them each row lies in (N,)."""
    columns = table.columns
    parts: list[NDArray[np.str_]] = []
    for channel, name in columns.files.items():
        folder = columns.folders.get(channel)
        parts += [table.rows[name].astype(np.str_)]
        parts += [table.rows[folder].astype(np.str_)] if folder else [np.full(len(parts[0]), "")]
    if columns.mask:
        parts.append(table.rows[columns.mask].astype(np.str_))
    if not parts or len(parts[0]) == 0:
        raise InputError(f"{path} has no rows")
    ids = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:  # column by column: rows of text would need a copy as long as the longest
        _, codes = np.unique(part, return_inverse=True)
        _, ids = np.unique(ids * (codes.max() + 1) + codes.reshape(-1), return_inverse=True)
    ids = ids.reshape(-1)
    _, firsts = np.unique(ids, return_index=True)
    fields: list[FieldFiles] = []
    for row in firsts.tolist():
        texts = [str(part[row]) for part in parts]
        mask = texts.pop() if columns.mask else ""
        pairs = list(zip(texts[::2], texts[1::2]))
        found = tuple(_resolve(path.parent, folder, file) for file, folder in pairs)
        label = _resolve(path.parent, "", mask) if mask not in EMPTY else None
        fields.append(FieldFiles(_short(path.parent, found[0]), found, label))
    return fields, ids


def _short(root: Path, file: Path) -> str:
    try:
        return shown(file.relative_to(root).as_posix())
    except ValueError:
        return shown(str(file))


def _resolve(root: Path, folder: str, file: str) -> Path:
    """Where an image is: as named, or, of a table from another machine, beside the table."""
    folder = "" if folder in EMPTY else folder
    parts = PureWindowsPath(folder).parts  # knows both kinds of slash
    tails = ["/".join(parts[len(parts) - k :]) for k in range(1, min(_DEEPEST, len(parts)) + 1)]
    name = PureWindowsPath(file).name
    candidates = [Path(folder) / file] if folder else []
    candidates += [root / folder / file, root / file, root / name]
    candidates += [base / tail / name for tail in tails for base in (root, root.parent)]
    for place in candidates:
        try:
            if place.is_file():
                return place
        except (OSError, ValueError):  # too long, or a zero byte
            continue
    return root / file
