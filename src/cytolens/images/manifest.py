"""Cells named by a table: CSV, TSV or Parquet with a column of paths and one of labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels
from cytolens.images.assembly import Found
from cytolens.images.columns import listed
from cytolens.images.folders import Listing, found_in_files
from cytolens.images.image_files import unreadable

ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
_PATHS = ("path", "file", "filename", "image")
_LABELS = ("label", "labels", "class")
_GROUPS = ("group", "groups")


def find_in_manifest(path: Path, labels: str | None, *, skip_bad: bool = False) -> Found:
    """Cells from a table; paths are relative to its folder, further columns are covariates.

    Raises InputError when the table cannot be read, has no rows, or lacks a column.
    """
    files, table = read_manifest(path)
    if labels is None and "labels" not in table and "label" not in table and "class" in table:
        labels = "class"
    codes, class_names, remark = choose_labels(path, table, files, labels, None)
    group = next((name for name in _GROUPS if name in table), None)
    listing = Listing(files, np.array(class_names)[codes], table, group, (remark,))
    return found_in_files(path.parent, listing, skip_bad=skip_bad)


def read_manifest(path: Path) -> tuple[NDArray[np.str_], dict[str, NDArray[Any]]]:
    """The paths that a manifest names, as it names them, and its other columns.

    Raises InputError when it cannot be read, has no rows, or names no path in some row.
    """
    table = _read(path)
    where = next((name for name in _PATHS if name in table), None)
    if where is None:
        raise InputError(f"{path} has no column 'path'; it has: {listed(list(table)) or 'none'}")
    files = table.pop(where)
    if len(files) == 0:
        raise InputError(f"{path} has no rows")
    empty = np.flatnonzero(np.isin(files, ["", "nan", "None"]))
    if len(empty):
        raise InputError(f"{path} has no path in row {int(empty[0]) + 1}")
    return files, table


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Columns by name; text stays text, numbers numbers, and empty fields become "nan"."""
    import pandas as pd  # only where it is needed: it is slow to load

    try:
        if path.stat().st_size == 0:
            raise InputError("is empty (zero bytes)")
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path, engine="pyarrow")
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None
    columns: dict[str, NDArray[Any]] = {}
    for name in frame.columns:
        column = frame[name]
        plain = column.dtype.kind in "iufb" and not bool(column.isna().to_numpy().any())
        columns[str(name).strip()] = (
            column.to_numpy()
            if plain
            else column.astype(object).to_numpy(dtype=object).astype(np.str_)
        )
    return columns
