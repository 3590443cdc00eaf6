"""The kinds of accident, each at many moments of a stage; what they find is a list of problems."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from arena import Arena, Child, watched
from crash_states import CrashStates

from cytolens.cli.main import main
from cytolens.errors import CytolensError
from cytolens.figures import style
from cytolens.report import story
from cytolens.store.files import read_sealed_json

_EVERY = 10  # kills of the same run, until it is made to the end and compared
_BEGIN = "print(flush=True); from cytolens.cli import main; main()"
_MADE = "comparing the layers: "  # of the stage similarity, on stderr
_TRACES = ("Traceback", "Exception ignored", "Fatal Python")


@dataclass
class Outcome:
    """What came of the trials of one kind on one stage."""

    trials: int = 0
    failed: int = 0
    repeated: int = 0  # the most stages that a rerun made again
    allowed: int = 1  # one for each process that was at work
    problems: list[str] = field(default_factory=list)

    def add(self, problems: list[str], repeated: int = 0) -> None:
        """One more trial."""
        self.trials += 1
        self.failed += bool(problems)
        self.repeated = max(self.repeated, repeated)
        self.problems += problems

    def __add__(self, other: "Outcome") -> "Outcome":
        """Both together."""
        return Outcome(
            self.trials + other.trials,
            self.failed + other.failed,
            max(self.repeated, other.repeated),
            max(self.allowed, other.allowed),
            self.problems + other.problems,
        )


# kill -9 ----------------------------------------------------------------------------------------


def killed(arena: Arena, stage: str, wanted: int, draw: random.Random) -> Outcome:
    """``kill -9`` at random moments of a stage, a third of any of it, the others of its writing."""
    outcome = Outcome()
    took, any_moment = _seconds(arena, stage), (wanted + 2) // 3
    _kill(arena, stage, None, took, any_moment, outcome, draw)

    def work(tell: Callable[[Any], None]) -> None:
        arena.set_up(stage, older=False)
        known = arena.make(stage)[stage]
        while_written = Outcome()
        with _figures_known(arena):
            arena.set_up(stage, older=False)
            started = time.monotonic()
            arena.make(stage, known)
            took = time.monotonic() - started
            _kill(arena, stage, known, took, wanted - any_moment, while_written, draw)
        tell(asdict(while_written))

    return outcome + Outcome(**Child(work).rest()[-1])


def _kill(
    arena: Arena,
    stage: str,
    known: Any,
    took: float,
    wanted: int,
    outcome: Outcome,
    draw: random.Random,
) -> None:
    """Again and again on the same run, until it is made to the end and compared."""
    older = False
    arena.set_up(stage, older=older)
    while outcome.trials < wanted:
        child = Child(lambda tell: arena.make(stage, known, begun=tell))
        while child.hear() not in (stage, None):
            pass
        struck = child.signalled(draw.uniform(0, 1.05 * took))
        child.wait()
        if not struck:  # it was made already
            arena.set_up(stage, older=older)
            continue
        outcome.add(arena.problems_now())
        if outcome.trials % _EVERY == 0 or outcome.trials == wanted:
            repeated, problems = _made_to_the_end(arena, stage, known)
            outcome.problems += problems
            outcome.repeated = max(outcome.repeated, repeated)
            older = not older
            arena.set_up(stage, older=older)


def _seconds(arena: Arena, stage: str) -> float:
    """How long a stage takes by the clock in a fork of this process."""
    if stage not in arena.seconds:
        arena.set_up(stage, older=False)
        child = Child(lambda tell: arena.make(stage, begun=tell))
        while child.hear() not in (stage, None):
            pass
        started = time.monotonic()
        child.rest()
        arena.seconds[stage] = time.monotonic() - started
    return arena.seconds[stage]


def _made_to_the_end(arena: Arena, stage: str, known: Any = None) -> tuple[int, list[str]]:
    """How many stages a rerun made, and what is wrong with its results."""

    def work(tell: Callable[[Any], None]) -> None:
        made = list(arena.make(stage, known))
        tell([len(made), arena.problems_after(stage)])

    repeated, problems = Child(work).rest()[-1]
    return repeated, problems


# Every state of the disk ------------------------------------------------------------------------


def crashed(arena: Arena, stage: str, most: int, draw: random.Random) -> Outcome:
    """Each state of the disk on the way, or ``most`` of them; kills while it is written."""
    outcome = Outcome()
    for older in (False, True):

        def work(tell: Callable[[Any], None], older: bool = older) -> None:
            with tempfile.TemporaryDirectory(dir=arena.run.parent) as folder:
                arena.set_up(stage, older=older)
                states = CrashStates(arena.run, Path(folder), most, draw)
                with states.watching():
                    known = arena.make(stage)[stage]
                tell(states.unsynced)
                for state in sorted(states.states):
                    states.restore(state)
                    problems = arena.problems_now()
                    problems += _problems_of_making(arena, stage, known)
                    tell([f"{state.name}: {problem}" for problem in problems])

        unsynced, *found = Child(work).rest()
        outcome.problems += unsynced
        for problems in found:
            outcome.add(problems, 1)
    return outcome


def _problems_of_making(arena: Arena, stage: str, known: Any) -> list[str]:
    """What is wrong with the run once the stage is made again, from its known result."""
    try:
        with _figures_known(arena):
            arena.make(stage, known)
    except CytolensError as error:
        return [f"it cannot be made again: {error}"]
    return arena.problems_after(stage)


@contextmanager
def _figures_known(arena: Arena) -> Generator[None]:
    """Within the block figures are not drawn anew."""
    plots, render = story.plots, style.render
    drawn = {path.stem: path.read_bytes() for path in (arena.new / "figures").glob("*.png")}
    story.plots = lambda shown, **which: {
        name: (lambda n=name: n) for name in plots(shown, **which)
    }
    style.render = lambda name, svg=False: (drawn[name], None)
    try:
        yield
    finally:
        story.plots, style.render = plots, render


# The clock --------------------------------------------------------------------------------------


def clock_set_back(arena: Arena, stage: str) -> Outcome:
    """The clock is set back an hour and forth while a stage is made; files are of tomorrow."""
    outcome = Outcome()

    def work(tell: Callable[[Any], None]) -> None:
        arena.set_up(stage, older=True)
        tomorrow = time.time() + 86_400
        for file in (*arena.run.rglob("*"), *arena.data.rglob("*")):
            os.utime(file, (tomorrow, tomorrow))
        now, now_ns, hours = time.time, time.time_ns, itertools.cycle((0, 3600))
        time.time = lambda: now() - next(hours)
        time.time_ns = lambda: now_ns() - next(hours) * 10**9
        made = list(arena.make(stage))
        tell([len(made), arena.problems_after(stage)])

    repeated, problems = Child(work).rest()[-1]
    outcome.add(problems, repeated)
    return outcome


# A full disk ------------------------------------------------------------------------------------


def full(arena: Arena, stage: str, wanted: int, draw: random.Random) -> Outcome:
    """The disk is full at a random byte of what a stage writes. Needs `small_disk`."""
    outcome = Outcome()

    def work(tell: Callable[[Any], None]) -> None:
        arena.set_up(stage, older=True)
        known = arena.make(stage)[stage]
        written = _bytes_below(arena.run)
        arena.set_up(stage, older=True)
        written = max(written - _bytes_below(arena.run), 0) + _size_of(arena, stage)
        trials = 0
        while trials < wanted:
            arena.set_up(stage, older=bool(trials % 2) or stage == "cells")
            _resize(arena, os.statvfs(arena.run.parent), draw.randint(0, written))
            with _figures_known(arena):
                code, lines = _command(arena, ["stage", stage, str(arena.run), "--remake"], known)
            problems = arena.problems_now()
            _resize(arena)
            if code == 0:  # it had room enough
                written = int(0.9 * written)
                continue
            trials += 1
            problems += [] if code == 2 else [f"exit code {code} on a full disk: {lines[-1:]}"]
            problems += _unlike_one_line(lines)
            tell(problems + _problems_of_making(arena, stage, known))

    for problems in Child(work).rest():
        outcome.add(problems, 1)
    return outcome


@contextmanager
def small_disk(arena: Arena, *, wanted: bool = True) -> Iterator[bool]:
    """Within the block the arena lies on a disk in memory, of a size of its own.

    False where the system does not allow that. Nothing is done where it is not ``wanted``.
    """
    if not wanted:
        yield True
        return
    place, aside = arena.run.parent, arena.run.parent.with_name("aside")
    shutil.rmtree(arena.run, ignore_errors=True)
    shutil.copytree(place, aside)
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(place)], capture_output=True
    ).returncode
    try:
        if mounted:
            shutil.copytree(aside, place, dirs_exist_ok=True)
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(aside)


def _resize(arena: Arena, about: os.statvfs_result | None = None, room: int = 0) -> None:
    """So much ``room`` is left on the small disk; plenty without."""
    size = 2 << 30
    if about is not None:
        page = about.f_frsize
        size = (about.f_blocks - about.f_bfree + 1 + room // page) * page
    subprocess.run(["mount", "-o", f"remount,size={size}", str(arena.run.parent)], check=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _size_of(arena: Arena, stage: str) -> int:
    files = read_sealed_json(arena.new / "run.json")["stages"][stage]["files"]
    files = arena.of_report(arena.new) if stage == "report" else files
    places = [arena.new / file for file in files]
    return sum(_bytes_below(p) if p.is_dir() else p.stat().st_blocks * 512 for p in places)


# As a user types it -----------------------------------------------------------------------------


def _command(
    arena: Arena, words: list[str], known: Any = None, strike: Callable[[Child], Any] | None = None
) -> tuple[int, list[str]]:
    """A command of cytolens in a fork: its exit code, and the lines that it writes on stderr."""
    said = arena.run.parent.parent / "stderr.txt"

    def work(tell: Callable[[Any], None]) -> None:
        with said.open("wb") as file:
            os.dup2(file.fileno(), 2)
            os.dup2(file.fileno(), 1)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs may ignore it
        made: dict[str, Any] = {}
        with watched(made, tell, words[1] if known is not None else None, known):
            main(words)

    child = Child(work)
    if strike is not None:
        strike(child)
    code = child.wait()
    return code, said.read_text().splitlines()


def _unlike_one_line(lines: list[str]) -> list[str]:
    """What is wrong with what a command says when it stops."""
    ours = [line for line in lines if line.startswith("cytolens: ")]
    found = [f"on stderr: {line}" for line in lines if line.startswith(_TRACES)]
    if len(ours) != 1 or lines[-1:] != ours:
        found.append(f"not one line at the end, but: {lines[-5:]}")
    return found


def interrupted(arena: Arena, stage: str, wanted: int, draw: random.Random) -> Outcome:
    """Ctrl-C, or the SIGTERM of a job's time limit, at random moments of a stage."""
    outcome = Outcome()
    took = _seconds(arena, stage)
    while outcome.trials < wanted:
        number, code_wanted = ((signal.SIGINT, 130), (signal.SIGTERM, 143))[outcome.trials % 2]
        arena.set_up(stage, older=True)
        struck: list[bool] = []

        def strike(child: Child, number: int = number, struck: list[bool] = struck) -> None:
            while child.hear() not in (stage, None):
                pass
            struck.append(child.signalled(draw.uniform(0, 1.05 * took), number))

        code, lines = _command(arena, ["stage", stage, str(arena.run), "--remake"], strike=strike)
        if not struck[0] or code == 0:  # it was made already
            continue
        problems = [] if code == code_wanted else [f"exit code {code}, not {code_wanted}"]
        outcome.add(problems + _unlike_one_line(lines) + arena.problems_now())
    _, problems = _made_to_the_end(arena, stage)
    outcome.problems += problems
    return outcome


def started(arena: Arena, wanted: int, draw: random.Random) -> Outcome:
    """Ctrl-C and SIGTERM from the first moment of a new process, while it loads its libraries."""
    outcome = Outcome()
    while outcome.trials < wanted:
        number, code_wanted = ((signal.SIGINT, 130), (signal.SIGTERM, 143))[outcome.trials % 2]
        arena.set_up("similarity", older=True)
        process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, "stage", "similarity", str(arena.run)],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        moment = draw.uniform(0, 4)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        lines = process.communicate()[1].splitlines()
        if process.returncode == 0 or any(line.startswith(_MADE) for line in lines):
            continue  # it was made already
        code = process.returncode
        problems = [] if code in (code_wanted, -number) else [f"exit code {code}"]
        if code != -signal.SIGTERM:  # which Python leaves to the system until libraries are loaded
            problems += _unlike_one_line(lines)
        problems = [f"after {moment:.2f} s: {problem}" for problem in problems]
        outcome.add(problems + arena.problems_now())
    return outcome
