"""Cells that deserve a second look: thumbnails with their labels, votes and reasons."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.labels import shorten
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, display_of_cells, foot_height, put, put_bar
from cytolens.records.cells import Cells
from cytolens.records.knowledge import Suspects

_COLUMNS = 8
_TILE = (WIDTH - 0.2) / _COLUMNS
_PICTURE = 0.72  # inches


@styled
def plot_suspects(suspects: Suspects, cells: Cells, *, most: int = 16) -> Figure:
    """The cells whose label is doubted most, and the oddest cells, ``most`` of each.

    Under a doubted cell stand its given and its suggested class, and a bar per depth: the
    probability that probe and neighbours there give to its own class; the line is one half.
    Under an odd cell stands the reason. ``cells`` are all cells of the study.
    """
    drawn = display_of_cells(cells)
    _, height, width = cells.shape
    picture = _PICTURE * height / width
    doubted, odd = suspects.labels[:most], suspects.odd[:most]
    rows = [-(-len(part) // _COLUMNS) for part in (doubted, odd)]
    tall = 0.2 + 2 * 0.35 + rows[0] * (picture + 0.75) + rows[1] * (picture + 0.42)
    figure, axes = canvas(WIDTH, tall + foot_height(drawn) - 0.1)
    names = cells.class_names
    y = _heading(axes, 0.1, "Labels to look at again", len(doubted), len(suspects.labels))
    for start in range(0, len(doubted), _COLUMNS):
        for place, image in enumerate(cells.read(doubted[start : start + _COLUMNS])):
            k = start + place
            x = 0.1 + place * _TILE
            put(axes, drawn.show(image), x, y, _PICTURE)
            for line, which in enumerate((suspects.given[k], suspects.suggested[k])):
                text = ("given " if line == 0 else "rather ") + shorten(names[which], 11)
                colour = colours(len(names))[which]
                axes.add_patch(
                    Rectangle((x, y + picture + 0.05 + 0.12 * line), 0.05, 0.09, fc=colour)
                )
                axes.text(
                    x + 0.08, y + picture + 0.1 + 0.12 * line, text, va="center", size=SMALL - 1
                )
            _votes(axes, suspects, k, x, y + picture + 0.32)
        y += picture + 0.75
    y = _heading(axes, y, "Odd cells", len(odd), len(suspects.odd))
    for start in range(0, len(odd), _COLUMNS):
        for place, image in enumerate(cells.read(odd[start : start + _COLUMNS])):
            x, k = 0.1 + place * _TILE, start + place
            put(axes, drawn.show(image), x, y, _PICTURE)
            for line, text in enumerate(suspects.reasons[k].split(", ")[:2]):
                axes.text(x, y + picture + 0.09 + 0.12 * line, text, va="center", size=SMALL - 1)
        y += picture + 0.42
    put_bar(axes, 0.1, y, pixels=width, tile=_PICTURE, pixel_size=cells.pixel_size)
    return figure


def _heading(axes: Axes, y: float, text: str, shown: int, total: int) -> float:
    axes.text(0.1, y + 0.08, text, va="center", weight="bold", size=8.5)
    counted = f"the first {shown} of {total:,}" if total > shown else f"{total:,}"
    said = counted if total else "none"
    axes.text(WIDTH - 0.1, y + 0.08, said, va="center", ha="right", size=SMALL, color="#555555")
    return y + 0.25


def _votes(axes: Axes, suspects: Suspects, k: int, x: float, y: float) -> None:
    """A bar per voter, in the order of depth: the probability of the given class."""
    chances = [float(votes[k]) for votes in suspects.votes.values() if np.isfinite(votes[k])]
    if not chances:
        return
    step, tall = _PICTURE / len(chances), 0.26
    for place, chance in enumerate(chances):
        left, high = x + place * step, max(chance * tall, 0.008)
        bar = Rectangle((left, y + tall - high), 0.75 * step, high, facecolor="#7A7A7A")
        axes.add_patch(bar)
    axes.plot([x, x + _PICTURE], [y + tall / 2] * 2, color="#C8C8C8", linewidth=0.6)
