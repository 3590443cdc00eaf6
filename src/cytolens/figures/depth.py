"""Numbers from the input to the logits: separation of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytolens.figures.labels import measure_name
from cytolens.figures.style import (
    BRIEF_WIDTH,
    FAINT,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    depth_axis,
    logarithmic,
    move_apart,
    ruled,
    styled,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.layers import Layer
from cytolens.separation.measures import MEASURES

ByLayer = Mapping[str, Mapping[str, Estimate]]


@styled
def plot_separation(
    separation: Mapping[str, Estimate] | ByLayer,
    layers: Sequence[Layer] = (),
    *,
    brief: bool = False,
) -> Figure:
    """How well the classes come apart at each depth: a panel per measure, from input to logits.

    ``separation`` is what `measure_separation` gives, or that by layer name; ``layers`` gives the
    order of the layers, which is otherwise that of ``separation``. Blue with its 95 % interval is
    the trained network, vermilion the same network untrained, grey dashed the 95 % limit of
    permuted labels (for the intrinsic dimension, which uses no labels, that of independent
    features). ``brief``: the linear probe alone, or the first measure there is.

    >>> from cytolens.numerics.estimates import Estimate
    >>> figure = plot_separation({"silhouette": Estimate(0.4, 0.3, 0.5, null=0.05)})
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Silhouette']
    >>> figure.clear()
    """
    by_layer = _by_layer(separation)
    names = [layer.name for layer in layers] or list(by_layer)
    if brief:
        by_layer = {name: _first(found) for name, found in by_layer.items()}
    return _panels(names, by_layer, {key: f"({m.hint})" for key, m in MEASURES.items()})


def _by_layer(values: Mapping[str, Estimate] | ByLayer) -> ByLayer:
    """Values by layer; those of one layer under the empty name."""
    one = {name: found for name, found in values.items() if isinstance(found, Estimate)}
    several = {name: found for name, found in values.items() if not isinstance(found, Estimate)}
    return {"": one} if one else several


def _first(found: Mapping[str, Estimate]) -> Mapping[str, Estimate]:
    """The linear probe alone, or the first measure there is."""
    key = "probe_accuracy" if "probe_accuracy" in found else next(iter(found), "")
    return {key: found[key]} if key else {}


def _panels(names: Sequence[str], values: ByLayer, notes: Mapping[str, str]) -> Figure:
    """A panel per measure, two in a row, over a common axis of layers; one left over is wide."""
    measures = list(dict.fromkeys(key for layer in values.values() for key in layer))
    rows = max(1, -(-len(measures) // 2))
    size = (WIDTH, 0.75 + 1.95 * rows) if len(measures) > 1 else (BRIEF_WIDTH, 2.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    for place, measure in enumerate(measures):
        alone = place == len(measures) - 1 and place % 2 == 0
        axes = figure.add_subplot(grid[place // 2, slice(None) if alone else place % 2])
        lines = lines_of([values.get(name, {}).get(measure) for name in names])
        declared = MEASURES.get(measure)
        if declared is not None and declared.ratio and _positive(lines):
            logarithmic(axes)
        draw_curves(axes, lines, null=declared.null if declared else "permuted")
        axes.set_title(measure_name(measure), pad=15 if notes else 5)
        if measure in notes:
            axes.annotate(
                notes[measure], (0, 1), (0, 4), xycoords="axes fraction",
                textcoords="offset points", size=SMALL, color="#555555",
            )  # fmt: skip
        depth_axis(axes, names, labels=place >= len(measures) - 2 - len(measures) % 2)
        ruled(axes)
    return figure


def lines_of(estimates: Sequence[Estimate | None]) -> dict[str, NDArray[np.float64]]:
    """The five curves of a panel, by part of an estimate, (layer,) each; NaN where none is."""

    def curve(part: str) -> NDArray[np.float64]:
        found = [None if estimate is None else getattr(estimate, part) for estimate in estimates]
        return np.array([np.nan if value is None else value for value in found], dtype=float)

    return {part: curve(part) for part in ("value", "low", "high", "null", "untrained")}


def _positive(lines: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether all known numbers, of which there are some, are above 0."""
    known = np.concatenate(list(lines.values()))
    known = known[np.isfinite(known)]
    return len(known) > 0 and bool((known > 0).all())


def draw_curves(
    axes: Axes, lines: Mapping[str, NDArray[np.float64]], *, null: str = "permuted"
) -> None:
    """The curves of one panel, each named at its right end."""
    depth = np.arange(len(lines["value"]))
    marker_size = 4 if len(depth) <= 16 else 2.5
    axes.fill_between(depth, lines["low"], lines["high"], color=TRAINED, alpha=0.18, linewidth=0)
    if len(depth) == 1:  # where the band has no width
        axes.vlines(depth, lines["low"], lines["high"], color=TRAINED)
    axes.plot(depth, lines["null"], color=FAINT, linestyle="--", linewidth=1.1)
    axes.plot(
        depth, lines["untrained"], color=UNTRAINED, linewidth=1.1, marker="o", ms=marker_size,
        mfc="white", mew=1,
    )  # fmt: skip
    axes.plot(depth, lines["value"], color=TRAINED, marker="o", ms=marker_size)
    known = [
        (
            text,
            colour,
            depth[np.isfinite(lines[part])][-1],
            lines[part][np.isfinite(lines[part])][-1],
        )
        for text, part, colour in (
            ("trained", "value", TRAINED),
            ("untrained", "untrained", UNTRAINED),
            (null, "null", "#666666"),
        )
        if np.isfinite(lines[part]).any()
    ]
    if not known:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#666666")
        return
    low, high = axes.get_ylim()
    logged = axes.get_yscale() == "log"
    way = np.log if logged else np.asarray
    ends = [float(way(end)) for *_, end in known]
    places = move_apart(ends, 0.1 * float(way(high) - way(low)))
    places = [float(np.exp(place)) for place in places] if logged else places
    for (text, colour, _, _), y in zip(known, places):
        axes.annotate(
            text, (1.01, y), xycoords=("axes fraction", "data"), size=SMALL, color=colour,
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
