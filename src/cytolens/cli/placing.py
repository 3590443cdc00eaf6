"""The verb that puts new cells on the maps of a finished run."""

from pathlib import Path

import typer

from cytolens.cli import terminal


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
    placed = run(
        new, on=on, out=folder, labels=labels, device=device, isolate=isolate,
        trust_model=trust_model, announce=terminal.announce,
    )  # fmt: skip
    terminal.print_line(str(folder / "placed.html"))
    terminal.print_placed(placed)
