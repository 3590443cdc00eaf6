"""Example crops of every class."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.display import display_of_cells
from cytolens.figures.labels import shorten
from cytolens.figures.style import INK, SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, foot_height, put, put_bar, put_intensity_scales
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells

_LEFT = 1.35  # inches for the names of the classes


@styled
def plot_cells(cells: Cells, *, per_class: int = 10, rng: Rng = 0) -> Figure:
    """Crops of each class, drawn at random, on one intensity scale; a block per image channel.

    The same cells stand in the same order in every block. Where there are groups, the crops of
    a class are taken from the groups in turn. Colour images are shown in colour.
    """
    draw = generator(rng)
    drawn = display_of_cells(cells)
    rows = len(drawn.views) * len(cells.class_names)
    # Many rows: smaller tiles and more of them, not a longer page.
    tile = min((WIDTH - _LEFT - 0.1) / per_class, max(0.33, 9.0 / rows))
    per_class = int((WIDTH - _LEFT - 0.1) / tile + 1e-6)
    chosen = [_choose(cells, label, per_class, draw) for label in range(len(cells.class_names))]
    _, height, width = cells.shape
    side = tile - 0.03
    step = side * height / width + 0.04
    heading = 0.22 if len(drawn.views) > 1 else 0.0
    total = 0.1 + rows * step + len(drawn.views) * (heading + 0.06)
    figure, axes = canvas(WIDTH, total + foot_height(drawn))

    y = 0.1
    for view, name in enumerate(drawn.views):
        if heading:
            axes.text(0.1, y + 0.09, shorten(name, 60), va="center", weight="bold", size=8)
            y += heading
        for label, index in enumerate(chosen):
            colour = colours(len(chosen))[label]
            axes.add_patch(Rectangle((0.1, y), 0.06, step - 0.04, facecolor=colour))
            count = int((cells.labels == label).sum())
            name_text = shorten(cells.class_names[label], 17)
            middle = y + (step - 0.04) / 2
            if step > 0.36:
                axes.text(0.22, middle - 0.07, name_text, va="center", size=8, color=INK)
                axes.text(0.22, middle + 0.08, f"n = {count:,}", va="center", size=SMALL)
            else:
                axes.text(0.22, middle, name_text, va="center", size=SMALL, color=INK)
            for place, image in enumerate(cells.read(index)):
                put(axes, drawn.show(image, view), _LEFT + place * tile, y, side)
            y += step
        y += 0.06
    x = put_bar(axes, 0.1, y + 0.12, pixels=width, tile=side, pixel_size=cells.pixel_size)
    put_intensity_scales(axes, max(x, _LEFT), y + 0.12, drawn)
    return figure


def _choose(cells: Cells, label: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """Indices of up to ``count`` cells of a class, taken from its groups in turn."""
    members = draw.permutation(np.flatnonzero(cells.labels == label))
    if cells.groups is not None:
        groups = cells.groups[members]
        turn = np.zeros(len(members), dtype=np.int64)
        for group in np.unique(groups):
            turn[groups == group] = np.arange((groups == group).sum())
        members = members[np.argsort(turn, kind="stable")]
    return members[:count]
