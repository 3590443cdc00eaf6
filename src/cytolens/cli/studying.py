"""Verbs over a run folder: the whole study, and each of its stages alone.

Their options are made from the fields of StudySettings, so a new setting needs no code here.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cytolens.cli import terminal
from cytolens.errors import InputError, SettingError
from cytolens.study.settings import CELLS, CLASSIFIER, DEPTH, IMAGES, MACHINE, MAPS, StudySettings


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: the stages it makes, and the settings it listens to."""

    name: str
    help: str
    panels: tuple[str, ...]
    act: Callable[[Any], None]


def _run(study: Any) -> None:
    terminal.say(str(study.report()))
    terminal.say_headline(study)


def _layers(study: Any) -> None:
    terminal.say_layers(study.layers())


VERBS = (
    Verb(
        "run",
        "The whole study: from a folder of crops to report.html.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, MACHINE),
        _run,
    ),
    Verb(
        "train",
        "Train the classifier and evaluate it on held-out cells.",
        (CELLS, CLASSIFIER, MACHINE),
        terminal.say_evaluation,
    ),
    Verb(
        "layers",
        "List the layers: name, kind, depth, shape, receptive field.",
        (CELLS, CLASSIFIER, DEPTH, MACHINE),
        _layers,
    ),
    Verb(
        "extract",
        "Activations of every cell at every depth, to Zarr.",
        (CELLS, CLASSIFIER, DEPTH, MACHINE),
        terminal.say_activations,
    ),
    Verb(
        "embed",
        "Maps of the feature space, one per depth.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, MACHINE),
        lambda study: terminal.say_maps(study.maps()),
    ),
    Verb(
        "cluster",
        "Clusters at every depth, against the classes.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, MACHINE),
        lambda study: terminal.say_clusters(study.clusters()),
    ),
    Verb(
        "separation",
        "How far the classes come apart at every depth.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, MACHINE),
        lambda study: terminal.say_separation(study.separation(), study.pairs()["onsets"]),
    ),
    Verb(
        "features",
        "Feature images of channels, classes and clusters, and their complexity.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, MACHINE),
        lambda study: terminal.say_complexity(study.complexity()),
    ),
    Verb(
        "modulate",
        "Modulated feature images, and cells explained by them.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, MACHINE),
        lambda study: terminal.say_explanations(study.modulated()),
    ),
    Verb(
        "report",
        "The figures, report.html, summary.json and cells.h5ad.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, MACHINE),
        _run,
    ),
)


def add_verbs(app: typer.Typer) -> None:
    """Add every verb to the application."""
    for verb in VERBS:
        app.command(verb.name, help=verb.help)(_command(verb))


def several() -> set[str]:
    """The flags that take several values."""
    return {flag for f in fields(StudySettings) if f.type in _LISTS for flag in _flags(f)}


_LISTS = ("list[str]", list[str])


def _flags(setting: Any) -> list[str]:
    own = "--" + setting.name.replace("_", "-")
    other = setting.metadata.get("flag")
    return [other, own] if other else [own]


def _command(verb: Verb) -> Callable[..., None]:
    """A function whose signature lists the settings of the verb, for typer to read."""

    def command(data: Path, out: Path | None = None, **given: Any) -> None:
        study = open_study(data, out, given)
        verb.act(study)

    data = Annotated[
        Path,
        typer.Argument(help="the cells (see below), or the folder of a run", metavar="DATA|RUN"),
    ]
    out = Annotated[
        Path | None, typer.Option(help="the run folder; needed with DATA", metavar="RUN")
    ]
    kinds = get_type_hints(StudySettings)
    parameters = [
        inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=data),
        inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=out),
    ]
    for setting in fields(StudySettings):
        if setting.metadata["panel"] not in verb.panels:
            continue
        option = typer.Option(
            *_flags(setting),
            help=setting.metadata["help"] + _default_text(setting),
            rich_help_panel=setting.metadata["panel"],
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(
                setting.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kinds[setting.name] | None, option],
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__ = verb.name
    return command


def _default_text(setting: Any) -> str:
    default = setting.default
    plain = isinstance(default, int | float | str) and not isinstance(default, bool)
    return f" (default: {default})" if plain else ""


def open_study(data: Path, out: Path | None, given: dict[str, Any]) -> Any:
    """The study of a run folder (with its settings, but for those given), or of new data."""
    if not data.exists():
        raise InputError(f"'{data}' does not exist; give the cells, or the folder of a run")
    from cytolens.store.run_folder import RunFolder
    from cytolens.study.study import Study

    chosen = {name: value for name, value in given.items() if value not in (None, [])}
    is_run = (data / "run.json").is_file()
    if is_run and out is not None:
        raise SettingError(f"'{data}' is a run already; leave --out away")
    if not is_run and out is None:
        raise SettingError(f"'{data}' is not a run folder; name one for the results: --out RUN")
    folder = data if out is None else out
    stored = RunFolder(folder).settings.get("study", {})
    settings = StudySettings.from_mapping({**stored, **chosen} if is_run else chosen)
    return Study(folder, None if is_run else data, settings, announce=terminal.announce)
