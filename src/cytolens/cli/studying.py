"""Verbs over a run folder: the whole study, and each of its stages alone.

Their options are made from the fields of StudySettings, so a new setting needs no code here.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cytolens.cli import sharing, terminal
from cytolens.errors import InputError, SettingError
from cytolens.study.settings import (
    CELLS,
    CLASSIFIER,
    DEPTH,
    IMAGES,
    MACHINE,
    MAPS,
    REPORT,
    StudySettings,
    of_held_stages,
)


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: what it makes, and the settings that its help lists."""

    name: str
    help: str
    panels: tuple[str, ...]
    act: Callable[[Any], None]
    parts: str | None = None  # the stage whose parts are made for --shard
    trains: bool = False  # it may read the data and train again; the others take them as they are


def _run(study: Any) -> None:
    terminal.print_forecast(study)
    study.make("report")
    terminal.print_line(str(study.folder.path / "report.html"))
    terminal.print_headline(study)
    terminal.print_edits(study.folder.path)


VERBS = (
    Verb(
        "run",
        "The whole study: from a folder of crops to report.html.",
        (CELLS, CLASSIFIER, DEPTH, MAPS, IMAGES, REPORT),
        _run,
        trains=True,
    ),
    Verb(
        "train",
        "Train the classifier and evaluate it on held-out cells.",
        (CLASSIFIER, CELLS),
        terminal.print_evaluation,
        trains=True,
    ),
    Verb(
        "layers",
        "List the layers: name, kind, depth, shape, receptive field.",
        (DEPTH,),
        lambda study: terminal.print_layers(study["layers"], study["unseen_layers"]),
    ),
    Verb(
        "extract",
        "Activations of every cell at every depth, to Zarr.",
        (DEPTH,),
        terminal.print_activations,
        parts="activations",
    ),
    Verb(
        "embed",
        "Maps of the feature space, one per depth.",
        (MAPS,),
        lambda study: terminal.print_maps(study["maps"]),
        parts="maps",
    ),
    Verb(
        "cluster",
        "Clusters at every depth, against the classes.",
        (MAPS,),
        lambda study: terminal.print_clusters(study["clusters"]),
    ),
    Verb(
        "separation",
        "How far the classes come apart at every depth.",
        (MAPS,),
        lambda study: terminal.print_separation(study["separation"], study["pairs"].onsets),
    ),
    Verb(
        "features",
        "Feature images of channels, classes and clusters, and how complex each layer is.",
        (IMAGES,),
        lambda study: terminal.print_complexity(study["complexity"]),
        parts="features",
    ),
    Verb(
        "modulate",
        "Modulated feature images, and cells explained by them.",
        (IMAGES,),
        lambda study: terminal.print_explanations(study["modulated"].explanations),
    ),
    Verb(
        "pairs",
        "Cells with less and with more of what the network looks for, and what differs in them.",
        (IMAGES,),
        lambda study: terminal.print_contrasts(study["contrasts"]),
        parts="contrasts",
    ),
    Verb(
        "report",
        "The figures, report.html, summary.json and cells.h5ad.",
        (REPORT, IMAGES, MAPS),
        _run,
    ),
)


def add_verbs(app: typer.Typer) -> None:
    """Add every verb to the application."""
    for verb in VERBS:
        app.command(verb.name, help=verb.help, epilog=_EPILOG)(_command(verb))
    app.command("stage", epilog=_EPILOG)(make_stage)
    app.command("verify")(verify)


def several() -> set[str]:
    """The flags that take several values."""
    return {flag for f in fields(StudySettings) if f.type in _LISTS for flag in _flags(f)}


_LISTS = ("list[str]", list[str])


def _flags(setting: Any) -> list[str]:
    own = "--" + setting.name.replace("_", "-")
    other = setting.metadata.get("flag")
    return [other, own] if other else [own]


_EPILOG = (
    "Settings of earlier stages are taken too: cytolens run --help lists all. A RUN keeps its "
    "settings, its cells and its classifier; run and train make these again when you change theirs."
)
_DATA = Annotated[
    Path, typer.Argument(help="the cells, or the folder of a run", metavar="DATA|RUN")
]
_OUT = Annotated[Path | None, typer.Option(help="the run folder; needed with DATA", metavar="RUN")]
_TRUST = Annotated[
    bool,
    typer.Option("--trust-model", help="run the Python file that this run names as its network"),
]
_REMAKE = Annotated[
    bool,
    typer.Option(
        "--remake",
        help="read data and networks that have changed since anew; of a stage: make it again",
    ),
]


def _command(verb: Verb) -> Callable[..., None]:
    """A function whose signature lists the settings of the verb, for typer to read."""

    def command(
        data: Path,
        out: Path | None = None,
        trust_model: bool = False,
        remake: bool = False,
        scheduler: str | None = None,
        insecure: bool = False,
        sbatch: list[str] | None = None,
        shard: str | None = None,
        **given: Any,
    ) -> None:
        study = open_study(
            data, out, given, trains=verb.trains, trust_model=trust_model, remake=remake,
            watch=verb.name != "layers" and shard is None,
        )  # fmt: skip
        if shard is not None:
            sharing.make_shard(study, str(verb.parts), shard)
            return
        with sharing.shared(study, scheduler, insecure, sbatch):
            verb.act(study)
        if verb.act is not _run:
            terminal.print_whether_report_is_old(study)

    kinds = get_type_hints(StudySettings)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=_DATA),
        inspect.Parameter("out", keyword, default=None, annotation=_OUT),
        inspect.Parameter("trust_model", keyword, default=False, annotation=_TRUST),
        inspect.Parameter("remake", keyword, default=False, annotation=_REMAKE),
    ]
    order = (*verb.panels, MACHINE)
    every = fields(StudySettings)
    ordered = [f for panel in order for f in every if f.metadata["panel"] == panel]
    for setting in [*ordered, *(f for f in every if f not in ordered)]:
        option = typer.Option(
            *_flags(setting),
            help=setting.metadata["help"] + _default_text(setting),
            rich_help_panel=setting.metadata["panel"],
            show_default=False,
            hidden=setting.metadata["panel"] not in order,
        )
        annotation = Annotated[kinds[setting.name] | None, option]
        parameters.append(
            inspect.Parameter(setting.name, keyword, default=None, annotation=annotation)
        )
    parameters += [
        inspect.Parameter("scheduler", keyword, default=None, annotation=sharing.SCHEDULER),
        inspect.Parameter("insecure", keyword, default=False, annotation=sharing.INSECURE),
        inspect.Parameter("sbatch", keyword, default=None, annotation=sharing.SBATCH),
    ]
    if verb.parts is not None:
        parameters.append(
            inspect.Parameter("shard", keyword, default=None, annotation=sharing.SHARD)
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__ = verb.name
    return command


def make_stage(
    name: Annotated[str, typer.Argument(help="the stage, e.g. similarity", metavar="NAME")],
    data: _DATA,
    out: _OUT = None,
    trust_model: _TRUST = False,
    remake: _REMAKE = False,
    scheduler: sharing.SCHEDULER = None,
    insecure: sharing.INSECURE = False,
    sbatch: sharing.SBATCH = None,
    shard: sharing.SHARD = None,
) -> None:
    """Make one stage of a study alone, with the stages that it needs."""
    from cytolens.errors import choose
    from cytolens.study.stage import table

    stages = {stage.name: stage for stage in table().values() if stage.keep is not None}
    stage = stages[choose("stage", name, list(stages))]
    study = open_study(data, out, {}, trust_model=trust_model, remake=remake, watch=shard is None)
    if shard is not None:
        sharing.make_shard(study, stage.name, shard)
        return
    with sharing.shared(study, scheduler, insecure, sbatch):
        study.make(stage.name, again=remake)
    terminal.print_line(f"{stage.name}: made ({stage.title})")
    if stage.name != "report":
        terminal.print_whether_report_is_old(study)


def verify(
    run: Annotated[Path, typer.Argument(help="the folder of a run", metavar="RUN")],
) -> None:
    """Check every stored result of a run, to the last byte, and say what to make again."""
    from cytolens.errors import RunError
    from cytolens.store.run_folder import open_run
    from cytolens.study.study import Study

    open_run(run)
    study = Study(run)
    damaged = study.verify(lambda name, problem: terminal.print_checked(name, problem))
    changed = study.changed()
    if changed is not None:
        terminal.print_line(changed)
    if damaged:
        raise RunError(f"'{run}' is damaged at {', '.join(damaged)}; see above what to do")


def _default_text(setting: Any) -> str:
    default = setting.default
    plain = isinstance(default, int | float | str) and not isinstance(default, bool)
    return f" (default: {default})" if plain else ""


def open_study(
    data: Path,
    out: Path | None,
    given: dict[str, Any],
    *,
    trains: bool = False,
    trust_model: bool = False,
    remake: bool = False,
    watch: bool = True,
) -> Any:
    """The study of a run folder (with its settings, but for those given), or of new data."""
    if not data.exists():
        raise InputError(f"'{data}' does not exist; give the cells, or the folder of a run")
    from cytolens.store.run_folder import RunFolder
    from cytolens.study.own_model import not_trusted, runs_code
    from cytolens.study.study import Study

    chosen = {name: value for name, value in given.items() if value not in (None, [])}
    is_run = (data / "run.json").is_file()
    if is_run and out is not None:
        raise SettingError(f"'{data}' is a run already; give it without --out")
    if not is_run and out is None:
        raise SettingError(f"'{data}' is not a run folder; name one for the results: --out RUN")
    if not is_run:
        settings = StudySettings(**chosen)
        if runs_code(settings) and not trust_model:
            raise not_trusted(settings)
        return Study(
            out or data, data, settings, trust_model=True, remake=remake, announce=terminal.announce
        )
    early = of_held_stages(chosen)
    if early and not trains and not remake:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in early)
        raise SettingError(
            f"{flags}: the cells and the classifier of '{data}' are taken as they are; train again "
            f"with: cytolens train {data} {flags} …"
        )
    study = Study(
        data,
        settings=StudySettings.of_run(RunFolder(data), **chosen),
        trust_model=trust_model or ("model" in chosen and not runs_code(StudySettings(**chosen))),
        remake=remake,
        hold=not (trains and (early or "seed" in chosen)),
        announce=terminal.announce,
    )
    changed = study.changed() if watch else None
    if changed is not None:
        terminal.print_remark(changed)
    return study
