"""A process of its own that is asked, and answers, in lines of JSON: nothing is unpickled.

Python's own ways of starting a process run the caller's script once more in it; this does not.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any


def start(module: str, **environment: str) -> subprocess.Popen[str]:
    """``python -m module``, with the caller's import path; Ctrl-C is not for it."""
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": paths, **environment}, start_new_session=True,
    )  # fmt: skip


def send(process: subprocess.Popen[str], message: Any) -> None:
    """Ask something. Raises EOFError where the process has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(message, default=str) + "\n")
        process.stdin.flush()
    except (OSError, ValueError):
        raise EOFError from None


def end(process: subprocess.Popen[str]) -> None:
    """End the process, whatever it does. Its output stays open for who reads it."""
    process.kill()
    process.wait()
    if process.stdin is not None:
        with suppress(OSError):  # what was still to be written to it
            process.stdin.close()


def answering(
    ended: Callable[[], None] | None = None,
) -> tuple[SimpleQueue[Any], Callable[[Any], None]]:
    """In such a process: what it is asked, as it comes in, and what writes an answer.

    When the input ends, ``ended`` is called, by default to put a last None. What libraries print
    goes to the error output from here on: it is no answer.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked: SimpleQueue[Any] = SimpleQueue()

    def answer(message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def listen() -> None:
        for line in sys.stdin:
            asked.put(json.loads(line))
        asked.put(None) if ended is None else ended()

    threading.Thread(target=listen, daemon=True).start()
    return asked, answer
