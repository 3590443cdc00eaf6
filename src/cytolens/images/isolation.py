"""Decoders in a process of their own, for files that are not of one's own making.

Decoders are written in C; a file made for it, or only damaged, can end the process that decodes
it or keep it busy for ever. In a process of its own it ends that process alone, and the file is
named like any other that cannot be read. The process has a limit of memory and of time per file;
what comes back from it is checked, and never unpickled.
"""

import atexit
import io
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError

SECONDS = 10.0  # of the processor, that one request may take
PATIENCE = 12.0  # times as long by the clock, on a machine that has other work
STARTING = 300.0  # seconds that the process may take to start
MEMORY = 2 << 30  # bytes of address space beyond what the process needs to start
MOST_ANSWER = 4 << 30  # bytes

_LOOK = 0.2  # seconds between two looks at whether an answer is late
_isolated = 0
_lock = threading.Lock()
_idle: list["Decoder"] = []


@contextmanager
def isolated(wanted: bool = True) -> Generator[None]:
    """Within the block, images and tables are decoded in a process of their own.

    Crops that are found within it are decoded there later, too.

    >>> with isolated():
    ...     is_isolated()
    True
    """
    global _isolated
    with _lock:
        _isolated += wanted
    try:
        yield
    finally:
        with _lock:
            _isolated -= wanted
            ended = _idle[:] if not _isolated else []
            del _idle[: len(ended)]
        for decoder in ended:
            decoder.stop()


def is_isolated() -> bool:
    """Whether a block of `isolated` is open."""
    return _isolated > 0


def ask(
    request: str, path: Path, *, seconds: float | None = None, **more: Any
) -> tuple[Any, list[NDArray[Any]]]:
    """The answer of a decoding process: what JSON can hold, and arrays.

    Raises InputError where the file cannot be decoded, where it ends the process, and where it
    takes more than ``seconds`` of the processor, by default 10.
    """
    with _lock:
        decoder = _idle.pop() if _idle else None
    decoder = decoder or Decoder()
    healthy = False
    try:
        answer = decoder.ask({"request": request, "path": os.fsencode(path).hex(), **more}, seconds)
        healthy = True
        return answer
    except InputError:
        healthy = decoder.alive
        raise
    finally:
        with _lock:
            keep = healthy and len(_idle) < 4
            if keep:
                _idle.append(decoder)
        if not keep:
            decoder.stop()


def _end_idle() -> None:
    """Processes that crops read after the block have left."""
    while _idle:
        _idle.pop().stop()


atexit.register(_end_idle)


class Decoder:
    """One decoding process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cytolens.images.decoding", str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=True,
        )
        self._receive(STARTING)

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    def ask(
        self, question: dict[str, Any], seconds: float | None = None
    ) -> tuple[Any, list[NDArray[Any]]]:
        """Raises InputError with what the process says, or where it has ended or is too slow."""
        assert self._process.stdin is not None
        seconds = SECONDS if seconds is None else seconds
        try:
            send(self._process.stdin, question, [])
            return self._receive(seconds * PATIENCE, seconds)
        except (OSError, EOFError, ValueError):
            code = self._ended()
            raise InputError(f"ends the process that decodes it ({code}); it is damaged") from None

    def _receive(
        self, by_the_clock: float, of_processor: float = np.inf
    ) -> tuple[Any, list[NDArray[Any]]]:
        assert self._process.stdout is not None
        last = _processor_time(self._process.pid) + of_processor
        deadline = time.monotonic() + by_the_clock

        def late() -> bool:
            return time.monotonic() > deadline or _processor_time(self._process.pid) > last

        stream = _Timed(self._process.stdout.fileno(), late)
        try:
            answer, arrays = receive(stream)
        except TimeoutError:
            self.stop()
            most = min(of_processor, by_the_clock)
            raise InputError(
                f"is not decoded within {most:g} seconds; it is damaged, or made to be slow"
            ) from None
        if isinstance(answer, dict) and "error" in answer:
            raise InputError(str(answer["error"])[:500])
        return answer, arrays

    def _ended(self) -> str:
        self.stop()
        code = self._process.returncode
        return f"signal {-code}" if code and code < 0 else f"code {code}"

    def stop(self) -> None:
        """End the process."""
        process = self._process
        try:
            code = process.wait(0.2 if process.poll() is not None else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        del code
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was still to be written to it
                    continue


def _processor_time(process: int) -> float:
    """Seconds of the processor that a process has had; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


class _Timed:
    """Reads a pipe, and gives up when it is late."""

    def __init__(self, descriptor: int, late: Callable[[], bool]) -> None:
        self._descriptor, self._late = descriptor, late

    def read(self, size: int) -> bytes:
        parts = io.BytesIO()
        left = size
        while left:
            ready, _, _ = select.select([self._descriptor], [], [], _LOOK)
            if not ready:
                if self._late():
                    raise TimeoutError
                continue
            part = os.read(self._descriptor, min(left, 1 << 20))
            if not part:
                raise EOFError
            parts.write(part)
            left -= len(part)
        return parts.getvalue()


def send(stream: IO[bytes], answer: Any, arrays: list[NDArray[Any]]) -> None:
    """Write JSON and arrays: lengths first, arrays as they lie in memory."""
    arrays = [np.ascontiguousarray(array) for array in arrays]
    about = [[array.dtype.str, list(array.shape)] for array in arrays]
    head = json.dumps({"answer": answer, "arrays": about}).encode()
    stream.write(struct.pack("<Q", len(head)) + head)
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: Any) -> tuple[Any, list[NDArray[Any]]]:
    """Read what `send` has written. Raises EOFError at the end, ValueError for anything else."""
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > 1 << 30:
        raise ValueError(length)
    head = json.loads(stream.read(length))
    arrays: list[NDArray[Any]] = []
    for text, shape in head["arrays"]:
        dtype = np.dtype(text)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.hasobject or not 0 <= size <= MOST_ANSWER:
            raise ValueError(text)
        arrays.append(np.frombuffer(stream.read(size), dtype).reshape(shape))
    return head["answer"], arrays
