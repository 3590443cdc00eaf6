"""Which files decide what is read from some data, and whether what they hold has changed."""

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cytolens.images.array_files import sidecar_of
from cytolens.images.bsccm import files_of_bsccm
from cytolens.images.cell_files import files_of_cell_file
from cytolens.images.columns import NO_LABELS
from cytolens.images.decoded import files_of_ome
from cytolens.images.field_tables import files_of_field_table
from cytolens.images.file_crops import THREADS
from cytolens.images.folders import list_cell_files, list_images
from cytolens.images.huggingface import metadata_files
from cytolens.images.manifest import read_manifest
from cytolens.images.reading import locate
from cytolens.records.cells import Progress

_PART = 1 << 20  # bytes read at a time
_AT_ONCE = 128  # files that one thread takes on
_TICK = 50_000_000  # ns; a file may change twice in that time without a new time of change


@dataclass(frozen=True)
class Content:
    """What some files hold, as two hexadecimal digests; see `content_of`."""

    digest: str  # of names and bytes
    stamp: str  # of names, sizes, times of change and inodes; empty where these cannot be trusted


def data_files(data: str | Path, *, labels: str | None = None) -> list[Path]:
    """Every file whose bytes decide what `read_cells` and `read_alike` give for ``data``.

    - folder: its image files, those behind links too; or ``cells.npz`` where it has one;
    - array or stack: the file, and the table of labels next to it unless ``labels`` is "none";
      with an OME-TIFF, the further files that it names as its own parts;
    - table of cells in field images: it, that of images, and all images and label images;
    - file of many cells: it, and the tables next to it; of a folder of such files, each;
    - BSCCM: its tables, not its pictures, which are millions of files;
    - manifest: the table and each image that it names, existing or not.

    Hidden files and files of other kinds are not among them. Images of classes that are not
    chosen are. Nothing is decoded. Raises InputError if the data cannot be listed.
    """
    kind, place = locate(Path(data).expanduser())
    if kind == "folder":
        images = list_images(place)[0]
        if images:
            return [place / name for name in images]
        packed = list_cell_files(place)
        return [file for name in packed for file in files_of_cell_file(place / name)]
    if kind == "bsccm":
        return files_of_bsccm(place)
    if kind == "fields":
        return files_of_field_table(place)
    if kind == "metadata":
        return [*metadata_files(place), *(place / name for name in list_images(place)[0])]
    if kind == "cells":
        return files_of_cell_file(place, alone=True)
    if kind == "manifest":
        names = dict.fromkeys(read_manifest(place)[0].tolist())
        return [place, *(place.parent / name for name in names)]
    further = files_of_ome(place) if kind == "stack" else []
    if kind in ("npy", "stack") and labels != NO_LABELS:
        further += sidecar_of(place)
    return [place, *further]


def content_of(
    files: Iterable[str | Path],
    known: Content | None = None,
    *,
    root: str | Path | None = None,
    progress: Progress | None = None,
) -> Content:
    """A digest of what the files hold: SHA-256 over the name and the bytes of each.

    Names are relative to ``root``, by default the innermost folder that holds all files, so that
    data may move. Neither the order of the files nor their times matter. A file that cannot be
    read counts as such: its appearance changes the digest.

    If size, times of change and inode of every file are those of ``known``, its digest is
    returned and no file is opened. Times are not trusted within 50 ms of a change: a second
    change could leave them as they are.
    """
    named = _named([os.fspath(file) for file in files], root)
    now = time.time_ns()
    stamp, settled = hashlib.sha256(), True
    for name, path in named:
        try:
            about = os.stat(path)
        except (OSError, ValueError):  # ValueError: a name with a zero byte
            stamp.update(b"%b\0none\n" % name)
            continue
        facts = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
        stamp.update(b"%b\0%d %d %d %d\n" % (name, *facts))
        settled = settled and abs(now - about.st_ctime_ns) > _TICK
    if known is not None and settled and known.stamp == stamp.hexdigest():
        return known
    digest = hashlib.sha256()
    parts = [named[i : i + _AT_ONCE] for i in range(0, len(named), _AT_ONCE)]
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for part, digests in zip(parts, pool.map(_digests, parts)):
            for (name, _), of_bytes in zip(part, digests):
                digest.update(b"%b\0%b" % (name, of_bytes))
            done += len(part)
            if progress is not None:
                progress(done, len(named), "checking the data for changes")
    return Content(digest.hexdigest(), stamp.hexdigest() if settled else "")


def _named(paths: list[str], root: str | Path | None) -> list[tuple[bytes, str]]:
    """Paths with their names relative to the root, ordered by these, each once."""
    whole = [os.path.abspath(path) for path in paths]
    if root is None:
        root = os.path.commonpath({os.path.dirname(path) for path in whole}) if whole else ""
    start = os.path.join(os.path.abspath(root), "")
    names = [
        path[len(start) :] if path.startswith(start) else os.path.relpath(path, start)
        for path in whole
    ]
    return sorted({os.fsencode(name): path for name, path in zip(names, paths)}.items())


def _digests(named: list[tuple[bytes, str]]) -> list[bytes]:
    return [_digest(path) for _, path in named]


def _open_at_once(path: str, flags: int) -> int:
    """Opened without waiting for what writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _digest(path: str) -> bytes:
    """SHA-256 of a file's bytes, read a part at a time; empty where it cannot be read.

    For small files this takes half the time of ``hashlib.file_digest``.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return b""
            while part := file.read(_PART):
                digest.update(part)
    except (OSError, ValueError):
        return b""
    return digest.digest()
