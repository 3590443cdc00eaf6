"""Modulated feature images, and why one cell is given its class."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytolens.figures.display import Display, Limits, display_of_channels
from cytolens.figures.gallery import display_of_images, target_name
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import SMALL, TRAINED, UNTRAINED, WIDTH, styled
from cytolens.figures.tiles import (
    canvas,
    foot_height,
    put,
    put_bar,
    put_dead,
    put_intensity_scales,
    put_scale,
)
from cytolens.records.features import CellExplanation, FeatureImages, ModulatedImages

_LEFT = 0.95  # inches for the names of the rows
GAIN_MAP = "viridis"
HALF = 0.5  # of the largest gain, from which on a place is salient
CONTOUR = "#E69F00"
PADDING = "#56B4E9"  # the line about what is no padding
VEIL = (0.80, 0.88, 0.95)
_FLAT = 0.15  # of an image's largest deviation, below which it does not differ from padding
Box = tuple[float, float, float, float]  # top, left, height, width, in pixels


@styled
def plot_modulated(
    images: FeatureImages,
    modulated: ModulatedImages,
    *,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    columns: int = 12,
    most: int = 12,
    padded: bool = False,
) -> Figure:
    """What of each feature image excites its channel, a column per target.

    From above: the feature image with a contour about its salient part; the gain, which is the
    up-scaled activation map, 0 to 1; the salient part, what is outside fading to a tint, so that
    it shows darkness and background too; and the modulated image itself, which shows these as
    background. At most ``most`` targets, in the order they come in.
    ``padded``: whether the cells' crops were; beyond the dotted line an image then shows nothing
    but what they were padded with.
    """
    drawn = display_of_images(images, channel_names=channel_names, value_range=value_range)
    count = min(len(images.targets), most)
    columns = max(min(columns, count), 6)
    tile = (WIDTH - _LEFT - 0.1) / columns - 0.05
    rows, cols = images.images.shape[-2:]
    high = tile * rows / cols
    views = len(drawn.views)
    lines = 3 * views + 1
    block = lines * (high + 0.04) + 0.34
    blocks = max(1, -(-count // columns))
    figure, axes = canvas(WIDTH, 0.35 + blocks * block + foot_height(drawn))
    title = f"{shorten(images.layer, 40)}: modulated by " + (
        "their own activation maps"
        if modulated.source == "self"
        else f"the activation maps of {shorten(modulated.source, 40)}"
    )
    axes.text(0.1, 0.17, title, va="center", weight="bold", size=8.5)
    product = "product" if modulated.settings.get("form") == "product" else "modulated"
    names = [
        *_row_names("feature image", drawn), "gain",
        *_row_names("salient part", drawn), *_row_names(product, drawn),
    ]  # fmt: skip
    for k in range(count):
        x, y = _LEFT + k % columns * (tile + 0.05), 0.35 + k // columns * block
        if k % columns == 0:
            for place, name in enumerate(names):
                at = y + place * (high + 0.04) + high / 2
                axes.text(0.1, at, name, va="center", size=SMALL + 0.5, color="#444444")
        if images.dead[k]:
            put_dead(axes, x, y, tile, lines * (high + 0.04) - 0.04)
        else:
            plain = [drawn.show(images.images[k], view) for view in range(views)]
            pictures = [*plain, _gain(modulated.gain[k])]
            part = modulated.gain[k] if modulated.salient is None else modulated.salient[k]
            pictures += [salient_part(picture, part) for picture in plain]
            pictures += [drawn.show(modulated.images[k], view) for view in range(views)]
            for place, picture in enumerate(pictures):
                at = y + place * (high + 0.04)
                put(axes, picture, x, at, tile)
                if place < views:
                    _put_contour(axes, part, x, at, tile)
                    if padded:
                        box = _shown_box(images.images[k], modulated)
                        _put_box(axes, box, (rows, cols), x, at, tile)
        name = shorten(target_name(images, k), max(5, int(tile / 0.062)))
        at = y + lines * (high + 0.04) + 0.06
        axes.text(x + tile / 2, at, name, ha="center", va="center", size=SMALL)
    y = 0.35 + blocks * block + 0.05
    x = put_bar(axes, 0.1, y, pixels=cols, tile=tile, pixel_size=pixel_size)
    x = put_scale(axes, max(x, _LEFT), y, (0, 1), label="gain", cmap=GAIN_MAP, digits=0)
    put_intensity_scales(axes, x + 0.1, y, drawn)
    return figure


@styled
def plot_cell_explanation(
    explanation: CellExplanation,
    *,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    crop_size: tuple[float, float] | None = None,
) -> Figure:
    """One cell: its crop, where the network looked, the deciding channels, and their sum.

    Contributions are gradient × activation toward the predicted class: positive speaks for it,
    negative against it. The sum of the modulated images has a grey scale of its own. Of each
    deciding channel: its part of the cell, what is outside fading to a tint, and its modulated
    feature image. ``crop_size`` (height, width) in pixels, of the crop before it was padded.
    """
    channels, rows, cols = explanation.image.shape
    # One scale for the cell and the modulated images: that given, or the range of them all.
    every = np.concatenate([explanation.image[None], explanation.modulated.images])
    limits = _limits(np.moveaxis(every, 1, 0)) if value_range is None else value_range
    drawn = display_of_channels(channels, channel_names=channel_names, value_range=limits)
    views = len(drawn.views)
    count = len(explanation.channels)
    big = 1.42 if views == 1 else max(0.55, min(1.1, 3.4 / views))
    high = big * rows / cols
    tile = min((WIDTH - 0.2) / max(count, 6) - 0.06, 1.1)
    low = tile * rows / cols
    top = 0.62
    upper = views * (high + 0.03)
    lower = top + max(upper, 1.25) + 0.42
    second = lower + views * (low + 0.03) + 0.24
    figure, axes = canvas(WIDTH, second + views * (low + 0.03) + 0.36 + foot_height(drawn))
    _headline(axes, explanation)

    x = 0.1
    summed = display_of_channels(
        channels, channel_names=channel_names, value_range=_limits(explanation.total)
    )
    columns = ("the cell", "saliency", "sum of modulated")
    for place, name in enumerate(columns):
        axes.text(x, top - 0.1, name, va="center", size=SMALL + 0.5, color="#444444")
        for view in range(views):
            y = top + view * (high + 0.03)
            picture = (summed if place == 2 else drawn).show(
                explanation.total if place == 2 else explanation.image, view
            )
            if place == 1:
                picture = _overlaid(picture, explanation.saliency)
            put(axes, picture, x, y, big)
            if place < 2:
                _put_box(axes, _centred_box(crop_size, (rows, cols)), (rows, cols), x, y, big)
        x += big + 0.12
    _contributions(figure, explanation, x + 0.1, top, max(upper, 1.25))

    layer = shorten(explanation.layer, 30)
    for y, text in (
        (lower, f"what the deciding channels of {layer} answer to in this cell"),
        (second, "their modulated feature images"),
    ):
        axes.text(0.1, y - 0.12, text, va="center", size=SMALL + 0.5, color="#444444")
    for k in range(count):
        at = 0.1 + k * (tile + 0.06)
        salient = explanation.modulated.salient
        gain = explanation.modulated.gain[k] if salient is None else salient[k]
        for view in range(views):
            part = salient_part(drawn.show(explanation.image, view), gain)
            y = lower + view * (low + 0.03)
            put(axes, part, at, y, tile)
            _put_contour(axes, gain, at, y, tile)
            picture = drawn.show(explanation.modulated.images[k], view)
            put(axes, picture, at, second + view * (low + 0.03), tile)
        bottom = second + views * (low + 0.03)
        name, share = (
            f"ch {explanation.channels[k]}",
            format_number(float(explanation.contributions[k]), 2),
        )
        if explanation.contributions[k] > 0:
            share = f"+{share}"
        axes.text(at + tile / 2, bottom + 0.07, name, ha="center", va="center", size=SMALL)
        axes.text(
            at + tile / 2, bottom + 0.19, share, ha="center", va="center", size=SMALL,
            color=TRAINED if explanation.contributions[k] > 0 else UNTRAINED,
        )  # fmt: skip
    y = second + views * (low + 0.03) + 0.42
    x = put_bar(axes, 0.1, y, pixels=cols, tile=tile, pixel_size=pixel_size)
    x = put_scale(axes, max(x, 1.2), y, (0, 1), label="saliency", cmap="inferno", digits=0)
    put_intensity_scales(axes, x + 0.1, y, drawn)
    return figure


def salient_part(picture: NDArray[np.float64], gain: NDArray[np.floating]) -> NDArray[np.float64]:
    """A picture (H, W, 3) as it is where the gain (H, W) is at least half, fading to `VEIL`.

    Dark and empty places stay dark where they matter, and have a tint that no intensity has where
    they do not.
    """
    shown = np.clip(np.nan_to_num(np.asarray(gain, dtype=float)) / HALF, 0, 1)[..., None]
    return shown * picture + (1 - shown) * np.array(VEIL)


def _put_contour(axes: Axes, gain: NDArray[np.floating], x: float, y: float, width: float) -> None:
    """The contour of the salient part, over a tile whose top left is at (x, y)."""
    rows, columns = gain.shape
    step = width / columns
    across, down = x + (np.arange(columns) + 0.5) * step, y + (np.arange(rows) + 0.5) * step
    finite = np.nan_to_num(np.asarray(gain, dtype=float))
    if finite.min() < HALF <= finite.max():
        axes.contour(across, down, finite, levels=[HALF], colors=[CONTOUR], linewidths=0.9)


def _centred_box(crop_size: tuple[float, float] | None, size: tuple[int, int]) -> Box | None:
    """Where a crop of that size lies in the middle of one of ``size``; None where it fills it."""
    if crop_size is None:
        return None
    tall, wide = (min(float(own), whole) for own, whole in zip(crop_size, size, strict=True))
    if tall >= size[0] and wide >= size[1]:
        return None
    return (size[0] - tall) / 2, (size[1] - wide) / 2, tall, wide


def _shown_box(image: NDArray[np.floating], modulated: ModulatedImages) -> Box | None:
    """The smallest box that holds all that differs from the background; None where it is all."""
    background = np.asarray(modulated.settings.get("background", 0.0), dtype=float).reshape(
        -1, 1, 1
    )
    far = np.abs(np.nan_to_num(image) - background)
    there = (far > _FLAT * far.max(axis=(1, 2), keepdims=True)).any(axis=0)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows) or there.shape == (len(rows), len(columns)):
        return None
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    return float(rows[0]), float(columns[0]), float(tall), float(wide)


def _put_box(
    axes: Axes, box: Box | None, size: tuple[int, int], x: float, y: float, width: float
) -> None:
    """A dotted line about what is no padding, over a tile whose top left is at (x, y)."""
    if box is None:
        return
    top, left, tall, wide = (length * width / size[1] for length in box)
    line = Rectangle(
        (x + left, y + top), wide, tall, fill=False, edgecolor=PADDING, linewidth=0.8, ls=":"
    )
    axes.add_patch(line)


def _headline(axes: Axes, explanation: CellExplanation) -> None:
    """Name of the cell, its class and the prediction, right or wrong."""
    right = explanation.true_class == explanation.predicted_class
    axes.text(0.1, 0.16, shorten(explanation.name, 70), va="center", weight="bold", size=8.5)
    text = (
        f"class {shorten(explanation.true_class, 24)}, predicted "
        f"{shorten(explanation.predicted_class, 24)} with probability "
        f"{format_number(float(explanation.probability))}"
    )
    axes.text(0.1, 0.33, text + ("" if right else "  (wrong)"), va="center", size=8)


def _contributions(
    figure: Figure, explanation: CellExplanation, left: float, top: float, height: float
) -> None:
    """Bars: how much each deciding channel speaks for or against the predicted class."""
    width, tall = figure.get_size_inches()
    start = left + 0.45
    axes = figure.add_axes(
        (
            start / width,
            1 - (top + height - 0.2) / tall,
            (width - start - 0.15) / width,
            (height - 0.2) / tall,
        )
    )
    values = np.asarray(explanation.contributions, dtype=float)
    tint = [TRAINED if value > 0 else UNTRAINED for value in values]
    axes.barh(range(len(values)), values, color=tint, height=0.65)
    axes.axvline(0, color="#555555", linewidth=0.7)
    axes.set_yticks(range(len(values)), [f"ch {channel}" for channel in explanation.channels])
    axes.invert_yaxis()
    axes.tick_params(labelsize=SMALL, labelfontfamily="DejaVu Sans")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    name = shorten(explanation.predicted_class, 20)
    axes.set_title(f"contribution to {name}", size=SMALL + 0.5, weight="normal", color="#444444")


def _row_names(name: str, drawn: Display) -> list[str]:
    if len(drawn.views) == 1:
        return [name]
    return [f"{name}\n{shorten(view, 12)}" for view in drawn.views]


def _limits(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """(C, 2): the smallest and largest intensity of each channel of an array (C, ...)."""
    flat = np.nan_to_num(np.asarray(image, dtype=float)).reshape(len(image), -1)
    return np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)


def _gain(gain: NDArray[np.floating]) -> NDArray[np.float64]:
    return mpl.colormaps[GAIN_MAP](np.clip(np.nan_to_num(gain), 0, 1))[..., :3]


def _overlaid(picture: NDArray[np.float64], saliency: NDArray[np.floating]) -> NDArray[np.float64]:
    """Saliency in colour over the crop, which shows through where saliency is low."""
    strength = np.clip(np.nan_to_num(np.asarray(saliency, dtype=float)), 0, 1)[..., None]
    tint = mpl.colormaps["inferno"](strength[..., 0])[..., :3]
    return picture * (1 - 0.65 * strength) + tint * 0.65 * strength
