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
from cytolens.images.opening import LONGEST_TEXT, check_file, shown

MOST_ROWS = 50_000_000
MOST_TABLE_BYTES = 4 << 30
ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
_PATHS = ("path", "file", "filename", "image")
_LABELS = ("label", "labels", "class")
_GROUPS = ("group", "groups")


def find_in_manifest(path: Path, labels: str | None, *, skip_bad: bool = False) -> Found:
    """Cells from a table; paths are relative to its folder, further columns are covariates.

    Raises InputError when the table cannot be read, has no rows, or lacks a column.
    """
    files, table = read_manifest(path)
    left_out = _nested_columns(path)
    if labels is None and "labels" not in table and "label" not in table and "class" in table:
        labels = "class"
    codes, class_names, remark = choose_labels(path, table, files, labels, None)
    group = next((name for name in _GROUPS if name in table), None)
    remarks = (remark, *([f"columns left out, as they hold lists: {left_out}"] if left_out else []))
    listing = Listing(files, np.array(class_names)[codes], table, group, remarks)
    return found_in_files(path.parent, listing, skip_bad=skip_bad)


def read_manifest(path: Path) -> tuple[NDArray[np.str_], dict[str, NDArray[Any]]]:
    """The paths that a manifest names, as it names them, and its other columns.

    Raises InputError when it cannot be read, has no rows, or names no path in some row.
    """
    table = _read(path)
    where = next((name for name in _PATHS if name in table), None)
    if where is None:
        raise InputError(f"{path} has no column 'path'; it has: {listed(list(table)) or 'none'}")
    files = table.pop(where).astype(np.str_)
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
        if check_file(path) == 0:
            raise InputError("is empty (zero bytes)")
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = _read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None
    try:
        return {str(name).strip(): _column(frame[name]) for name in frame.columns}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _nested_columns(path: Path) -> str:
    """The columns of a Parquet file that hold lists or records, listed."""
    if path.suffix.lower() not in (".parquet", ".pq"):
        return ""
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    return listed([str(field.name) for field in schema if field.type.num_fields])


def _read_parquet(path: Path) -> Any:
    """A table of the columns that are numbers, text and the like; lists and records are left out.

    How large it says it is, is looked at before any of it is decoded.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False) as file:
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        if not 0 <= size <= MOST_TABLE_BYTES or file.metadata.num_rows > MOST_ROWS:
            raise InputError(
                f"is a table of {file.metadata.num_rows} rows and {size >> 20} MiB; at most "
                f"{MOST_ROWS} and {MOST_TABLE_BYTES >> 20} are read"
            )
        flat = [field.name for field in file.schema_arrow if field.type.num_fields == 0]
        return file.read(columns=flat, use_threads=False).to_pandas(use_threads=False)


def _column(column: Any) -> NDArray[Any]:
    """Numbers as they are where none is missing; all else as text."""
    if column.ndim != 1:
        raise InputError(f"two columns are called '{column.columns[0]}'")
    if column.dtype.kind in "iufb" and not bool(column.isna().to_numpy().any()):
        return column.to_numpy()
    try:
        texts = [
            value.decode() if isinstance(value, bytes) else str(value)
            for value in column.astype(object).tolist()
        ]
    except UnicodeDecodeError:
        raise InputError(f"column '{column.name}' holds bytes that are not UTF-8 text") from None
    longest = max(map(len, texts), default=0)
    if longest > LONGEST_TEXT:
        raise InputError(
            f"column '{str(column.name)[:80]}' holds a text of {longest} characters; at most "
            f"{LONGEST_TEXT} are read"
        )
    return np.array([shown(text) for text in texts], dtype=np.str_)
