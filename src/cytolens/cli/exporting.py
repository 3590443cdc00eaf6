"""The verb that hands a run's cells to other tools."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``export`` to the application."""
    app.command("export")(export)


def export(
    run: Path = typer.Argument(help="the folder of a run", metavar="RUN"),
    to: str = typer.Option(
        help="h5ad or zarr (scanpy, cellxgene), parquet, embedding-atlas, tensorboard or tiff"
    ),
    out: Path = typer.Option(
        None, help="the file or folder to write; default: in RUN/exports", metavar="PATH"
    ),
) -> None:
    """The cells on the maps, with all that was found of them, for another tool."""
    from cytolens.errors import choose
    from cytolens.store.exports import FORMATS
    from cytolens.store.run_folder import open_run
    from cytolens.study.exporting import export_study
    from cytolens.study.study import Study

    name = choose("format", to, list(FORMATS))
    study = Study(open_run(run).path, announce=terminal.announce)
    terminal.say(str(export_study(study, name, out=out)))
