"""One process at a time works on a run."""

import fcntl
import json
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cytolens.errors import RunError
from cytolens.store.files import make_folder, naming_faults, remove_leftovers

LOCK = ".lock"
"""Name of the lock file in a run folder."""


@contextmanager
def run_lock(path: Path) -> Generator[None]:
    """Within the block no other process works on the run folder ``path``, which is made if needed.

    The lock is an advisory one of the operating system (``flock``) on ``path/.lock``: it ends with
    the process that holds it, however that ends, so the file may stay. What processes that were
    killed left half-written is removed, and a folder in which nothing else was made. Not to be
    taken twice by one process. Raises RunError when another process holds it, saying which and
    since when, and when the folder cannot be written to.
    """
    with naming_faults(path / LOCK):
        make_folder(path)
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process works on '{path}'{_holder(handle)}; "
                "wait for it or name another folder"
            ) from None
        except OSError as error:
            raise RunError(
                f"'{path}' lies on a file system without locks ({error.strerror}); name a folder "
                "elsewhere"
            ) from error
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        with naming_faults(path / LOCK):
            _write(handle, json.dumps(holder).encode())
        remove_leftovers(path)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
            remove_leftovers(path)  # of other processes that worked for this one
            if [entry.name for entry in path.iterdir()] == [LOCK]:  # nothing was made
                (path / LOCK).unlink()
                path.rmdir()
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, data, 0)


def _holder(handle: int) -> str:
    """ " (process 123 on HOST, since 12:01)"; nothing where the holder has not signed yet."""
    try:
        holder: dict[str, Any] = json.loads(os.pread(handle, 4096, 0))
        since = datetime.fromisoformat(holder["since"]).astimezone()
        today = since.date() == datetime.now().date()
        when = f"{since:%H:%M}" if today else f"{since:%Y-%m-%d %H:%M}"
        return f" (process {holder['pid']} on {holder['host']}, since {when})"
    except (ValueError, KeyError, TypeError):
        return ""
