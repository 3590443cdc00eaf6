"""Crops as tiles on a canvas, with their scales and their key."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytolens.figures.display import Display
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import INK, SMALL, colours


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this many inches and axes over all of it, in inches from its top left."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_autoscale_on(False)
    axes.set_axis_off()
    return figure, axes


def put(
    axes: Axes,
    picture: NDArray[np.floating],
    x: float,
    y: float,
    width: float,
    *,
    height: float | None = None,
    frame: str | None = None,
) -> None:
    """A picture (H, W, 3) or (H, W, 4) on a canvas, its top left at (x, y), fitted into the box.

    The picture keeps its proportions; ``height`` defaults to what they ask for.
    """
    rows, columns = picture.shape[:2]
    height = width * rows / columns if height is None else height
    scale = min(width / columns, height / rows)
    w, h = columns * scale, rows * scale
    x, y = x + (width - w) / 2, y + (height - h) / 2
    axes.imshow(picture, extent=(x, x + w, y + h, y), aspect="auto")
    if frame is not None:
        outline = Rectangle((x, y), w, h, fill=False, edgecolor=frame, linewidth=1.2)
        axes.add_patch(outline)


def put_views(
    axes: Axes,
    drawn: Display,
    pictures: Sequence[NDArray[np.floating]],
    x: float,
    y: float,
    width: float,
    *,
    frame: str,
    line: float = 0.5,
) -> None:
    """The pictures (H, W, 3) of one crop, a view each, side by side in a box ``width`` wide."""
    each = view_width(drawn, width)
    for place, picture in enumerate(pictures):
        at, height = x + place * (each + 0.02), each * picture.shape[0] / picture.shape[1]
        put(axes, picture, at, y, each)
        axes.add_patch(Rectangle((at, y), each, height, fill=False, edgecolor=frame, lw=line))


def view_width(drawn: Display, width: float) -> float:
    """Inches of one view of a crop whose views stand side by side in a box ``width`` wide."""
    count = len(drawn.views)
    return (width - 0.02 * (count - 1)) / count


def name_views(axes: Axes, drawn: Display, x: float, y: float) -> float:
    """Which image channels stand side by side, if there are several; gives the line's height."""
    if len(drawn.views) == 1:
        return 0.0
    text = "image channels, left to right: " + ", ".join(drawn.views)
    axes.text(x, y, shorten(text, 110), va="center", size=SMALL + 0.5)
    return 0.17


def put_dead(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """A tile that says that its channel is dead."""
    axes.add_patch(
        Rectangle((x, y), width, height, facecolor="#F0F0F0", edgecolor="#C8C8C8", lw=0.6)
    )
    axes.text(
        x + width / 2, y + height / 2, "dead", ha="center", va="center", size=SMALL, color="#777777"
    )


def put_bar(
    axes: Axes, x: float, y: float, *, pixels: int, tile: float, pixel_size: float | None
) -> float:
    """A scale bar for tiles ``tile`` inches wide that show ``pixels`` pixels; gives its right end.

    In µm where the pixel size is known, else in pixels.
    """
    unit, per_pixel = ("px", 1.0) if pixel_size is None else ("µm", pixel_size)
    length = round_length(pixels * per_pixel * 0.5)
    inches = length / per_pixel * tile / pixels
    axes.plot([x, x + inches], [y, y], color=INK, linewidth=2, solid_capstyle="butt")
    text = f"{length:g} {unit}"
    axes.text(x + inches + 0.06, y, text, ha="left", va="center", size=SMALL + 0.5)
    return x + inches + 0.14 + 0.075 * len(text)


def round_length(limit: float) -> float:
    """The largest of 1, 2, 5 × 10ⁿ that is not above ``limit``."""
    power = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * power for step in (1, 2, 5) if step * power <= limit * (1 + 1e-9)))


def put_scale(
    axes: Axes,
    x: float,
    y: float,
    limits: tuple[float, float],
    *,
    label: str,
    cmap: str = "gray",
    digits: int = 2,
) -> float:
    """A small horizontal colour bar with its two limits and its meaning; gives its right end."""
    ramp = mpl.colormaps[cmap](np.linspace(0, 1, 64))[None, :, :3]
    low, high = format_number(limits[0], digits), format_number(limits[1], digits)
    start = x + 0.075 * len(low)
    axes.text(start - 0.05, y, low, ha="right", va="center", size=SMALL + 0.5)
    axes.imshow(ramp, extent=(start, start + 0.7, y + 0.045, y - 0.045), aspect="auto")
    axes.add_patch(
        Rectangle((start, y - 0.045), 0.7, 0.09, fill=False, edgecolor="#999999", linewidth=0.5)
    )
    text = f"{high}   {label}"
    axes.text(start + 0.75, y, text, ha="left", va="center", size=SMALL + 0.5)
    return start + 0.85 + 0.068 * len(text)


def put_classes(axes: Axes, names: Sequence[str], y: float, *, left: float, right: float) -> None:
    """The key to the colours of the classes, between two places in inches, set to the right.

    Names give way where there is little room; classes that still find none are counted.
    """
    tints = colours(len(names))
    room, letter, gap = right - left, 0.058, 0.28
    able = max(int(room / (gap + 4 * letter)), 1)
    shown = list(names) if len(names) <= able else list(names)[: able - 1]
    rest = [f"+ {len(names) - len(shown)}"] if len(shown) < len(names) else []
    length = 20
    while length > 4 and sum(gap + letter * min(len(n), length) for n in [*shown, *rest]) > room:
        length -= 1
    entries = [(shorten(name, length), tint) for name, tint in zip(shown, tints, strict=False)]
    entries += [(text, "#FFFFFF") for text in rest]
    x = right - sum(gap + letter * len(text) for text, _ in entries)
    for text, tint in entries:
        axes.add_patch(Rectangle((x + 0.06, y - 0.045), 0.09, 0.09, facecolor=tint))
        axes.text(x + 0.19, y, text, va="center", size=SMALL)
        x += gap + letter * len(text)


def foot_height(drawn: Display) -> float:
    """Inches for the line beneath a figure with its scale bar and its grey scales."""
    scales = 1 if drawn.colour else len({tuple(pair) for pair in drawn.limits.tolist()})
    return 0.24 + 0.17 * max(0, -(-(scales - 2) // 2))


def put_intensity_scales(axes: Axes, x: float, y: float, drawn: Display) -> float:
    """The grey scales of all image channels, one after another; none for colour images."""
    if drawn.colour:
        axes.text(x, y, "colour, one scale for all crops", ha="left", va="center", size=SMALL + 0.5)
        return x + 2.0
    same = len({tuple(pair) for pair in drawn.limits.tolist()}) == 1
    for i, name in enumerate(drawn.channel_names[:1] if same else drawn.channel_names):
        label = "intensity" if same else shorten(name, 18)
        low, high = (float(limit) for limit in drawn.limits[i])
        digits = 0 if high - low > 20 else 2
        if x > 5.6:  # begin a new line rather than leave the page
            x, y = 0.1, y + 0.17
        x = put_scale(axes, x, y, (low, high), label=label, digits=digits) + 0.1
    return x
