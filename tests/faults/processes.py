"""Accidents of a study that several processes work on."""

import os
import random
import select
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from accidents import Outcome
from arena import Arena, Child

from cytolens.errors import CytolensError
from cytolens.store.lock import run_lock
from cytolens.store.run_folder import RunFolder
from cytolens.study import study, team


def _study_of_two(arena: Arena, tell: Callable[[Any], None]) -> None:
    """A study on two cores: says which processes it starts, and which stages it makes."""
    start, have_made = team.lines.start, study.Study._have_made

    def noted(module: str, **environment: str) -> Any:
        process = start("patched_teammate", **environment)
        tell(process.pid)
        return process

    def making(self: study.Study, mate: Any, name: str) -> None:
        tell(name)
        have_made(self, mate, name)

    team.lines.start, study.Study._have_made = noted, making
    study.thread_count = lambda threads: 2  # with the settings of one, which the report shows
    arena.make("report", begun=tell)


def lost_mates(arena: Arena, wanted: int, draw: random.Random) -> Outcome:
    """The other process of a study is killed; the study goes on, to the same bytes."""
    outcome, took = Outcome(), 15.0
    while outcome.trials < wanted:
        arena.set_up("activations", older=bool(outcome.trials % 2))
        child = Child(lambda tell: _study_of_two(arena, tell))
        while not isinstance(mate := child.hear(), int):
            assert mate is not None
        begun = time.monotonic()
        with suppress(ProcessLookupError):  # the study was done before
            time.sleep(draw.uniform(0, took))
            os.kill(mate, signal.SIGKILL)
            child.rest()
            outcome.add(_problems_of_all(arena))
            continue
        child.rest()
        took = time.monotonic() - begun
    return outcome


def _problems_of_all(arena: Arena) -> list[str]:
    found = [problem for stage in arena.stages for problem in arena.problems_after(stage)]
    return list(dict.fromkeys(found))


def lost_study(arena: Arena, wanted: int, draw: random.Random) -> Outcome:
    """The study's own process is killed: the other one ends as well, and the run is free."""
    outcome = Outcome(allowed=2)
    arena.set_up("activations", older=False)
    before, made = set[str](), set[str]()  # stages that the last kill hit; those made for good
    while outcome.trials < wanted:
        child = Child(lambda tell: _study_of_two(arena, tell))
        while not isinstance(mate := child.hear(), int | None):
            pass
        ended = None if mate is None else os.pidfd_open(mate)
        struck = child.signalled(draw.uniform(0, 12))
        begun = [name for name in iter(child.hear, None) if isinstance(name, str)]
        child.wait()
        repeated = len(before.intersection(begun))
        problems = [f"'{name}' was finished, and made again" for name in made.intersection(begun)]
        if not struck:
            outcome.problems += problems + _problems_of_all(arena)
            outcome.repeated = max(outcome.repeated, repeated)
            arena.set_up("activations", older=bool(outcome.trials % 2))
            before, made = set(), set()
            continue
        if ended is not None:
            if not select.select([ended], [], [], 10)[0]:
                problems.append("the other process outlives its study")
            os.close(ended)
        with _noting(problems), run_lock(arena.run):
            pass
        problems += arena.problems_now()
        made.update(name for name in begun if RunFolder(arena.run).has(name))
        before = set(begun) - made
        outcome.add(problems, repeated)
    return outcome


@contextmanager
def _noting(problems: list[str]) -> Generator[None]:
    try:
        yield
    except CytolensError as error:
        problems.append(str(error))
