"""Files and folders that are written as a whole or not at all, and JSON."""

import errno
import json
import os
import platform
import shutil
import zlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from cytolens.errors import RunError, SettingError
from cytolens.records.cells import Simulation

_PARTIAL = ".partial-"
_MOST_OF_A_NAME = 180  # characters; file systems take 255 bytes, and a prefix is added
_AGAIN = "then give the same command again"
_ELSEWHERE = "name a folder elsewhere"
_REASONS = {
    errno.ENOSPC: f"the disk is full; make room, {_AGAIN}",
    errno.EDQUOT: f"your disk quota is used up; make room, {_AGAIN}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission is denied; change the folder's permissions, or {_ELSEWHERE}",
    errno.EPERM: f"permission is denied; change the folder's permissions, or {_ELSEWHERE}",
    errno.EIO: f"the disk reports an error; check the disk, {_AGAIN}",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part of it.

    Raises RunError when the disk is full, or the folder cannot be written to.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, see `write_bytes` and `plain_json`."""
    write_text(path, json.dumps(plain_json(value), indent=2, allow_nan=False) + "\n")


def plain_json(value: Any) -> Any:
    """``value`` as JSON can hold it.

    Records become mappings, arrays lists, paths text. NaN and infinity, which JSON lacks, become
    None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def checksum(data: bytes) -> str:
    """CRC-32 as eight hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def write_sealed_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with a checksum of its content as the last entry, ``crc32``."""
    content = plain_json(record)
    write_json(path, {**content, "crc32": _checksum_of(content)})


def read_sealed_json(path: Path) -> dict[str, Any]:
    """What `write_sealed_json` was given, as JSON. Raises ValueError when it has changed."""
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.pop("crc32", None) != _checksum_of(content):
        raise ValueError("its checksum does not match")
    return content


def _checksum_of(content: Mapping[str, Any]) -> str:
    return checksum(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def file_name(name: str) -> str:
    """``name`` as the name of one file or folder, whatever characters it has.

    Letters, digits and a few signs stay; the others are percent-encoded, as is a dot at the
    beginning. Different names give different files.

    >>> file_name("features.0"), file_name("../a")
    ('features.0', '%2E.%2Fa')
    """
    quoted = quote(name, safe=" ,=+()") or "%"
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _MOST_OF_A_NAME:
        quoted = f"{quoted[:_MOST_OF_A_NAME]}%{checksum(name.encode())}"
    return quoted


def write_simulation(out: Path, simulation: Simulation) -> Path:
    """Write simulated cells as ``cells.npz``, the truth as ``truth.npz``, settings as JSON.

    ``read_cells(out)`` reads them back. Refuses a folder that holds anything else. Returns the
    path of ``cells.npz``.
    """
    ours = {"cells.npz", "truth.npz", "simulation.json", "demo.json"}
    if out.exists() and (not out.is_dir() or {entry.name for entry in out.iterdir()} - ours):
        raise SettingError(f"'{out}' exists and holds other things; name a new folder")
    write_json(out / "simulation.json", simulation.settings)
    _write_npz(
        out / "truth.npz",
        {**simulation.masks, **simulation.properties, "labels": simulation.labels},
    )
    _write_npz(
        out / "cells.npz",
        {
            "images": simulation.images,
            "labels": simulation.labels,
            "class_names": np.array(simulation.class_names),
            "channel_names": np.array(["fluorescence"]),
            "pixel_size": np.array(simulation.pixel_size),
            **simulation.properties,
        },
    )
    return out / "cells.npz"


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary path to write a file to; it replaces ``path`` when all went well.

    The file is on the disk, not only in memory, when the block ends. What a process that was killed
    left of an earlier try is removed. Raises RunError when the disk is full, or the folder cannot
    be written to.
    """
    temporary = temporary_of(path, os.getpid())
    with naming_faults(path):
        make_folder(path.parent)
        _remove_partials(path.parent.glob(f"{_PARTIAL}*-{escape(path.name)}"))
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, knows: tuple[str, ...] | None = None) -> Generator[Path]:
    """A temporary folder to fill; it replaces the folder ``path`` when all went well.

    The old folder is put aside, the new one takes its place, then the old one is removed. After a
    crash in between, `standing` finds the old one, and the next call puts it back. All files are
    on the disk, not only in memory, before the new folder takes its place.

    Where ``knows`` is given, a folder is replaced only if it is empty or holds one of these
    files, which an earlier result of the same kind has. Raises SettingError for any other folder,
    RunError when the disk is full or the folder cannot be written to.
    """
    temporary, old = path.with_name(f"{_PARTIAL}{path.name}"), _aside(path)
    with naming_faults(path):
        make_folder(path.parent)
        if old.exists() and not path.exists():
            old.replace(path)
        if knows is not None and path.exists() and not _replaceable(path, knows):
            raise SettingError(f"'{path}' exists and holds other things; name a new folder")
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for place, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(place, name))
                _sync(Path(place))
            if path.exists():
                path.replace(old)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            if old.exists() and not path.exists():
                old.replace(path)
            for leftover in (temporary, old):
                shutil.rmtree(leftover, ignore_errors=True)


def temporary_of(path: Path, pid: int) -> Path:
    """Where a process of this machine writes a file before it takes its name."""
    return path.with_name(f"{_PARTIAL}{pid}-{_host()}-{path.name}")


def is_partial(path: Path) -> bool:
    """Whether a file or folder is one that was being written, by its name."""
    return path.name.startswith(_PARTIAL)


def remove_leftovers(folder: Path) -> None:
    """Remove, in a folder and those in it, the files that a process was writing when it was killed.

    The caller writes nothing there at the time. Files of other living processes stay.
    """
    _remove_partials([*folder.glob(f"{_PARTIAL}*"), *folder.glob(f"*/{_PARTIAL}*")])


def _remove_partials(files: Iterable[Path]) -> None:
    for found in files:
        pid, _, rest = found.name.removeprefix(_PARTIAL).partition("-")
        here = rest.startswith(f"{_host()}-")
        if found.is_file() and here and pid.isdecimal() and not _is_another(int(pid)):
            with suppress(OSError):
                found.unlink()


def _host() -> str:
    """This machine, in eight characters: numbers of processes are those of one machine."""
    return checksum(platform.node().encode())


def _is_another(pid: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # of another user
        return True
    except (OSError, OverflowError):
        return False
    return pid != os.getpid()


def standing(path: Path) -> Path:
    """``path``, or the earlier one, where a crash came between the two renames of a replacement."""
    return _aside(path) if not path.exists() and _aside(path).exists() else path


def _aside(path: Path) -> Path:
    return path.with_name(f".old-{path.name}")


def _replaceable(path: Path, knows: tuple[str, ...]) -> bool:
    return path.is_dir() and (
        not any(path.iterdir()) or any((path / name).exists() for name in knows)
    )


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, and see them to the disk."""
    if not path.is_dir():
        make_folder(path.parent)
        with naming_faults(path):
            path.mkdir(exist_ok=True)
            _sync(path.parent)


def _sync(path: Path) -> None:
    """See the content of a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a file system that cannot do this for folders
            raise
    finally:
        os.close(handle)


@contextmanager
def naming_faults(path: Path) -> Generator[None]:
    """Raises RunError for a full disk or a folder at ``path`` that cannot be written to.

    Errors about files that do not lie next to ``path`` or below it stay as they are.
    """
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        named = error.filename
        if reason is None or (
            isinstance(named, str | Path)
            and not Path(named).resolve().is_relative_to(path.parent.resolve())
        ):
            raise
        raise RunError(f"'{path}' cannot be written: {reason}") from error
