"""Feature images: all of one layer, and a gallery with a row per depth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytolens.figures.display import Display, Limits, display_of_channels
from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import SMALL, UNTRAINED, WIDTH, styled
from cytolens.figures.tiles import (
    canvas,
    foot_height,
    put,
    put_bar,
    put_dead,
    put_intensity_scales,
)
from cytolens.records.features import ChannelRanking, Faithfulness, FeatureImages, ModulatedImages
from cytolens.records.layers import Layer

_REASONS = {"does not predict": "no pred.", "unnatural": "odd"}  # short enough for a tile
_LEFT = 1.15  # inches for the names of the layers


@styled
def plot_feature_images(
    images: FeatureImages | ModulatedImages,
    *,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    receptive_field: int | None = None,
    columns: int = 8,
) -> Figure:
    """All feature images of one layer, modulated ones too, on one intensity scale.

    Dead channels are named as dead. Beneath each image: its target, and z, how many standard
    deviations its activation lies above the mean over natural cells (not for modulated images).
    ``value_range`` is (low, high), or that per image channel; by default the range that the images
    were made in.

    >>> import numpy as np
    >>> from cytolens.records.features import ModulatedImages
    >>> made, gain = np.zeros((2, 1, 8, 8), np.float32), np.ones((2, 8, 8), np.float32)
    >>> images = ModulatedImages("conv4", ("channel 5", "channel 7"), made, gain, "self", {})
    >>> figure = plot_feature_images(images)
    >>> [text.get_text() for text in figure.axes[0].texts][:3]
    ['conv4: 2 modulated images', 'channel 5', 'channel 7']
    >>> figure.clear()
    """
    kind = "feature images"
    if isinstance(images, ModulatedImages):
        kind, images = "modulated images", _without_numbers(images)
    count = len(images.targets)
    columns = min(columns, max(count, 4))
    drawn = display_of_images(images, channel_names=channel_names, value_range=value_range)
    tile = min((WIDTH - 0.2) / columns - 0.06, 1.25)
    step_x, step_y, label = tile + 0.06, _step(images, drawn, tile) + 0.3, 0.0
    if len(drawn.views) > 1:
        label = 0.75
        step_x = (WIDTH - 0.2 - label) / columns
        tile = min(step_x - 0.06, 1.0)
        step_y = _step(images, drawn, tile) + 0.3
    rows = max(1, -(-count // columns))
    figure, axes = canvas(WIDTH, 0.35 + rows * step_y + foot_height(drawn))
    dead = int(images.dead.sum())
    title = f"{shorten(images.layer, 40)}: {count} {kind}" + (f", {dead} dead" if dead else "")
    axes.text(0.1, 0.17, title, va="center", weight="bold", size=8.5)
    for k in range(count):
        x, y = 0.1 + label + k % columns * step_x, 0.35 + k // columns * step_y
        _tile(axes, images, k, drawn, x, y, tile)
        if label and k % columns == 0:
            _view_names(axes, drawn, y, tile, images.images.shape[-2:])
    y = 0.35 + rows * step_y + 0.08
    _foot(axes, images, drawn, y, tile, pixel_size, receptive_field)
    return figure


@styled
def plot_feature_gallery(
    galleries: Sequence[FeatureImages],
    *,
    layers: Sequence[Layer] = (),
    rankings: Mapping[str, ChannelRanking] | None = None,
    faithfulness: Mapping[str, Faithfulness] | None = None,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
    pixel_size: float | None = None,
    columns: int = 12,
) -> Figure:
    """A row of feature images per layer, in depth order, on one intensity scale.

    Each row shows the first ``columns`` targets in the order they come in, says how many there
    are and how many of them are dead, and draws the receptive field as a bar to the scale of the
    tiles. Each tile has its channel and z, as in `plot_feature_images`; with ``rankings``, by
    layer, "+3" says that three more channels are like it. With ``faithfulness``, by layer, p is
    the image's predictivity, and an image that is not to be believed is framed, with the reason.
    """
    by_name = {layer.name: layer for layer in layers}
    looks = [
        display_of_images(images, channel_names=channel_names, value_range=value_range)
        for images in galleries
    ]
    columns = max([min(columns, len(images.targets)) for images in galleries], default=1)
    columns = max(columns, 6)
    tile = (WIDTH - _LEFT - 0.1) / columns - 0.05
    under = 0.42 if faithfulness else 0.3
    heights = [_step(images, drawn, tile) + under for images, drawn in zip(galleries, looks)]
    foot = foot_height(looks[0]) if looks else 0.1
    foot += 0.17 if looks and len(looks[0].views) > 1 else 0.0
    figure, axes = canvas(WIDTH, 0.1 + sum(heights) + foot)
    y = 0.1
    for images, drawn, height in zip(galleries, looks, heights):
        _row_label(axes, images, by_name.get(images.layer), y, tile, pixel_size)
        for k in range(min(columns, len(images.targets))):
            found = (rankings or {}).get(images.layer)
            like = 0 if found is None else len(found.members(int(images.channels[k]))) - 1
            judged = (faithfulness or {}).get(images.layer)
            at = _LEFT + k * (tile + 0.05)
            _tile(axes, images, k, drawn, at, y, tile, like=like, judged=judged)
        y += height
    if galleries:
        if len(looks[0].views) > 1:
            text = "image channels, top to bottom: " + ", ".join(looks[0].views)
            axes.text(0.1, y + 0.05, shorten(text, 110), va="center", size=SMALL + 0.5)
            y += 0.17
        _foot(axes, galleries[0], looks[0], y + 0.08, tile, pixel_size, None)
    return figure


def display_of_images(
    images: FeatureImages,
    *,
    channel_names: Sequence[str] = (),
    value_range: Limits | None = None,
) -> Display:
    """How feature images are drawn: between the limits given, or those they were made in."""
    made_in: Limits = images.settings.get("value_range", (0.0, 1.0))
    limits = made_in if value_range is None else value_range
    return display_of_channels(
        images.images.shape[1], channel_names=channel_names, value_range=limits
    )


def _without_numbers(modulated: ModulatedImages) -> FeatureImages:
    """Modulated images in the place of feature images, of whose activation nothing is known."""
    count = len(modulated.targets)
    unknown = np.full((count, 3), np.nan, dtype=np.float32)
    return FeatureImages(
        layer=modulated.layer,
        targets=modulated.targets,
        channels=np.full(count, -1, dtype=np.int64),
        images=modulated.images,
        activation=unknown[:, 0],
        natural=unknown,
        activation_maps=modulated.gain,
        history=unknown[:, :0],
        dead=np.zeros(count, dtype=np.bool_),
        settings=modulated.settings,
    )


def z_score(images: FeatureImages) -> np.ndarray:
    """(K,): activation on the image, in s.d. above its mean over natural cells; NaN if unknown."""
    mean, deviation = images.natural[:, 0], images.natural[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (images.activation - mean) / deviation
    return np.where(np.isfinite(z), z, np.nan)


def target_name(images: FeatureImages, k: int) -> str:
    """``ch 5`` for a channel, the name of any other target."""
    channel = int(images.channels[k])
    return f"ch {channel}" if channel >= 0 else images.targets[k]


def _step(images: FeatureImages, drawn: Display, tile: float) -> float:
    """Height in inches of one target: its views above each other."""
    rows, columns = images.images.shape[-2:]
    return tile * rows / columns * len(drawn.views) + 0.02 * (len(drawn.views) - 1)


def _tile(
    axes: Axes,
    images: FeatureImages,
    k: int,
    drawn: Display,
    x: float,
    y: float,
    tile: float,
    *,
    like: int = 0,
    judged: Faithfulness | None = None,
) -> None:
    """One target: its picture, or pictures above each other, and what is written beneath."""
    rows, columns = images.images.shape[-2:]
    height = tile * rows / columns
    bottom = y + _step(images, drawn, tile)
    more = f" +{like}" if like else ""
    name = shorten(target_name(images, k), max(5, int(tile / 0.062) - len(more))) + more
    if images.dead[k]:
        put_dead(axes, x, y, tile, bottom - y)
        axes.text(x + tile / 2, bottom + 0.08, name, ha="center", va="center", size=SMALL)
        return
    failure = "" if judged is None else judged.failures[k]
    frame = UNTRAINED if failure else None
    for view in range(len(drawn.views)):
        at = y + view * (height + 0.02)
        put(axes, drawn.show(images.images[k], view), x, at, tile, frame=frame)
    if judged is not None:
        value = float(judged.table["predictivity"][k])
        text = _REASONS.get(failure, failure) or f"p {format_number(value, 2)}"
        axes.text(
            x + tile / 2, bottom + 0.3, text, ha="center", va="center", size=SMALL,
            color=UNTRAINED if failure else "#666666",
        )  # fmt: skip
    z = z_score(images)[k]
    axes.text(x + tile / 2, bottom + 0.08, name, ha="center", va="center", size=SMALL)
    if np.isfinite(z):
        text = f"z {format_number(float(z), 1 if abs(z) < 9.95 else 0)}"
        axes.text(
            x + tile / 2, bottom + 0.19, text, ha="center", va="center", size=SMALL, color="#666666"
        )


def _view_names(axes: Axes, drawn: Display, y: float, tile: float, shape: tuple[int, ...]) -> None:
    height = tile * shape[0] / shape[1]
    for view, name in enumerate(drawn.views):
        at = y + view * (height + 0.02) + height / 2
        axes.text(0.1, at, shorten(name, 10), va="center", size=SMALL, color="#666666")


def _row_label(
    axes: Axes,
    images: FeatureImages,
    layer: Layer | None,
    y: float,
    tile: float,
    pixel_size: float | None,
) -> None:
    """Name of a layer, how many targets there are, and its receptive field to scale."""
    axes.text(0.1, y + 0.07, shorten(images.layer, 16), va="center", weight="bold", size=8)
    dead, count = int(images.dead.sum()), len(images.targets)
    lines = [f"{count} of {layer.channels}" if layer is not None else f"{count} images"]
    if dead:
        lines[0] += f", {dead} dead"
    pixels = images.images.shape[-1]
    field = layer.receptive_field if layer is not None else None
    if (layer is not None and len(layer.shape) == 1) or (field is not None and field >= pixels):
        lines.append("sees the whole crop")
    elif field is not None:
        inches = field / pixels * tile
        lines.append(
            f"field {field} px" if pixel_size is None else f"field {field * pixel_size:.3g} µm"
        )
        at = y + 0.2 + 0.13 * len(lines) + 0.02
        axes.plot([0.1, 0.1 + inches], [at, at], color="#555555", lw=1.6, solid_capstyle="butt")
    for place, line in enumerate(lines):
        axes.text(0.1, y + 0.21 + 0.13 * place, line, va="center", size=SMALL, color="#555555")


def _foot(
    axes: Axes,
    images: FeatureImages,
    drawn: Display,
    y: float,
    tile: float,
    pixel_size: float | None,
    receptive_field: int | None,
) -> None:
    """Scale bar, receptive field and grey scale beneath a gallery."""
    pixels = images.images.shape[-1]
    x = put_bar(axes, 0.1, y, pixels=pixels, tile=tile, pixel_size=pixel_size)
    if receptive_field is not None and receptive_field < pixels:
        inches = receptive_field / pixels * tile
        axes.plot([x, x + inches], [y, y], color="#999999", linewidth=2, solid_capstyle="butt")
        axes.text(x + inches + 0.06, y, "receptive field", va="center", size=SMALL + 0.5)
        x += inches + 1.0
    put_intensity_scales(axes, max(x, _LEFT), y, drawn)
