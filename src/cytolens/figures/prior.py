"""What a prior rests on: the cells, and the directions in which they differ."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from cytolens.figures.display import display_of_channels
from cytolens.figures.labels import shorten
from cytolens.figures.style import SMALL, WIDTH, styled
from cytolens.figures.tiles import canvas, foot_height, put, put_bar, put_intensity_scales

if TYPE_CHECKING:
    from cytolens.features.priors import Prior

_LEFT = 1.0  # inches for the names of the rows


@styled
def plot_prior(
    prior: "Prior",
    *,
    channel_names: Sequence[str] = (),
    pixel_size: float | None = None,
    columns: int = 8,
) -> Figure:
    """Cells of a prior, and the mean cell changed along each of the first principal components.

    ``prior`` is what `fit_prior` gives. The cells are spread evenly over those it rests on. Below
    them the mean cell minus and plus two standard deviations along each component: the changes
    that a feature image can be made of. All on the intensity scale of the prior's value range.
    """
    display = display_of_channels(
        prior.crops.shape[1], channel_names=channel_names, value_range=prior.value_range
    )
    columns = max(1, min(columns, len(prior.crops)))
    chosen = np.linspace(0, len(prior.crops) - 1, columns).astype(np.int64)
    change = 2 * prior.deviations[:columns, None, None, None] * prior.components[:columns]
    mean = prior.crops.mean(axis=0)
    rows = {"cells": prior.crops[chosen], "mean − 2 s.d.": mean - change}
    rows["mean + 2 s.d."] = mean + change
    tile = (WIDTH - _LEFT - 0.1) / max(columns, 5) - 0.05
    high = tile * prior.crops.shape[2] / prior.crops.shape[3] + 0.05
    views = display.views
    figure, axes = canvas(WIDTH, 0.35 + len(rows) * len(views) * high + 0.2 + foot_height(display))
    title = f"Prior '{prior.kind}': {len(prior.crops):,} cells, {len(prior.components)} components"
    axes.text(0.1, 0.17, title, va="center", weight="bold", size=8.5)
    y = 0.35
    for name, images in rows.items():
        for view, channel in enumerate(views):
            text = name if len(views) == 1 else f"{name}\n{shorten(channel, 14)}"
            axes.text(0.1, y + high / 2, text, va="center", size=SMALL)
            for place, image in enumerate(images):
                put(axes, display.show(image, view), _LEFT + place * (tile + 0.05), y, tile)
            y += high
    for place in range(len(change)):
        x = _LEFT + place * (tile + 0.05) + tile / 2
        axes.text(x, y + 0.05, f"component {place + 1}", ha="center", va="center", size=SMALL)
    pixels = prior.crops.shape[3]
    x = put_bar(axes, 0.1, y + 0.25, pixels=pixels, tile=tile, pixel_size=pixel_size)
    put_intensity_scales(axes, max(x, _LEFT), y + 0.25, display)
    return figure
