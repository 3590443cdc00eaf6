"""Cells that deserve a second look: thumbnails with their labels, votes and reasons."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.display import display_of_cells
from cytolens.figures.labels import shorten
from cytolens.figures.style import BRIEF_WIDTH, OUTLINE, SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, foot_height, put, put_bar
from cytolens.records.cells import Cells
from cytolens.records.knowledge import Suspects

_COLUMNS = 8
_TILE = (WIDTH - 0.2) / _COLUMNS
_PICTURE = 0.72  # inches
_BRIEF_COLUMNS = 5


@styled
def plot_suspects(
    suspects: Suspects, cells: Cells, *, most: int = 16, brief: bool = False
) -> Figure:
    """The cells whose label is doubted most, and the oddest cells, ``most`` of each.

    Under a doubted cell stand its given and its suggested class, and a bar per depth: the
    probability that probe and neighbours there give to its own class; the line is one half.
    Under an odd cell stands the reason, and a line bounds what was taken for the cell. ``cells``
    are all cells of the study. ``brief``: the first of each in one row, without votes.
    """
    if brief:
        return _brief(suspects, cells)
    drawn = display_of_cells(cells)
    _, height, width = cells.shape
    picture = _PICTURE * height / width
    doubted, odd = suspects.labels[:most], suspects.odd[:most]
    rows = [-(-len(part) // _COLUMNS) for part in (doubted, odd)]
    tall = 0.2 + 2 * 0.35 + rows[0] * (picture + 0.75) + rows[1] * (picture + 0.42)
    figure, axes = canvas(WIDTH, tall + foot_height(drawn) - 0.1)
    y = _heading(axes, 0.1, "Labels to look at again", len(doubted), len(suspects.labels))
    for start in range(0, len(doubted), _COLUMNS):
        for place, image in enumerate(cells.read(doubted[start : start + _COLUMNS])):
            k = start + place
            x = 0.1 + place * _TILE
            put(axes, drawn.show(image), x, y, _PICTURE)
            _labels(axes, suspects, cells, k, x, y + picture)
            _votes(axes, suspects, k, x, y + picture + 0.32)
        y += picture + 0.75
    y = _heading(axes, y, "Odd cells", len(odd), len(suspects.odd))
    for start in range(0, len(odd), _COLUMNS):
        for place, image in enumerate(cells.read(odd[start : start + _COLUMNS])):
            x, k = 0.1 + place * _TILE, start + place
            put(axes, drawn.show(image), x, y, _PICTURE)
            _outline(axes, suspects, k, x, y, _PICTURE)
            _reasons(axes, suspects, k, x, y + picture)
        y += picture + 0.42
    put_bar(axes, 0.1, y, pixels=width, tile=_PICTURE, pixel_size=cells.pixel_size)
    return figure


def _brief(suspects: Suspects, cells: Cells) -> Figure:
    """The first of both lists in one row, each with the room that it needs."""
    drawn = display_of_cells(cells)
    height, width = cells.shape[1:]
    step = (BRIEF_WIDTH - 0.1) / _BRIEF_COLUMNS
    side = step - 0.1
    picture = side * height / width
    n_odd = min(len(suspects.odd), max(_BRIEF_COLUMNS - len(suspects.labels), 2))
    doubted = suspects.labels[: _BRIEF_COLUMNS - n_odd]
    figure, axes = canvas(BRIEF_WIDTH, 0.3 + picture + 0.52)
    lists = (
        ("Labels to look at again", suspects.labels, doubted, _labels),
        ("Odd cells", suspects.odd, suspects.odd[:n_odd], None),
    )
    x, y = 0.05, 0.3
    for title, known, shown, below in lists:
        if not len(shown):
            continue
        axes.text(x, 0.1, title, va="center", weight="bold", size=8.5)
        counted = f"{len(shown)} of {len(known):,}"
        axes.text(x, 0.22, counted, va="center", size=SMALL, color="#555555")
        for k, image in enumerate(cells.read(shown)):
            put(axes, drawn.show(image), x, y, side)
            if below is not None:
                below(axes, suspects, cells, k, x, y + picture)
            else:
                _outline(axes, suspects, k, x, y, side)
                _reasons(axes, suspects, k, x, y + picture)
            x += step
    put_bar(axes, 0.05, y + picture + 0.42, pixels=width, tile=side, pixel_size=cells.pixel_size)
    return figure


def _labels(axes: Axes, suspects: Suspects, cells: Cells, k: int, x: float, y: float) -> None:
    """Below a doubted cell: its given and its suggested class."""
    names = cells.class_names
    for line, which in enumerate((suspects.given[k], suspects.suggested[k])):
        text = ("given " if line == 0 else "rather ") + shorten(names[which], 11)
        colour = colours(len(names))[which]
        axes.add_patch(Rectangle((x, y + 0.05 + 0.12 * line), 0.05, 0.09, fc=colour))
        axes.text(x + 0.08, y + 0.1 + 0.12 * line, text, va="center", size=SMALL - 1)


def _reasons(axes: Axes, suspects: Suspects, k: int, x: float, y: float) -> None:
    """Below an odd cell: why it is odd."""
    for line, text in enumerate(suspects.reasons[k].split(", ")[:2]):
        axes.text(x, y + 0.09 + 0.12 * line, text, va="center", size=SMALL - 1)


def _outline(axes: Axes, suspects: Suspects, k: int, x: float, y: float, width: float) -> None:
    """A line around what was taken for the cell in the crop of an odd cell."""
    if suspects.outlined is None or k >= len(suspects.outlined):
        return
    inside = np.pad(suspects.outlined[k], 1)
    step = width / suspects.outlined.shape[2]
    across, down = (start + (np.arange(n) - 0.5) * step for start, n in zip((x, y), inside.T.shape))
    if inside.any():
        axes.contour(across, down, inside, levels=[0.5], colors=[OUTLINE], linewidths=0.8)


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
