"""Cells named by a table: CSV, TSV or Parquet with a column of paths and one of labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels
from cytolens.images.assembly import Found
from cytolens.images.columns import group_column, listed
from cytolens.images.folders import Listing, found_in_files
from cytolens.images.tables import columns_of

_PATHS = ("path", "file", "filename", "image")
_LABELS = ("label", "labels", "class")


def find_in_manifest(path: Path, labels: str | None, *, skip_bad: bool = False) -> Found:
    """Cells from a table; paths are relative to its folder, further columns are covariates.

    Raises InputError when the table cannot be read, has no rows, or lacks a column.
    """
    files, table, left_out = read_manifest(path)
    if labels is None and "labels" not in table and "label" not in table and "class" in table:
        labels = "class"
    codes, class_names, remark = choose_labels(path, table, files, labels, None)
    group = group_column(table)
    nested = [f"columns left out, as they hold lists: {listed(left_out)}"] if left_out else []
    remarks = (remark, *nested)
    listing = Listing(files, np.array(class_names)[codes], table, group, remarks)
    return found_in_files(path.parent, listing, skip_bad=skip_bad)


def read_manifest(path: Path) -> tuple[NDArray[np.str_], dict[str, NDArray[Any]], list[str]]:
    """The paths that a manifest names, as it names them, its other columns, and those left out.

    Raises InputError when it cannot be read, has no rows, or names no path in some row.
    """
    table, left_out = columns_of(path)
    where = next((name for name in _PATHS if name in table), None)
    if where is None:
        raise InputError(f"{path} has no column 'path'; it has: {listed(list(table)) or 'none'}")
    files = table.pop(where).astype(np.str_)
    if len(files) == 0:
        raise InputError(f"{path} has no rows")
    empty = np.flatnonzero(np.isin(files, ["", "nan", "None"]))
    if len(empty):
        raise InputError(f"{path} has no path in row {int(empty[0]) + 1}")
    return files, table, left_out
