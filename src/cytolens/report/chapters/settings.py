"""The last chapter: how the cells were prepared, the settings, the software, the time spent."""

from collections.abc import Iterator, Mapping
from typing import Any

from cytolens.records.cells import Cells
from cytolens.report.chapter import Chapter
from cytolens.report.page import ReportTable
from cytolens.report.results import Results


def tables(results: Results) -> Iterator[ReportTable]:
    """Preparation, settings, versions of the software, and how long each stage took."""
    if results.cells is not None:
        yield _preparation(results.cells)
    if results.settings:
        rows = tuple(_flat(results.settings))
        header = ("setting", "value")
        yield ReportTable("Settings", header, rows, text_columns=2, folded=len(rows) > 40)
    if results.versions:
        rows = tuple((name, str(value)) for name, value in results.versions.items())
        yield ReportTable("Versions", ("software", "version"), rows, text_columns=2)
    if results.timings:
        spent = {**results.timings, "in all": sum(results.timings.values())}
        rows = tuple((name, f"{seconds:,.1f}") for name, seconds in spent.items())
        yield ReportTable("Time spent", ("stage", "seconds"), rows)


def result(results: Results) -> str:
    """The version, and how long the stages took, one after another."""
    version, spent = results.versions.get("cytolens", ""), sum(results.timings.values())
    return f"cytolens {version}, {spent:,.0f} s of work." if version and spent else ""


def _preparation(cells: Cells) -> ReportTable:
    prepared = cells.preparation
    rows = [
        ("source", cells.source or "–"),
        ("size", f"{prepared.size[0]} × {prepared.size[1]} px"),
        ("intensity scaled per", prepared.intensity),
        ("type in the files", prepared.dtype),
        ("pixel size", "not known" if cells.pixel_size is None else f"{cells.pixel_size:g} µm"),
    ]
    channels = zip(cells.channel_names, prepared.low, prepared.high, prepared.background)
    for name, low, high, ground in channels:
        rows.append((f"image channel {name}", f"{low:g} → 0, {high:g} → 1, padded with {ground:g}"))
    return ReportTable("Preparation of the crops", ("", "value"), tuple(rows), text_columns=2)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as rows; a dot between the names of the levels."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or "–"
        else:
            yield f"{prefix}{name}", "–" if value is None else str(value)


CHAPTER = Chapter("settings", "Settings and versions", 100, tables=tables, result=result)
