"""Clusters: where they are on the map, what classes they hold, their cells, their feature image."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.maps import draw_map, map_title
from cytolens.figures.overlays import overlay
from cytolens.figures.style import (
    SMALL,
    WIDTH,
    bare,
    colours,
    interval,
    measure_name,
    shorten,
    styled,
)
from cytolens.figures.tiles import Look, canvas, look, look_of, put, put_bar, put_dead
from cytolens.records import Cells, Clusters, Embedding, FeatureImages

_MAP = 2.45  # inches
_TILE = 0.47


@styled
def plot_clusters(
    clusters: Clusters,
    embedding: Embedding,
    cells: Cells,
    feature_images: FeatureImages | None = None,
    *,
    most: int = 12,
) -> Figure:
    """A row per cluster: its colour on the map, size, classes, typical cells, feature image.

    The ``most`` largest clusters get a row. Feature images are matched by place, the first to
    cluster 0, and share one grey scale of their own (``value_range`` of their settings).
    """
    drawn = look_of(cells)
    sizes = clusters.table.sum(axis=1) if clusters.n else np.zeros(0, dtype=np.int64)
    shown = np.sort(np.argsort(-sizes, kind="stable")[:most])
    _, height, width = cells.shape
    step = max(_TILE * height / width, 0.3) + 0.07
    class_colours = colours(len(cells.class_names))
    cluster_colours = colours(clusters.n, first=len(cells.class_names))
    legend = 0.16 * len(cells.class_names[:10]) + 0.25
    notes = 0.16 * len(clusters.agreement) + 0.32
    tall = max(0.45 + len(shown) * step + 0.35, 0.35 + _MAP + legend + notes + 0.1)
    figure, axes = canvas(WIDTH, tall)

    plane = figure.add_axes((0.1 / WIDTH, 1 - (0.35 + _MAP) / tall, _MAP / WIDTH, _MAP / tall))
    bare(plane)
    draw_map(plane, embedding.coordinates, overlay(cells, "cluster", clusters=clusters))
    axes.text(0.1, 0.2, map_title(embedding), va="center", weight="bold", size=8.5)
    y = 0.35 + _MAP + 0.2
    for name, colour in list(zip(cells.class_names, class_colours))[:10]:
        axes.add_patch(Rectangle((0.1, y - 0.05), 0.1, 0.1, facecolor=colour))
        axes.text(0.27, y, shorten(name, 34), va="center", size=SMALL + 0.5)
        y += 0.16
    y += 0.1
    for key, estimate in clusters.agreement.items():
        text = f"{measure_name(key)} {interval(estimate)}"
        axes.text(0.1, y, shorten(text, 60), va="center", size=SMALL)
        y += 0.16
    outside = int((clusters.labels < 0).sum())
    text = f"{outside:,} of {len(clusters.labels):,} cells in no cluster"
    axes.text(0.1, y, text, va="center", size=SMALL, color="#555555")

    left = _MAP + 0.3
    bar_at, cells_at, image_at = left + 0.75, left + 1.65, WIDTH - _TILE - 0.12
    right = WIDTH if feature_images is None else image_at
    count = max(1, int((right - 0.1 - cells_at) / (_TILE + 0.03)))
    headings = [(left, "cluster"), (bar_at, "classes"), (cells_at, "typical cells")]
    headings += [(image_at - 0.12, "feature\nimage")] if feature_images is not None else []
    for x, heading in headings:
        axes.text(x, 0.22, heading, va="center", size=SMALL + 0.5, color="#555555")
    images = None if feature_images is None else _image_look(feature_images, drawn)
    y = 0.42
    for k in shown:
        middle = y + (step - 0.07) / 2
        axes.add_patch(Rectangle((left, y), 0.06, step - 0.07, facecolor=cluster_colours[k]))
        axes.text(left + 0.14, middle - 0.07, str(k), va="center", weight="bold", size=8.5)
        axes.text(left + 0.14, middle + 0.09, f"n = {sizes[k]:,}", va="center", size=SMALL)
        x = bar_at
        for share, colour in zip(clusters.table[k] / max(sizes[k], 1), class_colours):
            axes.add_patch(Rectangle((x, middle - 0.06), 0.75 * share, 0.12, facecolor=colour))
            x += 0.75 * share
        typical = clusters.typical[k][:count]
        for place, image in enumerate(cells.read(typical) if len(typical) else ()):
            put(axes, drawn.show(image), cells_at + place * (_TILE + 0.03), y, _TILE)
        if feature_images is not None and images is not None and k < len(feature_images.images):
            if feature_images.dead[k]:
                put_dead(axes, image_at, y, _TILE, _TILE)
            else:
                put(axes, images.show(feature_images.images[k]), image_at, y, _TILE)
        y += step
    if clusters.n == 0:
        axes.text(left, 0.6, "no clusters were found at this layer", size=8)
    if clusters.n > len(shown):
        text = f"the {len(shown)} largest of {clusters.n} clusters"
        axes.text(left, y + 0.1, text, va="center", size=SMALL, color="#555555")
    else:
        put_bar(axes, cells_at, y + 0.08, pixels=width, tile=_TILE, pixel_size=cells.pixel_size)
    return figure


def _image_look(images: FeatureImages, drawn: Look) -> Look:
    """How feature images are drawn: in the range they were made in, else as the cells are."""
    limits = images.settings.get("value_range", drawn.limits)
    channels = images.images.shape[1]
    return look(channels, channel_names=drawn.channel_names, value_range=limits)
