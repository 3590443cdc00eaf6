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
        help="h5ad or zarr (scanpy, cellxgene), h5sc (scPortrait: with the crops), parquet, csv, "
        "embedding-atlas, tensorboard, tiff (feature images for ImageJ), or the network as onnx or "
        "bioimageio"
    ),
    out: Path = typer.Option(
        None, help="the file or folder to write; default: in RUN/exports", metavar="PATH"
    ),
    trust_model: bool = typer.Option(
        False,
        "--trust-model",
        help="run the Python file that this run names as its network",
    ),
) -> None:
    """The cells on the maps, the feature images, or the network, for other tools."""
    from cytolens.errors import choose
    from cytolens.store.run_folder import open_run
    from cytolens.study.export import EXPORTS, export_study
    from cytolens.study.study import Study

    name = choose("format", to, EXPORTS)
    study = Study(open_run(run).path, trust_model=trust_model, announce=terminal.announce)
    terminal.print_line(str(export_study(study, name, out=out)))
