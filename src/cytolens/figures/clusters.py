"""Clusters: where they are, what they hold, how sure they are, their cells, their feature image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytolens.figures.display import Display, display_of_cells, display_of_channels
from cytolens.figures.labels import format_interval, format_number, shorten
from cytolens.figures.maps import draw_map, map_title
from cytolens.figures.overlays import overlay
from cytolens.figures.style import SMALL, UNTRAINED, WIDTH, bare, colours, styled
from cytolens.figures.tiles import canvas, put, put_bar, put_dead
from cytolens.records.cells import Cells
from cytolens.records.clusters import ClassParts, ClusterDescription, Clusters
from cytolens.records.features import FeatureImages
from cytolens.records.maps import Embedding

_MAP = 2.45  # inches
_TILE = 0.47
_HEAD = 0.17  # the line with a cluster's name
_LINE = 0.125
_TEXT = 1.62  # left of the cells
_GREY = "#555555"


@styled
def plot_clusters(
    clusters: Clusters,
    embedding: Embedding,
    cells: Cells,
    feature_images: FeatureImages | None = None,
    *,
    described: Sequence[ClusterDescription] = (),
    most: int = 12,
) -> Figure:
    """A row per cluster: its name, size, classes, stability, gap, typical cells, feature image.

    The ``most`` largest clusters get a row. ``described`` and feature images are matched by place,
    the first to cluster 0; the images share one grey scale of their own (``value_range`` of their
    settings). A cluster that is mostly one group says so.
    """
    drawn = display_of_cells(cells)
    sizes = clusters.table.sum(axis=1) if clusters.n else np.zeros(0, dtype=np.int64)
    shown = np.sort(np.argsort(-sizes, kind="stable")[:most])
    class_colours = colours(len(cells.class_names))
    step = _step(cells, clusters)
    notes = _notes(clusters)
    left_side = 0.35 + _MAP + 0.3 + 0.16 * (len(cells.class_names[:10]) + len(notes)) + 0.25
    tall = max(0.45 + len(shown) * step + 0.35, left_side)
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
    y += 0.08
    for note in notes:
        axes.text(0.1, y, note, va="center", size=SMALL)
        y += 0.16

    left, image_at = _MAP + 0.3, WIDTH - _TILE - 0.12
    right = WIDTH - 0.1 if feature_images is None else image_at - 0.1
    axes.text(left, 0.22, "cluster", va="center", size=SMALL + 0.5, color=_GREY)
    cells_at = left + _TEXT
    axes.text(cells_at, 0.22, "typical cells", va="center", size=SMALL + 0.5, color=_GREY)
    if feature_images is not None:
        axes.text(image_at - 0.12, 0.22, "feature\nimage", va="center", size=7.5, color=_GREY)
    images = None if feature_images is None else _image_display(feature_images, drawn)
    palette = colours(clusters.n, first=len(cells.class_names))
    y = 0.42
    for k in shown.tolist():
        name = described[k].name if k < len(described) else ""
        bar = clusters.table[k] / max(sizes[k], 1)
        lines = [f"n = {sizes[k]:,}, {100 * bar.max(initial=0):.0f} % one class"]
        _head(axes, (left, y), step, str(k), name, palette[k], chars=int((WIDTH - left) / 0.06))
        _shares(axes, left + 0.14, y + _HEAD + 0.04, bar, class_colours)
        _lines(axes, left + 0.14, y + _HEAD + 0.17, lines, clusters, k)
        _cells(axes, cells_at, y + _HEAD, right, clusters.typical[k], cells, drawn)
        if feature_images is not None and images is not None and k < len(feature_images.images):
            _image(axes, image_at, y + _HEAD, feature_images, k, images)
        y += step
    if clusters.n == 0:
        axes.text(left, 0.6, "no clusters were found at this layer", size=8)
    if clusters.n > len(shown):
        text = f"the {len(shown)} largest of {clusters.n} clusters"
        axes.text(left, y + 0.1, text, va="center", size=SMALL, color=_GREY)
    elif clusters.n:
        width, scale = cells.shape[2], cells.pixel_size
        put_bar(axes, cells_at, y + 0.08, pixels=width, tile=_TILE, pixel_size=scale)
    return figure


@styled
def plot_class_parts(
    parted: Sequence[ClassParts],
    cells: Cells,
    images: FeatureImages | None = None,
    own: NDArray[np.float64] | None = None,
    *,
    most: int = 6,
) -> Figure:
    """The parts of each class: name and the effects behind it, stability, cells, feature image.

    ``cells`` are the mapped ones. ``images`` are matched in order to the parts of those classes
    that have several. An image is shown only where most of the cells that are like it are of its
    part: ``own`` (K,) is their share. Of each class the ``most`` largest parts are shown.
    """
    drawn = display_of_cells(cells)
    look_at = None if images is None else _image_display(images, drawn)
    steps = [_step(cells, parts.clusters) for parts in parted]
    rows = [min(parts.clusters.n, most) for parts in parted]
    tall = 0.35 + sum(0.3 + n * step for n, step in zip(rows, steps)) + 0.3
    figure, axes = canvas(WIDTH, max(tall, 0.9))
    image_at = WIDTH - _TILE - 0.12
    effects_at, cells_at = 0.1 + _TEXT, 0.1 + _TEXT + 1.75
    right = WIDTH - 0.1 if images is None else image_at - 0.1
    headings = [(0.1, "part"), (effects_at, "AUC against the rest"), (cells_at, "typical cells")]
    headings += [(image_at - 0.12, "feature\nimage")] if images is not None else []
    for x, heading in headings:
        axes.text(x, 0.2, heading, va="center", size=SMALL + 0.5, color=_GREY)
    y, place = 0.4, 0
    for parts, step in zip(parted, steps):
        found = parts.clusters
        tint = colours(len(cells.class_names))[parts.class_index]
        title = shorten(cells.class_names[parts.class_index], 40)
        axes.text(0.1, y + 0.06, title, va="center", weight="bold", size=8.5, color=tint)
        axes.text(0.1 + 0.085 * len(title), y + 0.06, _verdict(found), va="center", size=SMALL)
        y += 0.24
        sizes = found.table.sum(axis=1)
        shown = np.sort(np.argsort(-sizes, kind="stable")[:most]).tolist()
        for k in shown:
            described = parts.described[k]
            share = 100 * sizes[k] / max(len(parts.cells), 1)
            _head(axes, (0.1, y), step, letter(k), described.name, tint, chars=104)
            lines = [f"n = {sizes[k]:,}, {share:.0f} % of the class"]
            _lines(axes, 0.24, y + _HEAD + 0.07, lines, found, k)
            for place_of, difference in enumerate(described.differences[:4]):
                name = shorten(difference.name.replace("_", " "), 18)
                text = f"{name}  {format_interval(difference.auc)}"
                colour = "#222222" if difference.proven else "#8A8A8A"
                height = y + _HEAD + 0.07 + place_of * _LINE
                axes.text(effects_at, height, text, va="center", size=SMALL, color=colour)
            some = parts.cells[found.typical[k]]
            _cells(axes, cells_at, y + _HEAD, right, some, cells, drawn)
            at = place + k
            several = found.n > 1 and images is not None and at < len(images.images)
            if several and images is not None and look_at is not None:
                share = np.nan if own is None else float(own[at])
                if share > 0.5:
                    _image(axes, image_at, y + _HEAD, images, at, look_at)
                note = "not judged" if np.isnan(share) else f"{100 * share:.0f} % its own"
                below = _TILE * cells.shape[1] / cells.shape[2] + 0.07 if share > 0.5 else 0.2
                lines = [note] if share > 0.5 else ["none", note]
                for line, text in enumerate(lines):
                    axes.text(
                        image_at, y + _HEAD + below + line * _LINE, text, va="center",
                        size=SMALL - 0.5, color=_GREY,
                    )  # fmt: skip
            y += step
        place += found.n if found.n > 1 else 0
        y += 0.06
    width, scale = cells.shape[2], cells.pixel_size
    put_bar(axes, cells_at, y + 0.06, pixels=width, tile=_TILE, pixel_size=scale)
    return figure


def letter(k: int) -> str:
    """Parts of a class have letters where clusters of all cells have numbers: a, b … z, a1 …"""
    return chr(ord("a") + k % 26) + (str(k // 26) if k >= 26 else "")


def _verdict(found: Clusters) -> str:
    """In a line, whether there are parts at all."""
    stability = found.stability
    if stability is None or found.n < 2:
        return ("no cluster", "one cluster", "")[min(found.n, 2)]
    text = f"{found.n} clusters, " + (
        "no gap between them: a continuum cut in pieces"
        if stability.n_parts < 2
        else f"{stability.n_parts} parts divided by gaps"
    )
    null = _null(stability.ari.null, "Gaussian")
    return f"{text}; stability {format_interval(stability.ari)}{null}"


def _notes(clusters: Clusters) -> list[str]:
    """What is known of all clusters together, a line each."""
    short = {"ari": "Adjusted Rand", "nmi": "Mutual information", "purity": "Purity"}
    notes = ["Agreement with the classes" if clusters.agreement else ""]
    for key, found in clusters.agreement.items():
        notes.append(
            f"  {short.get(key, key)} {format_interval(found)}{_null(found.null, 'chance')}"
        )
    if clusters.groups is not None:
        found = clusters.groups.agreement["ari"]
        notes.append("Agreement with the groups")
        notes.append(f"  {short['ari']} {format_interval(found)}{_null(found.null, 'chance')}")
    stability = clusters.stability
    if stability is not None and clusters.n > 1:
        ari = stability.ari
        notes.append("Agreement of halves of the cells")
        notes.append(f"  {short['ari']} {format_interval(ari)}{_null(ari.null, 'Gaussian')}")
        notes.append(_divided(stability.parts))
    outside = int((clusters.labels < 0).sum())
    if outside:
        notes.append(f"{outside:,} of {len(clusters.labels):,} cells in no cluster")
    return [note for note in notes if note]


def _divided(parts: NDArray[np.int64]) -> str:
    """Which clusters are of one part."""
    count = int(parts.max()) + 1
    if count < 2:
        return "No gap: one continuum"
    text = f"{count} parts divided by gaps"
    if count == len(parts):
        return text
    listed = [" ".join(map(str, np.flatnonzero(parts == part))) for part in range(count)]
    return f"{text}: {' | '.join(listed)}"


def _null(limit: float | None, name: str) -> str:
    return "" if limit is None else f" ({name} {format_number(limit)})"


def _step(cells: Cells, clusters: Clusters) -> float:
    """Inches from a cluster's row to the next."""
    _, height, width = cells.shape
    sure = 0 if clusters.stability is None else 2
    groups = clusters.groups
    flagged = 0 if groups is None else int(groups.dominated.any())
    text = 0.12 + _LINE * (1 + sure + flagged)
    return _HEAD + max(_TILE * height / width, text) + 0.1


def _head(
    axes: Axes,
    at: tuple[float, float],
    step: float,
    label: str,
    name: str,
    colour: str,
    *,
    chars: int,
) -> None:
    x, y = at
    axes.add_patch(Rectangle((x, y), 0.06, step - 0.08, facecolor=colour))
    axes.text(x + 0.14, y + 0.07, label, va="center", weight="bold", size=8.5)
    text = shorten(name or "nothing measured differs", chars - 6)
    tint = "#222222" if name else "#8A8A8A"
    axes.text(x + 0.2 + 0.08 * len(label), y + 0.07, text, va="center", size=7.8, color=tint)


def _shares(
    axes: Axes, x: float, y: float, shares: NDArray[np.float64], tints: Sequence[str]
) -> None:
    for share, tint in zip(shares, tints):
        axes.add_patch(Rectangle((x, y - 0.035), 1.3 * share, 0.07, facecolor=tint))
        x += 1.3 * share


def _lines(axes: Axes, x: float, y: float, lines: list[str], found: Clusters, k: int) -> None:
    """The numbers of a cluster beneath each other: size, stability, gap, the group it is."""
    tints = ["#222222"] * len(lines)
    stability, groups = found.stability, found.groups
    if stability is not None and np.isfinite(stability.jaccard[k]):
        stable = _null(stability.jaccard_null, "Gaussian")
        lines = [
            *lines,
            f"stable {format_number(stability.jaccard[k])}{stable}",
            f"gap {format_number(stability.gap[k])}{_null(float(stability.gap_null[k]), 'chance')}"
            if stability.gap_null[k] < 1
            else "gap: too few cells",
        ]
        separate = found.n > 1 and stability.gap[k] > stability.gap_null[k]
        tints += ["#222222", "#222222" if separate else "#8A8A8A"]
    if groups is not None and groups.dominated[k]:
        name = shorten(groups.names[groups.main[k]], 14)
        lines = [*lines, f"{100 * groups.share[k]:.0f} % are of {name}"]
        tints.append(UNTRAINED)
    for place, (line, tint) in enumerate(zip(lines, tints)):
        axes.text(x, y + place * _LINE, line, va="center", size=SMALL, color=tint)


def _cells(
    axes: Axes,
    x: float,
    y: float,
    right: float,
    typical: NDArray[np.int64],
    cells: Cells,
    drawn: Display,
) -> None:
    count = max(1, int((right - x) / (_TILE + 0.03)))
    chosen = typical[:count]
    for place, image in enumerate(cells.read(chosen) if len(chosen) else ()):
        put(axes, drawn.show(image), x + place * (_TILE + 0.03), y, _TILE)


def _image(axes: Axes, x: float, y: float, images: FeatureImages, k: int, drawn: Display) -> None:
    if images.dead[k]:
        put_dead(axes, x, y, _TILE, _TILE)
    else:
        put(axes, drawn.show(images.images[k]), x, y, _TILE)


def _image_display(images: FeatureImages, drawn: Display) -> Display:
    """How feature images are drawn: in the range they were made in, else as the cells are."""
    limits = images.settings.get("value_range", drawn.limits)
    channels = images.images.shape[1]
    return display_of_channels(channels, channel_names=drawn.channel_names, value_range=limits)
