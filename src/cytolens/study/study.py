"""A study over one run folder: stages are made when they are asked for, and once."""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cytolens
from cytolens.errors import ModelError, RunError, SettingError, choose
from cytolens.numerics.machine import peak_memory
from cytolens.numerics.threads import (
    asked_threads,
    default_threads,
    limited_threads,
    thread_count,
)
from cytolens.records.cells import Progress
from cytolens.store.lock import run_lock
from cytolens.store.log import machine
from cytolens.store.parts import PartFiles, have_parts, remove_parts
from cytolens.store.run_folder import RunFolder
from cytolens.study import own_model
from cytolens.study.parts import Parts, PartTask, Workers, have_made, read_or_made
from cytolens.study.settings import StudySettings, of_held_stages
from cytolens.study.stage import SOURCES, Stage, downstream, table, upstream
from cytolens.study.team import Teammate, Todo, team, work

if TYPE_CHECKING:
    from cytolens.images.content import Content
    from cytolens.study.forecast import Forecast

Announce = Callable[[str], AbstractContextManager[Progress]]
"""Called with a stage's title when it starts; the context gives its progress. Several stages may be
made at a time: then it is called from further threads."""

_INCOMPLETE = "files are missing; make it again with: cytolens report RUN"
_MANY_FILES = 2000  # are worth a line of progress
_FEWEST_SHARED = 4  # stages to be made, for which other processes are started
HERE = ("split", "classifier", "report")
"""Stages that are made by the study's own process: a network of the user's is loaded once, all else
waits for the classifier and thus for the split, and a report is made of everything."""
HELD = ("cells", "split", "classifier")
"""Stages that a finished run keeps as they are, unless new ones are asked for."""


def run(
    data: str | Path | None,
    out: str | Path,
    *,
    settings: StudySettings | None = None,
    announce: Announce | None = None,
    remake: bool = False,
    trust_model: bool = False,
    **options: Any,
) -> Path:
    """The whole study of ``data`` into the run folder ``out``; gives the path of the report.

    ``options`` are fields of StudySettings, e.g. ``classes=["G2", "Prophase"]``. Call again to go
    on after an interruption. ``data=None`` goes on with the run ``out``, its settings but for the
    ``options``; its cells and its network are made again only where an option is about these, e.g.
    ``relabel="suspects.csv"``. ``trust_model``: run the Python code that a model card, or the run,
    names as its network. Raises CytolensError for anything the user can mend.
    Source: Webb et al. 2018, arXiv:1811.06488.
    """
    named = settings is not None or "model" in options or data is not None
    if settings is None and data is None:
        settings = StudySettings.of_run(RunFolder(Path(out)), **options)
    chosen = settings or StudySettings(**options)
    named = trust_model or (named and not own_model.runs_code(chosen))
    anew = of_held_stages(options) or "seed" in options
    study = Study(
        out, data, chosen,
        announce=announce, trust_model=named, remake=remake, hold=False if anew else None,
    )  # fmt: skip
    study.make("report")
    return study.folder.path / "report.html"


class Study(Mapping[str, Any]):
    """The results of a study by stage, e.g. ``study["similarity"]``, made where they are not.

    A result is read back from the run folder when it was made from the same: settings, data,
    network and versions of the stages that it rests on. Otherwise it is made again.
    """

    def __init__(
        self,
        out: str | Path,
        data: str | Path | None = None,
        settings: StudySettings | None = None,
        *,
        module: Any = None,
        trust_model: bool = False,
        remake: bool = False,
        hold: bool | None = None,
        announce: Announce | None = None,
    ) -> None:
        """``data=None``: go on with the cells of the run. ``settings=None``: with its settings.

        ``module``: your own nn.Module, when it is at hand in Python rather than in a file.
        ``trust_model``: run the Python file of ``settings.model``. A run that names such a file
        does not make it safe to run. ``hold``: keep the cells and the classifier that the run has,
        whatever the settings; by default where no data are given. ``remake``: read the data again
        where they have changed, and make a network of changed files again.
        """
        self.folder = RunFolder(Path(out))
        given = own_model.with_absolute_paths(settings or StudySettings.of_run(self.folder))
        self.settings = own_model.as_the_card_says(given)
        self._known = self.folder.noted("data", {})
        self.data = _data_path(self.folder, data, self._known)
        self._named = data is not None or remake  # read the data's bytes to see whether they differ
        self._module, self.trusted = module, trust_model
        self._hold = (data is None if hold is None else hold) and not remake
        self._announce: Announce = announce or (lambda title: nullcontext(_silent))
        self._results: dict[str, Any] = {}
        self._hashes: dict[str, str | None] = {}
        self._content: Content | None = None
        self._locked = False
        self._mates: list[Teammate] = []
        self.workers: Workers | None = None
        if data is not None and not remake:
            self._refuse_other_data()

    # As a mapping -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        """The result of a stage. Raises SettingError for a name that is no stage."""
        if name not in self._results:
            self._results[name] = self._source(name) if name in SOURCES else self._result(name)
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(table())

    def __len__(self) -> int:
        return len(table())

    def __repr__(self) -> str:
        made = [name for name, stage in table().items() if stage.keep and self.is_current(name)]
        return (
            f"Study('{self.folder.path}'), of '{self.data}'; made: {', '.join(made) or 'nothing'}"
        )

    # What is made -----------------------------------------------------------------------------

    def make(self, *names: str, again: bool = False) -> None:
        """Make stages where they are not current; ``again``: also where they are."""
        for name in names:
            stage = _stage(name)
            with self._logging(name):
                if again and stage.keep is not None:
                    with self._writing():
                        self.folder.forget(name)
                        self._results.pop(name, None)
                        self._with_team(name)
                self._with_team(name)

    @contextmanager
    def _logging(self, name: str) -> Generator[None]:
        """What is asked for, with what and on what machine, and how it ends, in the run's log."""
        if self.is_current(name):
            yield
            return
        usual = asdict(StudySettings())
        given = {key: v for key, v in asdict(self.settings).items() if v != usual[key]}
        self.folder.log(
            f"to make: {name}; cytolens {cytolens.__version__}, {machine(self.folder.path)}\n"
            f"data: {self.data}; settings: {given or 'as usual'}"
        )
        try:
            yield
        except BaseException as error:
            self.folder.log(f"stopped: {str(error) or type(error).__name__}")
            raise
        self.folder.log(f"made: {name}")

    def _with_team(self, name: str) -> None:
        """Make a stage and all that it rests on, with other processes where there are cores."""
        cores = thread_count(self.settings.threads)
        if cores > 1 and self._module is None and not self.is_current(name):
            with self._writing():
                self._share(name, cores)
        self[name]

    def _share(self, name: str, cores: int) -> None:
        needs = {stage: set(upstream(stage)) - {stage} for stage in upstream(name)}
        cells = self["cells"]
        todo = {stage: of for stage, of in needs.items() if self._outstanding(stage)}
        if len(todo) < _FEWEST_SHARED or self._own_is_large():
            return
        with team(
            self.folder.path, self.settings, cells, cores=cores, trusted=self.trusted
        ) as mates:
            self._mates = mates
            try:
                if mates:
                    alone = (*HERE, *filter(self._in_parts, todo))
                    here, there = self.__getitem__, self._have_made
                    work(Todo(todo), mates, here=here, there=there, alone=alone)
            finally:
                self._mates = []

    def _in_parts(self, name: str) -> bool:
        """Whether parts of a stage are made by workers, or lie ready: it is joined here."""
        by_workers = self.workers is not None and _stage(name).has_parts
        return by_workers or have_parts(self.folder.path, name)

    def _own_is_large(self) -> bool:
        """Whether the user's network is so large that threads gain more than processes."""
        if self.settings.model is None:
            return False
        from cytolens.classifier.threads import LARGE, operations

        return operations(self["network"]) >= LARGE

    def _outstanding(self, name: str) -> bool:
        return _stage(name).keep is not None and not self.is_current(name)

    def _have_made(self, mate: Teammate, name: str) -> None:
        """A stage made by another process."""
        stage, made_from, later = _stage(name), str(self.hash_of(name)), self._outdated_by(name)
        record = RunFolder(self.folder.path)  # apart from what this process writes meanwhile
        record.forget(name, *later)
        for outdated in (name, *later):
            self._results.pop(outdated, None)
        with self._announce(stage.title) as progress:
            files, seconds = mate.make(name, progress)
        record.finish(name, made_from, seconds, files)
        self._log(stage, seconds, "by another process")

    def foresee(self) -> "Forecast | None":
        """What a study of many cells, or with a network of the user's, will take; else None.

        The cells are read for it. None, too, where the activations are there already.
        """
        if self.is_current("activations"):
            return None
        cells = self["cells"]
        own = self.settings.model is not None or self._module is not None
        from cytolens.study.forecast import MANY, forecast

        if not own and len(cells) * cells.shape[1] * cells.shape[2] < MANY:
            return None
        with self._announce("looking ahead"), limited_threads(asked_threads() or 1):
            network = self["network"] if own or self.is_current("classifier") else None
            found = forecast(cells, self.settings, network)
        self.folder.log(found.text)
        return found

    def verify(self, found: Callable[[str, str | None], None]) -> list[str]:
        """Read all that is stored, through its checksums; the names of the damaged stages.

        ``found`` is called with each finished stage, and what is wrong with it or None.
        """
        damaged: list[str] = []
        for name, stage in table().items():
            if stage.keep is None or not self.folder.has(name):
                continue
            try:
                self.folder.check(name)
                problem = None if stage.keep.complete(self.folder) else _INCOMPLETE
            except RunError as error:
                problem = str(error)
            if problem is not None:
                damaged.append(name)
            elif not self.is_current(name):
                problem = "made with other settings or inputs than the run has now"
            found(name, problem)
        return damaged

    def is_current(self, name: str) -> bool:
        """Whether the stored result of a stage was made from just these settings and inputs."""
        keep, made = _stage(name).keep, self.folder.hash_of(name)
        if keep is None or made is None or not keep.complete(self.folder):
            return False
        return made == self.hash_of(name)

    def hash_of(self, name: str) -> str | None:
        """What the result of a stage, or a source, depends on; None where there is no source."""
        if name not in self._hashes:
            held = self.folder.hash_of(name) if self._hold and name in HELD else None
            self._hashes[name] = held or self._computed_hash(name)
        return self._hashes[name]

    def _computed_hash(self, name: str) -> str | None:
        if name == "data":
            return self._data_hash()
        if name == "own_module":
            return self._own_hash()
        stage = _stage(name)
        return stage.identity(self.settings, {need: self.hash_of(need) for need in stage.needs})

    def _result(self, name: str) -> Any:
        stage = _stage(name)
        if stage.keep is None:
            with self.threads(stage):
                return stage.run(self, self.settings, _silent)
        if not self.is_current(name):
            with self._writing():
                if not self.is_current(name):
                    self._make(stage, stage.keep.write)
        return stage.keep.read(self.folder, name)

    def _make(self, stage: Stage, write: Callable[[RunFolder, str, Any, Progress], None]) -> None:
        name = stage.name
        made_from = str(self.hash_of(name))  # before the data are read, not after
        for need in stage.needs:
            self[need]
        later = self._outdated_by(name)
        for outdated in (name, *later):
            self._results.pop(outdated, None)
        making = self.folder.making(name, made_from, outdates=later)
        with self.threads(stage), making, self._announce(stage.title) as progress:
            spent = time.process_time()
            spread = partial(self._spread, name, made_from, progress)
            value = stage.run(self, self.settings, progress, self._mates, spread=spread)
            write(self.folder, name, value, progress)
            self._note(name)
            spent = time.process_time() - spent
        remove_parts(self.folder.path, name)
        peak = peak_memory()
        held = "" if peak is None else f"; {peak / 1e9:.2f} GB of memory at the peak so far"
        self._log(stage, self.folder.timings[stage.name], f"{spent:.1f} of the processor{held}")

    def _outdated_by(self, name: str) -> tuple[str, ...]:
        """The stages that no longer count as made once ``name`` is: but for those that are held."""
        return tuple(one for one in downstream(name) if not (self._hold and one in HELD))

    def _spread(
        self, name: str, made_from: str, progress: Progress, parts: Parts[Any]
    ) -> Iterable[Any]:
        """What the parts of a stage give: those that lie ready are read, the others made."""
        files = PartFiles(self.folder.path.resolve(), name, made_from, len(parts))
        if self.workers is not None and self._module is None:
            task = PartTask(files.run, self.settings, self.trusted, name, 0, made_from)
            have_made(files, self.workers, task, progress=progress)
        return read_or_made(files, parts)

    def _log(self, stage: Stage, seconds: float, more: str) -> None:
        self.folder.log(f"{stage.name}, {stage.title}: {seconds:.1f} s, {more}")

    @contextmanager
    def threads(self, stage: Stage) -> Generator[None]:
        """As many CPU threads as were asked for; else one, or more where the work is large.

        One while other processes work on the study, too.
        """
        with default_threads(1 if self._mates else self.settings.threads):
            if not stage.computes:  # the libraries that do are not loaded for it
                yield
                return
            self._load()
            from cytolens.classifier.threads import network_threads

            network = self["network"] if "network" in stage.needs else None
            with limited_threads(asked_threads() or 1), network_threads(network):
                yield

    def _load(self) -> None:
        """Load what computes, and say so: it takes seconds, and is no part of the first stage."""
        if "torch" not in sys.modules:
            with self._announce("loading PyTorch and scikit-learn"), limited_threads(1):
                import cytolens.classifier.threads  # noqa: F401  # pyright: ignore[reportUnusedImport]

    def _note(self, made: str) -> None:
        """Keep in the run what it was made with; data and network with the stages they decide."""
        entries: dict[str, Any] = {"settings": asdict(self.settings), "versions": versions()}
        if made == "cells":
            content = asdict(self._present_content())
            entries["data"] = self._known = {"path": str(self.data), **content}
        elif made == "classifier":
            entries["model"] = self.hash_of("own_module")
        self.folder.note(**entries)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """The run folder for this process alone; what others have made of it meanwhile is seen."""
        if self._locked:
            yield
            return
        with run_lock(self.folder.path):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    # What comes from outside ------------------------------------------------------------------

    def _source(self, name: str) -> Any:
        if name == "about":
            spent = self.folder.timings  # in the order in which they were made, which varies
            return {
                "settings": {"data": str(self.data), **asdict(self.settings)},
                "versions": versions(),
                "timings": {stage: spent[stage] for stage in table() if stage in spent},
            }
        if name == "data":
            if not self.data.exists():
                raise RunError(
                    f"'{self.data}', the data of '{self.folder.path}', is no longer there; name "
                    f"where it is now: cytolens run DATA --out {self.folder.path}"
                )
            return self.data
        if self._hold and self.trusted and self._network_changed():
            raise ModelError(
                f"'{self.settings.model}' has changed since this run's network was made of it; "
                "make that again with --remake, or put the file back as it was"
            )
        return own_model.load(self.settings, self._module, trusted=self.trusted)

    def _network_changed(self) -> bool:
        """Whether the files of the user's network differ from those that the run was made with.

        Files that are gone have not changed: the run holds the weights.
        """
        recorded = self.folder.noted("model")
        if self._module is not None or self.settings.model is None or recorded is None:
            return False
        try:
            return own_model.content_hash(self.settings) != recorded
        except ModelError:
            return False

    def _data_hash(self) -> str:
        if not self._named and self._known.get("digest"):
            return str(self._known["digest"])
        return self._present_content().digest

    def _present_content(self) -> "Content":
        from cytolens.images.content import Content, content_of, data_files
        from cytolens.images.isolation import isolated

        if self._content is None:
            known = None
            if self._known.get("stamp"):
                known = Content(self._known["digest"], self._known["stamp"])
            data = self._source("data")
            root = data if data.is_dir() else data.parent
            with isolated(self.settings.isolate):
                files = data_files(data, labels=self.settings.labels)
            many = len(files) > _MANY_FILES
            looking = self._announce("looking at the data") if many else nullcontext(_silent)
            with looking as progress:
                self._content = content_of(files, known, root=root, progress=progress)
        return self._content

    def _refuse_other_data(self) -> None:
        recorded = self._known.get("path")
        if recorded is None or Path(recorded) == self.data or not self.folder.has("cells"):
            return
        if self._present_content().digest != self._known.get("digest"):
            raise SettingError(
                f"'{self.folder.path}' is a run of '{recorded}', and '{self.data}' is not the same "
                "data; name another folder, or replace its cells with --remake"
            )

    def changed(self) -> str | None:
        """One line where the data, or the files of the network, have changed since; else None."""
        if not self.folder.has("cells") or self._named:
            return None
        what: list[str] = []
        if self.data.exists() and self._present_content().digest != self._known.get("digest"):
            what.append(f"the data '{self.data}'")
        self._content = None
        if self._network_changed():
            what.append(f"the network '{self.settings.model}'")
        if not what:
            return None
        return (
            f"{' and '.join(what)} changed since; going on with what the run holds (--remake reads "
            "them anew)"
        )

    def _own_hash(self) -> str | None:
        if self._module is not None:
            return own_model.weights_hash(self._module)
        if self.settings.model is None:
            return None
        recorded = self.folder.noted("model")
        return str(recorded) if recorded and self._hold else own_model.content_hash(self.settings)


def versions() -> dict[str, str]:
    """Versions of cytolens and of the libraries that its numbers rest on."""
    names = ("torch", "numpy", "scikit-learn", "faiss-cpu", "scikit-image", "zarr")
    found = {"cytolens": cytolens.__version__}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _stage(name: str) -> Stage:
    return table()[choose("stage", name, list(table()))]


def _data_path(folder: RunFolder, data: str | Path | None, known: Mapping[str, Any]) -> Path:
    """Where the data are: as named now, else as the run recorded."""
    path = known.get("path") if data is None else data
    if path is None:
        raise SettingError(
            f"'{folder.path}' is not a run yet; name the data as well: DATA --out {folder.path}"
        )
    resolved = Path(path).resolve()
    if resolved.is_dir() and folder.path.resolve().is_relative_to(resolved):
        raise SettingError(f"the run folder '{folder.path}' lies inside the data; name one outside")
    return resolved


def _silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
