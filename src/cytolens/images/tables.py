"""Tables in files: CSV, TSV and Parquet, read with care into columns."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.image_files import unreadable
from cytolens.images.isolation import ask, is_isolated
from cytolens.images.opening import LONGEST_TEXT, check_file, shown

MOST_ROWS = 50_000_000
MOST_TABLE_BYTES = 4 << 30
ENDINGS = (".csv", ".tsv", ".parquet", ".pq")


def columns_of(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The columns of the table at ``path`` by name, and the names of those that are left out.

    Text stays text, numbers numbers, and empty fields become "nan". Columns of lists or records
    are left out. Raises InputError, which names the file.
    """
    try:
        if is_isolated():
            (names, left_out), columns = ask("table", path)
            return dict(zip(names, columns)), left_out
        return read_table(path)
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def read_table(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The same, in this process; the message leaves the file's name to the caller."""
    import pandas as pd  # only where it is needed: it is slow to load

    left_out: list[str] = []
    try:
        if check_file(path) == 0:
            raise InputError("is empty (zero bytes)")
        if path.suffix.lower() in (".parquet", ".pq"):
            frame, left_out = _read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except InputError:
        raise
    except Exception as error:
        raise unreadable(error) from None
    return {str(name).strip(): _column(frame[name]) for name in frame.columns}, left_out


def _read_parquet(path: Path) -> tuple[Any, list[str]]:
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
        schema = file.schema_arrow
        flat = [field.name for field in schema if field.type.num_fields == 0]
        frame = file.read(columns=flat, use_threads=False).to_pandas(use_threads=False)
        return frame, [str(field.name) for field in schema if field.type.num_fields]


def _column(column: Any) -> NDArray[Any]:
    """Numbers as they are where none is missing; all else as text."""
    if column.ndim != 1:
        raise InputError(f"has two columns called '{column.columns[0]}'")
    if column.dtype.kind in "iufb" and not bool(column.isna().to_numpy().any()):
        return column.to_numpy()
    try:
        texts = [
            value.decode() if isinstance(value, bytes) else str(value)
            for value in column.astype(object).tolist()
        ]
    except UnicodeDecodeError:
        raise InputError(f"has column '{column.name}' of bytes that are not UTF-8 text") from None
    longest = max(map(len, texts), default=0)
    if longest > LONGEST_TEXT:
        raise InputError(
            f"has in column '{str(column.name)[:80]}' a text of {longest} characters; at most "
            f"{LONGEST_TEXT} are read"
        )
    return np.array([shown(text) for text in texts], dtype=np.str_)
