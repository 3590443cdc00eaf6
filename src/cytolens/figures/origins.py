"""Images made from cells, each with the cell that it began as, and what was changed of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytolens.figures.display import Display, Limits
from cytolens.figures.gallery import display_of_images, target_name, z_score
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import INK, SMALL, UNTRAINED, WIDTH, styled
from cytolens.figures.tiles import (
    canvas,
    foot_height,
    name_views,
    put_bar,
    put_dead,
    put_intensity_scales,
    put_scale,
    put_views,
    view_width,
)
from cytolens.figures.twins import shown_here, twin_lines
from cytolens.records.features import ChannelRanking, Faithfulness, FeatureImages
from cytolens.records.layers import Layer

_LEFT, _GAP, _GREY, _EDGE = 1.15, 0.05, "#555555", "#BBBBBB"
_MORE_AND_LESS = "PuOr_r"  # darker than the cell, brighter than the cell
_REASONS = {"unnatural": "odd"}  # short enough for a tile


@dataclass(frozen=True)
class _Look:
    drawn: Display
    tile: float  # inches, of a picture's width
    change: float  # the difference drawn in the fullest colour


@styled
def plot_from_cells(
    galleries: Sequence[FeatureImages],
    *,
    unconstrained: Mapping[str, FeatureImages] | None = None,
    layers: Sequence[Layer] = (),
    rankings: Mapping[str, ChannelRanking] | None = None,
    faithfulness: Mapping[str, Faithfulness] | None = None,
    twins: Mapping[str, str] | None = None,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    columns: int = 12,
    least_columns: int = 8,
) -> Figure:
    """Blocks of images by layer: the cell that each began as, the image, and their difference.

    With ``unconstrained``, by layer, the image of the same target without a prior stands beneath.
    Cells and images share one intensity scale; differences have one of their own, the same for all.
    Under each column: the target ("+3": three more channels are like it), z (as in
    `plot_feature_images`), the pixel correlation with the nearest cell (r), and with
    ``faithfulness`` the predictivity of the image and of its cell (p). An image that fails a check
    is framed, with the reason. ``twins`` as in `plot_field_images`.

    Images that began as no cell have neither cell nor difference.
    """
    rows = {id(images): shown_here(images, twins or {}) for images in galleries}
    looks = [
        display_of_images(images, channel_names=channel_names, value_range=value_range)
        for images in galleries
    ]
    if any(len(drawn.views) > 1 for drawn in looks):
        columns, least_columns = min(columns, 6), min(least_columns, 6)
    most = max([len(shown) for shown in rows.values()], default=1)
    columns = max(min(columns, most), least_columns)
    tile = min((WIDTH - _LEFT - 0.1) / columns - _GAP, 1.3)
    change = largest_change(galleries)
    blocks: list[tuple[FeatureImages, Display, list[int], list[str], bool]] = []
    for images, drawn in zip(galleries, looks):
        shown = rows[id(images)]
        parts = [shown[at : at + columns] for at in range(0, len(shown), columns)] or [[]]
        lines = twin_lines(images, twins or {})
        blocks += [
            (images, drawn, part, lines if at == len(parts) - 1 else [], at == 0)
            for at, part in enumerate(parts)
        ]
    under = 0.5 if faithfulness else 0.4
    free = unconstrained or {}
    heights = [
        (_height(images, drawn, tile, free.get(images.layer)) + under if part else 0.42)
        + 0.14 * len(lines)
        for images, drawn, part, lines, _ in blocks
    ]
    foot = foot_height(looks[0]) + 0.4 if looks else 0.1
    figure, axes = canvas(WIDTH, 0.1 + sum(heights) + foot)
    by_name = {layer.name: layer for layer in layers}
    y = 0.1
    for (images, drawn, part, lines, first), height in zip(blocks, heights):
        look = _Look(drawn, tile, change)
        plain = free.get(images.layer)
        if first:
            _name(axes, images, by_name.get(images.layer), y, len(rows[id(images)]))
        if part:
            _row_names(axes, images, look, y, plain)
        ranking = (rankings or {}).get(images.layer)
        judged = (faithfulness or {}).get(images.layer)
        for place, k in enumerate(part):
            x = _LEFT + place * (tile + _GAP)
            like = 0 if ranking is None else len(ranking.members(int(images.channels[k]))) - 1
            _column(axes, images, k, look, x, y, like, judged, plain)
        for at, line in enumerate(lines):
            place = y + height - 0.12 - 0.14 * (len(lines) - 1 - at)
            axes.text(_LEFT, place, line, va="center", size=SMALL, color=_GREY)
        y += height
    if looks:
        y += name_views(axes, looks[0], 0.1, y + 0.05)
        pixels, wide = galleries[0].images.shape[-1], view_width(looks[0], tile)
        x = put_bar(axes, 0.1, y + 0.08, pixels=pixels, tile=wide, pixel_size=pixel_size)
        put_intensity_scales(axes, max(x, _LEFT), y + 0.08, looks[0])
        if change > 0:
            y += foot_height(looks[0])
            put_scale(
                axes, _LEFT, y, (-change, change), cmap=_MORE_AND_LESS,
                label="change: image minus cell",
            )  # fmt: skip
    return figure


def largest_change(galleries: Sequence[FeatureImages]) -> float:
    """The difference that nearly all pixels of all images stay below."""
    moved = [
        np.abs(images.images - images.starts)[~images.dead].ravel()
        for images in galleries
        if images.starts is not None
    ]
    values = np.concatenate(moved) if moved else np.zeros(0)
    return float(np.quantile(values, 0.995)) if len(values) else 0.0


def _names(images: FeatureImages, plain: FeatureImages | None) -> list[str]:
    names = ["image"] if images.starts is None else ["cell", "image", "change"]
    return names + (["no prior"] if plain is not None else [])


def _each(images: FeatureImages, drawn: Display, tile: float) -> float:
    """Inches of one picture of a target, its views side by side."""
    rows, columns = images.images.shape[-2:]
    return view_width(drawn, tile) * rows / columns


def _height(
    images: FeatureImages, drawn: Display, tile: float, plain: FeatureImages | None
) -> float:
    return len(_names(images, plain)) * (_each(images, drawn, tile) + 0.03)


def _row_names(
    axes: Axes, images: FeatureImages, look: _Look, y: float, plain: FeatureImages | None
) -> None:
    each = _each(images, look.drawn, look.tile) + 0.03
    for place, name in enumerate(_names(images, plain)):
        middle = y + (place + 0.5) * each
        axes.text(_LEFT - 0.06, middle, name, va="center", ha="right", size=SMALL)


def _name(axes: Axes, images: FeatureImages, layer: Layer | None, y: float, shown: int) -> None:
    axes.text(0.1, y + 0.07, shorten(images.layer, 16), va="center", weight="bold", size=8)
    dead, total = int(images.dead.sum()), "" if layer is None else f" of {layer.channels}"
    lines = [f"{shown}{total}" + (f", {dead} dead" if dead else "")]
    if layer is not None and layer.receptive_field is not None and len(layer.shape) == 3:
        lines.append(f"field {layer.receptive_field} px")
    for place, line in enumerate(lines):
        axes.text(0.1, y + 0.21 + 0.13 * place, line, va="center", size=SMALL, color=_GREY)


def _column(
    axes: Axes,
    images: FeatureImages,
    k: int,
    look: _Look,
    x: float,
    y: float,
    like: int,
    judged: Faithfulness | None,
    plain: FeatureImages | None,
) -> None:
    """One target: cell, image, difference, image without a prior; and what is written beneath."""
    drawn, tile = look.drawn, look.tile
    each = _each(images, drawn, tile) + 0.03
    bottom = y + _height(images, drawn, tile, plain)
    more = f" +{like}" if like else ""
    name = shorten(target_name(images, k), max(5, int(tile / 0.062) - len(more))) + more
    lines = [(name, INK)]
    failure = "" if judged is None else judged.failures[k]
    if images.dead[k]:
        put_dead(axes, x, y, tile, bottom - y - 0.03)
    else:
        for place, kind in enumerate(_names(images, plain)):
            pictures = [
                _picture(images, k, kind, view, look, plain) for view in range(len(drawn.views))
            ]
            edge, line = (UNTRAINED, 1.4) if kind == "image" and failure else (_EDGE, 0.4)
            put_views(axes, drawn, pictures, x, y + place * each, tile, frame=edge, line=line)
        lines += _numbers(images, k, judged, failure)
    for place, (text, colour) in enumerate(lines):
        axes.text(
            x + tile / 2, bottom + 0.06 + 0.105 * place, text, ha="center", va="center",
            size=SMALL, color=colour,
        )  # fmt: skip


def _picture(
    images: FeatureImages,
    k: int,
    kind: str,
    view: int,
    look: _Look,
    plain: FeatureImages | None,
) -> NDArray[np.float64]:
    """One picture (H, W, 3) of a column."""
    if kind == "no prior" and plain is not None:
        return look.drawn.show(plain.images[k], view)
    if images.starts is None or kind == "image":
        return look.drawn.show(images.images[k], view)
    if kind == "cell":
        return look.drawn.show(images.starts[k], view)
    return show_change(images, k, view, look.drawn, look.change)


def show_change(
    images: FeatureImages, k: int, view: int, drawn: Display, largest: float
) -> NDArray[np.float64]:
    """One image minus the cell that it began as, (H, W, 3); see `tint_change`."""
    assert images.starts is not None
    moved = images.images[k] - images.starts[k]
    return tint_change(moved.mean(0) if drawn.colour else moved[view], largest)


def tint_change(moved: NDArray[np.floating], largest: float) -> NDArray[np.float64]:
    """Differences (…) as colours (…, 3), 0…1: purple is darker than the cell, orange brighter.

    ``largest`` is drawn in the fullest colour.
    """
    scaled = 0.5 + moved / (2 * max(largest, 1e-12))
    return np.asarray(mpl.colormaps[_MORE_AND_LESS](np.clip(scaled, 0, 1)))[..., :3]


def _numbers(
    images: FeatureImages, k: int, judged: Faithfulness | None, failure: str
) -> list[tuple[str, str]]:
    """Lines beneath a column, with their colours."""
    lines: list[tuple[str, str]] = []
    z = float(z_score(images)[k])
    if np.isfinite(z):
        lines.append((f"z {format_number(z, 1 if abs(z) < 9.95 else 0)}", "#666666"))
    if images.similarity is not None:
        lines.append((f"r {_short(float(images.similarity[k]))}", "#666666"))
    if failure:
        lines.append((_REASONS.get(failure, failure), UNTRAINED))
    elif judged is not None:
        text = f"p {_short(float(judged.table['predictivity'][k]))}"
        if "start_cell" in judged.table:
            text += f"|{_short(float(judged.table['start_cell'][k]))}"
        earned = judged.predicts is not None and bool(judged.predicts[k])
        lines.append((f"{text}{' ✓' if earned else ''}", "#666666"))
    return lines


def _short(value: float) -> str:
    """ ".93": below one without its zero."""
    return format_number(value, 2).replace("0.", ".")
