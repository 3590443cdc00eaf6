"""The end of a study: figures, the table of cells, the summary and the page, from its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolens.errors import InputError
from cytolens.records.cells import Progress
from cytolens.store.csv_text import csv_text
from cytolens.store.files import write_bytes, write_json, write_text
from cytolens.store.run_folder import RunFolder
from cytolens.study.stage import Keep, Stage, table
from cytolens.study.stages.knowledge import suspects_table
from cytolens.study.team import Teammate, Todo, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from cytolens.report.results import Results
    from cytolens.store.cell_table import CellTable

_FORMAT = 1  # of summary.json
EDITED = "suspects.edited.csv"  # a person's edits that the report found and did not overwrite
_WIDEST = 1024  # features of a layer that the ``cells.h5ad`` of every study takes in


@dataclass(frozen=True, eq=False)
class Report:
    """All that is written for people to read; figures are drawn one by one as they are written."""

    shown: "Results"
    about: Mapping[str, Any]
    folded: bool  # whether figures that are shown on demand are drawn
    svg: bool
    mates: tuple[Teammate, ...]  # who draw figures, too
    table: "CellTable"
    suspects: list[list[Any]]  # rows of suspects.csv


def report(
    results: Mapping[str, Any], *, figures: str, svg: bool, mates: tuple[Teammate, ...]
) -> Report:
    """What the figures, the table of cells, the summary and the page are made from."""
    from cytolens.study.export import cell_table

    about = results["about"]
    shown = results_shown(results, about, summarise(results))
    rows = suspects_table(results["suspects"], results["cells"])
    table = cell_table(results, widest=_WIDEST)
    return Report(shown, about, figures == "all", svg, mates, table, rows)


def results_shown(
    results: Mapping[str, Any], about: Mapping[str, Any], summary: Mapping[str, Any]
) -> "Results":
    """The results as chapters read them."""
    from cytolens.report.results import Results

    return Results(
        results,
        settings=about["settings"],
        versions=about["versions"],
        timings=about["timings"],
        summary=summary,
    )


def draw_figure(path: Path, plot: "Callable[[], Figure]", *, svg: bool) -> None:
    """Draw a figure to ``path``, which has no ending yet, as PNG and, where asked for, SVG."""
    from cytolens.figures.style import render

    png, vector = render(plot(), svg=svg)
    write_bytes(path.with_name(f"{path.name}.png"), png)
    if svg:
        write_bytes(path.with_name(f"{path.name}.svg"), vector)


def summarise(results: Mapping[str, Any]) -> dict[str, Any]:
    """``summary.json``: what each stage says of itself. docs/summary.md describes the keys."""
    study: dict[str, Any] = {}
    layers: dict[str, dict[str, Any]] = {layer.name: {} for layer in results["layers"]}
    for stage in table().values():
        if stage.summary is None:
            continue
        found = stage.summarise(results)
        study |= found.study
        for name, entries in found.layers.items():
            layers[name] |= entries
    about = results["about"]
    return {
        "format": _FORMAT,
        **study,
        "layers": list(layers.values()),
        "timings": about["timings"],
        "versions": about["versions"],
        "settings": about["settings"],
    }


def _write(folder: RunFolder, name: str, value: Report, progress: Progress) -> None:
    from cytolens.report.page import render_report
    from cytolens.report.story import tell
    from cytolens.study.export import write_cells

    path = folder.path
    figures = draw_figures(path / "figures", value, progress)
    page = render_report(
        tell(
            value.shown,
            {figure: (path / "figures" / f"{figure}.png").read_bytes() for figure in figures},
            cores=1 + len(value.mates),
        )
    )
    write_cells(value.table, path / "cells.h5ad")
    _write_suspects(path, csv_text(value.suspects))
    write_json(path / "summary.json", value.shown.summary)
    write_text(path / "report.html", page)


def draw_figures(path: Path, value: Report, progress: Progress) -> list[str]:
    """Draw all figures into the folder ``path``, and remove others from it; their names."""
    from cytolens.report.story import plots

    found = plots(value.shown, folded=value.folded)
    begun = 0

    def begin(figure: str) -> None:
        nonlocal begun
        progress(begun, len(found) + 1, figure)
        begun += 1

    def here(figure: str) -> None:
        begin(figure)
        draw_figure(path / figure, found[figure], svg=value.svg)

    def there(mate: Teammate, figure: str) -> None:
        begin(figure)
        mate.draw(figure, value.about, svg=value.svg)

    work(Todo({figure: set() for figure in found}), value.mates, here=here, there=there)
    progress(len(found), len(found) + 1, "report.html")
    endings = (".png", ".svg") if value.svg else (".png",)
    for stale in path.iterdir():
        if stale.stem not in found or stale.suffix not in endings:
            stale.unlink()
    return list(found)


def _write_suspects(path: Path, text: str) -> None:
    """Write suspects.csv; one that a person edited and has not handed back is kept beside it."""
    table, new = path / "suspects.csv", path / "suspects.new.csv"
    write_text(new, text)
    if table.is_file() and not_handed_back(table, new):
        table.replace(path / EDITED)
    new.replace(table)


def not_handed_back(edited: Path, table: Path) -> bool:
    """Whether a table of decisions has one that ``table``, which repeats those made, has not."""
    from cytolens.images.decisions import asked_changes

    try:
        return bool(asked_changes(edited) - asked_changes(table))
    except InputError:  # a person's slip; a table of an earlier version has no such column
        return b"use" in edited.read_bytes().partition(b"\n")[0]


def complete(folder: RunFolder) -> bool:
    """Whether all files of the report are there."""
    names = ("report.html", "summary.json", "cells.h5ad")
    return all((folder.path / name).is_file() for name in names)


REPORT = Stage(
    "report",
    "writing the report",
    report,
    keep=Keep(_write, lambda folder, name: folder.path / "report.html", complete),
    gathers=True,
)
