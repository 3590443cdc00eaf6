"""The parts of a stage: what can be made apart from each other, in any order and by any process.

A stage whose work falls into parts is a generator. It yields them once, is sent what they gave, in
order, and returns its result::

    def maps(activations, mapped, *, methods, seed) -> Made[Embedding, Maps]:
        features = …
        made = yield Parts(methods, lambda k: embed(features, method=methods[k], rng=seed))
        return dict(zip(methods, made, strict=True))

So the stage is made in the same way whoever makes its parts, and has the same bytes.
"""

import socket
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from cytolens.errors import RunError
from cytolens.records.cells import Progress
from cytolens.store.parts import PartFiles
from cytolens.study.settings import StudySettings

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Parts(Generic[T]):
    """What a stage has made apart. The number of parts must not depend on the machine.

    ``make`` gives the part of a number, from 0. It rests on nothing else: not on parts that were
    made before, nor on random numbers that they have drawn. What it gives can be stored.
    """

    names: Sequence[str]
    make: Callable[[int], T]
    at_once: int = 1  # so many in threads, where they are made by one process

    def __len__(self) -> int:
        return len(self.names)


Made = Generator[Parts[T], Iterable[T], R]
"""A stage that has parts ``T`` and the result ``R``."""

Spread = Callable[[Parts[Any]], Iterable[Any]]
"""Has parts made, and gives what they gave, in order; one by one, as they may be large."""


def join(steps: Made[Any, R], spread: Spread) -> R:
    """The result of a stage, its parts made by ``spread``."""
    try:
        parts = next(steps)
        steps.send(spread(parts))
    except StopIteration as end:
        return end.value
    raise TypeError("a stage yields its parts once")


def parts_of(steps: Made[T, Any]) -> Parts[T]:
    """The parts of a stage; none where it needs none this time."""
    nothing: Parts[Any] = Parts((), lambda number: None)
    return next(steps, nothing)


def here(parts: Parts[T]) -> Iterable[T]:
    """Each part made when it is asked for, by this process."""
    if parts.at_once == 1:
        return map(parts.make, range(len(parts)))
    # Of what takes threads only: a run opens without torch.
    from cytolens.classifier.threads import side_by_side

    return side_by_side(parts.make, len(parts), parts.at_once)


@dataclass(frozen=True)
class PartTask:
    """One part of a stage of a run, for any process that sees the run folder (`study.apart`)."""

    run: Path
    settings: StudySettings
    trusted: bool  # the Python file of the user's network may be run
    stage: str
    number: int
    made_from: str  # the hash that the stage has when all rests on what it rests on now

    def begin(self) -> "Begun":
        """The parts of the stage, its first steps taken. Raises like `study.apart.Apart`."""
        from cytolens.study.apart import Apart  # it knows all stages

        seen(self.run / "run.json", "runs")
        return Apart(self.run, self.settings, self.stage, trusted=self.trusted, progress=_silent)


class Task(Protocol):
    """One part of something, named so that any process can make it; a frozen dataclass."""

    @property
    def stage(self) -> str:
        """What its parts are of."""
        ...

    @property
    def number(self) -> int:
        """Which of the parts it is."""
        ...

    @property
    def made_from(self) -> str:
        """The hash of all that it rests on."""
        ...

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def begin(self) -> "Begun":
        """The parts that this is one of. Raises RunError where they are not to be seen."""
        ...


class Begun(Protocol):
    """Parts that a process can make, and store, one by one."""

    made_from: str

    def make(self, number: int) -> None:
        """Make a part and store it."""
        ...


def seen(path: Path, what: str) -> None:
    """Raises RunError where a path is not to be seen on this machine."""
    if not path.exists():
        shown = path.parent if path.name == "run.json" else path
        raise RunError(
            f"'{shown}' is not to be seen on {socket.gethostname()}; keep {what} where all "
            "workers see them under the same path"
        )


Workers = Callable[[Sequence[Task]], Iterable[int]]
"""Other processes: they make all parts and store them; given back is how many are done, each time
one is. Raises what making one has raised."""


def have_made(files: PartFiles, workers: Workers, task: Any, *, progress: Progress) -> None:
    """Have the parts that do not lie ready made by workers. ``task``: a `Task` of any number."""
    tasks: list[Task] = [replace(task, number=number) for number in files.missing()]
    ready = files.total - len(tasks)
    for done in workers(tasks) if tasks else ():
        progress(ready + done, files.total, "parts made by workers")


def read_or_made(files: PartFiles, parts: Parts[T]) -> Iterable[T]:
    """What each part gives: as it was stored where it lies ready, else made here."""

    def one(number: int) -> T:
        try:
            return files.read(number)
        except KeyError:
            return parts.make(number)

    return here(replace(parts, make=one))


def _silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
