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

if TYPE_CHECKING:
    from cytolens.store.cell_table import CellTable

_FORMAT = 1  # of summary.json
EDITED = "suspects.edited.csv"  # a person's edits that the report found and did not overwrite
_WIDEST = 1024  # features of a layer that the ``cells.h5ad`` of every study takes in


@dataclass(frozen=True, eq=False)
class Report:
    """All that is written for people to read."""

    figures: Mapping[str, tuple[bytes, bytes]]  # by name, as PNG and SVG
    table: "CellTable"
    suspects: list[list[Any]]  # rows of suspects.csv
    summary: Mapping[str, Any]
    page: str  # HTML


def report(results: Mapping[str, Any], *, progress: Progress) -> Report:
    """The figures, the table of cells, the summary and the page."""
    from cytolens.figures.style import render
    from cytolens.report.page import render_report
    from cytolens.report.results import Results
    from cytolens.report.story import draw, tell
    from cytolens.study.export import cell_table

    summary = summarise(results)
    about = results["about"]
    shown = Results(
        results,
        settings=about["settings"],
        versions=about["versions"],
        timings=about["timings"],
        summary=summary,
    )
    drawn = draw(shown)
    figures: dict[str, tuple[bytes, bytes]] = {}
    for done, (name, figure) in enumerate(drawn.items()):
        progress(done, len(drawn) + 1, name)
        figures[name] = render(figure)
    progress(len(drawn), len(drawn) + 1, "report.html")
    page = render_report(tell(shown, {name: png for name, (png, _) in figures.items()}))
    rows = suspects_table(results["suspects"], results["cells"])
    return Report(figures, cell_table(results, widest=_WIDEST), rows, summary, page)


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
    from cytolens.study.export import write_cells

    path = folder.path
    for figure, (png, svg) in value.figures.items():
        write_bytes(path / "figures" / f"{figure}.png", png)
        write_bytes(path / "figures" / f"{figure}.svg", svg)
    for stale in (path / "figures").iterdir():
        if stale.stem not in value.figures:
            stale.unlink()
    write_cells(value.table, path / "cells.h5ad")
    _write_suspects(path, csv_text(value.suspects))
    write_json(path / "summary.json", value.summary)
    write_text(path / "report.html", value.page)


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
