"""The activation atlas, next to the cells that it was made from."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.display import display_of_cells
from cytolens.figures.gallery import display_of_images
from cytolens.figures.labels import map_name, shorten
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import (
    canvas,
    foot_height,
    put,
    put_bar,
    put_classes,
    put_dead,
    put_intensity_scales,
)
from cytolens.records.cells import Cells
from cytolens.records.features import Atlas

_SIDE = (WIDTH - 0.4) / 2  # inches, of one plane
_SMALLEST = 0.5  # of the largest tile's side


@styled
def plot_atlas(atlas: Atlas, cells: Cells) -> Figure:
    """The plane of a map twice: as feature images, and as the typical cell of each place.

    A tile's area grows with the number of cells there (never below a quarter of the largest); its
    frame has the colour of the class that most of them belong to, and the strip beneath it the
    shares of all classes. Places with few cells are left blank. ``cells`` are those of the map. A
    row of planes per image channel, unless the crops are in colour.
    """
    made = display_of_images(atlas.images, channel_names=cells.channel_names)
    of_cells = display_of_cells(cells)
    views = len(of_cells.views)
    crops = cells.read(atlas.typical)
    top = 0.42
    first, last = atlas.positions[:, 0].min(), atlas.positions[:, 0].max()
    tall = _SIDE / atlas.grid * float(last - first + 1)  # rows without a tile are not drawn
    block = tall + (0.22 if views > 1 else 0.06)
    figure, axes = canvas(WIDTH, top + views * block + foot_height(of_cells) + 0.05)
    title = f"Atlas of {shorten(atlas.layer, 24)} ({map_name(atlas.method)})"
    axes.text(0.1, 0.13, title, va="center", weight="bold", size=8.5)
    put_classes(axes, cells.class_names, 0.135, left=2.7, right=WIDTH - 0.1)
    axes.text(0.1, 0.32, "feature image of the mean activation", va="center", size=SMALL + 0.5)
    axes.text(0.3 + _SIDE, 0.32, "typical cell of the same place", va="center", size=SMALL + 0.5)
    for view, name in enumerate(of_cells.views):
        y = top + view * block
        if views > 1:
            axes.text(0.1, y + 0.07, shorten(name, 30), va="center", size=SMALL, color="#666666")
            y += 0.16
        for x in (0.1, 0.3 + _SIDE):
            axes.add_patch(Rectangle((x, y), _SIDE, tall, facecolor="#F7F7F7", lw=0, zorder=-1))
        for k in range(len(atlas.counts)):
            picture = None if atlas.images.dead[k] else made.show(atlas.images.images[k], view)
            _tile(axes, atlas, k, picture, 0.1, y)
            _tile(axes, atlas, k, of_cells.show(crops[k], view), 0.3 + _SIDE, y)
    y = top + views * block + 0.08
    tile = _SIDE / atlas.grid * 0.9
    x = put_bar(axes, 0.1, y, pixels=cells.shape[2], tile=tile, pixel_size=cells.pixel_size)
    put_intensity_scales(axes, max(x, 1.6), y, of_cells)
    return figure


def _tile(axes: Axes, atlas: Atlas, k: int, picture: np.ndarray | None, x: float, y: float) -> None:
    """One tile in the middle of its place, with its frame and the shares of the classes."""
    place = _SIDE / atlas.grid
    relative = np.sqrt(atlas.counts[k] / atlas.counts.max())
    side = 0.9 * place * float(max(relative, _SMALLEST))
    row, column = atlas.positions[k]
    left = x + column * place + (place - side) / 2
    top = y + (row - atlas.positions[:, 0].min()) * place + (place - side) / 2 - 0.02 * place
    tints = colours(atlas.shares.shape[1])
    frame = tints[int(atlas.shares[k].argmax())]
    if picture is None:
        put_dead(axes, left, top, side, side)
    else:
        put(axes, picture, left, top, side, height=side, frame=frame)
    strip = left
    for share, colour in zip(atlas.shares[k].tolist(), tints, strict=True):
        axes.add_patch(
            Rectangle(
                (strip, top + side + 0.02), share * side, 0.055 * place, facecolor=colour, lw=0
            )
        )
        strip += share * side
