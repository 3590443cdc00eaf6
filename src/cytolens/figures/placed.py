"""New cells on the maps of a run, how odd they are at each depth, and the oddest of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cytolens.figures.display import display_of_cells
from cytolens.figures.labels import format_number, map_name, shorten
from cytolens.figures.maps import VECTOR_LIMIT
from cytolens.figures.style import (
    FAINT,
    INK,
    SMALL,
    TRAINED,
    WIDTH,
    bare,
    colours,
    depth_axis,
    legend_text,
    ruled,
    styled,
)
from cytolens.figures.tiles import canvas, put
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.maps import Embedding, PlacedCells

_MARGIN = 0.12  # of the map's width; new cells may lie outside the old ones
_TINT = 0.25  # of the class's colour in a cell of the run; the rest is white
_SHOWN = 24  # of the oddest cells


@styled
def plot_placed(
    embedding: Embedding, labels: NDArray[np.integer], placed: PlacedCells, *, limit: int = 50_000
) -> Figure:
    """New cells over one map of the run, whose cells (N,) are pale in the colour of their class.

    New cells have the colour of their prediction, or of the nearest cell's class; those that are
    odd at this depth are ringed.
    Of more than ``limit`` cells of the run evenly spaced ones are drawn.
    """
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, embedding, labels, placed, limit=limit)
    method = map_name(embedding.method)
    axes.set_title(f"{method} of {shorten(embedding.layer, 28)}: {len(placed.names):,} new cells")
    handles = _handles(placed)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    return figure


@styled
def plot_placed_by_depth(
    maps: Mapping[str, Embedding],
    labels: NDArray[np.integer],
    placed: PlacedCells,
    *,
    limit: int = 20_000,
) -> Figure:
    """The same at every depth: ``maps`` of one method by layer, in depth order.

    Below each name the share of new cells that are odd there.
    """
    shown = [maps[layer] for layer in placed.layers if layer in maps]
    columns = min(4, max(len(shown), 2))
    rows = max(1, -(-len(shown) // columns))
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, rows * (side + 0.22) + 0.35), layout="constrained")
    for place, embedding in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw(axes, embedding, labels, placed, limit=limit, small=True)
        axes.set_title(shorten(embedding.layer, 18), size=8)
        axes.annotate(
            f"odd {_percent(placed.share[embedding.layer].value)}", (0.03, 0.03),
            xycoords="axes fraction", size=SMALL, color="#444444",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    handles = _handles(placed)
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 5))
    return figure


@styled
def plot_odd_by_depth(placed: PlacedCells) -> Figure:
    """Share of odd cells at each depth: the new ones, and held-out ones of the run."""
    layers = placed.layers
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot()
    kinds = (
        ("new cells", placed.share, TRAINED, -0.12),
        ("test cells of the run", placed.clean, FAINT, 0.12),
    )
    for name, shares, colour, aside in kinds:
        found = [shares[layer] for layer in layers]
        x = np.arange(len(layers)) + aside
        middle = [100 * estimate.value for estimate in found]
        axes.errorbar(
            x, middle, yerr=_bars(found), fmt="o", ms=4, lw=1, color=colour, label=name
        )  # fmt: skip
    expected = 100 * placed.expected
    axes.axhline(expected, color=INK, lw=0.7, ls=(0, (4, 3)), zorder=0)
    axes.annotate(
        f"expected\n{_percent(placed.expected)}", (1.005, expected),
        xycoords=("axes fraction", "data"), va="center", size=SMALL, color=INK,
        annotation_clip=False,
    )  # fmt: skip
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    axes.set_ylim(-0.15, 130)
    axes.set_yticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.set_ylabel("odd cells (%)")
    depth_axis(axes, layers)
    ruled(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure


@styled
def plot_odd_cells(cells: Cells, placed: PlacedCells) -> Figure:
    """The oddest new cells (``cells``); beneath each its p-value and at how many depths it is odd.

    The intensity scale is that of all new cells; of several image channels the first is shown.
    """
    chosen = oddest(placed)[:_SHOWN]
    drawn = display_of_cells(cells)
    columns = 8
    rows = max(1, -(-len(chosen) // columns))
    tile = WIDTH / columns
    _, height, width = cells.shape
    side = tile - 0.06
    step = side * height / width + 0.34
    figure, axes = canvas(WIDTH, rows * step + 0.05)
    depths = placed.depths_odd
    best = placed.answered.likely
    for place, cell in enumerate(chosen.tolist()):
        x, y = (place % columns) * tile + 0.03, (place // columns) * step + 0.04
        image = cells.read(np.array([cell], dtype=np.int64))[0]
        put(axes, drawn.show(image), x, y, side, frame=colours(len(placed.class_names))[best[cell]])
        below = y + side * height / width
        axes.text(x, below + 0.1, shorten(str(placed.names[cell]), 15), size=SMALL - 1, va="center")
        p = placed.overall.p_values[cell]
        note = f"p {p:.2g}, odd at {depths[cell]} of {len(placed.layers)}"
        axes.text(x, below + 0.22, note, size=SMALL - 1, va="center", color="#555555")
    return figure


def oddest(placed: PlacedCells) -> NDArray[np.int64]:
    """New cells that are odd at any depth or over all, by their number over all depths."""
    depths, overall = placed.depths_odd, placed.overall
    order = np.lexsort((np.arange(len(depths)), -overall.scores))
    return order[(depths[order] > 0) | overall.odd[order]]


def _draw(
    axes: Axes,
    embedding: Embedding,
    labels: NDArray[np.integer],
    placed: PlacedCells,
    *,
    limit: int,
    small: bool = False,
) -> None:
    old = np.asarray(embedding.coordinates, dtype=np.float64)
    new = np.asarray(placed.places[embedding.method][embedding.layer], dtype=np.float64)
    odd = placed.odd[embedding.layer]
    palette = np.array([to_rgb(colour) for colour in colours(len(placed.class_names))])
    pale = np.array([_pale(colour) for colour in colours(len(placed.class_names))])
    best = palette[placed.answered.likely]
    bare(axes)
    axes.set_aspect("equal")
    low, high = np.percentile(old, [0.25, 99.75], axis=0)
    half = max(float((high - low).max()) * (0.5 + _MARGIN), 1e-6)
    centre = (low + high) / 2
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    step = max(1, -(-len(old) // limit))
    factor = 0.35 if small else 1.0
    axes.scatter(
        old[::step, 0], old[::step, 1], c=pale[labels[::step]], linewidths=0,
        s=factor * np.clip(9000 / max(len(old) / step, 1), 1.5, 18), zorder=1,
        rasterized=len(old) / step > VECTOR_LIMIT / 4,
    )  # fmt: skip
    size = factor * float(np.clip(7000 / max(len(new), 1), 2.0, 22.0))
    axes.scatter(
        new[:, 0], new[:, 1], c=best, s=size, linewidths=0, zorder=2,
        rasterized=len(new) > VECTOR_LIMIT / (4 if small else 1),
    )  # fmt: skip
    axes.scatter(
        new[odd, 0], new[odd, 1], s=size + (10 if small else 30), facecolors="none",
        edgecolors=INK, linewidths=0.5 if small else 0.8, zorder=3,
        rasterized=int(odd.sum()) > VECTOR_LIMIT / 4,
    )  # fmt: skip
    outside = int((np.abs(new - centre) > half).any(axis=1).sum())
    if outside:
        axes.annotate(
            f"{outside:,} outside" if small else f"{outside:,} new cells outside", (0.98, 0.97),
            xycoords="axes fraction", ha="right", va="top", size=SMALL, color="#444444",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _handles(placed: PlacedCells) -> list[Line2D]:
    names, tints = placed.class_names, colours(len(placed.class_names))
    new = "new," if placed.probabilities is not None else "new, next to"
    bright = [_spot(f"{new} {name}", color=colour) for name, colour in zip(names, tints)]
    pale = [_spot(f"run, {name}", color=_pale(colour)) for name, colour in zip(names, tints)]
    ring = _spot("odd at this depth", ms=7, markerfacecolor="none", markeredgecolor=INK)
    return [*bright, *pale, ring]


def _spot(label: str, *, ms: float = 5, **look: Any) -> Line2D:
    return Line2D([], [], linestyle="", marker="o", ms=ms, label=legend_text(label), **look)


def _pale(colour: str) -> tuple[float, float, float]:
    red, green, blue = (1 - _TINT * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def _bars(found: list[Estimate]) -> NDArray[np.float64]:
    """Lengths of error bars down and up (2, n), in percent."""
    down = [100 * max(e.value - e.low, 0) for e in found]
    up = [100 * max(e.high - e.value, 0) for e in found]
    return np.array([down, up])


def _percent(share: float) -> str:
    return f"{format_number(100 * share, 1 if 0 < share < 0.1 else 0)} %"
