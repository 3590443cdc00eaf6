"""How far feature images can be believed, by depth, compared with real cells."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytolens.figures.style import (
    FAINT,
    PALETTE,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    depth_axis,
    move_apart,
    ruled,
    styled,
)
from cytolens.records.features import Faithfulness
from cytolens.records.layers import Layer

_COMPARED = {
    "predictivity": ("feature image", TRAINED, "-"),
    "nine_best_cells": ("nine best cells", PALETTE[2], "--"),
    "best_cell": ("best cell", PALETTE[4], "--"),
    "unconstrained": ("without a prior", UNTRAINED, ":"),
    "random_cell": ("random cell", FAINT, ":"),
}
_PANELS = {
    "activation_ratio": "Activation, relative to the best cell",
    "selectivity": "Selectivity (rank of the channel, 1 is first)",
    "stability": "Stability (other seed, other cells)",
    "naturalness": "Naturalness (share of cells as odd)",
}


@styled
def plot_faithfulness(
    found: Faithfulness | Mapping[str, Faithfulness], layers: Sequence[Layer] = ()
) -> Figure:
    """Means over the images of each layer, with 95 % intervals, from input to logits.

    The large panel has the predictivity of the images and of real cells; the small ones have
    activation, selectivity, stability and naturalness. ``found`` is what `measure_faithfulness`
    gives, or that by layer name; ``layers`` gives the order of the layers, which is otherwise that
    of ``found``.
    """
    found = {found.layer: found} if isinstance(found, Faithfulness) else found
    names = [layer.name for layer in layers if layer.name in found] or list(found)
    figure = Figure(figsize=(WIDTH, 5.3), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=[1.5, 1, 1])
    axes = figure.add_subplot(grid[0, :])
    ends: list[tuple[str, str, float]] = []
    for key, (text, colour, line) in _COMPARED.items():
        last = _curve(axes, names, found, key, colour, line, band=key == "predictivity")
        if np.isfinite(last):
            ends.append((text, colour, last))
    axes.axhline(0.5, color="#BBBBBB", linewidth=0.8)
    axes.set_title("Predictivity: AUC for the top decile of cells")
    low, high = axes.get_ylim()
    for (text, colour, _), y in zip(ends, move_apart([y for *_, y in ends], 0.09 * (high - low))):
        axes.annotate(
            text, (1.005, y), xycoords=("axes fraction", "data"), size=SMALL, color=colour,
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
    depth_axis(axes, names, labels=True)
    ruled(axes)
    for place, (key, text) in enumerate(_PANELS.items()):
        axes = figure.add_subplot(grid[1 + place // 2, place % 2])
        _curve(axes, names, found, key, TRAINED, "-", band=True)
        if key == "activation_ratio":
            axes.axhline(1, color="#BBBBBB", linewidth=0.8)
        else:
            axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.05)
        axes.set_title(text, size=8)
        depth_axis(axes, names, labels=place >= 2)
        ruled(axes)
    return figure


def _curve(
    axes: Axes,
    names: Sequence[str],
    found: Mapping[str, Faithfulness],
    key: str,
    colour: str,
    line: str,
    *,
    band: bool,
) -> float:
    """One curve over depth, with its interval; gives its last value, or NaN."""
    estimates = [found[name].estimates.get(key) for name in names]
    value, low, high = (
        np.array([np.nan if e is None else getattr(e, part) for e in estimates], dtype=float)
        for part in ("value", "low", "high")
    )
    depth = np.arange(len(names))
    if band:
        axes.fill_between(depth, low, high, color=colour, alpha=0.18, linewidth=0)
        if len(names) == 1:  # where the band has no width
            axes.vlines(depth, low, high, color=colour)
    axes.plot(depth, value, color=colour, linestyle=line, marker="o", ms=3.5 if band else 2.5)
    known = value[np.isfinite(value)]
    return float(known[-1]) if len(known) else float("nan")
