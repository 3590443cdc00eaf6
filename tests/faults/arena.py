"""A study in which accidents are made to happen, and what must hold after each of them.

Everything happens in one folder, ``run``: what lies there is made anew for each trial from two
finished studies of the same cells with other settings, so that every file is known to the byte.
"""

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from cytolens.errors import RunError
from cytolens.simulation.simulate import simulate
from cytolens.store import run_folder
from cytolens.store.files import read_sealed_json, write_sealed_json, write_simulation
from cytolens.store.lock import LOCK
from cytolens.store.run_folder import RunFolder
from cytolens.study.finished_run import FinishedRun
from cytolens.study.parts import Spread, here
from cytolens.study.settings import StudySettings
from cytolens.study.stage import Stage, downstream, table
from cytolens.study.study import Study

SMALL = {
    "quick": True, "epochs": 1, "steps": 4, "map_cells": 100, "limit": 160, "folds": "2",
    "halves": 3, "layers": ["conv1", "conv3", "logits"], "gallery": 2, "cards": 1, "atlas": 3,
    "pairs": 2, "explain": 1, "batch_size": 32, "threads": 1,
}  # fmt: skip
NEW = StudySettings(**SMALL)
OLD = StudySettings(**SMALL, size=38, seed=1)
KEPT = tuple(name for name, stage in table().items() if stage.keep is not None)
SECONDS = 1.0  # what every stage is said to have taken
_HEAVY = ("torch", "zarr", "faiss", "scipy.linalg", "sklearn.decomposition")  # in every study
_WHOLE_LIFE = 600.0  # seconds after which a process hangs


def make_comparable() -> None:
    """Small shards, so that few cells fill several; every stage takes a second: same bytes."""
    run_folder._ROWS_PER_CHUNK, run_folder._CHUNKS_PER_SHARD = 16, 2
    run_folder._CROP_CHUNKS_PER_SHARD = 2
    run_folder._CROPS_PER_CHUNK = 8
    finish = RunFolder.finish

    def in_a_second(self: RunFolder, stage: str, hash: str, seconds: float, files: Any = None):
        finish(self, stage, hash, SECONDS, files)

    RunFolder.finish = in_a_second


class Child:
    """``work(tell)`` in a fork of this process, which has loaded all libraries."""

    def __init__(self, work: Callable[[Callable[[Any], None]], Any]) -> None:
        sys.stdout.flush()
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            code = 1
            try:
                out = os.fdopen(write, "w")

                def tell(message: Any) -> None:
                    out.write(json.dumps(message) + "\n")
                    out.flush()

                work(tell)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(write)
        self._said = os.fdopen(read)
        self._pidfd = os.pidfd_open(self.pid)

    def hear(self) -> Any:
        """The next message; None where it has ended."""
        line = self._said.readline()
        return json.loads(line) if line else None

    def signalled(self, seconds: float, number: int = signal.SIGKILL) -> bool:
        """Sends a signal after so long; False where the child has ended by itself before."""
        if select.select([self._pidfd], [], [], seconds)[0]:
            return False
        os.kill(self.pid, number)
        return True

    def wait(self) -> int:
        """Its exit code; minus the signal that ended it."""
        if not select.select([self._pidfd], [], [], _WHOLE_LIFE)[0]:
            os.kill(self.pid, signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} did not end")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._pidfd)
        return code

    def rest(self) -> list[Any]:
        """All that it still says, and waits for its end."""
        found = [json.loads(line) for line in self._said]
        self._said.close()
        if code := self.wait():
            raise RuntimeError(f"a process of the harness ended with {code}")
        return found


class Arena:
    """The run folder where accidents happen, the two finished studies, and their cells."""

    def __init__(self, root: Path, stages: Iterable[str] = KEPT) -> None:
        self.run = root / "arena" / "run"
        self.new, self.old = root / "arena" / "new", root / "arena" / "old"
        self.data = root / "cells"
        self.stages = tuple(stages)
        self.seconds: dict[str, float] = {}

    def prepare(self) -> None:
        """Make both studies, each in a fork, and load here what they loaded."""
        make_comparable()
        for module in _HEAVY:
            importlib.import_module(module)
        self.run.parent.mkdir(parents=True)
        write_simulation(self.data, simulate(200, size=40, rng=0))
        for settings, place in ((NEW, self.new), (OLD, self.old)):
            # Whatever starts threads has to be done by others: this process is forked from.
            for module in Child(lambda tell, s=settings: self._make_all(s, tell)).rest()[-1]:
                with contextlib.suppress(Exception):
                    importlib.import_module(module)
            self.run.rename(place)
        assert threading.active_count() == 1

    def _make_all(self, settings: StudySettings, tell: Callable[[Any], None]) -> None:
        study = Study(self.run, self.data, settings)
        study.make(self.stages[-1])
        tell([name for name in sys.modules if not name.startswith("__")])

    def set_up(self, stage: str, *, older: bool) -> None:
        """The run with all but a stage, and those that rest on it, finished.

        ``older``: these are there from another study; else nothing of them is.
        """
        shutil.rmtree(self.run, ignore_errors=True)
        later = {stage, *downstream(stage)}
        if not older and stage == "cells":
            return
        self.run.mkdir()
        record, others = (read_sealed_json(at / "run.json") for at in (self.new, self.old))
        for name in [name for name in record["stages"] if name in later]:
            del record["stages"][name]
        for entry in record["stages"].values():
            self._link(entry["files"], self.new)
        if "report" not in later:
            self._link(self.of_report(self.new), self.new)
        if older:
            taken = {name: of for name, of in others["stages"].items() if name in later}
            record["stages"] |= taken
            for entry in taken.values():
                self._link(entry["files"], self.old)
            if "report" in taken:
                self._link(self.of_report(self.old), self.old)
        write_sealed_json(self.run / "run.json", record)

    def _link(self, files: Iterable[str], source: Path) -> None:
        for file in files:
            target = self.run / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / file).is_dir():
                shutil.copytree(source / file, target, copy_function=os.link)
            else:
                os.link(source / file, target)

    @staticmethod
    def of_report(run: Path) -> list[str]:
        """What the stage "report" writes, which run.json does not list."""
        names = ("figures", "report.html", "summary.json", "cells.h5ad", "suspects.csv")
        return [name for name in names if (run / name).exists()]

    # What must hold -------------------------------------------------------------------------

    def problems_now(self) -> list[str]:
        """What is wrong with the run after an accident: nothing half-made may look finished."""
        try:
            folder = RunFolder(self.run)
        except RunError as error:
            return [f"the run does not open: {error}"]
        if not folder.exists:
            return []
        found: list[str] = []
        run = FinishedRun(self.run)
        for name in run:
            sources = [
                place
                for place in (self.new, self.old)
                if RunFolder(place).hash_of(name) == folder.hash_of(name)
            ]
            if not sources:
                found.append(f"'{name}' is finished, made from unknown inputs")
                continue
            files = list(read_sealed_json(self.run / "run.json")["stages"][name]["files"])
            files += self.of_report(sources[0]) if name == "report" else []
            found += [
                f"'{name}' counts as finished: {problem}"
                for file in files
                for problem in differences(sources[0] / file, run_folder.standing(self.run / file))
            ]
        with contextlib.suppress(RunError):
            if (self.run / "summary.json").exists() and run.numbers not in (
                FinishedRun(self.new).numbers,
                FinishedRun(self.old).numbers,
            ):
                found.append("summary.json is neither the new nor the old one")
        return found

    def problems_after(self, stage: str) -> list[str]:
        """What is wrong after the stage was made again: it must be as if nothing had happened."""
        found = self.problems_now()
        record, wanted = (read_sealed_json(at / "run.json") for at in (self.run, self.new))
        entry = record["stages"].get(stage)
        if entry != wanted["stages"][stage]:
            found.append(f"run.json says of '{stage}': {entry}")
        for place, folders, files in os.walk(self.run):
            for name in (*folders, *files):
                if name.startswith((".partial", ".old")) or name.endswith((".partial", ".part")):
                    found.append(f"'{Path(place, name).relative_to(self.run)}' is left over")
        return found

    # Making a stage -------------------------------------------------------------------------

    def make(
        self,
        stage: str,
        known: Any = None,
        begun: Callable[[str], None] = lambda name: None,
    ) -> dict[str, Any]:
        """Make a stage of the run; what was made. ``known``: its result, which saves computing."""
        made: dict[str, Any] = {}
        with watched(made, begun, stage if known is not None else None, known):
            Study(self.run, self.data, NEW).make(stage)
        return made


_unkept: dict[str, Any] = {}


@contextlib.contextmanager
def watched(
    made: dict[str, Any], begun: Callable[[str], None], known_stage: str | None, known: Any
) -> Generator[None]:
    """Within the block what stages give is kept, and one of them is not computed but known."""
    compute, make = Stage.run, Study._make

    def run(self: Stage, *given: Any, spread: Spread = here, **more: Any) -> Any:
        more["spread"] = lambda parts: list(spread(parts))  # so that it can be written again
        if self.name == known_stage:
            value = known
        elif known_stage is not None and self.keep is None:  # what is made anew at each use
            if self.name not in _unkept:
                _unkept[self.name] = compute(self, *given, **more)
            value = _unkept[self.name]
        else:
            value = compute(self, *given, **more)
        if self.keep is not None:
            made[self.name] = value
        return value

    def making(self: Study, stage: Stage, write: Any) -> None:
        begun(stage.name)
        make(self, stage, write)

    Stage.run, Study._make = run, making
    try:
        yield
    finally:
        Stage.run, Study._make = compute, make


def differences(wanted: Path, found: Path) -> list[str]:
    """What is not the same in two files or folders, without what is the same file on the disk."""
    if wanted.is_dir():
        names = {path.relative_to(wanted) for path in wanted.rglob("*")}
        extra = {path.relative_to(found) for path in found.rglob("*")} - names
        said = [f"'{found / name}' is not of it" for name in sorted(extra)]
        files = [name for name in sorted(names) if (wanted / name).is_file()]
        return said + [line for name in files for line in differences(wanted / name, found / name)]
    if not found.is_file():
        return [f"'{found}' is missing"]
    if wanted.samefile(found) or wanted.read_bytes() == found.read_bytes():
        return []
    return [f"'{found}' has other bytes"]


def forget_lock(run: Path) -> None:
    """Remove the lock file, which is written in place."""
    (run / LOCK).unlink(missing_ok=True)
