"""The process that decodes files for another one; see `isolation`.

Not to be imported: it is run as ``python -m cytolens.images.decoding MEMORY``.
"""

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import CytolensError, InputError
from cytolens.images.cell_files import OPENERS, CellFile
from cytolens.images.image_files import (
    CROP,
    FIELD,
    Picture,
    count_pages,
    files_of_ome,
    read_pages,
    read_picture,
)
from cytolens.images.isolation import receive, send
from cytolens.images.masks import CropsWithMasks
from cytolens.images.tables import read_headers, read_table

Answer = tuple[Any, list[NDArray[Any]]]


def _picture(path: Path, field: bool) -> Answer:
    return _packed([read_picture(path, FIELD if field else CROP)])


def _pages(path: Path, pages: list[int]) -> Answer:
    return _packed(read_pages(path, pages))


def _packed(pictures: list[Picture | InputError]) -> Answer:
    about = [
        {"error": str(p)}
        if isinstance(p, InputError)
        else {"names": p.channel_names, "pixel_size": p.pixel_size, "note": p.note}
        for p in pictures
    ]
    return about, [p.crop for p in pictures if isinstance(p, Picture)]


def _count(path: Path) -> Answer:
    pages = count_pages(path)
    return [pages.n, pages.named_channels], []


def _files(path: Path) -> Answer:
    return [os.fsencode(file).hex() for file in files_of_ome(path)], []


def _headers(path: Path) -> Answer:
    return read_headers(path), []


def _table(path: Path, names: list[str] | None, table: str) -> Answer:
    columns, left_out = read_table(path, names, table)
    return [list(columns), left_out], list(columns.values())


@lru_cache(8)
def _opened(path: Path, ending: str, stamp: tuple[int, int]) -> CellFile:
    """Kept for the next questions, unless it has changed since."""
    del stamp
    return OPENERS[ending](path)


def _open(path: Path, ending: str) -> CellFile:
    about = path.stat()
    return _opened(path, ending, (about.st_mtime_ns, about.st_size))


def _cells(path: Path, ending: str) -> Answer:
    file = _open(path, ending)
    crops = file.crops
    about = {
        "columns": list(file.table),
        "class_names": file.class_names,
        "channel_names": file.channel_names,
        "pixel_size": None if file.pixel_size is None else float(file.pixel_size),
        "remarks": file.remarks,
        "batch": int(crops.batch),
        "has_masks": isinstance(crops, CropsWithMasks) and crops.has_masks,
    }
    own = np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_)
    return about, [file.names, own, *map(_plain, file.table.values())]


def _plain(column: NDArray[Any]) -> NDArray[Any]:
    """Without Python objects, which are not sent."""
    return column.astype(np.str_) if column.dtype.hasobject else column


def _crops(path: Path, ending: str, positions: list[int], masks: bool) -> Answer:
    crops, wanted = _open(path, ending).crops, np.array(positions, dtype=np.int64)
    if masks:
        assert isinstance(crops, CropsWithMasks)
        found = crops.load_masks(wanted)
    else:
        found = crops.load(wanted)
    errors = [str(one) if isinstance(one, InputError) else None for one in found]
    return errors, [one for one in found if not isinstance(one, InputError)]


def _rows(path: Path, index: list[Any]) -> Answer:
    from cytolens.images.zarr_files import check_array, open_group

    array = open_group(path)
    check_array(array)
    chosen = tuple(
        slice(*part) if isinstance(part, list) else part["at"] if isinstance(part, dict) else part
        for part in index
    )
    return [], [np.asarray(array.oindex[chosen])]


def _has_pictures(path: Path) -> Answer:
    from cytolens.images.parquet_files import has_pictures

    return [has_pictures(path)], []


REQUESTS: dict[str, Callable[..., Answer]] = {
    "picture": _picture,
    "pages": _pages,
    "count": _count,
    "files": _files,
    "headers": _headers,
    "table": _table,
    "cells": _cells,
    "crops": _crops,
    "pictures": _has_pictures,
    "rows": _rows,
}


def _limit(memory: int) -> None:
    """No more memory than is left to it, and no dump of it where a decoder fails."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for kind, most in ((resource.RLIMIT_AS, used + memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, hard))


def main() -> None:
    """Answer until there are no more questions."""
    for name in ("imagecodecs", "tifffile"):  # loaded before the first question, which is timed
        import_module(name)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints is no answer
    if Path("/proc/self/statm").exists():
        _limit(int(sys.argv[1]))
    send(stdout, "ready", [])
    while True:
        try:
            question, _ = receive(_Whole(stdin))
        except EOFError:
            return
        path = Path(os.fsdecode(bytes.fromhex(question.pop("path"))))
        try:
            answer, arrays = REQUESTS[question.pop("request")](path, **question)
        except CytolensError as error:
            answer, arrays = {"error": str(error)}, []
        except MemoryError:
            answer, arrays = {"error": "asks for more memory than there is"}, []
        except Exception as error:  # of a kind that no reader expects: told, not raised
            answer, arrays = {"error": f"cannot be decoded ({type(error).__name__})"}, []
        send(stdout, answer, arrays)


class _Whole:
    """Reads as many bytes as asked for, or raises EOFError."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data


if __name__ == "__main__":
    main()
