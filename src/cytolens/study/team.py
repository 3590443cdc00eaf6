"""Other processes that make stages of the same study, and draw figures of its report.

A small network gains nothing from a second thread, so further cores are filled by stages that do
not rest on each other. Each is made by one process from what the run folder holds, and stored
there; the study alone writes ``run.json``, so whatever stops a process leaves its stage unfinished.
"""

import json
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cytolens import errors
from cytolens.records.cells import Cells, Progress
from cytolens.study import lines
from cytolens.study.settings import StudySettings

MOST = 3  # other processes: hardly more of a study's stages are ready at a time
MANY_CELLS = 200_000  # from here on memory counts more than time
LARGE_CROPS = 128 * 128  # pixels: from here on threads gain more than processes


class Teammate:
    """One other process. It is asked for one thing at a time."""

    def __init__(self, run: Path, settings: StudySettings, trusted: bool) -> None:
        self.process = lines.start("cytolens.study.teammate", OMP_NUM_THREADS="1")
        first = {"run": str(run), "settings": asdict(settings), "trusted": trusted}
        with suppress(EOFError):  # said when it is asked
            lines.send(self.process, first)

    def make(self, stage: str, progress: Progress) -> tuple[list[str], float]:
        """Make and store a stage; its files, and the seconds that it took.

        Raises what the stage raises, and EOFError where the process has ended.
        """
        answer = self._ask({"make": stage}, progress)
        return answer["files"], answer["seconds"]

    def draw(self, figure: str, about: Mapping[str, Any], *, svg: bool) -> None:
        """Draw a figure of the report into the run's folder of figures; raises like `make`."""
        self._ask({"draw": figure, "about": about, "svg": svg}, lambda done, total, note: None)

    def stop(self) -> None:
        """End the process, whatever it does."""
        lines.end(self.process)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _ask(self, message: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        assert self.process.stdout is not None
        lines.send(self.process, message)
        while line := self.process.stdout.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise getattr(errors, answer["kind"], RuntimeError)(answer["error"])
            if "progress" not in answer:
                return answer
            progress(*answer["progress"])
        raise EOFError


class Todo:
    """What is to be made, by name, handed out one by one as soon as all that it needs is made.

    Of what is ready that comes first for which the longest chain of others waits. ``needs``: by
    name, each after all that it needs.
    """

    def __init__(self, needs: Mapping[str, Set[str]]) -> None:
        self._needs = {name: found & set(needs) for name, found in needs.items()}
        self._chain: dict[str, int] = {}
        for name in reversed(list(needs)):
            waiting = [self._chain[later] for later in self._chain if name in self._needs[later]]
            self._chain[name] = 1 + max(waiting, default=0)
        self._left, self._made = list(needs), set[str]()
        self._changed = threading.Condition()
        self.error: BaseException | None = None

    def __len__(self) -> int:
        """How many are not handed out."""
        return len(self._left)

    def take(self, *, but: Iterable[str] = ()) -> str | None:
        """A name that is ready, waiting for one; None where none is left, or one has failed."""
        with self._changed:
            while self.error is None and (left := [name for name in self._left if name not in but]):
                ready = [name for name in left if self._needs[name] <= self._made]
                if ready:
                    found = max(ready, key=lambda name: self._chain[name])
                    self._left.remove(found)
                    return found
                self._changed.wait()
        return None

    def made(self, name: str) -> None:
        """It is made."""
        with self._changed:
            self._made.add(name)
            self._changed.notify_all()

    def give_back(self, name: str) -> None:
        """It was not made: another is to make it."""
        with self._changed:
            self._left.insert(0, name)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more is handed out."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()


@contextmanager
def team(
    run: Path, settings: StudySettings, cells: Cells, *, cores: int, trusted: bool
) -> Generator[list[Teammate]]:
    """Other processes on a run folder, as many as pay; they end with the block."""
    pays = len(cells) <= MANY_CELLS and cells.shape[1] * cells.shape[2] <= LARGE_CROPS
    mates: list[Teammate] = []
    try:
        for _ in range(min(cores - 1, MOST) if pays else 0):
            mates.append(Teammate(run, settings, trusted))
        yield mates
    finally:
        for mate in mates:
            mate.stop()


def work(
    todo: Todo,
    mates: Iterable[Teammate],
    *,
    here: Callable[[str], None],
    there: Callable[[Teammate, str], None],
    alone: Iterable[str] = (),
) -> None:
    """Have all made: ``here`` by this process, ``there`` by another one; ``alone`` here only.

    A process that has ended gives back what it was at. Raises the first error.
    """

    def follow(mate: Teammate) -> None:
        while (name := todo.take(but=alone)) is not None:
            try:
                there(mate, name)
            except EOFError:
                return todo.give_back(name)
            except BaseException as error:
                return todo.fail(error)
            todo.made(name)
        return None

    threads = [threading.Thread(target=follow, args=(mate,), daemon=True) for mate in mates]
    for thread in threads:
        thread.start()
    try:
        while len(todo) or any(thread.is_alive() for thread in threads):
            while (name := todo.take()) is not None:
                here(name)
                todo.made(name)
            for thread in threads:
                thread.join(0.05)
            if todo.error is not None:
                raise todo.error
    except BaseException as error:
        todo.fail(error)
        raise
