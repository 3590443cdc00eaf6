"""Many maps in one figure: one map in every colouring, and all depths in several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cytolens.figures.labels import format_number, shorten
from cytolens.figures.maps import (
    distance_note,
    draw_category_contours,
    draw_map,
    key_handles,
    put_colour_bar,
)
from cytolens.figures.outlines import draw_cluster_outlines
from cytolens.figures.overlays import (
    Overlay,
    categorical,
    continuous,
    overlay,
    overlay_of_values,
)
from cytolens.figures.style import SMALL, WIDTH, colours, styled
from cytolens.records.cells import Cells
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding

_GAP = 0.12  # inches between maps
_TITLE = 0.22
_NOTE = 0.2
_MOST_DEPTHS = 9  # in a row


@styled
def plot_embedding_panel(
    embedding: Embedding,
    cells: Cells,
    *,
    probabilities: NDArray[np.floating] | None = None,
    clusters: Clusters | None = None,
    covariate: str | None = None,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> Figure:
    """The same map in every colouring: what orders it, and what else does.

    Class (with the regions that hold 50 and 90 % of each), prediction, probability of the given
    class, errors, entropy, group, clusters (with the outlines of their cores), a covariate, and
    ``values`` (N,) by title, such as the activation of a channel. What is not known is left out.
    The covariate defaults to the first one that varies, or to the size of the crop before padding.
    """
    overlays = [overlay(cells, "class")]
    if probabilities is not None:
        names = ("prediction", "probability", "errors", "entropy")
        overlays += [overlay(cells, name, probabilities=probabilities) for name in names]
    if cells.groups is not None:
        overlays.append(overlay(cells, "group"))
    if clusters is not None:
        overlays.append(overlay(cells, "cluster", clusters=clusters))
    extra = overlay(cells, covariate) if covariate is not None else _some_covariate(cells)
    overlays += [] if extra is None else [extra]
    overlays += [overlay_of_values(shorten(name, 34), v) for name, v in (values or {}).items()]

    across = 3 if len(overlays) in (1, 2, 3, 5, 6, 9) else 4  # few empty places in the last row
    columns = min(across, len(overlays))
    side = (WIDTH - _GAP * (across - 1) - 0.02) / across
    rows = [overlays[i : i + columns] for i in range(0, len(overlays), columns)]
    keys = [max(_key_height(shown, side) for shown in row) for row in rows]
    height = sum(_TITLE + side + key + 0.06 for key in keys) + _NOTE
    width = columns * side + (columns - 1) * _GAP + 0.02
    figure = Figure(figsize=(width, height))
    y = height
    for row, key in zip(rows, keys):
        y -= _TITLE + side
        for place, shown in enumerate(row):
            axes = _axes(figure, 0.01 + place * (side + _GAP), y, side, side)
            letter = "abcdefghijklmnop"[overlays.index(shown) % 16]
            _draw_panel(axes, embedding, shown, cells, clusters, len(overlays))
            axes.set_title(f"{letter}   {shown.title}")
            _key_below(figure, axes, shown, 0.01 + place * (side + _GAP), y, side)
        y -= key + 0.06
    figure.text(0.01, 0.06 / height, distance_note(embedding.method), size=SMALL, color="#555555")
    return figure


@styled
def plot_maps_by_depth(
    embeddings: Sequence[Embedding] | Mapping[str, Embedding],
    cells: Cells,
    *,
    probabilities: NDArray[np.floating] | None = None,
    clusters: Mapping[str, Clusters] | None = None,
    depths: Mapping[str, int] | None = None,
    only_class: bool = False,
) -> Figure:
    """The map of every depth, in several colourings: a row each.

    ``embeddings`` are in depth order, as `embed` gives them for the activations of a network.

    Class, probability of the given class, group, and the clusters of that depth, whose colours go
    over to the clusters of the next depth that share most cells with them. Beneath each map stand
    recall@10 (the share of each cell's ten nearest neighbours in the features that are among its
    ten nearest on the map) and trustworthiness. What is not known is left out; ``only_class``
    leaves all but the first row out.
    """
    embeddings = list(embeddings.values() if isinstance(embeddings, Mapping) else embeddings)
    rows: list[Sequence[Overlay]] = [[overlay(cells, "class")] * len(embeddings)]
    if probabilities is not None and not only_class:
        shown = overlay(cells, "probability", probabilities=probabilities)
        rows.append([shown] * len(embeddings))
    if cells.groups is not None and not only_class:
        rows.append([overlay(cells, "group")] * len(embeddings))
    if clusters and not only_class and all(e.layer in clusters for e in embeddings):
        found = [clusters[e.layer] for e in embeddings]
        rows.append(_cluster_overlays(found, len(cells.class_names)))
    if only_class:
        lines = -(-len(embeddings) // (5 if len(embeddings) <= 15 else 6))
        columns = max(-(-len(embeddings) // max(lines, 1)), 2)
    else:
        blocks = -(-len(embeddings) // _MOST_DEPTHS)
        columns = max(-(-len(embeddings) // blocks), 3) if embeddings else 3
    left = 0.2
    side = (WIDTH - left - (columns - 1) * 0.05) / columns
    step = side + 0.05
    starts = range(0, len(embeddings), columns)
    foot = 0.32
    block = _TITLE + len(rows) * step + foot
    keys = [0.0 if row[0].numbered else 0.24 for row in rows]
    height = len(starts) * block + sum(keys) + _NOTE
    figure = Figure(figsize=(WIDTH, height))
    y = height - _TITLE
    for start in starts:
        for place, embedding in enumerate(embeddings[start : start + columns]):
            x = left + place * step
            for row, by_depth in enumerate(rows):
                axes = _axes(figure, x, y - row * step - side, side, side)
                draw_map(axes, embedding.coordinates, by_depth[start + place], small=True)
                if place == 0:
                    axes.set_ylabel(shorten(by_depth[0].title, int(side / 0.058)), size=SMALL)
            depth = (depths or {}).get(embedding.layer, start + place)
            text = shorten(f"{depth} {embedding.layer}", max(int(side / 0.056), 8))
            figure.text(x / WIDTH, (y + 0.06) / height, text, size=SMALL, va="bottom")
            _write_quality(figure, embedding, x, y - len(rows) * step, height, tight=side < 1.3)
        y -= block
    y += _TITLE
    for row, key in zip(rows, keys):
        _key_line(figure, row[0], left, y, height)
        y -= key
    figure.text(
        left / WIDTH, 0.05 / height, distance_note(embeddings[0].method if embeddings else "tsne"),
        size=SMALL, color="#555555",
    )  # fmt: skip
    return figure


def follow_colours(found: Sequence[Clusters], *, first: int = 0) -> list[list[str]]:
    """A palette per depth: a cluster has the colour of the one before that shares most cells.

    Pairs are made to share the most cells in total (Kuhn 1955); clusters left over get a colour
    that is not in use. ``first`` colours are left to the classes.
    """
    palettes: list[list[str]] = []
    before: Clusters | None = None
    for clusters in found:
        taken = len(palettes[-1]) if palettes else 0
        available = colours(clusters.n + taken, first=first)
        chosen: list[str | None] = [None] * clusters.n
        if before is not None and before.n and clusters.n:
            both = (before.labels >= 0) & (clusters.labels >= 0)
            shared = np.zeros((before.n, clusters.n))
            np.add.at(shared, (before.labels[both], clusters.labels[both]), 1)
            for old, new in zip(*linear_sum_assignment(-shared)):
                chosen[new] = palettes[-1][old]
        spare = iter([colour for colour in available if colour not in chosen])
        palettes.append([next(spare) if colour is None else colour for colour in chosen])
        before = clusters
    return palettes


def _cluster_overlays(found: Sequence[Clusters], classes: int) -> list[Overlay]:
    palettes = follow_colours(found, first=classes)
    return [
        categorical(
            "Cluster", c.labels, [str(k) for k in range(c.n)], palette=palette, numbered=True
        )
        for c, palette in zip(found, palettes)
    ]


def _draw_panel(
    axes: Axes,
    embedding: Embedding,
    shown: Overlay,
    cells: Cells,
    clusters: Clusters | None,
    panels: int,
) -> None:
    if shown.numbered and clusters is not None:
        draw_map(axes, embedding.coordinates, replace(shown, numbered=False), panels=panels)
        draw_cluster_outlines(axes, embedding, clusters, class_names=cells.class_names)
        return
    draw_map(axes, embedding.coordinates, shown, panels=panels)
    if shown.title == "Class":
        draw_category_contours(axes, embedding.coordinates, shown)


def _write_quality(
    figure: Figure, embedding: Embedding, x: float, y: float, height: float, *, tight: bool
) -> None:
    """Recall and trustworthiness beneath a map."""
    recall, trust = (
        format_number(embedding.quality.get(key, float("nan")))
        for key in ("recall_10", "trustworthiness")
    )
    words = ("r@10", "trust.") if tight else ("recall@10", "trustworthiness")
    lines = [f"{word} {value}" for word, value in zip(words, (recall, trust))]
    for place, text in enumerate(lines):
        figure.text(
            x / WIDTH, (y - 0.06 - 0.12 * place) / height, text, size=SMALL, color="#444444"
        )


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the lower left."""
    wide, tall = figure.get_size_inches()
    return figure.add_axes((x / wide, y / tall, width / wide, height / tall))


_LETTER = 0.058  # inches, of a legend, on average


def _legend_shape(shown: Overlay, side: float) -> tuple[int, int]:
    """Columns of the legend below a map ``side`` inches wide, and letters of each name."""
    longest = max((len(name) for name, _ in shown.categories), default=1)
    for columns in (4, 3, 2):
        letters = int((side / columns - 0.27) / _LETTER)
        if longest <= letters or (columns == 2 and len(shown.categories) > 4):
            return columns, max(letters, 4)
    return 1, int((side - 0.27) / _LETTER)


def _key_height(shown: Overlay, side: float) -> float:
    """Inches that a key takes below a map."""
    if shown.limits is not None:
        return 0.42
    if shown.numbered:
        return 0.1
    return 0.1 + 0.155 * -(-len(shown.categories) // _legend_shape(shown, side)[0])


def _key_below(figure: Figure, axes: Axes, shown: Overlay, x: float, y: float, side: float) -> None:
    if shown.limits is not None:
        put_colour_bar(_axes(figure, x + 0.1, y - 0.17, side - 0.2, 0.09), shown)
    elif shown.categories and not shown.numbered:
        columns, letters = _legend_shape(shown, side)
        axes.legend(
            handles=key_handles(shown, length=letters), loc="upper left", ncols=columns,
            bbox_to_anchor=(-0.02, -0.005), borderaxespad=0.1, columnspacing=0.6,
            handlelength=0.8, labelspacing=0.25,
        )  # fmt: skip


def _key_line(figure: Figure, shown: Overlay, x: float, y: float, height: float) -> None:
    """The key to a row of maps, in one line beneath all of them."""
    if shown.numbered:
        return
    figure.text(x / WIDTH, (y - 0.13) / height, shown.title, size=SMALL + 0.5, weight="bold")
    if shown.limits is not None:
        bar = _axes(figure, x + 0.85, y - 0.12, 1.6, 0.08)
        put_colour_bar(bar, replace(shown, label=""))
        bar.set_xticks([])
        low, high = (format_number(limit, 1) for limit in shown.limits)
        figure.text((x + 0.82) / WIDTH, (y - 0.125) / height, low, size=SMALL, ha="right")
        figure.text((x + 2.48) / WIDTH, (y - 0.125) / height, f"{high}   {shown.label}", size=SMALL)
        return
    handles = key_handles(shown, length=14)
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=((x + 0.6) / WIDTH, (y - 0.1) / height),
        ncols=len(handles), columnspacing=0.8, handlelength=0.8, handletextpad=0.2,
        borderaxespad=0, borderpad=0, fontsize=SMALL,
    )  # fmt: skip


def _some_covariate(cells: Cells) -> Overlay | None:
    """The first covariate that varies, or the size of the crops before padding."""
    for name, values in cells.covariates.items():
        column = np.asarray(values)
        if column.dtype.kind in "fiu" and len(np.unique(column[np.isfinite(column)])) > 1:
            return overlay_of_values(shorten(name, 26), column)
    sizes = cells.original_sizes
    if len(sizes) and (sizes != sizes[0]).any():
        area = np.sqrt(sizes[:, 0].astype(float) * sizes[:, 1])
        return continuous("Crop size", area, label="crop side before padding (px)")
    for name, values in cells.covariates.items():
        if len(np.unique(np.asarray(values).astype(str))) > 1:
            return overlay_of_values(shorten(name, 26), values)
    return None
