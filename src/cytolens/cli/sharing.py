"""How the work of a verb is shared: with a cluster's workers, or among the jobs of an array."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolens.cli import terminal
from cytolens.errors import RunError, SettingError

if TYPE_CHECKING:
    from cytolens.study.apart import Apart
    from cytolens.study.parts import Workers
    from cytolens.study.place_apart import PlacingApart

_PANEL = "Cluster"
SHARD = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="make every N-th part only, from the I-th on, as one job of an array; the same "
        "command without it joins them all",
        rich_help_panel=_PANEL,
    ),
]
SCHEDULER = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="have parts made by workers of Dask: local:2 (processes here), slurm:8 (jobs), or "
        "the address of a scheduler, tls://HOST:PORT",
        rich_help_panel=_PANEL,
    ),
]
INSECURE = Annotated[
    bool,
    typer.Option(
        "--insecure-scheduler",
        help="allow a scheduler on another machine without TLS",
        rich_help_panel=_PANEL,
    ),
]
SBATCH = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="an option of every job of SLURM, such as --sbatch=--partition=gpu",
        rich_help_panel=_PANEL,
    ),
]


def add_verbs(app: typer.Typer) -> None:
    """Add ``slurm`` to the application."""
    app.command("slurm")(slurm)


@contextmanager
def shared(
    study: Any, scheduler: str | None, insecure: bool, sbatch: list[str] | None
) -> Generator[None]:
    """Within the block the study has its parts made by the workers of a scheduler, if one is named.

    Raises SettingError for options that need one.
    """
    with workers_of(scheduler, insecure, sbatch) as made:
        study.workers = made
        yield


@contextmanager
def workers_of(
    scheduler: str | None, insecure: bool, sbatch: list[str] | None
) -> "Generator[Workers | None]":
    """The workers of a scheduler, None where none is named. Raises like `shared`."""
    if scheduler is None:
        if insecure or sbatch:
            raise SettingError("--insecure-scheduler and --sbatch speak of a --scheduler")
        yield None
        return
    from cytolens.machines.dask_workers import workers

    with workers(scheduler, insecure=insecure, sbatch=sbatch or ()) as made:
        yield made


def make_shard(study: Any, stage: str, shard: str) -> None:
    """Make every N-th part of a stage, from the I-th on, where they are not there yet.

    Raises SettingError for a shard that is no I/N, RunError where the run lacks what they rest on.
    """
    from cytolens.study.apart import Apart
    from cytolens.study.stage import table

    shard_numbers(shard)
    if study.is_current(stage):
        terminal.print_line(f"{stage}: made already")
        return
    with terminal.announce(f"{table()[stage].title}, shard {shard}") as progress:
        apart = Apart(
            study.folder.path, study.settings, stage, trusted=study.trusted, progress=progress
        )
        own = make_own(apart, shard)
    terminal.print_line(f"{stage}: {own} of {len(apart.names)} parts are made")


def make_own(apart: "Apart | PlacingApart", shard: str) -> int:
    """Make those parts of a shard that are not there; how many it has."""
    first, count = shard_numbers(shard)
    own = range(first - 1, len(apart.names), count)
    missing = set(apart.files.missing())
    for number in own:
        if number in missing:
            apart.make(number)
    return len(own)


def shard_numbers(shard: str) -> tuple[int, int]:
    """I and N of a shard. Raises SettingError for a text that is none."""
    first, _, count = shard.partition("/")
    if not (first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise SettingError(f"--shard '{shard}': give I/N, I from 1 to N, such as 3/8")
    return int(first), int(count)


def slurm(
    run: Path = typer.Argument(help="the folder of a run", metavar="RUN"),
    shards: int = typer.Option(8, help="jobs in each array"),
    sbatch: SBATCH = None,
    trust_model: bool = typer.Option(
        False, "--trust-model", help="let jobs run the Python file that this run names"
    ),
) -> None:
    """Print a script that makes the rest of a study as arrays of SLURM jobs, and joins them.

    Save it, and give it to bash on a login node. Begin the run with cytolens train DATA --out RUN.
    """
    from cytolens.machines.job_array import array_script
    from cytolens.store.run_folder import open_run
    from cytolens.study.stage import table
    from cytolens.study.study import Study

    study = Study(open_run(run).path, trust_model=trust_model)
    kept = [name for name, stage in table().items() if stage.keep is not None]
    outstanding = [name for name in kept if not study.is_current(name)]
    if not outstanding:
        raise RunError(f"'{run}' is finished: there is nothing left to make")
    text = array_script(
        run, shards, outstanding=outstanding, sbatch=sbatch or (), trusted=trust_model
    )
    typer.echo(text, nl=False)
