"""The clusters on the map, and what is in them."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.density import Extent, extent_of
from cytolens.figures.display import display_of_cells
from cytolens.figures.maps import distance_note, draw_map, map_title
from cytolens.figures.outlines import describe_cluster, draw_cluster_outlines
from cytolens.figures.overlays import overlay
from cytolens.figures.style import SMALL, WIDTH, colours, move_apart, styled
from cytolens.figures.tiles import canvas, put, put_bar, put_classes
from cytolens.records.cells import Cells
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding

_MAP = 4.1  # inches
_TILE = 0.42
_CALLOUT = 0.8  # inches that a cluster's words and cells take
_PER_SIDE = 5


@styled
def plot_cluster_outlines(embedding: Embedding, clusters: Clusters, cells: Cells) -> Figure:
    """The map in the colours of the classes, with the clusters as outlines and what is in them.

    A line bounds the smallest region that holds three quarters of a cluster's cells. Next to the
    map stand the size of each cluster, the share of its most frequent class, and its typical cells;
    a line leads to where it is densest. Only the ten largest are listed. ``cells`` are those of the
    map.
    """
    drawn = display_of_cells(cells)
    total = _MAP + 0.75
    figure, axes = canvas(WIDTH, total)
    left = (WIDTH - _MAP) / 2
    plane = figure.add_axes((left / WIDTH, 0.4 / total, _MAP / WIDTH, _MAP / total))
    shown = overlay(cells, "class")
    draw_map(plane, embedding.coordinates, shown)
    places = draw_cluster_outlines(plane, embedding, clusters, class_names=cells.class_names)
    axes.text(0.05, 0.13, f"{map_title(embedding)}: clusters", va="center", weight="bold", size=8.5)
    put_classes(axes, cells.class_names, 0.13, left=2.9, right=WIDTH - 0.05)
    frame = extent_of(embedding.coordinates)
    sizes = clusters.table.sum(axis=1)
    order = np.argsort(-sizes, kind="stable")[: 2 * _PER_SIDE] if clusters.n else []
    places_of = {int(k): at for k in order if (at := places[int(k)]) is not None}
    ranked = sorted(places_of, key=lambda k: places_of[k][0])
    tints = colours(clusters.n, first=len(cells.class_names))
    for side in (0, 1):
        half = (len(ranked) + 1) // 2
        members = ranked[:half] if side == 0 else ranked[half:]
        at = [_inches(places_of[k], frame, left, total) for k in members]
        heights = move_apart([y - _CALLOUT / 2 for _, y in at], _CALLOUT)
        floor = total - 0.4 - _CALLOUT
        down = max(max(heights, default=0.0) - floor, 0.0)
        for k, (x, y), top in zip(members, at, heights):
            top = max(top - down, 0.3)
            edge = 0.05 if side == 0 else left + _MAP + 0.1
            end = left - 0.06 if side == 0 else edge - 0.04
            axes.plot([end, x], [top + 0.14, y], color=tints[k], linewidth=0.8, zorder=7)
            axes.add_patch(Rectangle((edge, top + 0.04), 0.06, 0.22, facecolor=tints[k]))
            for line, text in enumerate(
                describe_cluster(clusters, k, cells.class_names).split("\n")
            ):
                size, weight = (7.5, "bold") if line == 0 else (SMALL, "normal")
                axes.text(edge + 0.12, top + 0.08 + 0.14 * line, text, va="center", size=size,
                          weight=weight)  # fmt: skip
            for i, crop in enumerate(cells.read(clusters.typical[k][:3])):
                put(axes, drawn.show(crop), edge + i * (_TILE + 0.03), top + 0.32, _TILE)
    bar = put_bar(axes, 0.05, total - 0.12, pixels=cells.shape[2], tile=_TILE,
                  pixel_size=cells.pixel_size)  # fmt: skip
    axes.text(max(bar + 0.2, left), total - 0.12, distance_note(embedding.method), va="center",
              size=SMALL, color="#555555")  # fmt: skip
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    return figure


def _inches(
    at: tuple[float, float], frame: Extent, left: float, total: float
) -> tuple[float, float]:
    """A place on the map in inches of the canvas, from its top left."""
    x = left + (at[0] - frame[0]) / (frame[1] - frame[0]) * _MAP
    return x, total - 0.4 - (at[1] - frame[2]) / (frame[3] - frame[2]) * _MAP
