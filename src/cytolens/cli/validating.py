"""The verb that checks explanations against known answers."""

from pathlib import Path

import typer

from cytolens.cli import terminal


def add_verbs(app: typer.Typer) -> None:
    """Add ``validate`` to the application."""
    app.command("validate")(validate)


def several() -> set[str]:
    """The flags that take several values."""
    return {"--kinds"}


def validate(
    out: Path = typer.Option(Path("validation"), help="the folder for results and the page"),
    kinds: list[str] = typer.Option(
        None, help="what to plant: granule, bar, rim, texture; default all", show_default=False
    ),
    cells: int = typer.Option(None, help="simulated cells; default 500, quick 300"),
    seed: int = typer.Option(0, help="seed of everything random"),
    model: str = typer.Option(
        None, help="an architecture of your own: file.py:function", metavar="FACTORY"
    ),
    twins: bool = typer.Option(
        False, "--twins", help="also edit planted cells, and compare them with their plain twins"
    ),
    quick: bool = typer.Option(False, help="default contrast and size only, fewer cells"),
    device: str = typer.Option(None, help="where to train: cpu, cuda; default: a GPU if seen"),
) -> None:
    """Do explanations point at what a classifier uses? Known answers on simulated cells."""
    from cytolens.validation.suite import ValidationSettings, settings_for
    from cytolens.validation.suite import validate as run

    chosen: ValidationSettings = settings_for(
        kinds=kinds, cells=cells, seed=seed, model=model, quick=quick, twins=twins, device=device
    )
    terminal.print_line(str(run(out, chosen, announce=terminal.announce)))
