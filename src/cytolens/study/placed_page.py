"""What is written of placed cells, in a folder of its own: table, summary, figures, page."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytolens import __version__
from cytolens.classifier.evaluation import evaluate
from cytolens.errors import SettingError
from cytolens.figures.placed import (
    oddest,
    plot_odd_by_depth,
    plot_odd_cells,
    plot_placed,
    plot_placed_by_depth,
)
from cytolens.figures.style import METHODS, interval, number, render
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.maps import PlacedCells
from cytolens.report.page import (
    Fact,
    ReportContent,
    ReportFigure,
    ReportTable,
    Section,
    fit,
    render_report,
)
from cytolens.store.csv_text import csv_text
from cytolens.store.files import replacing_folder, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from cytolens.study.place import OldMaps

_MARK = "placed.json"


def check_folder(out: Path) -> None:
    """Raises SettingError for a folder that holds anything but placed cells."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).is_file())):
        raise SettingError(f"'{out}' exists and holds other things; name a new folder with --out")


def write_placed(
    out: Path, placed: PlacedCells, cells: Cells, run: "OldMaps", progress: Progress
) -> None:
    """``placed.csv``, ``placed.parquet``, ``placed.json``, ``figures`` and ``placed.html``.

    All or nothing: they are written beside ``out``, which they then replace.
    """
    with replacing_folder(out, knows=(_MARK,)) as beside:
        table = table_of(placed, cells)
        write_text(
            beside / "placed.csv", csv_text([list(table), *table.to_numpy(dtype=object).tolist()])
        )
        table.to_parquet(beside / "placed.parquet", engine="pyarrow", index=False)
        summary = summarise(placed, cells, run)
        pictures: dict[str, bytes] = {}
        figures = _figures(placed, cells, run)
        for done, (name, (_, _, plot)) in enumerate(figures.items()):
            progress(done, len(figures), name)
            figure = plot()
            pictures[name], svg = render(figure)
            write_bytes(beside / "figures" / f"{name}.png", pictures[name])
            write_bytes(beside / "figures" / f"{name}.svg", svg)
        page = _page(placed, cells, run, summary, figures, pictures)
        write_text(beside / "placed.html", render_report(page))
        write_json(beside / _MARK, summary)


def table_of(placed: PlacedCells, cells: Cells) -> pd.DataFrame:
    """A row per new cell.

    ``name``, ``label`` (where there are any), ``prediction``, ``probability`` (of it),
    ``probability_<class>``, ``depths_odd``, and by layer ``odd_…``, ``distance_…`` (to the tenth
    nearest training cell), ``percentile_…`` (of it), and by map ``x_<method>_<layer>`` and
    ``y_<method>_<layer>``.
    """
    best = placed.probabilities.argmax(axis=1)
    columns: dict[str, Any] = {"name": placed.names}
    if "label" in cells.covariates:
        columns["label"] = cells.covariates["label"]
    columns["prediction"] = np.array(placed.class_names)[best]
    columns["probability"] = placed.probabilities.max(axis=1)
    for k, name in enumerate(placed.class_names):
        columns[f"probability_{name}"] = placed.probabilities[:, k]
    columns["depths_odd"] = placed.depths_odd
    for layer in placed.layers:
        columns[f"odd_{layer}"] = placed.odd[layer]
        columns[f"distance_{layer}"] = placed.distances[layer]
        columns[f"percentile_{layer}"] = placed.percentiles[layer]
    for method, by_layer in placed.places.items():
        for layer, places in by_layer.items():
            columns[f"x_{method}_{layer}"] = places[:, 0]
            columns[f"y_{method}_{layer}"] = places[:, 1]
    return pd.DataFrame(columns)


def summarise(placed: PlacedCells, cells: Cells, run: "OldMaps") -> dict[str, Any]:
    """``placed.json``: how many, predicted as what, how odd by depth, how well placed by map."""
    best = placed.probabilities.argmax(axis=1)
    counts = np.bincount(best, minlength=len(placed.class_names)).tolist()
    labelled = cells.labels >= 0
    measures: dict[str, Any] = {}
    if labelled.any():
        test = evaluate(
            placed.probabilities[labelled], cells.labels[labelled], rng=run.settings.seed
        )
        measures = {name: estimate.as_dict() for name, estimate in test.measures.items()}
    training, calibration, clean = placed.calibrated_on
    return {
        "format": 1,
        "version": __version__,
        "run": str(run.folder.path),
        "source": cells.source,
        "path": str(Path(cells.source).resolve()),
        "n": len(placed.names),
        "skipped": [{"name": bad.name, "reason": bad.reason} for bad in cells.skipped],
        "remarks": list(cells.remarks),
        "predicted": dict(zip(placed.class_names, counts, strict=True)),
        "labelled": {"n": int(labelled.sum()), **measures},
        "odd": {
            "training_cells": training,
            "threshold_cells": calibration,
            "clean_cells": clean,
            "expected": placed.expected,
            "any": _odd(placed, "any"),
        },
        "layers": [{"name": layer, "odd": _odd(placed, layer)} for layer in placed.layers],
        "maps": [
            {
                "layer": layer,
                "method": method,
                "scheme": placed.schemes[method][layer],
                "recall_10": {
                    **placed.kept[method][layer].as_dict(),
                    "of_the_map": run.maps[method][layer].quality.get("recall_10"),
                },
            }
            for method, by_layer in placed.places.items()
            for layer in by_layer
        ],
    }


def _odd(placed: PlacedCells, layer: str) -> dict[str, Any]:
    return {**placed.share[layer].as_dict(), "clean": placed.clean[layer].as_dict()}


Drawings = Mapping[str, tuple[str, str, Any]]  # by name: title, caption, plot


def _figures(placed: PlacedCells, cells: Cells, run: "OldMaps") -> Drawings:
    labels = run.cells.labels[run.mapped]
    drawings: dict[str, tuple[str, str, Any]] = {}
    layer = run.main_layer
    main_maps = run.maps.get("tsne") or next(iter(run.maps.values()), {})
    if layer in main_maps:
        embedding = main_maps[layer]
        drawings["placed_map"] = (
            f"New cells on the map of {layer}",
            "Pale: the cells of the run, where they were; bright: the new cells, in the colour of "
            f"their prediction. {_believe(placed, run, embedding.method, [layer])} Ringed: odd at "
            "this depth, so that their place and prediction mean little: a map has no place for "
            "what it has not seen.",
            partial(plot_placed, embedding, labels, placed),
        )
    for method, by_layer in run.maps.items():
        if len(by_layer) > 1:
            drawings[f"placed_by_depth_{method}"] = (
                f"The same at every depth ({METHODS.get(method, method)})",
                f"From the pixels to the logits. {_believe(placed, run, method, list(by_layer))}",
                partial(plot_placed_by_depth, by_layer, labels, placed),
            )
    training, calibration, clean = placed.calibrated_on
    drawings["odd_by_depth"] = (
        "Odd cells by depth",
        "A cell is odd at a depth when it is farther from the training cells, or farther than "
        "these are from each other there, than nearly all cells like those of the run would be. "
        f"{training:,} training cells are what it is compared with, {calibration:,} validation "
        f"cells set the thresholds, {clean:,} test cells give the rate of false alarms beside it. "
        "Bars: 95 % intervals; dashed: the rate the thresholds are set for. The axis is linear "
        "below 1 %.",
        partial(plot_odd_by_depth, placed),
    )
    if len(oddest(placed)):
        drawings["odd_cells"] = (
            "The oddest new cells",
            "Those odd at the most depths first, framed in the colour of their prediction.",
            partial(plot_odd_cells, cells, placed),
        )
    return drawings


def _believe(placed: PlacedCells, run: "OldMaps", method: str, layers: list[str]) -> str:
    """How far places are to be believed."""
    kept = [placed.kept[method][layer].value for layer in layers]
    own = [run.maps[method][layer].quality.get("recall_10", np.nan) for layer in layers]
    schemes = {placed.schemes[method][layer] for layer in layers}
    how = {
        "t-SNE": "Each is placed by the objective of t-SNE against the fixed map, by itself",
        "projection": "Each is projected onto the run's components",
        "mean of neighbours": "Each is at the mean of its nearest cells' places",
    }
    text = "; ".join(how[scheme] for scheme in sorted(schemes)) + ". "
    return text + (
        f"Of the ten cells of the run nearest to a new one on the map {_range(kept)} are among "
        "its ten nearest in the features; for the run's own cells that is "
        f"{_range([value for value in own if np.isfinite(value)])}."
    )


def _range(values: list[float]) -> str:
    if not values:
        return "not known"
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _page(
    placed: PlacedCells,
    cells: Cells,
    run: "OldMaps",
    summary: Mapping[str, Any],
    figures: Drawings,
    pictures: Mapping[str, bytes],
) -> ReportContent:
    n, anywhere = len(placed.names), placed.share["any"]
    predicted = ", ".join(f"{count:,} {name}" for name, count in summary["predicted"].items())
    rows = tuple(
        (
            layer,
            interval(_in_percent(placed.share[layer]), 1),
            interval(_in_percent(placed.clean[layer]), 1),
            *(
                f"{number(placed.kept[method][layer].value)} "
                f"({number(run.maps[method][layer].quality.get('recall_10', np.nan))})"
                if layer in by_layer
                else "–"
                for method, by_layer in placed.places.items()
            ),
        )
        for layer in placed.layers
    )
    header = (
        "layer",
        "odd, new (%)",
        "odd, held-out cells of the run (%)",
        *(f"recall@10, {METHODS.get(method, method)}" for method in placed.places),
    )
    fitted = fit(pictures)
    shown = tuple(
        ReportFigure(name, fitted[name], title, caption)
        for name, (title, caption, _) in figures.items()
    )
    caption = "With 95 % intervals. In brackets: recall@10 of the run's own cells on the map."
    return ReportContent(
        title=f"{n:,} new cells on the maps of {run.folder.path.name}",
        question=f"Where do the cells of {cells.source} lie among those the network was trained "
        "on, and which are unlike any of them?",
        answer=(
            f"Predicted: {predicted}.",
            f"{100 * anywhere.value:.1f} % are odd at one depth or more "
            f"[{100 * anywhere.low:.1f}, {100 * anywhere.high:.1f}]; of held-out cells of the run "
            f"{100 * placed.clean['any'].value:.1f} % are.",
        ),
        facts=tuple(
            Fact(name.replace("_", " ").capitalize(), interval(_estimate(entry)), "by the labels")
            for name, entry in summary["labelled"].items()
            if name in ("accuracy", "balanced_accuracy", "auc")
        ),
        warnings=_warnings(placed, cells),
        remarks=tuple(text for text in cells.remarks if not text.startswith("warning")),
        skipped=tuple((bad.name, bad.reason) for bad in cells.skipped),
        sections=(
            Section("maps", "Where they lie", (), shown),
            Section(
                "numbers",
                "In numbers",
                ("All of it is in placed.csv and placed.parquet, a row per cell.",),
                (),
                (ReportTable("By depth", header, rows, caption),),
            ),
        ),
        citations=(f"The software: the cytolens founders. cytolens {__version__} (2026).",),
        created=f"Written by cytolens {__version__} on {date.today().isoformat()}.",
        summary=summary,
    )


def _warnings(placed: PlacedCells, cells: Cells) -> tuple[str, ...]:
    said = [text.removeprefix("warning: ") for text in cells.remarks if text.startswith("warning")]
    worst = [layer for layer in placed.layers if placed.share[layer].low > placed.clean[layer].high]
    if worst:
        said.append(
            f"More new cells are odd than held-out cells of the run, at {len(worst)} of "
            f"{len(placed.layers)} depths: the network was not trained on cells like these, and "
            "its predictions for them are not covered by its test."
        )
    return tuple(said)


def _in_percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def _estimate(entry: Mapping[str, float]) -> Estimate:
    return Estimate(entry["value"], entry["low"], entry["high"])
