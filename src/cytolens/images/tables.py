"""Tables in files: CSV, TSV, Parquet and SQLite, read with care into columns."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.image_files import unreadable
from cytolens.images.isolation import ask, is_isolated
from cytolens.images.opening import LONGEST_TEXT, check_file, shown

MOST_ROWS = 50_000_000
MOST_TABLE_BYTES = 4 << 30
ENDINGS = (".csv", ".tsv", ".parquet", ".pq")
SQLITE_ENDINGS = (".sqlite", ".sqlite3", ".db")
_PARQUET = (".parquet", ".pq")


def headers_of(path: Path) -> dict[str, list[str]]:
    """The names of the columns of each table in the file; a file that is one table calls it "".

    Raises InputError, which names the file.
    """
    try:
        if is_isolated():
            found, _ = ask("headers", path)
            return {str(table): [str(name) for name in names] for table, names in found.items()}
        return read_headers(path)
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def columns_of(
    path: Path, names: Sequence[str] | None = None, *, table: str = ""
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The columns of the table at ``path`` by name, and the names of those that are left out.

    ``names``: only these columns; ``table``: which one in an SQLite file. Text stays text, numbers
    numbers, and empty fields become "nan". Columns of lists or records are left out.

    Raises InputError, which names the file.
    """
    try:
        if is_isolated():
            asked = None if names is None else list(names)
            (found, left_out), columns = ask("table", path, names=asked, table=table)
            return dict(zip(found, columns)), left_out
        return read_table(path, names, table)
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def read_headers(path: Path) -> dict[str, list[str]]:
    """`headers_of` in this process; the message leaves the file's name to the caller."""
    import pandas as pd

    try:
        if check_file(path) == 0:
            raise InputError("is empty (zero bytes)")
        if path.suffix.lower() in SQLITE_ENDINGS:
            return _read_sqlite_headers(path)
        if path.suffix.lower() in _PARQUET:
            import pyarrow.parquet as pq

            return {"": [str(name) for name in pq.read_schema(path).names]}
        header = pd.read_csv(path, sep=_separator(path), skipinitialspace=True, nrows=0)
        return {"": [str(name).strip() for name in header.columns]}
    except InputError:
        raise
    except Exception as error:
        raise unreadable(error) from None


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def read_table(
    path: Path, names: Sequence[str] | None = None, table: str = ""
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """`columns_of` in this process; the message leaves the file's name to the caller."""
    import pandas as pd  # only where it is needed: it is slow to load

    wanted = None if names is None else set(names)

    left_out: list[str] = []
    try:
        if check_file(path) == 0:
            raise InputError("is empty (zero bytes)")
        if path.suffix.lower() in SQLITE_ENDINGS:
            frame = _read_sqlite(path, table, names)
        elif path.suffix.lower() in _PARQUET:
            frame, left_out = _read_parquet(path, wanted)
        else:
            frame = pd.read_csv(
                path,
                sep=_separator(path),
                skipinitialspace=True,
                usecols=None if wanted is None else lambda name: str(name).strip() in wanted,
            )
    except InputError:
        raise
    except Exception as error:
        raise unreadable(error) from None
    return {str(name).strip(): _column(frame[name]) for name in frame.columns}, left_out


def _open_sqlite(path: Path) -> sqlite3.Connection:
    """For reading alone; nothing that the file holds is run."""
    address = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    database = sqlite3.connect(address, uri=True)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)  # bytes of one entry
    return database


def _read_sqlite_headers(path: Path) -> dict[str, list[str]]:
    with closing(_open_sqlite(path)) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = [str(name) for (name,) in found if not str(name).startswith("sqlite_")]
        return {
            name: [str(row[1]) for row in database.execute(f"PRAGMA table_info({_quoted(name)})")]
            for name in names[:1000]
        }


def _read_sqlite(path: Path, table: str, names: Sequence[str] | None) -> Any:
    import pandas as pd

    known = _read_sqlite_headers(path)
    if table not in known:
        raise InputError(f"has no table '{table}'")
    chosen = [name for name in known[table] if names is None or name in names]
    with closing(_open_sqlite(path)) as database:
        columns = ", ".join(map(_quoted, chosen))
        cursor = database.execute(f"SELECT {columns} FROM {_quoted(table)} LIMIT {MOST_ROWS + 1}")
        rows = cursor.fetchall()
    if len(rows) > MOST_ROWS:
        raise InputError(f"has more than {MOST_ROWS} rows in '{table}'")
    return pd.DataFrame.from_records(rows, columns=chosen)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_parquet(path: Path, wanted: set[str] | None) -> tuple[Any, list[str]]:
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
        fields = [f for f in schema if wanted is None or f.name.strip() in wanted]
        flat = [field.name for field in fields if field.type.num_fields == 0]
        frame = file.read(columns=flat, use_threads=False).to_pandas(use_threads=False)
        return frame, [str(field.name) for field in fields if field.type.num_fields]


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
