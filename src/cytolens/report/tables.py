"""The tables of the report."""

from collections.abc import Iterator, Mapping
from typing import Any

from cytolens.figures.style import interval, measure_name, number
from cytolens.numerics.estimates import Estimate
from cytolens.report.page import ReportTable
from cytolens.report.results import StudyResults


def measures_table(results: StudyResults) -> ReportTable | None:
    """Every measure on held-out cells: network, mean of folds, linear baseline."""
    if results.evaluation is None:
        return None
    columns: list[tuple[str, Mapping[str, Estimate]]] = [("network", results.evaluation.measures)]
    if results.folds:
        columns.append(("mean of folds", results.folds))
    if results.baseline is not None:
        columns.append(("linear baseline", results.baseline.measures))
    rows = tuple(
        (measure_name(key), *(_cell(column.get(key)) for _, column in columns))
        for key in results.evaluation.measures
    )
    header = ("measure", *(name for name, _ in columns))
    return ReportTable("Measures on held-out cells", header, rows, "With 95 % intervals.")


def folds_table(results: StudyResults) -> ReportTable | None:
    """The measures of every fold."""
    if not results.fold_evaluations:
        return None
    keys = list(next(iter(results.fold_evaluations.values())).measures)
    rows = tuple(
        (name, f"{fold.n:,}", *(_cell(fold.measures.get(key)) for key in keys))
        for name, fold in results.fold_evaluations.items()
    )
    header = ("held out", "cells", *map(measure_name, keys))
    return ReportTable("Networks tested on what they were held out from", header, rows)


def layers_table(results: StudyResults) -> ReportTable | None:
    """Every layer in depth order with its size and how well the classes separate there."""
    if not results.layers:
        return None
    measures = list(dict.fromkeys(key for found in results.separation.values() for key in found))[
        :4
    ]
    header = ["layer", "kind", "depth", "shape", "receptive field", *map(measure_name, measures)]
    dead = {images.layer: int(images.dead.sum()) for images in results.galleries}
    header += ["clusters"] * bool(results.clusters) + ["dead"] * bool(dead)
    rows: list[tuple[str, ...]] = []
    for layer in results.layers:
        field = "–" if layer.receptive_field is None else f"{layer.receptive_field:,} px"
        row = [layer.name, layer.kind, str(layer.depth), " × ".join(map(str, layer.shape)), field]
        found = results.separation.get(layer.name, {})
        row += [number(found[key].value) if key in found else "–" for key in measures]
        if results.clusters:
            row.append(
                str(results.clusters[layer.name].n) if layer.name in results.clusters else "–"
            )
        if dead:
            row.append(str(dead[layer.name]) if layer.name in dead else "–")
        rows.append(tuple(row))
    text = "Dead: of the channels that feature images were made for." if dead else ""
    return ReportTable(
        "The network, layer by layer", tuple(header), tuple(rows), text, 2, folded=len(rows) > 20
    )


def ranking_table(results: StudyResults) -> ReportTable | None:
    """How many channels say something of their own, and how the two importances agree."""
    if not results.rankings:
        return None
    rows: list[tuple[str, ...]] = []
    for name, ranking in results.rankings.items():
        first = int(ranking.representatives[0])
        rows.append(
            (
                name,
                f"{len(ranking.importance):,}",
                f"{len(ranking.groups):,}",
                str(first),
                number(float(ranking.ablation[first])),
                number(float(ranking.importance[first])),
                _cell(ranking.agreement),
            )
        )
    header = (
        "layer", "channels", "groups of like ones", "most important", "without it (logits)",
        "gradient × activation", "agreement of the two",
    )  # fmt: skip
    text = (
        "Like: activations over cells that correlate pairwise above "
        f"{next(iter(results.rankings.values())).threshold:g}. Agreement: rank correlation over "
        "channels, with its 95 % interval."
    )
    return ReportTable("What the decision rests on", header, tuple(rows), text)


def settings_tables(results: StudyResults) -> tuple[ReportTable, ...]:
    """Settings, versions of the software, and how long each stage took."""
    found: list[ReportTable] = []
    if results.cells is not None:
        found.append(_preparation(results))
    if results.settings:
        rows = tuple(_flat(results.settings))
        found.append(
            ReportTable(
                "Settings", ("setting", "value"), rows, text_columns=2, folded=len(rows) > 40
            )
        )
    if results.versions:
        rows = tuple((name, str(value)) for name, value in results.versions.items())
        found.append(ReportTable("Versions", ("software", "version"), rows, text_columns=2))
    if results.timings:
        rows = tuple((name, f"{seconds:,.1f}") for name, seconds in results.timings.items())
        total = sum(results.timings.values())
        rows = (*rows, ("in all", f"{total:,.1f}"))
        found.append(ReportTable("Time spent", ("stage", "seconds"), rows))
    return tuple(found)


def _preparation(results: StudyResults) -> ReportTable:
    cells = results.cells
    assert cells is not None
    prepared = cells.preparation
    rows = [
        ("source", cells.source or "–"),
        ("size", f"{prepared.size[0]} × {prepared.size[1]} px"),
        ("intensity scaled per", prepared.intensity),
        ("type in the files", prepared.dtype),
        ("pixel size", "not known" if cells.pixel_size is None else f"{cells.pixel_size:g} µm"),
    ]
    for name, low, high, ground in zip(
        cells.channel_names, prepared.low, prepared.high, prepared.background
    ):
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


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else interval(estimate)
