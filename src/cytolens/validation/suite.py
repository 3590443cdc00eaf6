"""The known-answer suite over a folder: each answer is found once, then reported on one page."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cytolens import __version__
from cytolens.classifier.wrapping import load_module
from cytolens.errors import SettingError
from cytolens.figures.style import render
from cytolens.records.cells import Progress
from cytolens.records.features import KnownAnswer
from cytolens.report.page import render_report
from cytolens.simulation.simulate import Plant
from cytolens.store.files import write_bytes, write_json, write_text
from cytolens.store.lock import run_lock
from cytolens.store.run_folder import RunFolder
from cytolens.validation.baselines import require_captum
from cytolens.validation.known_answers import Case, find_known_answer
from cytolens.validation.page import answers_page, draw_answers, summary_of

KINDS = ("granule", "bar", "rim", "texture")
_MEASURES = 2  # raised when answers hold other measures than before, or other cells
LOW, SMALL = 0.5, 0.6  # of the default contrast and of the default size
QUICK: Mapping[str, Any] = {"cells": 300, "epochs": 12, "explained": 30, "grid": False}
Announce = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class ValidationSettings:
    """What is validated. Each kind is planted as it is by default, at low contrast, and small."""

    kinds: tuple[str, ...] = KINDS
    cells: int = 500  # simulated cells, each with and without the plant
    epochs: int = 16
    explained: int = 60  # held-out cells, at most
    grid: bool = True  # also at low contrast and small
    twins: bool = False  # also edit planted cells, and compare with the cells without the plant
    seed: int = 0
    model: str | None = None  # "file.py:function", an architecture of your own
    device: str | None = None

    def __post_init__(self) -> None:
        if self.cells < 100:
            raise SettingError(f"--cells {self.cells}: at least 100 are needed")
        if not self.kinds:
            raise SettingError(f"no kinds of plants; choose from {', '.join(KINDS)}")
        kinds = tuple(dict.fromkeys(Plant(kind=kind).kind for kind in self.kinds))
        object.__setattr__(self, "kinds", kinds)

    @property
    def cases(self) -> tuple[Case, ...]:
        """What is planted, kind by kind, the default first."""
        found: list[Case] = []
        for kind in self.kinds:
            plain = Plant(kind=kind)
            found.append(Case("default", plain))
            if self.grid:
                found.append(Case("low contrast", replace(plain, contrast=LOW * plain.peak)))
                found.append(Case("small", replace(plain, size_um=SMALL * plain.extent)))
        return tuple(found)


def settings_for(
    *,
    kinds: Sequence[str] | None = None,
    cells: int | None = None,
    seed: int = 0,
    model: str | None = None,
    quick: bool = False,
    twins: bool = False,
    device: str | None = None,
) -> ValidationSettings:
    """Settings from what the command line was given; ``quick`` is a first look in a minute."""
    plain = ValidationSettings(**QUICK if quick else {})
    return replace(
        plain,
        kinds=tuple(kinds) if kinds else plain.kinds,
        cells=plain.cells if cells is None else cells,
        seed=seed,
        model=model,
        twins=twins,
        device=device,
    )


def validate(out: Path, settings: ValidationSettings, *, announce: Announce) -> Path:
    """Find every known answer that ``out`` does not hold yet; give the path of validation.html.

    Next to the page are written ``summary.json`` (see `summary_of`) and the folder ``figures``. An
    answer is found anew when its settings, the architecture's file or the version have changed.
    Raises RunError for a folder that holds other things, ModelError for an unusable architecture,
    MissingExtra without captum.
    """
    require_captum()
    with run_lock(out):
        return _validate(RunFolder(out), settings, announce)


def _validate(folder: RunFolder, settings: ValidationSettings, announce: Announce) -> Path:
    architecture = None if settings.model is None else load_module(settings.model)
    recipe = _recipe(settings)
    answers: list[KnownAnswer] = []
    for case in settings.cases:
        stage = f"{case.plant.kind}-{case.setting.replace(' ', '-')}"
        inputs = json.dumps([stage, recipe, asdict(case.plant)], sort_keys=True, default=str)
        found_from = hashlib.sha256(inputs.encode()).hexdigest()[:16]
        if folder.hash_of(stage) != found_from:
            title = f"{case.plant.kind}, {case.setting}"
            with folder.making(stage, found_from), announce(title) as progress:
                answer = find_known_answer(
                    case,
                    cells=settings.cells,
                    epochs=settings.epochs,
                    most=settings.explained,
                    twins=settings.twins,
                    architecture=architecture,
                    rng=settings.seed,
                    device=settings.device,
                    progress=progress,
                )
                folder.write_result(stage, answer)
            folder.note(
                settings={"validation": asdict(settings)}, versions={"cytolens": __version__}
            )
        answers.append(folder.read_result(stage))
    return write_page(folder.path, answers, asdict(settings))


def write_page(out: Path, answers: list[KnownAnswer], settings: Mapping[str, Any]) -> Path:
    """Figures, ``summary.json`` and, last, ``validation.html``, whose path is given."""
    pictures: dict[str, bytes] = {}
    for name, figure in draw_answers(answers).items():
        pictures[name], svg = render(figure)
        write_bytes(out / "figures" / f"{name}.png", pictures[name])
        write_bytes(out / "figures" / f"{name}.svg", svg)
    summary = summary_of(answers, settings)
    write_json(out / "summary.json", summary)
    page = out / "validation.html"
    content = answers_page(answers, pictures, summary, own=settings["model"])
    write_text(page, render_report(content))
    return page


def _recipe(settings: ValidationSettings) -> dict[str, Any]:
    """What an answer depends on, apart from what is planted."""
    chosen = asdict(settings)
    for name in ("kinds", "grid", "device"):
        del chosen[name]
    if settings.model is not None:
        file = Path(settings.model.rpartition(":")[0])
        chosen["architecture"] = file.read_text() if file.is_file() else ""
    return {**chosen, "version": __version__, "measures": _MEASURES}
