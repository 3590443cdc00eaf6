"""Parts of a stage made by themselves: the unit of work of a job array, or of a cluster's worker.

The run is read, and nothing is written but parts, each as a whole: so any number of processes may
do this at a time, without a lock, and doing it twice is harmless.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytolens.errors import RunError, SettingError
from cytolens.records.cells import Progress
from cytolens.store.parts import PartFiles
from cytolens.study.finished_run import FinishedRun
from cytolens.study.parts import Begun, Task
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table, upstream
from cytolens.study.study import Study


class Apart:
    """The parts of one stage of a run; the stage's first steps are taken when it is made."""

    def __init__(
        self,
        run: Path,
        settings: StudySettings,
        stage: str,
        *,
        trusted: bool = False,
        progress: Progress,
    ) -> None:
        """Raises RunError where the run does not hold yet what the stage rests on."""
        self._study = Study(run, settings=settings, trust_model=trusted)
        self._stage = table()[stage]
        if not self._stage.has_parts:
            known = [name for name, found in table().items() if found.has_parts]
            raise SettingError(f"'{stage}' has no parts; those that have: {', '.join(known)}")
        self.made_from = self._hash_now()
        with self._reading() as run_now:
            self._parts = self._stage.parts(run_now, self._study.settings, progress)
        self.files = PartFiles(run, stage, self.made_from, len(self._parts))

    @property
    def names(self) -> tuple[str, ...]:
        """What each part is about."""
        return tuple(self._parts.names)

    def make(self, number: int) -> None:
        """Make a part and store it. Raises RunError where the run has changed meanwhile."""
        with self._study.threads(self._stage):
            value = self._parts.make(number)
        if self._hash_now() != self.made_from:
            raise RunError(f"'{self.files.run}' was changed while a part of it was made; try again")
        self.files.write(number, value)

    @contextmanager
    def _reading(self) -> Generator[FinishedRun]:
        """The results of the run, which are read and never made."""
        study = self._study
        run = FinishedRun(study.folder.path, trust_model=study.trusted)
        run.settings = study.settings
        with study.threads(self._stage):
            yield run

    def _hash_now(self) -> str:
        """The hash of the stage as the run is now. Raises RunError where a need is not current."""
        name, known = self._stage.name, self._study
        study = Study(known.folder.path, settings=known.settings, trust_model=known.trusted)
        for need in upstream(name)[:-1]:
            if table()[need].keep is not None and not study.is_current(need):
                path = study.folder.path
                raise RunError(
                    f"the parts of '{name}' rest on '{need}', which '{path}' does not hold as its "
                    f"settings are now; make it first: cytolens stage {need} {path}"
                )
        return str(study.hash_of(name))


def make_part(task: Task) -> None:
    """Make and store one part. The parts of one stage share its first steps in a process.

    Raises RunError where the run is not to be seen here, or has changed since it was asked for.
    """
    asked: Any = replace(task, number=0)
    with _working:
        if not _begun or _begun[0][0] != asked:
            _begun[:] = [(asked, task.begin())]
        begun = _begun[0][1]
        if begun.made_from != task.made_from:
            raise RunError("the run is not as it was when the part was asked for; try again")
        begun.make(task.number)


_working = threading.Lock()  # a network is looked into by one thread at a time
_begun: list[tuple[Any, Begun]] = []  # the last one
