"""What simple descriptions of a cell tell of what each layer says of it, from shallow to deep."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from cytolens.figures.depth import draw_curves, lines_of
from cytolens.figures.labels import shorten
from cytolens.figures.style import SMALL, WIDTH, depth_axis, ruled, styled
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import Complexity, Fall
from cytolens.records.layers import Layer

LIMIT = 0.8  # as `features.complexity` has it
DESCRIPTIONS = {
    "intensity": "Knowing brightness and size …",
    "profile": "… and where the brightness lies",
    "first_order": "… and edges, spots and grain",
    "second_order": "… and how these are arranged",
}
_MOST_NUMBERS = 12  # layers, up to which the matrix has room for numbers


@styled
def plot_complexity(complexity: Complexity, layers: Sequence[Layer] = ()) -> Figure:
    """The share of what channels say of cells that simple descriptions explain, by depth.

    A panel per description, each of which holds those before it: blue with its interval the
    trained network, vermilion the same network before training, grey dashed random filters of the
    same receptive field. Below: the share that each earlier layer explains. ``layers`` gives the
    order; without it that of ``complexity``.
    """
    names = [la.name for la in layers if la.name in complexity.layers] or list(complexity.layers)
    described = list(next(iter(complexity.layers.values()), {}))
    rows = -(-len(described) // 2)
    matrix = len(names) > 1
    tall = 2.0 * rows + (0.6 + min(0.24 * len(names), 3.4) if matrix else 0) + 0.5
    figure = Figure(figsize=(WIDTH, tall), layout="constrained")
    heights = [2.0] * rows + ([0.6 + min(0.24 * len(names), 3.4)] if matrix else [])
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for place, name in enumerate(described):
        axes = figure.add_subplot(grid[place // 2, place % 2])
        found = [complexity.layers[layer][name] for layer in names]
        beside = [complexity.random.get(layer, {}).get(name) for layer in names]
        pairs = zip(found, beside, strict=True)
        lines = lines_of([replace(one, null=other) for one, other in pairs])
        axes.axhline(LIMIT, color="#999999", linewidth=0.7, linestyle=":")
        known = np.concatenate([lines[part] for part in ("value", "low", "untrained", "null")])
        axes.set_ylim(np.nanmin(np.append(known, 0)), 1.03)
        draw_curves(axes, lines, null="random filters")
        axes.set_title(DESCRIPTIONS.get(name, name), pad=15)
        axes.annotate(
            fall_text(complexity.falls[name]) if name in complexity.falls else "", (0, 1), (0, 4),
            xycoords="axes fraction", textcoords="offset points", size=SMALL, color="#555555",
        )  # fmt: skip
        if place % 2 == 0:
            axes.set_ylabel("share explained")
        depth_axis(axes, names, labels=place >= len(described) - 2)
        ruled(axes)
    if matrix:
        _draw_matrix(figure, grid, complexity, names)
    return figure


def _draw_matrix(
    figure: Figure, grid: GridSpec, complexity: Complexity, names: Sequence[str]
) -> None:
    """Which earlier layer explains which later one: trained at the left, before training right."""
    for column, whose in enumerate(("trained", "before training")):
        axes = figure.add_subplot(grid[-1, column])
        table = np.full((len(names), len(names)), np.nan)
        for row, later in enumerate(names):
            for place, first in enumerate(names):
                estimate = complexity.earlier.get(later, {}).get(first)
                if estimate is not None:
                    table[row, place] = _part(estimate, column)
        table = table[1:, :-1]
        axes.imshow(table, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        if len(names) <= _MOST_NUMBERS:
            for (row, place), value in np.ndenumerate(table):
                if np.isfinite(value):
                    axes.text(
                        place, row, f"{value:.2f}".lstrip("0") if value < 0.995 else "1",
                        ha="center", va="center", size=SMALL,
                        color="white" if value < 0.6 else "black",
                    )  # fmt: skip
        axes.set_title("Knowing an earlier layer, " + whose)
        step = max(1, -(-len(names) // _MOST_NUMBERS))
        shown = range(0, len(names) - 1, step)
        axes.set_xticks(
            list(shown), [shorten(names[k], 12) for k in shown], rotation=45, ha="right"
        )
        axes.set_yticks(list(shown), [shorten(names[k + 1], 12) for k in shown])
        axes.set_xlabel("known layer")
        if column == 0:
            axes.set_ylabel("explained layer")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)


def _part(estimate: Estimate, column: int) -> float:
    if column == 0:
        return estimate.value
    return np.nan if estimate.untrained is None else estimate.untrained


def fall_text(fall: Fall) -> str:
    """From which layer on less than `LIMIT` is explained, in words."""
    if fall.layer is None:
        return f"never below {LIMIT:.1f}"
    text = f"below {LIMIT:.1f} from {shorten(fall.layer, 14)}"
    if not fall.known:
        return text
    first, last = fall.earliest or fall.layer, fall.latest
    if first == last:
        return text
    first = shorten(first, 12)
    return f"{text} ({first} or later)" if last is None else f"{text} ({first} to {last})"
