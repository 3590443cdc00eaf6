"""The verb that puts new cells on the maps of a finished run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from cytolens.cli import sharing, terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``place`` to the application."""
    app.command("place")(place)


def place(
    new: Path = typer.Argument(help="the new crops, with or without labels", metavar="NEW"),
    on: Path = typer.Option(help="the folder of a finished run", metavar="RUN"),
    out: Path | None = typer.Option(
        None, help="the folder to write; default: RUN/placed/NEW", show_default=False
    ),
    labels: str | None = typer.Option(
        None, help="where labels come from, as for run; default: the obvious, or none"
    ),
    device: str | None = typer.Option(None, help="cpu or cuda; default: the cpu"),
    isolate: bool = typer.Option(
        False,
        "--isolate",
        help="decode the crops in a process of their own: for files that are not your own making",
    ),
    trust_model: bool = typer.Option(
        False, "--trust-model", help="run the Python file that this run names as its network"
    ),
    shard: sharing.SHARD = None,
    scheduler: sharing.SCHEDULER = None,
    insecure: sharing.INSECURE = False,
    sbatch: sharing.SBATCH = None,
) -> None:
    """New cells on an old map: placed and predicted, and where they are unlike any cell of RUN.

    Writes placed.csv, placed.parquet, placed.json and placed.html. A cell's row does not depend
    on what else is placed with it.
    """
    from cytolens.study.place import default_folder
    from cytolens.study.place import place as run
    from cytolens.study.placed_page import check_folder

    folder = default_folder(on, new) if out is None else out
    check_folder(folder)
    if shard is not None:
        _make_shard(shard, new, on, folder, labels, isolate, trust_model, device)
        return
    with sharing.workers_of(scheduler, insecure, sbatch) as workers:
        placed = run(
            new, on=on, out=folder, labels=labels, device=device, isolate=isolate,
            trust_model=trust_model, announce=terminal.announce, workers=workers,
        )  # fmt: skip
    terminal.print_line(str(folder / "placed.html"))
    terminal.print_placed(placed)


def _make_shard(shard: str, new: Path, on: Path, out: Path, *how: Any) -> None:
    from cytolens.study.place_apart import TITLES, PlacingTask

    sharing.shard_numbers(shard)
    task = PlacingTask(new.resolve(), on.resolve(), out.resolve(), *how)
    for stage, title in TITLES.items():
        with terminal.announce(f"{title}, shard {shard}") as progress:
            begun = replace(task, stage=stage).begin(progress)
            own = sharing.make_own(begun, shard)
        terminal.print_line(f"{title}: {own} of {len(begun.names)} parts are made")
