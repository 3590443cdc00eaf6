"""Asking the network, which runs in a process of its own: a question never blocks the page.

The process (`questions`) loads torch; the server never does. Both speak in lines of JSON, so that
nothing which a network does in its process is unpickled here. One question is worked on at a time:
a new one takes the place of the one before.
"""

import json
import subprocess
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cytolens.errors import ModelError, SettingError
from cytolens.study import lines

if TYPE_CHECKING:
    from cytolens.study.finished_run import FinishedRun


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
        self._process: subprocess.Popen[str] | None = None
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
            if self._process is not None and self._process.poll() is None:
                return
            self._end()
            self._process = lines.start("cytolens.explorer.questions")
            self._send({"run": str(self._run), "trusted": self._trusted})
            assert self._process.stdout is not None
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

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
            self._send({"number": self._last, "kind": kind, "question": question})
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
                self._send({"number": 0, "kind": "stop", "question": {}})

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            lines.end(process)

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is not None:
            try:
                lines.send(self._process, message)
            except EOFError:
                self._end_open("failed", "the network's process has ended; ask again")

    def _listen(self, answers: IO[str]) -> None:
        with answers:
            for line in answers:
                number, change = json.loads(line)
                with self._lock:
                    if self._open(number):
                        self._change(number, **change)
        with self._lock:
            if self._process is None or self._process.stdout is answers:  # not one started since
                self._end_open("failed", "the network's process has ended; ask again")

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
