"""Which clusters become which from layer to layer: a flow (alluvial) diagram."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, put_classes
from cytolens.records.clusters import ClusterFlow

_HEIGHT = 3.0  # inches of all cells together
_BAR = 0.13
_GAP = 0.05  # between clusters of a layer
_FEWEST = 0.006  # of the cells, below which a band is not drawn


@styled
def plot_flow(flow: ClusterFlow, labels: NDArray[np.integer], class_names: Sequence[str]) -> Figure:
    """Clusters as bars in a column per layer, and the cells that two have in common as bands.

    ``labels`` (N,) are the classes of the flow's cells. Heights are numbers of cells; bars and
    bands have the colour of their most frequent class, the paler the less pure, and bars the
    number of their cluster. Beneath the bands stands the adjusted mutual information of the two
    layers, and what independent clusters reach.
    """
    y = np.asarray(labels, dtype=np.int64)
    layers = len(flow.layers)
    most = max((len(order) for order in flow.order), default=1) + 1
    tall = 0.5 + _HEIGHT + most * _GAP + 0.95
    figure, axes = canvas(WIDTH, tall)
    put_classes(axes, class_names, 0.17, left=2.6, right=WIDTH - 0.1)
    axes.text(0.1, 0.17, "Clusters by layer", va="center", weight="bold", size=8.5)
    if layers == 0 or len(y) == 0:
        axes.text(0.1, 0.6, "there are no clusters", size=8)
        return figure
    across = (WIDTH - 0.5 - _BAR) / max(layers - 1, 1)
    xs = 0.25 + across * np.arange(layers)
    tints = np.array([to_rgb(colour) for colour in colours(len(class_names))])
    tops = [_tops(found, order, 0.42) for found, order in zip(flow.labels, flow.order)]
    scale = _HEIGHT / len(y)
    for at in range(layers - 1):
        ends = xs[at] + _BAR, xs[at + 1]
        _bands(axes, flow, at, tops, ends, scale, y, tints)
        shared = flow.agreement[at]
        null = "" if shared.null is None else f"\n(chance {format_number(shared.null)})"
        middle, foot = (ends[0] + ends[1]) / 2, 0.42 + _HEIGHT + most * _GAP
        axes.text(
            middle, foot + 0.12, f"{format_number(shared.value)}{null}", ha="center", va="center",
            size=SMALL, linespacing=1.2,
        )  # fmt: skip
    for at, name in enumerate(flow.layers):
        for k, top in tops[at].items():
            members = y[flow.labels[at] == k]
            height = len(members) * scale
            colour = (0.8, 0.8, 0.8) if k < 0 else _shade(members, tints)
            axes.add_patch(Rectangle((xs[at], top), _BAR, height, facecolor=colour, zorder=3))
            if height > 0.09 and k >= 0:
                axes.text(
                    xs[at] + _BAR / 2, top + height / 2, str(k), ha="center", va="center",
                    size=SMALL, color=_ink(colour), zorder=4,
                )  # fmt: skip
        foot = 0.42 + _HEIGHT + most * _GAP + 0.34
        axes.text(
            xs[at] + _BAR / 2 + 0.03, foot, shorten(name, 16), ha="right", va="top", rotation=35,
            rotation_mode="anchor", size=SMALL + 0.5,
        )  # fmt: skip
    return figure


def _tops(found: NDArray[np.int64], order: NDArray[np.int64], top: float) -> dict[int, float]:
    """Where each cluster of a layer begins, inches from above; cells of none (-1) come last."""
    tops: dict[int, float] = {}
    for k in [*order.tolist(), -1]:
        size = int((found == k).sum())
        if size:
            tops[k] = top
            top += size * _HEIGHT / len(found) + _GAP
    return tops


def _bands(
    axes: Axes,
    flow: ClusterFlow,
    at: int,
    tops: list[dict[int, float]],
    ends: tuple[float, float],
    scale: float,
    labels: NDArray[np.int64],
    tints: NDArray[np.float64],
) -> None:
    """The bands from one column to the next, stacked in the order of where they come from or go."""
    before, after = flow.labels[at], flow.labels[at + 1]
    leave, arrive = dict(tops[at]), dict(tops[at + 1])
    for a in tops[at]:
        for b in tops[at + 1]:
            both = (before == a) & (after == b)
            height = both.sum() * scale
            if height == 0:
                continue
            start, end = leave[a], arrive[b]
            leave[a] += height
            arrive[b] += height
            if both.mean() < _FEWEST:
                continue
            middle = sum(ends) / 2
            points = [
                (ends[0], start), (middle, start), (middle, end), (ends[1], end),
                (ends[1], end + height), (middle, end + height), (middle, start + height),
                (ends[0], start + height), (ends[0], start),
            ]  # fmt: skip
            codes = [1, 4, 4, 4, 2, 4, 4, 4, 79]
            colour = to_rgb("#C8C8C8") if min(a, b) < 0 else _shade(labels[both], tints)
            band = PathPatch(Path(points, codes), facecolor=colour, alpha=0.5, lw=0)
            axes.add_patch(band)


def _shade(labels: NDArray[np.int64], tints: NDArray[np.float64]) -> tuple[float, float, float]:
    """Colour of the most frequent class; half of it is left where it is no more than by chance."""
    counts = np.bincount(labels, minlength=len(tints))
    share, chance = counts.max() / counts.sum(), 1 / max(len(tints), 2)
    strength = 0.35 + 0.65 * np.clip((share - chance) / (1 - chance), 0, 1)
    red, green, blue = 1 - strength * (1 - tints[int(counts.argmax())])
    return float(red), float(green), float(blue)


def _ink(colour: tuple[float, float, float]) -> str:
    return "white" if 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 0.55 else "#222222"
