"""How far feature images can be believed, by depth, compared with real cells."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytolens.figures.style import (
    INK,
    PALETTE,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    depth_axis,
    ruled,
    styled,
)
from cytolens.records.features import Faithfulness
from cytolens.records.layers import Layer

_COMPARED = {
    "predictivity": ("feature image", TRAINED, "-"),
    "start_cell": ("the cell it began as", PALETTE[2], "-"),
    "hold_only": ("without the network", PALETTE[4], "--"),
    "wrong_channel": ("another channel, same cell", PALETTE[5], "--"),
    "rotation": ("rotated channels", INK, ":"),
    "driving_cells": ("mean of the driving cells", PALETTE[3], "-."),
    "unconstrained": ("image without a prior", UNTRAINED, ":"),
}
_RIVALS = {
    "above_start": "start_cell",
    "above_hold_only": "hold_only",
    "above_wrong_channel": "wrong_channel",
    "above_rotation": "rotation",
}
"""Paired differences, by the curve whose colour they have."""
_SECOND = "_by_wavelets"
_SPACES = {"": "random filters", _SECOND: "scattering"}
_PANELS = {
    "own_best": "Its own image predicts a channel best",
    "like_nearest_cell": "Pixel correlation with the nearest cell",
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

    The large panels have the predictivity of the images and of all that they are held against, in
    two representations, and beneath by how much the images exceed their controls, image by image,
    with intervals (points without bars: too few groups or images for one). The small ones have how
    often a channel's own image predicts it best (grey: by chance), how like images are to cells,
    activation, selectivity, stability and naturalness. ``found`` is what `measure_faithfulness`
    gives, or that by layer name; ``layers`` gives the order of the layers, which is otherwise that
    of ``found``.
    """
    found = {found.layer: found} if isinstance(found, Faithfulness) else found
    names = [layer.name for layer in layers if layer.name in found] or list(found)
    figure = Figure(figsize=(WIDTH, 7.9), layout="constrained")
    grid = figure.add_gridspec(6, 2, height_ratios=[1.7, 0.42, 1.2, 1, 1, 1])
    drawn: dict[str, tuple[str, Any]] = {}
    large: list[Axes] = []
    beneath: list[Axes] = []
    for place, (end, space) in enumerate(_SPACES.items()):
        axes = figure.add_subplot(grid[0, place], sharey=large[0] if large else None)
        for key, (text, colour, line) in _COMPARED.items():
            band = key == "predictivity"
            if np.isfinite(_curve(axes, names, found, key + end, colour, line, band=band)):
                drawn[text] = (colour, line)
        axes.axhline(0.5, color="#BBBBBB", linewidth=0.8)
        axes.set_title(f"Predictivity (AUC), by {space}", size=8)
        depth_axis(axes, names, labels=False)
        ruled(axes)
        large.append(axes)
        below = figure.add_subplot(grid[2, place], sharey=beneath[0] if beneath else None)
        _differences(below, names, found, end, _reach(found.values()))
        beneath.append(below)
    key = figure.add_subplot(grid[1, :])
    key.set_axis_off()
    lines = [
        Line2D([], [], color=c, linestyle=line, marker="o", ms=3) for c, line in drawn.values()
    ]
    key.legend(lines, list(drawn), ncols=4, loc="center", frameon=False, fontsize=SMALL)
    for place, (name, text) in enumerate(_PANELS.items()):
        axes = figure.add_subplot(grid[3 + place // 2, place % 2])
        _curve(axes, names, found, name, TRAINED, "-", band=True)
        if name == "own_best":
            chance = [getattr(found[n].estimates.get(name), "null", None) for n in names]
            known = [np.nan if value is None else float(value) for value in chance]
            axes.plot(range(len(names)), known, color="#999999", linestyle=":", linewidth=1)
        if name == "activation_ratio":
            axes.axhline(1, color="#BBBBBB", linewidth=0.8)
        else:
            axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.05)
        axes.set_title(text, size=8)
        depth_axis(axes, names, labels=place >= len(_PANELS) - 2)
        ruled(axes)
    return figure


def _reach(found: Iterable[Faithfulness]) -> float:
    """A little more than the largest difference; intervals of few images may leave the panel."""
    values = [
        abs(one.estimates[name + end].value)
        for one in found
        for name in _RIVALS
        for end in _SPACES
        if name + end in one.estimates
    ]
    return max([0.05, *(1.4 * value for value in values if np.isfinite(value))])


def _differences(
    axes: Axes, names: Sequence[str], found: Mapping[str, Faithfulness], end: str, reach: float
) -> None:
    """The image minus each of its controls, with intervals, side by side at each layer."""
    depth = np.arange(len(names))
    for place, (name, rival) in enumerate(_RIVALS.items()):
        colour, x = _COMPARED[rival][1], depth + 0.14 * (place - (len(_RIVALS) - 1) / 2)
        estimates = [found[layer].estimates.get(name + end) for layer in names]
        value, low, high = (
            np.array([np.nan if e is None else getattr(e, part) for e in estimates], dtype=float)
            for part in ("value", "low", "high")
        )
        axes.vlines(x, low, high, color=colour, linewidth=1.2)
        axes.plot(x, value, color=colour, linestyle="none", marker="o", ms=3.5)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_ylim(-reach, reach)
    axes.set_title("The image minus each control", size=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    depth_axis(axes, names, labels=True)
    ruled(axes)


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
