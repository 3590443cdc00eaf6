"""Verbs that make cells: the simulator, and the demonstration on simulated cells."""

from pathlib import Path
from typing import Any

import typer

from cytolens.cli import terminal
from cytolens.errors import SettingError


def add_verbs(app: typer.Typer) -> None:
    """Add ``simulate`` and ``demo`` to the application."""
    app.command("simulate")(simulate)
    app.command("demo")(demo)


def simulate(
    out: Path = typer.Option(help="the folder to write; read it back as DATA"),
    cells: int = typer.Option(10_000, help="number of cells"),
    size: int = typer.Option(48, help="crop size in pixels"),
    pixel_size: float = typer.Option(None, help="µm per pixel; default: as the simulated camera's"),
    difficulty: float = typer.Option(0.5, help="0 easy to tell apart … 1 nearly the same"),
    plant: str = typer.Option(
        None, help="plant a known feature: granule, rim, bar or texture", metavar="KIND"
    ),
    plant_class: str = typer.Option("neutrophil", help="class that carries the plant"),
    plant_size: float = typer.Option(None, help="size of the plant in µm"),
    plant_contrast: float = typer.Option(None, help="contrast relative to the nucleus"),
    plant_frequency: float = typer.Option(None, help="fraction of the class that carries it"),
    seed: int = typer.Option(0, help="same seed, same bytes"),
) -> None:
    """Simulated lymphocytes and neutrophils through a flow imager's optics, with the truth."""
    made = make_cells(
        cells,
        size=size,
        difficulty=difficulty,
        seed=seed,
        pixel_size=pixel_size,
        plant=plant,
        plant_options={
            "class_name": plant_class,
            "size_um": plant_size,
            "contrast": plant_contrast,
            "frequency": plant_frequency,
        },
    )
    from cytolens.store.files import write_simulation

    terminal.print_line(str(write_simulation(out, made)))


def make_cells(
    cells: int,
    *,
    size: int,
    difficulty: float,
    seed: int,
    pixel_size: float | None = None,
    plant: str | None = None,
    plant_options: dict[str, Any] | None = None,
) -> Any:
    """A Simulation, with progress on the terminal."""
    from cytolens.simulation.optics import Optics
    from cytolens.simulation.simulate import Plant
    from cytolens.simulation.simulate import simulate as make

    chosen = {k: v for k, v in (plant_options or {}).items() if v is not None}
    planted = None if plant is None else Plant(kind=plant, **chosen)
    optics = Optics() if pixel_size is None else Optics(pixel_size_um=pixel_size)
    with terminal.announce("simulating cells") as progress:
        return make(
            cells,
            size=size,
            difficulty=difficulty,
            plant=planted,
            optics=optics,
            rng=seed,
            progress=progress,
        )


def demo(
    out: Path = typer.Option(Path("demo-run"), help="the run folder"),
    cells: int = typer.Option(800, help="number of simulated cells"),
    difficulty: float = typer.Option(0.5, help="0 easy to tell apart … 1 nearly the same"),
    seed: int = typer.Option(0, help="seed of everything random"),
    quick: bool = typer.Option(False, help="a first look in half a minute"),
) -> None:
    """The whole study on simulated cells, ending with the path of report.html."""
    from cytolens.cli.studying import open_study
    from cytolens.store.files import write_json, write_simulation
    from cytolens.store.run_folder import RunFolder

    RunFolder(out)  # refuses a folder that holds other things, before any work
    data = out.with_name(out.name + "-cells")
    recipe = {"cells": cells, "difficulty": difficulty, "seed": seed}
    if not _made_of(data, recipe):
        if cells < 100:
            raise SettingError(f"--cells {cells}: the demonstration needs at least 100")
        write_simulation(data, make_cells(cells, size=48, difficulty=difficulty, seed=seed))
        write_json(data / "demo.json", recipe)
    study = open_study(data, out, {"seed": seed, "quick": quick})
    study.make("report")
    terminal.print_headline(study)
    terminal.print_line(str(study.folder.path / "report.html"))
    terminal.print_remark(f"look around in it: cytolens explore {study.folder.path}")


def _made_of(data: Path, recipe: dict[str, Any]) -> bool:
    import json

    record = data / "demo.json"
    return (
        record.is_file()
        and (data / "cells.npz").is_file()
        and (json.loads(record.read_text()) == recipe)
    )
