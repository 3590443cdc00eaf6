"""Cells in Parquet files with pictures in them, as Hugging Face writes them.

A column of pictures is a struct with ``bytes`` (a PNG, TIFF or JPEG file) and ``path``. Read with
pyarrow alone, a row group at a time.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.cell_files import CellFile
from cytolens.images.columns import listed
from cytolens.images.crops import Crop, native
from cytolens.images.file_crops import THREADS, decode_within
from cytolens.images.image_files import (
    Limits,
    Picture,
    read_picture,
    read_picture_bytes,
    unreadable,
)
from cytolens.images.opening import check_file

_MOST_IN_GROUP = 2 << 30  # bytes of pictures in a row group
_MOST_ROWS = 1 << 31
_SPLIT = re.compile(r"^(train|training|valid|validation|val|dev|test|testing)[-_.]", re.IGNORECASE)


def has_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of pictures; False where it cannot be read at all."""
    try:
        return bool(_picture_columns(_open(path)))
    except Exception:
        return False


def open_parquet(path: Path) -> CellFile:
    """The cells of a Parquet file, and its columns of numbers and text.

    Class names are those that Hugging Face stores with the table. Where the file is called
    ``train-…``, ``test-…`` or the like and has no column ``split``, that becomes one.
    """
    file = _open(path)
    about = file.metadata
    if not 0 < about.num_rows <= _MOST_ROWS:
        raise InputError(f"has {about.num_rows} rows; 1 to {_MOST_ROWS} are read")
    pictures = _picture_columns(file)
    if not pictures:
        names = listed(list(file.schema_arrow.names))
        raise InputError(f"has no column of pictures (a struct of bytes and path); it has: {names}")
    key = "image" if "image" in pictures else pictures[0]
    counts = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
    crops = ParquetCrops(path, key, np.cumsum([0, *counts]))
    table, left_out = _columns(file, pictures)
    classes = _class_names(file)
    for name in [name for name in classes if name in table and name not in ("label", "labels")]:
        table[name] = _named(table[name], classes[name])
    split = _SPLIT.match(path.name)
    if split and "split" not in table:
        table["split"] = np.full(len(crops), split[1].lower())
    first = next((p for p in crops.pictures(np.arange(min(8, len(crops)))) if _good(p)), None)
    remarks = [f"pictures = column '{key}'"]
    if left_out:
        remarks.append(f"columns left out: {listed(left_out)}")
    if isinstance(first, Picture) and first.note:
        remarks.append(first.note)
    return CellFile(
        crops=crops,
        names=np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_),
        table=table,
        class_names=classes.get("label", classes.get("labels")),
        channel_names=first.channel_names if isinstance(first, Picture) else (),
        pixel_size=first.pixel_size if isinstance(first, Picture) else None,
        remarks=tuple(remarks),
    )


def _good(picture: Picture | InputError) -> bool:
    return isinstance(picture, Picture)


def _open(path: Path) -> Any:
    from pyarrow import parquet  # only where it is needed: it is slow to load

    check_file(path)
    return parquet.ParquetFile(path, memory_map=False)


def _picture_columns(file: Any) -> list[str]:
    from pyarrow import types

    return [
        one.name
        for one in file.schema_arrow
        if types.is_struct(one.type)
        and "bytes" in (names := [one.type.field(i).name for i in range(one.type.num_fields)])
        and set(names) <= {"bytes", "path"}
    ]


def _columns(file: Any, pictures: list[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Columns of numbers and text, and the names of all others but the pictures."""
    from pyarrow import types

    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_string)
    further = (types.is_large_string, types.is_dictionary)
    wanted = [
        one.name
        for one in file.schema_arrow
        if any(is_kind(one.type) for is_kind in (*plain, *further))
    ]
    table = file.read(columns=wanted, use_threads=False) if wanted else None
    columns: dict[str, NDArray[Any]] = {}
    for name in wanted if table is not None else ():
        frame: Any = table.column(name).to_pandas() if table is not None else None
        whole = getattr(frame.dtype, "kind", "O") in "uifb" and not bool(frame.isna().any())
        columns[name] = frame.to_numpy() if whole else frame.astype(str).to_numpy().astype(np.str_)
    return columns, [n for n in file.schema_arrow.names if n not in wanted and n not in pictures]


def _class_names(file: Any) -> dict[str, tuple[str, ...]]:
    """What the numbers of a column stand for, by column, from Hugging Face's note in the schema."""
    try:
        note = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        features = note["info"]["features"]
        return {
            str(name): tuple(str(n) for n in one["names"])
            for name, one in features.items()
            if isinstance(one, dict) and isinstance(one.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(column: NDArray[Any], names: tuple[str, ...]) -> NDArray[Any]:
    """Numbers as the names that they stand for; as they are where one stands for nothing."""
    if column.dtype.kind not in "iu" or not ((column >= 0) & (column < len(names))).all():
        return column
    return np.array(names)[column]


@dataclass(frozen=True)
class ParquetCrops:
    """The pictures of a column; the row group that was read last is kept."""

    path: Path
    column: str
    ends: NDArray[np.int64]  # (G + 1,), first row of every row group, and the number of rows
    batch: int = 64
    _kept: dict[int, Any] = field(default_factory=dict[int, Any], compare=False)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def name(self, position: int) -> str:
        """Such as "train-00000-of-00001.parquet[17]"."""
        return f"{self.path.name}[{position}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each; of the first positions, see `Crops`."""
        found = self.pictures(positions)
        return [one if isinstance(one, InputError) else native(one.crop) for one in found]

    def pictures(self, positions: NDArray[np.int64]) -> list[Picture | InputError]:
        """The decoded pictures with what they say of themselves; as many as there is room for."""
        stored = [self._stored(int(position)) for position in positions]
        return decode_within(stored, self._decode, few=THREADS)

    def _stored(self, row: int) -> Any:
        group = int(np.searchsorted(self.ends, row, side="right")) - 1
        found = self._kept.get(group)
        if found is None:
            try:
                found = self._read(group)
            except InputError as error:
                return error
            except Exception as error:
                return unreadable(error)
            self._kept.clear()
            self._kept[group] = found
        return found[row - int(self.ends[group])].as_py()

    def _read(self, group: int) -> Any:
        file = _open(self.path)
        about = file.metadata.row_group(group)
        size = sum(
            about.column(i).total_uncompressed_size
            for i in range(about.num_columns)
            if about.column(i).path_in_schema.split(".")[0] == self.column
        )
        if size > _MOST_IN_GROUP:
            raise InputError(f"lies in a row group of {size >> 20} MiB; write smaller ones")
        return file.read_row_group(group, columns=[self.column], use_threads=False).column(0)

    def _decode(self, stored: Any, limits: Limits) -> Picture | InputError:
        if isinstance(stored, InputError):
            return stored
        stored = stored or {}
        try:
            if stored.get("bytes"):
                return read_picture_bytes(stored["bytes"], limits)
            if stored.get("path"):
                return read_picture(within(self.path.parent, str(stored["path"])), limits)
        except InputError as error:
            return error
        return InputError("has neither bytes nor a path")


def within(root: Path, name: str) -> Path:
    """The file of that name below a folder. Raises InputError for a name that leads out of it."""
    parts = name.replace("\\", "/").split("/")
    if Path(name).is_absolute() or ".." in parts or ":" in parts[0] or "\0" in name:
        raise InputError(f"names '{name[:120]}', which lies outside of the folder of its table")
    return root / name
