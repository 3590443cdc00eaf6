"""Asking the network, which runs in a process of its own: a question never blocks the page.

The process is started when the page first needs it, and loads torch; the server never does. One
question is worked on at a time: a new one takes the place of the one before.
"""

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolens.errors import CytolensError, ModelError, SettingError

if TYPE_CHECKING:
    from cytolens.explorer.answering import Answering
    from cytolens.study.finished_run import FinishedRun

QUESTIONS = ("see", "explain", "place")
"""What can be asked: the names of methods of `Answering`."""


@dataclass
class Answer:
    """What is known of a question so far, as the page is given it."""

    state: str = "waiting"  # "waiting", "working", "done", "failed" or "cancelled"
    note: str = ""  # what is going on, or what went wrong
    version: int = 0  # raised with every change
    content: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "state": self.state, "note": self.note, "version": self.version, **self.content,
        }  # fmt: skip


class Network:
    """The process that runs the network, and the answers it has given."""

    def __init__(self, run: Path, *, trust_model: bool, own_model: bool) -> None:
        """``own_model``: the network is the user's own, which is code."""
        self._run, self._trusted, self._own = run, trust_model, own_model
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None
        self._answers: dict[int, Answer] = {}
        self._last, self._kind = 0, ""

    @classmethod
    def of(cls, run: "FinishedRun", *, trust_model: bool) -> "Network":
        """The network of a run; ``trust_model``: the Python file it may name is run when asked."""
        own = run.settings.model is not None
        return cls(run.folder.path, trust_model=trust_model, own_model=own)

    @property
    def allowed(self) -> bool:
        """Whether it may be run: a run of a stranger could name any code."""
        return self._trusted or not self._own

    def start(self) -> None:
        """Have the process ready before it is asked.

        Raises ModelError where the run names code as its network and that is not trusted.
        """
        if not self.allowed:
            raise ModelError(
                "this run's network is a Python file, which is not run unless you trust it: "
                "cytolens explore RUN --trust-model"
            )
        with self._lock:
            if self._process is not None and self._process.is_alive():
                return
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._process = context.Process(
                target=_work, args=(str(self._run), self._trusted, theirs), daemon=True
            )
            self._process.start()
            theirs.close()
            self._pipe = ours
            threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def ask(self, kind: str, **question: Any) -> int:
        """Put a question; gives its number. The one before is given up.

        Raises ModelError where the network may not be run, SettingError where cells are to be
        explained while new ones are still being placed.
        """
        self.start()
        with self._lock:
            if kind == "explain" and self._kind == "place" and self._open(self._last):
                raise SettingError("the network is still placing new cells; ask again then.")
            self._kind = kind
            self._end_open("cancelled")
            self._last += 1
            self._answers = {k: a for k, a in self._answers.items() if k > self._last - 20}
            self._answers[self._last] = Answer(note="the network is being loaded")
            self._send((self._last, kind, question))
            return self._last

    def answer(self, number: int) -> Answer | None:
        """What is known of a question; None where it was never put."""
        with self._lock:
            found = self._answers.get(number)
            return None if found is None else replace(found)

    def cancel(self, number: int) -> None:
        """Give a question up; the process stays ready."""
        with self._lock:
            if number == self._last and self._open(number):
                self._change(number, state="cancelled", note="")
                self._send((0, "stop", {}))

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                self._process.join(5)
                self._process = None

    def _send(self, message: Any) -> None:
        if self._pipe is not None:
            try:
                self._pipe.send(message)
            except OSError:
                self._end_open("failed", "the network's process has ended; ask again")

    def _listen(self, pipe: Connection) -> None:
        while True:
            try:
                number, change = pipe.recv()
            except (EOFError, OSError):
                with self._lock:
                    self._end_open("failed", "the network's process has ended; ask again")
                return
            with self._lock:
                if self._open(number):
                    self._change(number, **change)

    def _open(self, number: int) -> bool:
        found = self._answers.get(number)
        return found is not None and found.state in ("waiting", "working")

    def _end_open(self, state: str, note: str = "") -> None:
        for number in self._answers:
            if self._open(number):
                self._change(number, state=state, note=note)

    def _change(self, number: int, **change: Any) -> None:
        found = self._answers[number]
        content = {**found.content, **change.pop("content", {})}
        self._answers[number] = replace(found, **change, content=content, version=found.version + 1)


class _Stopped(Exception):
    """The question is no longer of interest."""


def _work(run: str, trusted: bool, pipe: Connection) -> None:
    """The process: reads questions from the pipe, and sends what it finds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: waiting threads sleep
    import numpy as np  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from threadpoolctl import threadpool_limits

    from cytolens.numerics.threads import asked_threads

    with threadpool_limits(asked_threads() or 1):  # of NumPy; others come with what needs them
        try:
            from cytolens.explorer.answering import Answering

            network: Answering | Exception = Answering(run, trusted)
            if not pipe.poll():
                network.make_ready()
        except Exception as error:
            network = error
        _answer_all(network, run, pipe)


def _answer_all(network: "Answering | Exception", run: str, pipe: Connection) -> None:
    """Work on one question after another until the pipe is closed."""
    waiting: list[Any] = []
    while True:
        try:
            message = waiting.pop() if waiting else pipe.recv()
        except EOFError:
            return
        number, kind, question = message
        if kind == "stop":
            continue

        def check() -> None:
            if pipe.poll():
                waiting.append(pipe.recv())
                raise _Stopped

        def say(number: int = number, **change: Any) -> None:
            pipe.send((number, change))

        try:
            if isinstance(network, Exception):
                raise network
            if kind in QUESTIONS:
                getattr(network, kind)(say, check, **question)
        except _Stopped:
            say(state="cancelled", note="")
        except CytolensError as error:
            say(state="failed", note=_without_paths(str(error), run))
        except Exception as error:
            say(state="failed", note=f"that failed ({type(error).__name__})")


def _without_paths(text: str, run: str) -> str:
    """An error's words without any path of this machine."""
    return " ".join(
        "…" if "/" in word.strip("'\"(),;") and word.strip("'\"(),;").startswith("/") else word
        for word in text.replace(run, "RUN").split()
    )
