"""A number of the cells at its ends: the crops of each class with least and most, and the map."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytolens.figures.display import display_of_cells
from cytolens.figures.labels import format_number, map_name, shorten
from cytolens.figures.maps import draw_map, put_colour_bar
from cytolens.figures.overlays import continuous
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, foot_height, put, put_bar
from cytolens.records.cells import Cells
from cytolens.records.maps import Embedding

_MOST_CLASSES = 4
_MAP = 2.3  # inches
_LEFT = 2.75  # of the crops
_COLUMNS = 6
_STEP = (WIDTH - _LEFT - 0.05) / _COLUMNS


@styled
def plot_extremes(
    name: str,
    values: NDArray[np.floating],
    cells: Cells,
    embedding: Embedding | None = None,
    mapped: NDArray[np.int64] | None = None,
) -> Figure:
    """The crops of each class with the least and the most of a number, beside the map of it.

    values (N,) of all ``cells``, NaN where they were not measured. Two rows of six crops per class,
    at most four classes: those with most cells. ``embedding``: of the cells ``mapped``, or of all.
    Of several image channels the first is shown.
    """
    values = np.asarray(values, dtype=np.float64)
    drawn = display_of_cells(cells)
    height, width = cells.shape[1:]
    side = _STEP - 0.06
    picture = side * height / width
    row = picture + 0.2
    known = np.isfinite(values)
    counts = np.bincount(cells.labels[known], minlength=len(cells.class_names))
    classes = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist())
    classes = [k for k in classes if counts[k]]
    block = 0.22 + 2 * row
    tall = max(0.2 + block * len(classes) + foot_height(drawn), _MAP + 0.9)
    figure, axes = canvas(WIDTH, tall)
    y = 0.15
    for k in classes:
        members = np.flatnonzero(known & (cells.labels == k))
        order = members[np.argsort(values[members], kind="stable")]
        tint = colours(len(cells.class_names))[k]
        title = shorten(cells.class_names[k], 34)
        axes.text(_LEFT, y, title, va="center", weight="bold", size=8.5, color=tint)
        y += 0.12
        for text, chosen in (("least", order[:_COLUMNS]), ("most", order[::-1][:_COLUMNS])):
            rank = np.argsort(chosen, kind="stable")  # read in order of the file
            for place, image in zip(rank, cells.read(chosen[rank])):
                x = _LEFT + place * _STEP
                put(axes, drawn.show(image), x, y, side)
                shown = format_number(float(values[chosen[place]]))
                label = f"{text} {shown}" if place == 0 else shown
                axes.text(x, y + picture + 0.08, label, va="center", size=SMALL - 1)
            y += row
        y += 0.1
    bar = foot_height(drawn) / 2
    put_bar(axes, _LEFT, tall - bar, pixels=width, tile=side, pixel_size=cells.pixel_size)
    if embedding is not None:
        of_map = values if mapped is None else values[mapped]
        shown = continuous(name, of_map)
        title = f"{map_name(embedding.method)} of {shorten(embedding.layer, 24)}"
        axes.text(0.05, 0.15, title, va="center", weight="bold", size=8.5)
        inches = (0.05, tall - 0.3 - _MAP, _MAP, _MAP)
        area = figure.add_axes(_share(inches, tall))
        draw_map(area, embedding.coordinates, shown, small=True)
        bar_axes = figure.add_axes(_share((0.3, tall - 0.3 - _MAP - 0.18, _MAP - 0.5, 0.09), tall))
        put_colour_bar(bar_axes, shown)
    return figure


def _share(
    inches: tuple[float, float, float, float], tall: float
) -> tuple[float, float, float, float]:
    """A box in shares of the figure, from one in inches from its lower left."""
    x, y, width, height = inches
    return x / WIDTH, y / tall, width / WIDTH, height / tall
