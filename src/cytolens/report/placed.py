"""Placed cells: what a page says of new cells on the maps of a run, from records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens import __version__
from cytolens.figures.labels import format_interval, format_number, map_name, measure_name
from cytolens.figures.placed import (
    oddest,
    plot_odd_by_depth,
    plot_odd_cells,
    plot_placed,
    plot_placed_by_depth,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.maps import Embedding, PlacedCells
from cytolens.report.chapter import Drawing
from cytolens.report.page import (
    Fact,
    ReportContent,
    ReportFigure,
    ReportTable,
    Section,
    shrink_to_fit,
)

if TYPE_CHECKING:
    import pandas as pd

_SCHEMES = {
    "t-SNE": "Each new cell is placed by itself, by the objective of t-SNE against the fixed map",
    "projection": "Each new cell is projected onto the run's components",
    "mean of neighbours": "Each new cell is at the mean of its nearest cells' places",
}
_NO_CLASSES = (
    "The network gives no classes: its outputs for each cell are in the table, and cells have the "
    "colour of the training cell nearest to them before the logits."
)
_ON_TOP = ("accuracy", "balanced_accuracy", "auc")


@dataclass(frozen=True)
class PlacedOn:
    """The run whose maps the new cells are placed on."""

    path: str
    maps: Mapping[str, Mapping[str, Embedding]]  # [method][layer]
    labels: NDArray[np.int64]  # (N,), of the cells on these maps
    main_layer: str

    def recall(self, method: str, layer: str) -> float | None:
        """Recall@10 of the run's own cells on a map."""
        return self.maps[method][layer].quality.get("recall_10")


def placed_table(placed: PlacedCells, cells: Cells) -> "pd.DataFrame":
    """A row per new cell.

    ``name``, ``label`` (where there are any), ``prediction``, ``probability`` (of it),
    ``probability_<class>`` (without classes ``output_<name>``), ``nearest`` (training cell before
    the logits), ``nearest_class``, ``novel`` (odd by one number over all depths), ``novelty`` (this
    number), ``novelty_p`` (its p-value), ``depths_odd``, and by layer ``odd_…``, ``distance_…`` (to
    the tenth nearest training cell), ``percentile_…`` (of it), and by map ``x_<method>_<layer>``
    and ``y_<method>_<layer>``.
    """
    import pandas as pd

    said, names = placed.answered, np.array(placed.class_names)
    columns: dict[str, Any] = {"name": placed.names}
    if "label" in cells.covariates:
        columns["label"] = cells.covariates["label"]
    if said.probabilities is not None:
        columns["prediction"] = names[said.likely]
        columns["probability"] = said.probabilities.max(axis=1)
        for k, name in enumerate(placed.class_names):
            columns[f"probability_{name}"] = said.probabilities[:, k]
    for name, values in said.outputs.items():
        columns[f"output_{name}"] = values
    columns["nearest"], columns["nearest_class"] = said.nearest, names[said.nearest_class]
    columns["novel"] = placed.overall.odd
    columns["novelty"] = placed.overall.scores
    columns["novelty_p"] = placed.overall.p_values
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


def placed_summary(
    placed: PlacedCells, cells: Cells, on: PlacedOn, measures: Mapping[str, Estimate]
) -> dict[str, Any]:
    """``placed.json``: how many, predicted as what, how odd by depth, how well placed by map.

    ``measures`` are of the predictions of those cells that have labels.
    """
    training, calibration, clean = placed.calibrated_on
    return {
        "format": 1,
        "version": __version__,
        "run": on.path,
        "source": cells.source,
        "path": str(Path(cells.source).resolve()),
        "n": len(placed.names),
        "skipped": [{"name": bad.name, "reason": bad.reason} for bad in cells.skipped],
        "remarks": list(cells.remarks),
        "predicted": _predicted(placed),
        "labelled": {
            "n": int((cells.labels >= 0).sum()),
            **{name: estimate.as_dict() for name, estimate in measures.items()},
        },
        "odd": {
            "training_cells": training,
            "threshold_cells": calibration,
            "clean_cells": clean,
            "expected": placed.expected,
            "any": _odd(placed, "any"),
            "overall": {
                **placed.overall.share.as_dict(),
                "clean": placed.overall.clean.as_dict(),
                "expected": placed.overall.expected,
                "with_energy": placed.overall.with_energy,
            },
        },
        "layers": [{"name": layer, "odd": _odd(placed, layer)} for layer in placed.layers],
        "maps": [
            {
                "layer": layer,
                "method": method,
                "scheme": placed.schemes[method][layer],
                "recall_10": {
                    **placed.kept[method][layer].as_dict(),
                    "of_the_map": on.recall(method, layer),
                },
            }
            for method, by_layer in placed.places.items()
            for layer in by_layer
        ],
    }


def placed_drawings(placed: PlacedCells, cells: Cells, on: PlacedOn) -> tuple[Drawing, ...]:
    """The new cells on the maps, how odd they are by depth, and the oddest of them."""
    drawings: list[Drawing] = []
    main_maps = on.maps.get("tsne") or next(iter(on.maps.values()), {})
    if on.main_layer in main_maps:
        embedding = main_maps[on.main_layer]
        caption = (
            "Pale: the cells of the run; bright: the new cells, in the colour of "
            f"{_coloured(placed)}. Ringed cells are odd at this depth. {_mean_little(placed)}: a "
            "map has no place for what it has not seen."
        )
        plot = partial(plot_placed, embedding, on.labels, placed)
        title = f"New cells on the map of {on.main_layer}"
        note = _reliability(placed, on, embedding.method, [on.main_layer])
        drawings.append(Drawing("placed_map", title, caption, plot, note))
    for method, by_layer in on.maps.items():
        if len(by_layer) > 1:
            caption = "The same at every depth, from the pixels to the logits."
            plot = partial(plot_placed_by_depth, by_layer, on.labels, placed)
            title = f"New cells at every depth ({map_name(method)})"
            note = _reliability(placed, on, method, list(by_layer))
            drawings.append(Drawing(f"placed_by_depth_{method}", title, caption, plot, note))
    caption = (
        "Share of cells that are odd at each depth: new cells, and test cells of the run, which "
        "give the rate of false alarms. Bars: 95 % intervals; dashed: the rate that the thresholds "
        "are set for. Clearly more odd cells than that: the run has no such cells."
    )
    training, calibration, clean = placed.calibrated_on
    note = (
        "A cell is odd at a depth when it is farther from the training cells, or farther than they "
        "are from each other there, than nearly all cells like those of the run would be. It is "
        f"compared with {training:,} training cells; {calibration:,} validation cells set the "
        f"thresholds, and {clean:,} test cells give the rate of false alarms. The axis is linear "
        "below 1 %."
    )
    plot = partial(plot_odd_by_depth, placed)
    note += " " + _overall_note(placed)
    drawings.append(Drawing("odd_by_depth", "Odd cells by depth", caption, plot, note))
    if len(oddest(placed)):
        caption = (
            "The least like cells of the run first, by one number over all depths, framed in the "
            f"colour of {_coloured(placed)}. Below each: the share of held-out cells of the run "
            "that are as unlike the rest (p), and at how many depths it is odd."
        )
        plot = partial(plot_odd_cells, cells, placed)
        drawings.append(Drawing("odd_cells", "The oddest new cells", caption, plot))
    return tuple(drawings)


def placed_page(
    placed: PlacedCells,
    cells: Cells,
    on: PlacedOn,
    measures: Mapping[str, Estimate],
    pictures: Mapping[str, bytes],
    summary: Mapping[str, Any],
) -> ReportContent:
    """The page. ``pictures``: PNG bytes of `placed_drawings` by name; others are left out."""
    overall = placed.overall
    predicted = ", ".join(f"{count:,} {name}" for name, count in _predicted(placed).items())
    told = f"Predicted: {predicted}." if predicted else _NO_CLASSES
    fitted = shrink_to_fit(pictures)
    shown = tuple(
        ReportFigure(one.name, fitted[one.name], one.title, one.caption, one.note, one.half)
        for one in placed_drawings(placed, cells, on)
        if one.name in fitted
    )
    text = ("All numbers are in placed.csv and placed.parquet, a row per cell.",)
    return ReportContent(
        title=f"{len(placed.names):,} new cells on the maps of {Path(on.path).name}",
        question=f"Where do the cells of {cells.source} lie among those of the run, "
        "and which are unlike any of them?",
        answer=(
            told,
            "Unlike the cells of the run by one number over all depths, in percent: "
            f"{format_interval(_in_percent(overall.share), 1)}; of test cells of the run "
            f"{100 * overall.clean.value:.1f} % are.",
            "A cell that is not flagged may still be of an unknown kind: a class whose features "
            "lie among those of the known ones cannot be told.",
        ),
        facts=tuple(
            Fact(measure_name(name), format_interval(measures[name]), "by the labels")
            for name in _ON_TOP
            if name in measures
        ),
        warnings=_warnings(placed, cells),
        remarks=tuple(text for text in cells.remarks if not text.startswith("warning")),
        skipped=tuple((bad.name, bad.reason) for bad in cells.skipped),
        sections=(
            Section("maps", "Where they lie", figures=shown),
            Section("numbers", "In numbers", text=text, tables=(_table_by_depth(placed, on),)),
        ),
        citations=(f"The software: the cytolens founders. cytolens {__version__} (2026).",),
        created=f"Written by cytolens {__version__} on {date.today().isoformat()}.",
        summary=summary,
    )


def _predicted(placed: PlacedCells) -> dict[str, int]:
    """Number of new cells by predicted class; nothing where the network gives no classes."""
    if placed.probabilities is None:
        return {}
    counts = np.bincount(placed.answered.likely, minlength=len(placed.class_names)).tolist()
    return dict(zip(placed.class_names, counts, strict=True))


def _coloured(placed: PlacedCells) -> str:
    return "their prediction" if placed.probabilities is not None else "the training cell nearest"


def _mean_little(placed: PlacedCells) -> str:
    what = "place and prediction mean" if placed.probabilities is not None else "place means"
    return f"Their {what} little"


def _odd(placed: PlacedCells, layer: str) -> dict[str, Any]:
    return {**placed.share[layer].as_dict(), "clean": placed.clean[layer].as_dict()}


def _reliability(placed: PlacedCells, on: PlacedOn, method: str, layers: Sequence[str]) -> str:
    """How cells are placed on these maps, and how far to believe their places."""
    kept = [placed.kept[method][layer].value for layer in layers]
    own = [value for layer in layers if (value := on.recall(method, layer)) is not None]
    schemes = sorted({placed.schemes[method][layer] for layer in layers})
    return (
        f"{'; '.join(_SCHEMES[scheme] for scheme in schemes)}. Of the ten cells of the run nearest "
        f"to a new one on the map, a share of {_range(kept)} is among its ten nearest in the "
        f"features; for the run's own cells it is {_range(own)}."
    )


def _overall_note(placed: PlacedCells) -> str:
    """What the one number over all depths is, and what it cannot tell."""
    parts = "the largest distance over the depths and the largest one relative to the neighbours'"
    if placed.overall.with_energy:
        parts += ", and the energy of the logits (Liu et al. 2020)"
    return (
        f"One number over all depths: the mean of {parts}, each in standard deviations of the "
        f"validation cells. {100 * placed.overall.expected:.0f} % of these exceed its threshold; "
        "p is the share of them that are as unlike the rest, the cell itself counted. In 21 trials "
        "with a class left out of training, 5 to 79 % of its cells were flagged, 31 % in the "
        "median trial; classes between or inside the known ones were mostly missed "
        "(docs/placing.md)."
    )


def _range(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "not known"
    low, high = format_number(min(known)), format_number(max(known))
    return low if low == high else f"{low} to {high}"


def _table_by_depth(placed: PlacedCells, on: PlacedOn) -> ReportTable:
    rows = tuple(
        (
            layer,
            format_interval(_in_percent(placed.share[layer]), 1),
            format_interval(_in_percent(placed.clean[layer]), 1),
            *(
                f"{format_number(placed.kept[method][layer].value)} "
                f"({format_number(on.recall(method, layer))})"
                if layer in by_layer
                else "–"
                for method, by_layer in placed.places.items()
            ),
        )
        for layer in placed.layers
    )
    rows = (
        *rows,
        *(
            (
                name,
                *(format_interval(_in_percent(one), 1) for one in both),
                *["–"] * len(placed.places),
            )
            for name, *both in (
                ("any of these", placed.share["any"], placed.clean["any"]),
                ("one number over all", placed.overall.share, placed.overall.clean),
            )
        ),
    )
    header = (
        "layer", "odd, new (%)", "odd, test cells of the run (%)",
        *(f"recall@10, {map_name(method)}" for method in placed.places),
    )  # fmt: skip
    caption = "With 95 % intervals. In brackets: recall@10 of the run's own cells on the map."
    return ReportTable("By depth", header, rows, caption)


def _warnings(placed: PlacedCells, cells: Cells) -> tuple[str, ...]:
    found = [text.removeprefix("warning: ") for text in cells.remarks if text.startswith("warning")]
    worst = [
        layer for layer in placed.layers if placed.share[layer].least > placed.clean[layer].most
    ]
    if worst:
        found.append(
            f"More new cells are odd than test cells of the run, at {len(worst)} of "
            f"{len(placed.layers)} depths: the run has no cells like these, and "
            "its test says nothing about its predictions for them."
        )
    elif placed.overall.share.least > placed.overall.clean.most:
        found.append(
            "More new cells are unlike the cells of the run, by one number over all depths, than "
            "test cells of the run are: some may be of a kind that the run has not seen."
        )
    return tuple(found)


def _in_percent(estimate: Estimate) -> Estimate:
    ends = (100 * end for end in (estimate.value, estimate.low, estimate.high))
    return Estimate(*ends, no_interval=estimate.no_interval)
