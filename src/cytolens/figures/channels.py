"""Cards: what a channel is for, with all that helps to name it in one row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cytolens.figures.display import Display, display_of_cells
from cytolens.figures.gallery import display_of_images
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.origins import largest_change, show_change
from cytolens.figures.style import (
    BRIEF_WIDTH,
    FAINT,
    INK,
    OUTLINE,
    SMALL,
    TRAINED,
    WIDTH,
    colours,
    styled,
)
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
from cytolens.records.features import ChannelContext, FeatureImages

_TILE = 0.92  # inches, of the feature image
_BELOW = 0.48  # the same where several image channels are shown below each other
_FROM_CELL = 0.65  # of that width, where the cell that it began as stands beside it
_CROPS = 3  # best cells in a row
_MOST = 4  # correlations


@dataclass(frozen=True)
class _Places:
    """Left edges of the columns of the cards, in inches."""

    width: float  # of the whole figure
    image: float
    cells: float
    classes: float
    correlates: float | None
    name: float = 0.1


_FULL = _Places(WIDTH, 1.02, 2.06, 3.7, 5.02)
_BRIEF = _Places(BRIEF_WIDTH, 0.9, 1.9, 3.45, None)
_MOST_BRIEF = 2  # channels


@styled
def plot_channel_cards(
    contexts: Sequence[ChannelContext],
    images: FeatureImages,
    cells: Cells,
    *,
    whole_field: bool = False,
    brief: bool = False,
) -> Figure:
    """A row per channel of a layer: what it is called for, with what speaks for it.

    From left to right: its number, how many channels it stands for and its importance; its feature
    image, with the cell that it began as (if any) above what was changed of it, and its pixel
    correlation with that cell and with the nearest one; its best cells, with what the neuron at the
    peak sees outlined (nothing is where it sees the whole crop, ``whole_field``); its activation by
    class, as densities, with the AUC of each class; its strongest correlations with measured
    properties, with 95 % intervals, over the band that permuted cells stay within (grey where the
    channel does not leave it).

    ``images`` are those of the layer, with the channels of ``contexts`` among them; ``cells`` those
    that the best cells are numbered in. Intensities: feature images in the range they were made
    in, cells on one scale for all. ``brief``: the first two channels, without correlations.
    """
    places = _BRIEF if brief else _FULL
    contexts = contexts[:_MOST_BRIEF] if brief else contexts
    drawn = display_of_images(images, channel_names=cells.channel_names)
    of_cells = display_of_cells(cells)
    views = len(of_cells.views)
    rows, columns = cells.shape[1:]
    wide = _TILE if views == 1 else _BELOW  # several views stand below each other
    tile = wide * rows / columns + (0.02 if views > 1 else 0.0)
    from_cells = images.starts is not None
    step = max(tile * views, _TILE) + (0.3 if from_cells and views > 1 else 0.16)
    if from_cells and views == 1:
        wide *= _FROM_CELL
    plot = min(step - 0.39, 0.75)  # inches
    key = 0.17 if brief and len(cells.class_names) > 2 else 0.0  # a line for the classes alone
    top = 0.62 + key
    figure, axes = canvas(places.width, top + len(contexts) * step + foot_height(of_cells) + 0.05)
    note = "its cell, change" if from_cells else ""
    _head(axes, images.layer, cells.class_names, places, key, note, whole_field=whole_field)
    change = largest_change([images])
    for row, context in enumerate(contexts):
        y = top + row * step
        if row:
            axes.plot([0.1, places.width - 0.1], [y - 0.08] * 2, color="#E4E4E4", linewidth=0.6)
        _name(axes, context, places.name, y)
        _image(axes, images, context.channel, drawn, (places.image, y), wide, change)
        _best(axes, context, cells, of_cells, places, y, tile * views)
        _by_class(_inset(figure, places.classes, y, 1.2, plot), context, cells.class_names)
        if places.correlates is not None:
            _correlations(_inset(figure, places.correlates + 1.02, y, 0.68, plot), context)
    y = top + len(contexts) * step + 0.1
    x = put_bar(axes, 0.1, y, pixels=columns, tile=wide, pixel_size=cells.pixel_size)
    put_intensity_scales(axes, max(x, places.image), y, of_cells)
    return figure


def _inset(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes at a place of the canvas, in inches from its top left."""
    w, h = figure.get_size_inches()
    return figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))


def _head(
    axes: Axes, layer: str, class_names: Sequence[str], places: _Places, key: float, note: str, *,
    whole_field: bool,
) -> None:  # fmt: skip
    title = f"{shorten(layer, 18)}: what its channels are for"
    axes.text(0.1, 0.15, title, va="center", weight="bold", size=8.5)
    box = "the neuron sees the whole crop" if whole_field else "box: what the neuron sees"
    heads = (
        (places.name, "importance", "change of logits"),
        (places.image, "feature image", note),
        (places.cells, "best cells", box),
        (places.classes, "activation by class", ""),
        (places.correlates, "correlates with", "rank correlation; grey: by chance"),
    )
    for x, text, below in heads:
        if x is None:
            continue
        axes.text(x, 0.37 + key, text, va="center", size=SMALL + 0.5, color=INK)
        axes.text(x, 0.49 + key, below, va="center", size=SMALL - 0.5, color="#777777")
    left = 0.05 if key else 2.7
    put_classes(axes, class_names, 0.155 + key, left=left, right=places.width - 0.1)


def _name(axes: Axes, context: ChannelContext, x: float, y: float) -> None:
    axes.text(x, y + 0.08, f"ch {context.channel}", va="center", weight="bold", size=8.5)
    others = len(context.members) - 1
    lines = [
        f"+ {others} alike" if others else "",
        f"without it {format_number(context.ablation)}",
        f"grad. × act. {format_number(context.importance)}",
    ]
    for place, line in enumerate(line for line in lines if line):
        axes.text(x, y + 0.25 + 0.135 * place, line, va="center", size=SMALL - 0.5, color="#555555")


def _image(
    axes: Axes,
    images: FeatureImages,
    channel: int,
    drawn: Display,
    place: tuple[float, float],
    wide: float,
    change: float,
) -> None:
    """Its views below each other; to the right of each the cell that it began as, and the change.

    ``change``: the difference in the fullest colour.
    """
    x, y = place
    found = np.flatnonzero(images.channels == channel)
    rows, columns = images.images.shape[-2:]
    tall = wide * rows / columns + 0.02
    if len(found) == 0 or images.dead[found[0]]:
        put_dead(axes, x, y, wide, tall * len(drawn.views) - 0.02)
        return
    k = int(found[0])
    for view in range(len(drawn.views)):
        top = y + view * tall
        put(axes, drawn.show(images.images[k], view), x, top, wide)
        if images.starts is not None:
            beside, half = x + wide + 0.02, (tall - 0.02) / 2
            put(axes, drawn.show(images.starts[k], view), beside, top, wide / 2 - 0.01)
            changed = show_change(images, k, view, drawn, change)
            put(axes, changed, beside, top + half + 0.01, wide / 2 - 0.01)
    if images.starts is None:
        return
    lines = [f"r its cell {format_number(float(images.likeness_to_start[k]), 2)}"]
    if images.similarity is not None:
        lines.append(f"r nearest {format_number(float(images.similarity[k]), 2)}")
    for at, line in enumerate(lines):
        below = y + tall * len(drawn.views) + 0.045 + 0.105 * at
        axes.text(x, below, line, va="center", size=SMALL - 0.5, color="#555555")


def _best(
    axes: Axes,
    context: ChannelContext,
    cells: Cells,
    drawn: Display,
    places: _Places,
    y: float,
    height: float,
) -> None:
    """The best cells in rows; a cell of several image channels as one tile below the other."""
    rows, columns = cells.shape[1:]
    views = len(drawn.views)
    per_row = _CROPS
    lines = 2 if views == 1 else 1
    side = (
        min((places.classes - places.cells - 0.14) / per_row, height / lines * columns / rows)
        - 0.02
    )
    tall = side * rows / columns
    chosen = context.best[: per_row * lines]
    for place, (crop, field) in enumerate(zip(cells.read(chosen), context.fields, strict=False)):
        x = places.cells + place % per_row * (side + 0.02)
        for view in range(views):
            top = y + (place // per_row if views == 1 else view) * (tall + 0.02)
            put(axes, drawn.show(crop, view), x, top, side)
            if field[2] < rows or field[3] < columns:
                _outline(axes, field, x, top, side / columns)


def _outline(axes: Axes, field: NDArray[np.float64], x: float, y: float, scale: float) -> None:
    top, left, height, width = (float(value) * scale for value in field)
    axes.add_patch(
        Rectangle(
            (x + left, y + top), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.8,
            path_effects=[withStroke(linewidth=1.6, foreground="#00000099")],
        )
    )  # fmt: skip


def _by_class(axes: Axes, context: ChannelContext, class_names: Sequence[str]) -> None:
    tints = colours(len(class_names))
    for density, colour in zip(context.histogram, tints, strict=True):
        axes.stairs(
            density, context.edges, fill=len(class_names) <= 3, alpha=0.3, color=colour, linewidth=0
        )
        axes.stairs(density, context.edges, color=colour, linewidth=1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    low, high = float(context.edges[0]), float(context.edges[-1])
    axes.set_xlim(low, high)
    axes.set_ylim(0, _top(axes, context, tints))
    axes.set_xticks([low, high], [format_number(low, 2), format_number(high, 2)], size=SMALL - 0.5)
    for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)
    known = [(name, auc) for name, auc in context.auc.items() if np.isfinite(auc)]
    if known:
        name, auc = max(known, key=lambda entry: entry[1])
        axes.annotate(
            f"AUC {shorten(name, 10)} {format_number(auc)}", (0.5, 0), (0, -13.5),
            xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
            size=SMALL - 0.5, color=tints[class_names.index(name)],
        )  # fmt: skip


def _top(axes: Axes, context: ChannelContext, tints: Sequence[str]) -> float | None:
    """Where densities are cut off, if a first bin (silent on most cells) would flatten the rest.

    What share of each class is in a bin that is cut is written next to it.
    """
    first, rest = context.histogram[:, 0], context.histogram[:, 1:].max(initial=0.0)
    if rest == 0 or first.max() <= 3 * rest or len(tints) > 3:
        return None
    width = context.edges[1] - context.edges[0]
    for place, (density, colour) in enumerate(zip(first.tolist(), tints, strict=False)):
        axes.text(
            0.07, 0.97 - 0.15 * place, f"← {100 * density * width:.0f} %", va="top", color=colour,
            transform=axes.transAxes, size=SMALL - 0.5,
        )  # fmt: skip
    return 1.5 * float(rest)


def _correlations(axes: Axes, context: ChannelContext) -> None:
    found = list(context.correlations.items())[:_MOST]
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(_MOST - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks([-1, 0, 1], ["−1", "0", "1"], size=SMALL - 0.5)
    if not found:
        axes.text(-1, 1, "nothing measured", size=SMALL, color="#777777")
        return
    limit = found[0][1].null or 0.0
    axes.axvspan(-limit, limit, color="#EDEDED", linewidth=0)
    axes.axvline(0, color="#AAAAAA", linewidth=0.6)
    for place, (name, estimate) in enumerate(found):
        beyond = abs(estimate.value) > limit
        colour = TRAINED if beyond else FAINT
        axes.plot([estimate.low, estimate.high], [place] * 2, color=colour, linewidth=1.2)
        axes.plot(estimate.value, place, "o", color=colour, markersize=2.4)
        ink = INK if beyond else FAINT
        label = shorten(name.replace("_", " "), 18)
        axes.text(-1.15, place, label, ha="right", va="center", size=SMALL, color=ink)
        axes.text(1.15, place, format_number(estimate.value), va="center", size=SMALL, color=ink)
