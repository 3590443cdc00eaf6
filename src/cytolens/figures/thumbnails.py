"""The cells themselves on the map: all of it, and the part where classes mix most."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytolens.figures.display import Display, display_of_cells
from cytolens.figures.labels import map_name, shorten
from cytolens.figures.style import BRIEF_WIDTH, INK, SMALL, WIDTH, colours, styled
from cytolens.figures.tiles import canvas, put_bar, put_classes
from cytolens.records.cells import Cells
from cytolens.records.maps import Embedding

Layout = tuple[NDArray[np.int64], NDArray[np.int64]]

_TALLEST = 6.2  # inches, of the whole map
_PART = 4.3  # inches, of the part
_GRID = (22, 22)
_BRIEF_GRID = (13, 16)
_BRIEF_TALLEST = 3.3  # inches
_PART_GRID = 12


@styled
def plot_thumbnails(
    embedding: Embedding,
    cells: Cells,
    layout: Layout | None = None,
    *,
    part: bool = True,
    view: int = 0,
    brief: bool = False,
) -> Figure:
    """The cells themselves on the map at two zooms, none hiding another, framed by class.

    Above, the whole map is cut into squares, and each that holds cells shows the one nearest to
    its middle. Below, the part where classes mix most (framed above; see
    `embedding.layout.most_mixed_part`), in which every cell, or as many as there is room for, has
    a square of its own near its place. ``part=False`` leaves it out, as does ``layout``: (indices
    of cells, their places (n, 2) as column and row of a grid), as `thumbnail_layout` gives.
    ``brief``: the whole map alone, smaller, with fewer cells.

    Of several image channels the one at ``view`` is shown, which the title names; red, green and
    blue in colour. The scale bar is in µm where the pixel size is known, else in pixels.
    """
    drawn = display_of_cells(cells)
    if layout is None:
        from cytolens.embedding.layout import (
            thumbnail_layout,  # only where it is needed: it is heavy
        )

        index, places = thumbnail_layout(
            embedding.coordinates, grid=_BRIEF_GRID if brief else _GRID
        )
        window = _window(embedding, cells) if part and not brief else None
    else:
        index, places = np.asarray(layout[0]), np.asarray(layout[1], dtype=np.int64)
        window = None
    first = places.min(axis=0) if len(places) else np.zeros(2, dtype=np.int64)
    columns, rows = (places.max(axis=0) - first + 1).tolist() if len(places) else (1, 1)
    _, height, width = cells.shape
    wide, tallest = (BRIEF_WIDTH, _BRIEF_TALLEST) if brief else (WIDTH, _TALLEST)
    step = min(wide / columns, tallest / rows * width / height, 1.0)  # inches, of a tile
    tall = step * height / width
    top, below = 0.55, 0.3
    whole = rows * tall
    total = top + whole + below + (0 if window is None else _PART * height / width + 0.45)
    figure, axes = canvas(wide, total)
    name = "" if len(drawn.views) == 1 else f", {shorten(drawn.views[view], 20)}"
    method = map_name(embedding.method)
    title = f"{method} of {shorten(embedding.layer, 28)}: {len(index):,} of {len(cells):,} cells"
    axes.text(0.05, 0.13, title + name, va="center", weight="bold", size=8.5)
    put_classes(axes, cells.class_names, 0.36, left=0.0, right=wide - 0.05)
    left = (wide - columns * step) / 2
    _tiles(axes, cells, drawn, index, places - first, (left, top, step, tall), rows, view)
    pixels = width + 2 * _edge(cells) + 1
    put_bar(axes, 0.05, top + whole + 0.15, pixels=pixels, tile=step, pixel_size=cells.pixel_size)
    if window is not None:
        origin, unit = _squares(embedding)
        frame = [(window[i] - origin[i // 2]) / unit - first[i // 2] for i in range(4)]
        axes.add_patch(
            Rectangle(
                (left + frame[0] * step, top + (rows - frame[3]) * tall),
                (frame[1] - frame[0]) * step, (frame[3] - frame[2]) * tall,
                fill=False, edgecolor=INK, linewidth=1.6, zorder=5, clip_on=False,
            )
        )  # fmt: skip
        _part(axes, embedding, cells, drawn, window, top + whole + below + 0.35, view)
    return figure


def _part(
    axes: Axes,
    embedding: Embedding,
    cells: Cells,
    drawn: Display,
    window: tuple[float, float, float, float],
    y: float,
    view: int,
) -> None:
    """The part of the map with every cell in a square of its own, and a text that describes it."""
    from cytolens.embedding.layout import layout_of_part

    index, places, moved = layout_of_part(embedding.coordinates, window, grid=_PART_GRID)
    _, height, width = cells.shape
    step = _PART / _PART_GRID
    tall = step * height / width
    axes.text(
        0.05, y - 0.17, "The part framed above, where classes mix most", va="center",
        weight="bold", size=8.5,
    )  # fmt: skip
    _tiles(axes, cells, drawn, index, places, (0.05, y, step, tall), _PART_GRID, view)
    axes.add_patch(
        Rectangle((0.05, y), _PART, _PART_GRID * tall, fill=False, edgecolor=INK, linewidth=1.6)
    )
    xy = embedding.coordinates
    held = (xy[:, 0] >= window[0]) & (xy[:, 0] < window[1])
    held &= (xy[:, 1] >= window[2]) & (xy[:, 1] < window[3])
    counts = np.bincount(cells.labels[held], minlength=len(cells.class_names))
    x, line = _PART + 0.25, y + 0.1
    lines = [f"{len(index):,} of the {held.sum():,} cells in the frame,"]
    lines += ["each in a square of its own, moved", f"by {moved:.2f} squares on average", ""]
    for text in lines:
        axes.text(x, line, text, va="center", size=SMALL + 0.5)
        line += 0.16
    tints = colours(len(cells.class_names))
    for k in np.argsort(-counts, kind="stable")[:10]:
        if counts[k]:
            axes.add_patch(Rectangle((x, line - 0.045), 0.09, 0.09, facecolor=tints[k]))
            text = f"{counts[k]:,} {shorten(cells.class_names[k], 26)}"
            axes.text(x + 0.15, line, text, va="center", size=SMALL + 0.5)
            line += 0.16
    pixels = width + 2 * _edge(cells) + 1
    put_bar(axes, x, line + 0.15, pixels=pixels, tile=step, pixel_size=cells.pixel_size)


def _tiles(
    axes: Axes,
    cells: Cells,
    drawn: Display,
    index: NDArray[np.int64],
    places: NDArray[np.int64],
    box: tuple[float, float, float, float],
    rows: int,
    view: int,
) -> None:
    """Crops at (column, row) of a grid whose top left and tile size are ``box``, as one picture."""
    if not len(index):
        axes.text(box[0] + 0.1, box[1] + 0.1, "no cells", va="center", size=SMALL)
        return
    columns = int(places[:, 0].max()) + 1
    _, height, width = cells.shape
    edge = _edge(cells)
    h, w = height + 2 * edge + 1, width + 2 * edge + 1  # one white pixel between neighbours
    picture = np.full((rows * h, columns * w, 3), 255, dtype=np.uint8)
    palette = np.array([to_rgb(colour) for colour in colours(len(cells.class_names))]) * 255
    for start in range(0, len(index), 256):
        chosen = index[start : start + 256]
        order = np.argsort(chosen, kind="stable")  # read in order of the file
        for which, image in zip(order, cells.read(chosen[order])):
            column, row = places[start + which]
            y, x = (rows - 1 - row) * h, column * w
            picture[y : y + h - 1, x : x + w - 1] = palette[cells.labels[chosen[which]]]
            tile = picture[y + edge : y + edge + height, x + edge : x + edge + width]
            tile[...] = np.round(drawn.show(image, view) * 255)
    left, top, step, tall = box
    axes.imshow(
        picture, extent=(left, left + columns * step, top + rows * tall, top), aspect="auto",
        interpolation="antialiased",
    )  # fmt: skip


def _edge(cells: Cells) -> int:
    """Pixels of the frame around a crop."""
    return max(1, round(max(cells.shape[1:]) / 24))


def _window(embedding: Embedding, cells: Cells) -> tuple[float, float, float, float] | None:
    from cytolens.embedding.layout import most_mixed_part

    return most_mixed_part(embedding.coordinates, cells.labels)


def _squares(embedding: Embedding) -> tuple[NDArray[np.float64], float]:
    """The lower left corner of the grid of `thumbnail_layout`, and the side of a square."""
    xy = np.asarray(embedding.coordinates, dtype=np.float64)
    xy = xy[np.isfinite(xy).all(axis=1)]
    low, high = xy.min(axis=0), xy.max(axis=0)
    grid = np.array(_GRID[::-1])
    side = float(((high - low) / grid).max()) or 1.0
    return (low + high) / 2 - grid / 2 * side, side
