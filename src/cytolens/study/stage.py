"""What a stage of a study is, and the table of all stages.

A stage is declared once, next to what makes it::

    def similarity(activations, untrained, cells, held_out, *, permutations, seed) -> Similarity: …

    SIMILARITY = Stage("similarity", "comparing the layers", similarity)

The signature is the declaration: parameters before the ``*`` are the stages that it needs, those
after it are settings. ``make`` is handed these and nothing else, so a stage cannot rest on
something that its hash does not know of. A stage whose work falls into parts is a generator
(`study.parts`).
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import cytolens
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Progress
from cytolens.store.run_folder import FORMAT, RunFolder
from cytolens.study import stages
from cytolens.study.parts import Parts, Spread, here, join, parts_of
from cytolens.study.settings import StudySettings

SOURCES = ("data", "own_module", "about")
"""What is no stage: the path of the cells, the user's network or None, and what a report says of
the study as a whole (settings, versions, timings)."""

FOR_SPEED = ("device", "batch_size", "threads", "isolate")
"""Settings that change how fast a result is made, not what it is."""

_HANDED = ("progress", "mates")  # to every stage that asks for them: how it goes, who may help


@dataclass(frozen=True)
class Keep:
    """How the result of a stage is kept in the run folder; both are given the stage's name."""

    write: Callable[[RunFolder, str, Any, Progress], None]
    read: Callable[[RunFolder, str], Any]
    complete: Callable[[RunFolder], bool] = lambda folder: True  # all files are there
    within: str = ""  # the stage with whose result earlier versions kept it


RESULT = Keep(
    lambda folder, name, value, progress: folder.write_result(name, value),
    lambda folder, name: folder.read_result(name),
)
"""One file for a record, or for a mapping or tuple of records."""


@dataclass(frozen=True)
class Summary:
    """What a stage says in ``summary.json``: entries of the study, and of each layer by name."""

    study: Mapping[str, Any] = field(default_factory=dict[str, Any])
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


@dataclass(frozen=True)
class Stage:
    """One stage of a study. Raise ``version`` when ``make`` gives other results than before."""

    name: str
    title: str  # what is going on while it is made
    make: Callable[..., Any]
    version: int = 1
    keep: Keep | None = RESULT  # None: made anew whenever it is needed, as that takes no time
    summary: Callable[..., Summary] | None = None  # of results, by the names of its parameters
    gathers: bool = False  # ``make`` is given one mapping, of the results of all other stages
    relevant: Callable[[dict[str, Any]], dict[str, Any]] = dict  # the settings that matter

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The stages and sources that it rests on: those whose results ``make`` is given."""
        if self.gathers:
            kept = (stage for stage in table().values() if stage.keep and not stage.gathers)
            return tuple(stage.name for stage in kept)
        return _parameters(self.make, inspect.Parameter.POSITIONAL_OR_KEYWORD)

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """The settings that ``make`` is given."""
        named = _parameters(self.make, inspect.Parameter.KEYWORD_ONLY)
        return tuple(name for name in named if name not in _HANDED)

    @property
    def computes(self) -> bool:
        """Whether it takes threads: not what only reads files, or picks from other results."""
        picks = self.gathers or (self.keep is None and "device" not in self.settings)
        return not picks and not set(self.needs) <= set(SOURCES)

    def run(
        self,
        results: Mapping[str, Any],
        settings: StudySettings,
        progress: Progress,
        mates: Sequence[Any] = (),
        *,
        spread: Spread = here,
    ) -> Any:
        """The result: ``make`` called with the results of its needs and with its settings.

        ``mates`` are other processes of the study that have nothing to do (`study.team`).
        ``spread`` has the parts of the stage made, where it has parts.
        """
        made = self._called(results, settings, progress, mates)
        return join(made, spread) if self.has_parts else made

    @property
    def has_parts(self) -> bool:
        """Whether ``make`` yields `Parts`."""
        return inspect.isgeneratorfunction(self.make)

    def parts(
        self, results: Mapping[str, Any], settings: StudySettings, progress: Progress
    ) -> Parts[Any]:
        """What can be made apart; nothing where the stage has no parts."""
        if not self.has_parts:
            return Parts((), lambda number: None)
        return parts_of(self._called(results, settings, progress, ()))

    def _called(
        self,
        results: Mapping[str, Any],
        settings: StudySettings,
        progress: Progress,
        mates: Sequence[Any],
    ) -> Any:
        named: dict[str, Any] = {name: getattr(settings, name) for name in self.settings}
        handed = dict(zip(_HANDED, (progress, tuple(mates)), strict=True))
        asked = inspect.signature(self.make).parameters
        named |= {name: value for name, value in handed.items() if name in asked}
        needed = (results,) if self.gathers else (results[name] for name in self.needs)
        return self.make(*needed, **named)

    def summarise(self, results: Mapping[str, Any]) -> Summary:
        """What the stage says in ``summary.json``."""
        if self.summary is None:
            return Summary()
        needed = _parameters(self.summary, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return self.summary(*(results[name] for name in needed))

    def identity(self, settings: StudySettings, needs: Mapping[str, str | None]) -> str:
        """What the result depends on, as a hash: version, settings, and the hashes of its needs."""
        chosen = {name: getattr(settings, name) for name in self.settings if name not in FOR_SPEED}
        parts = [FORMAT, self.name, self.version, self.relevant(chosen), needs]
        if self.gathers:  # its words change with every version of cytolens
            parts.append(cytolens.__version__)
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def table() -> Mapping[str, Stage]:
    """Every stage that a file of ``study/stages`` exports, by name, each after all that it needs.

    Raises ValueError for a name that is given twice, a need that is no stage, a parameter that is
    no setting, and stages that need each other.
    """
    found: dict[str, Stage] = {}
    for module in iter_modules(stages.__path__):
        for value in vars(import_module(f"{stages.__name__}.{module.name}")).values():
            if isinstance(value, Stage) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two stages are called '{value.name}'")
    known = {setting.name for setting in fields(StudySettings)}
    ordered: dict[str, Stage] = {}

    def add(stage: Stage, above: tuple[str, ...]) -> None:
        if stage.name in above:
            raise ValueError(f"stages need each other: {' > '.join((*above, stage.name))}")
        if stage.name in ordered:
            return
        unknown = set(stage.settings) - known
        if unknown:
            raise ValueError(f"'{stage.name}' asks for settings that do not exist: {unknown}")
        for need in () if stage.gathers else stage.needs:
            if need in SOURCES:
                continue
            if need not in found:
                raise ValueError(f"'{stage.name}' needs '{need}', which is no stage")
            add(found[need], (*above, stage.name))
        ordered[stage.name] = stage

    for stage in sorted(found.values(), key=lambda stage: stage.gathers):
        add(stage, ())
    return ordered


def upstream(name: str) -> tuple[str, ...]:
    """The stage and all stages that it rests on, each after all that it needs."""
    wanted = {name}
    for later in reversed(list(table())):
        if later in wanted:
            wanted.update(table()[later].needs)
    return tuple(stage for stage in table() if stage in wanted)


def downstream(name: str) -> tuple[str, ...]:
    """The stages that rest on this one, nearest first."""
    return tuple(later for later in table() if later != name and name in upstream(later))


def settings_of(name: str) -> tuple[str, ...]:
    """The settings that a stage rests on, its own first, then those of the stages it needs."""
    named = [setting for stage in reversed(upstream(name)) for setting in table()[stage].settings]
    return tuple(dict.fromkeys(named))


def as_entries(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates by name, as ``summary.json`` has them."""
    return {name: estimate.as_dict() for name, estimate in estimates.items()}


def _parameters(make: Callable[..., Any], kind: Any) -> tuple[str, ...]:
    given = inspect.signature(make).parameters.values()
    return tuple(parameter.name for parameter in given if parameter.kind is kind)
