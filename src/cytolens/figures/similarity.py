"""How alike the layers of a network see the same cells, and how far training has moved each."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import (
    FAINT,
    INK,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    depth_axis,
    ruled,
    styled,
)
from cytolens.records.separation import Similarity


@styled
def plot_similarity(found: Similarity) -> Figure:
    """Centred kernel alignment, layer × layer, trained and untrained; below, along the depths.

    The lower panel has each layer against the same layer before training, and against the layer
    above it, with 95 % intervals; grey dashed is the 95 % limit with cells permuted.
    """
    controlled = bool(np.isfinite(found.control).any())
    figure = Figure(figsize=(WIDTH, 6.1), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.35, 1])
    maps = [("a   Trained", found.value)]
    if controlled:
        maps.append(("b   Untrained", found.control))
    panels: list[Axes] = []
    picture = None
    for place, (title, values) in enumerate(maps):
        axes = figure.add_subplot(grid[0, place] if controlled else grid[0, :])
        picture = axes.imshow(
            np.ma.masked_invalid(np.clip(values, 0, 1)), cmap="viridis", vmin=0, vmax=1
        )
        axes.set_title(title)
        depth_axis(axes, found.layers)
        _numbers(axes, values)
        places = [int(tick) for tick in axes.get_xticks()]
        axes.set_yticks(places, [shorten(found.layers[i], 16) for i in places])
        if place:
            axes.set_yticklabels([])
        axes.set_xlim(-0.5, len(found.layers) - 0.5)
        axes.tick_params(length=0, labelsize=SMALL + 0.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        panels.append(axes)
    assert picture is not None
    bar = figure.colorbar(picture, ax=panels, shrink=0.75, pad=0.01, aspect=25)
    bar.set_label("alignment (CKA, debiased)")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    axes = figure.add_subplot(grid[1, :])
    _lines(axes, found, "c" if controlled else "b", controlled=controlled)
    return figure


def _numbers(axes: Axes, values: NDArray[np.float64]) -> None:
    if len(values) > 12:
        return
    for (y, x), value in np.ndenumerate(values):
        ink = INK if value > 0.7 else "white"
        text = format_number(float(value)).removeprefix("0").replace("1.00", "1")
        axes.text(x, y, text, color=ink, size=SMALL - 0.5, ha="center", va="center")


def _lines(axes: Axes, found: Similarity, letter: str, *, controlled: bool) -> None:
    depth = np.arange(len(found.layers), dtype=np.float64)
    size = 4 if len(depth) <= 16 else 2.5
    curves: list[tuple[str, str, NDArray[np.floating], NDArray[np.float64]]] = []
    if controlled:
        curves.append(("with itself untrained", UNTRAINED, depth, found.untrained))
    steps = np.stack([np.diag(part, 1) for part in (found.value, found.low, found.high)])
    curves.append(("with the next layer", TRAINED, depth[:-1] + 0.5, steps))
    for name, colour, x, (value, low, high, *_) in curves:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, value, color=colour, marker="o", ms=size, label=name)
    if controlled:
        steps = np.diag(found.control, 1)
        axes.plot(
            depth[:-1] + 0.5, steps, color=TRAINED, linestyle=":", marker="o", ms=size,
            mfc="white", mew=1, linewidth=1.1, label="with the next layer, both untrained",
        )  # fmt: skip
    null = np.nanmax(np.where(np.isfinite(found.null), found.null, -np.inf))
    if np.isfinite(null):
        axes.axhline(
            float(null), color=FAINT, linestyle="--", linewidth=1.1, label="cells permuted"
        )
    axes.set_ylim(min(-0.03, axes.get_ylim()[0]), 1.03)
    axes.set_title(f"{letter}   From layer to layer, and away from the start")
    axes.set_ylabel("alignment (CKA)")
    depth_axis(axes, found.layers)
    ruled(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.3), ncol=2, columnspacing=1.2)
