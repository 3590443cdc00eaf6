"""Neurons on what they see: their own images beside patches of cells, at the scale of the field."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytolens.figures.display import Display, Limits
from cytolens.figures.gallery import display_of_images, target_name
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import INK, SMALL, WIDTH, styled
from cytolens.figures.tiles import (
    canvas,
    name_views,
    put_dead,
    put_intensity_scales,
    put_views,
    view_width,
)
from cytolens.figures.twins import shown_here, twin_lines
from cytolens.records.features import ChannelRanking, FeatureImages, FieldImages
from cytolens.records.layers import Layer

_LEFT = 1.15  # inches for the names of the layers
_GAP = 0.05
_GREY, _EDGE = "#555555", "#BBBBBB"


@styled
def plot_field_images(
    fields: Sequence[FieldImages],
    *,
    layers: Sequence[Layer] = (),
    rankings: Mapping[str, ChannelRanking] | None = None,
    twins: Mapping[str, str] | None = None,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    columns: int = 12,
) -> Figure:
    """Blocks by layer: patches of cells that drive a neuron, and its own images on its field.

    From top to bottom: the strongest patches, the image made within the variation of patches, and
    the image made without a prior. A tile is as large as the field, so that every layer is enlarged
    by another factor; the bar beneath the layer's name has a length in its tiles. All tiles share
    one intensity scale. Under each column: the channel ("+3": three more are like it), the
    activation on the image as a multiple of that on the strongest patch (×), with a prior and
    without, and the pixel correlation of each with the patch that is most like it (r). ``twins``:
    channels of other layers ("conv5/13") that rise and fall with one of these ("conv3/2"), which
    are shown here only, and are named.
    """
    shown = [shown_here(found.made, twins or {}) for found in fields]
    looks = [
        display_of_images(found.made, channel_names=channel_names, value_range=value_range)
        for found in fields
    ]
    if any(len(drawn.views) > 1 for drawn in looks):
        columns = min(columns, 6)
    most = max([min(columns, len(rows)) for rows in shown], default=1)
    columns = max(min(columns, 10), most)
    tile = (WIDTH - _LEFT - 0.1) / columns - _GAP
    by_name = {layer.name: layer for layer in layers}
    blocks: list[tuple[FieldImages, list[int], Display, list[str], int]] = []
    for found, rows, drawn in zip(fields, shown, looks):
        parts = [rows[at : at + columns] for at in range(0, len(rows), columns)] or [[]]
        lines = twin_lines(found.made, twins or {})
        blocks += [
            (found, part, drawn, lines if at == len(parts) - 1 else [], len(rows) if at == 0 else 0)
            for at, part in enumerate(parts)
        ]
    heights = [
        (_height(found, drawn, tile) + 0.47 if part else 0.42) + 0.14 * len(lines)
        for found, part, drawn, lines, _ in blocks
    ]
    figure, axes = canvas(WIDTH, 0.1 + sum(heights) + 0.5)
    y = 0.1
    for (found, part, drawn, lines, total), height in zip(blocks, heights):
        if part:
            _row_names(axes, found, drawn, y, tile)
        if total or not part:
            _label(axes, found, by_name.get(found.layer), drawn, y, tile, pixel_size, total)
        like = (rankings or {}).get(found.layer)
        for place, k in enumerate(part):
            more = 0 if like is None else len(like.members(int(found.made.channels[k]))) - 1
            _column(axes, found, k, drawn, _LEFT + place * (tile + _GAP), y, tile, more)
        for at, line in enumerate(lines):
            place = y + height - 0.12 - 0.14 * (len(lines) - 1 - at)
            axes.text(_LEFT, place, line, va="center", size=SMALL, color=_GREY)
        y += height
    if looks:
        y += name_views(axes, looks[0], _LEFT, y + 0.08)
        put_intensity_scales(axes, _LEFT, y + 0.08, looks[0])
    return figure


def _height(found: FieldImages, drawn: Display, tile: float) -> float:
    rows, columns = found.made.images.shape[-2:]
    each = view_width(drawn, tile) * rows / columns
    return (found.patches.shape[1] + len(_made(found))) * (each + 0.03) + 0.02


def _made(found: FieldImages) -> list[FeatureImages]:
    """With a prior where there are, and without."""
    return [images for images in (found.likely, found.made) if images is not None]


def _column(
    axes: Axes,
    found: FieldImages,
    k: int,
    drawn: Display,
    x: float,
    y: float,
    tile: float,
    more: int,
) -> None:
    """One neuron: its image, the patches beneath, and what is written under them."""
    rows, columns = found.made.images.shape[-2:]
    height = view_width(drawn, tile) * rows / columns
    bottom = y + _height(found, drawn, tile)
    name = target_name(found.made, k) + (f" +{more}" if more else "")

    def write(offset: float, text: str, colour: str = "#666666") -> None:
        axes.text(x + tile / 2, bottom + offset, text, ha="center", va="center", size=SMALL,
                  color=colour)  # fmt: skip

    write(0.08, shorten(name, max(5, int(tile / 0.062))), INK)
    if found.made.dead[k]:
        put_dead(axes, x, y, tile, bottom - y - 0.05)
        return
    shown = found.patches.shape[1]
    both = _made(found)
    pictures = [*found.patches[k], *(images.images[k] for images in both)]
    at = y
    for place, picture in enumerate(pictures):
        at += 0.05 if place == shown else 0.0
        views = [drawn.show(picture, view) for view in range(len(drawn.views))]
        put_views(axes, drawn, views, x, at, tile, frame=_EDGE)
        at += height + 0.03
    ratios = [format_number(float(found.ratio(images)[k]), 1) for images in both]
    if np.isfinite(found.ratio(found.made)[k]):
        write(0.19, f"×{' '.join(ratios)}")
    alike = [images.similarity[k] for images in both if images.similarity is not None]
    if alike:
        written = [
            "1.0" if value >= 0.995 else format_number(float(value), 2).replace("0.", ".")
            for value in alike
        ]
        write(0.3, f"r {' '.join(written)}")


def _label(
    axes: Axes,
    found: FieldImages,
    layer: Layer | None,
    drawn: Display,
    y: float,
    tile: float,
    pixel_size: float | None,
    shown: int,
) -> None:
    """Name of a layer, how many channels it shows, a bar to the scale of its tiles."""
    rows, columns = found.made.images.shape[-2:]
    axes.text(0.1, y + 0.07, shorten(found.layer, 16), va="center", weight="bold", size=8)
    total = "" if layer is None else f" of {layer.channels}"
    size = f"{columns} × {rows} px" if columns != rows else f"{columns} px"
    if pixel_size is not None:
        size = f"{columns * pixel_size:.3g} µm"
    lines = [f"{shown}{total}", f"tile: {size}"]
    for place, line in enumerate(lines):
        axes.text(0.1, y + 0.21 + 0.13 * place, line, va="center", size=SMALL, color=_GREY)
    at = y + 0.21 + 0.13 * len(lines)
    unit, per = ("px", 1.0) if pixel_size is None else ("µm", pixel_size)
    length = max(1.0, columns // 3) * per
    inches = length / per / columns * view_width(drawn, tile)
    axes.plot([0.1, 0.1 + inches], [at, at], color=INK, lw=1.6, solid_capstyle="butt")
    text = f"{length:.3g} {unit}"
    axes.text(0.16 + inches, at, text, va="center", size=SMALL, color=_GREY)


def _row_names(axes: Axes, found: FieldImages, drawn: Display, y: float, tile: float) -> None:
    rows, columns = found.made.images.shape[-2:]
    each = view_width(drawn, tile) * rows / columns + 0.03
    names = (
        ["cells"]
        + [""] * (found.patches.shape[1] - 1)
        + ["prior", "no prior"][-len(_made(found)) :]
    )
    for place, name in enumerate(names):
        middle = y + (place + 0.5) * each + (0.05 if place >= found.patches.shape[1] else 0)
        axes.text(_LEFT - 0.06, middle, name, va="center", ha="right", size=SMALL)
