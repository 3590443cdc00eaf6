"""Crops as they are and made alike in all but the cell, and how well the classes are told then."""

import numpy as np
from matplotlib.figure import Figure

from cytolens.figures.display import display_of_cells
from cytolens.figures.labels import format_interval, shorten
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, foot_height, put, put_bar
from cytolens.records.cells import Cells
from cytolens.records.knowledge import Equalised

_MOST_CLASSES = 5
_LEFT = 1.15  # inches
_COLUMNS = 8
_STEP = (WIDTH - _LEFT - 0.05) / _COLUMNS


@styled
def plot_equalised(found: Equalised, cells: Cells) -> Figure:
    """Two rows of at most eight crops per class, at most five classes: as they are, made alike.

    Below them the balanced accuracies. ``cells``: all of the study; of several image channels the
    first is shown.
    """
    drawn = display_of_cells(cells)
    height, width = cells.shape[1:]
    side = _STEP - 0.06
    row = side * height / width + 0.06
    labels = cells.labels[found.shown]
    classes = np.unique(labels)[:_MOST_CLASSES].tolist()
    block = 0.24 + 2 * row
    foot = foot_height(drawn)
    tall = 0.1 + block * len(classes) + foot + 0.75
    figure, axes = canvas(WIDTH, tall)
    y = 0.12
    for k in classes:
        tint = colours(len(cells.class_names))[k]
        title = shorten(cells.class_names[k], 60)
        axes.text(0.05, y, title, va="center", weight="bold", size=8.5, color=tint)
        y += 0.12
        places = np.flatnonzero(labels == k)[:_COLUMNS]
        chosen = found.shown[places]  # in order
        for text, images in (
            ("as they are", cells.read(chosen)),
            ("made alike", found.crops[places]),
        ):
            axes.text(0.05, y + row / 2, text, va="center", size=SMALL)
            for column, image in enumerate(images):
                put(axes, drawn.show(image), _LEFT + column * _STEP, y, side)
            y += row
        y += 0.12
    put_bar(axes, _LEFT, y + foot / 2, pixels=width, tile=side, pixel_size=cells.pixel_size)
    y += foot + 0.1
    for text, estimate in (
        ("the network, crops as they are", found.before),
        ("the same network, crops made alike", found.asked_again),
        ("a network trained on crops made alike", found.trained_anew),
    ):
        axes.text(0.05, y, f"{text}: {format_interval(estimate)}", va="center", size=SMALL + 0.5)
        y += 0.19
    return figure
