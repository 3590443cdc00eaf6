"""Maps: the cells in the plane, coloured by what is known of them."""

from dataclasses import replace
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.figures.density import Extent, draw_contours, extent_of, pixel_of, shade
from cytolens.figures.labels import format_number, map_name, shorten
from cytolens.figures.outlines import draw_cluster_outlines
from cytolens.figures.overlays import (
    Overlay,
    overlay,
    overlay_of_clusters,
    overlay_of_values,
    plain,
)
from cytolens.figures.style import INK, SMALL, bare, legend_text, styled
from cytolens.figures.thumbnails import Layout, plot_thumbnails
from cytolens.records.cells import Cells
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding

VECTOR_LIMIT = 2_000  # points; above, SVG and PDF hold them as a picture
SHADE_LIMIT = 20_000  # points; above, density is drawn instead of points
RARE = 0.02  # share of the cells; rarer categories are drawn as points above the shading
_HALO = [withStroke(linewidth=2, foreground="white")]


@styled
def plot_embedding(
    embedding: Embedding,
    cells: Cells | None = None,
    *,
    color: str | NDArray[Any] | None = None,
    title: str = "",
    probabilities: NDArray[np.floating] | None = None,
    clusters: Clusters | None = None,
    contours: bool = False,
    outlines: bool = False,
    crops: bool = False,
    layout: Layout | None = None,
) -> Figure:
    """One map. ``color`` names what it shows, or is an array (N,) of one value per cell.

    By default the class of ``cells``; without cells the cluster of ``clusters``, or nothing.

    Names: class, prediction (errors are crossed), errors, confidence, probability (of the given
    class), entropy, group, cluster, or any covariate of the cells. An array can hold categories
    (text, truth, up to ten whole numbers) or numbers, such as a channel's activation; ``title``
    names it. ``contours`` adds, for each category, lines around the regions that hold 50 and 90 %
    of its cells; ``outlines`` those around the cores of ``clusters``, with their size and purity.
    With ``crops`` the cells themselves are drawn, see `plot_thumbnails`.

    Up to 2,000 points are vectors, more are a picture inside the vector file. Above 20,000 density
    is drawn: the mean colour per pixel, and categories rarer than one cell in fifty as points on
    top. One unit is as long across as up. t-SNE and UMAP have no units along their axes, so none
    are drawn; distances between far groups mean little, and the figure says so.

    >>> import numpy as np
    >>> from cytolens.records.maps import Embedding
    >>> places = np.array([[0, 0], [0, 1], [5, 5]], dtype=np.float32)
    >>> figure = plot_embedding(Embedding("conv4", "tsne", places, {}, {}), color=np.arange(3))
    >>> figure.axes[0].get_title(loc="left")
    't-SNE of conv4'
    >>> figure.clear()
    """
    if cells is not None and crops:
        return plot_thumbnails(embedding, cells, layout)
    shown = _overlay(embedding, cells, color, title, probabilities, clusters)
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    draw_map(axes, embedding.coordinates, replace(shown, numbered=shown.numbered and not outlines))
    if contours:
        draw_category_contours(axes, embedding.coordinates, shown)
    if outlines and clusters is not None:
        names = () if cells is None else cells.class_names
        draw_cluster_outlines(axes, embedding, clusters, class_names=names, labels="full")
    axes.set_title(f"{map_title(embedding)}" + (f": {shown.title.lower()}" if shown.title else ""))
    _label_axes(axes, embedding)
    put_key(figure, axes, shown)
    note = distance_note(embedding.method)
    if note:
        figure.supxlabel(note, size=SMALL, color="#555555", x=0.02, ha="left")
    return figure


def _overlay(
    embedding: Embedding,
    cells: Cells | None,
    color: str | NDArray[Any] | None,
    title: str,
    probabilities: NDArray[np.floating] | None,
    clusters: Clusters | None,
) -> Overlay:
    if color is not None and not isinstance(color, str):
        return overlay_of_values(title, color)
    if cells is not None:
        return overlay(cells, color or "class", probabilities=probabilities, clusters=clusters)
    if clusters is not None and color in (None, "cluster"):
        return overlay_of_clusters(clusters)
    if color is not None:
        raise SettingError(f"colour '{color}': give the cells as well, or color= as an array")
    return plain(len(embedding.coordinates))


def map_title(embedding: Embedding) -> str:
    """``t-SNE of conv3``."""
    method = map_name(embedding.method)
    return f"{method} of {shorten(embedding.layer, 28)}"


def distance_note(method: str) -> str:
    """What must not be read from a map of this kind; it is written into the figure."""
    if method == "pca":
        return "PCA: cells that lie together may differ along other components."
    name = map_name(method)
    return f"{name}: near cells are alike; distances between far groups mean little."


def draw_map(
    axes: Axes,
    coordinates: NDArray[np.floating],
    shown: Overlay,
    *,
    small: bool = False,
    extent: Extent | None = None,
    panels: int = 1,
) -> None:
    """Cells as points (or density, when there are many) on square axes without ticks.

    ``extent`` is the square of the map that is shown, by default all of it. ``panels``: maps of
    the same cells in the figure, which share the points that may be vectors.
    """
    xy = np.asarray(coordinates, dtype=np.float64)
    known = np.isfinite(xy).all(axis=1)
    n = int(known.sum())
    bare(axes)
    axes.set_aspect("equal")
    nothing = "no cells" if n == 0 else "" if np.ptp(xy[known], axis=0).any() else "all cells alike"
    if nothing:
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center", va="center", size=SMALL)
        return
    frame = extent_of(xy) if extent is None else extent
    axes.set_xlim(frame[:2])
    axes.set_ylim(frame[2:])
    inside, _ = pixel_of(xy, frame, 1)
    outside = n - int(inside.sum())
    if outside and extent is None:
        note = f"{outside:,} outside" if small else f"{outside:,} cells outside"
        axes.annotate(
            note, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top",
            size=SMALL, color="#444444", path_effects=_HALO,
        )  # fmt: skip
    limit = VECTOR_LIMIT // (10 if small else panels)
    if n > SHADE_LIMIT:
        _draw_shaded(axes, xy, shown, frame, small=small)
    else:
        opacity = float(np.clip(1.15 - 0.1 * np.log10(n), 0.6, 0.9))
        order = np.random.default_rng(0).permutation(np.flatnonzero(known))  # no class on top
        axes.scatter(
            xy[order, 0], xy[order, 1], c=shown.rgb[order], linewidths=0, alpha=opacity,
            s=(0.4 if small else 1.0) * np.clip(7000 / n, 1.0, 16.0), rasterized=n > limit,
        )  # fmt: skip
    if shown.marked is not None:
        at = xy[known & shown.marked]
        axes.scatter(
            at[:, 0], at[:, 1], marker="x", color=INK, linewidths=0.5,
            s=np.clip(1000 / max(len(at), 1), 2, 8), alpha=0.8, rasterized=len(at) > limit,
        )  # fmt: skip
    if shown.numbered and shown.codes is not None and not small:
        for code, (name, _) in enumerate(shown.categories):
            members = known & (shown.codes == code)
            if name != "none" and members.any():
                x, y = np.median(xy[members], axis=0)
                axes.text(
                    x, y, name, ha="center", va="center", size=8, weight="bold", path_effects=_HALO
                )


def _draw_shaded(
    axes: Axes, xy: NDArray[np.float64], shown: Overlay, frame: Extent, *, small: bool
) -> None:
    """The density of the cells in their mean colour, and the rare categories as points above it.

    A mean would hide one cell among fifty; a few points above the shading are seen.
    """
    sides = int(np.clip(0.8 * len(xy) ** 0.5, 100, 160 if small else 400))
    if shown.scaled is None:
        picture = shade(xy, shown.rgb, frame, sides)
    else:  # the mean value, then its colour: the mean of two colours is the colour of neither
        held = np.isfinite(shown.scaled)
        if not held.all():  # cells without a value: the grey they have, beneath
            below = shade(xy[~held], shown.rgb[~held], frame, sides)
            axes.imshow(below, extent=frame, origin="lower", interpolation="nearest")
        grey = np.repeat(np.nan_to_num(shown.scaled)[held, None], 3, axis=1)
        picture = shade(xy[held], grey, frame, sides)
        picture[..., :3] = mpl.colormaps["viridis"](picture[..., 0])[..., :3]
    axes.imshow(picture, extent=frame, origin="lower", aspect="equal", interpolation="nearest")
    if shown.codes is None:
        return
    sizes = np.bincount(shown.codes, minlength=len(shown.categories))
    for code in np.flatnonzero((sizes > 0) & (sizes < RARE * len(xy))):
        at = xy[shown.codes == code]
        axes.scatter(
            at[:, 0], at[:, 1], color=shown.categories[code][1],
            s=(0.4 if small else 1.0) * np.clip(700 / len(at), 1.5, 7.0),
            linewidths=0 if small else 0.25, edgecolors="white", rasterized=True, zorder=3,
        )  # fmt: skip


def draw_category_contours(
    axes: Axes, coordinates: NDArray[np.floating], shown: Overlay, extent: Extent | None = None
) -> None:
    """Lines around the regions that hold 50 and 90 % of the cells of each category.

    Categories of fewer than five cells have none. Does nothing where colours are continuous.
    """
    if shown.codes is None:
        return
    xy = np.asarray(coordinates, dtype=np.float64)
    frame = extent_of(xy) if extent is None else extent
    for code, (name, colour) in enumerate(shown.categories):
        if name != "none":
            dark = "#{:02x}{:02x}{:02x}".format(*(round(178 * part) for part in to_rgb(colour)))
            draw_contours(axes, xy[shown.codes == code], frame, colour=dark)


def key_handles(shown: Overlay, *, square: bool = False, length: int = 24) -> list[Line2D]:
    """What a legend is made of."""
    return [
        Line2D(
            [], [], linestyle="", marker="s" if square else "o", ms=5, color=colour,
            label=legend_text(name, length),
        )
        for name, colour in shown.categories
    ]  # fmt: skip


def put_key(figure: Figure, axes: Axes, shown: Overlay) -> None:
    """The legend or colour bar at the right of a map."""
    if shown.categories:
        if not (shown.numbered and len(shown.categories) > 12):
            axes.legend(
                handles=key_handles(shown), borderaxespad=0.2, columnspacing=0.8,
                handlelength=1.0, labelspacing=0.3, loc="upper left", bbox_to_anchor=(1.0, 1.0),
            )  # fmt: skip
    elif shown.limits is not None:
        bar_axes = axes.inset_axes((1.03, 0.15, 0.04, 0.7))
        put_colour_bar(bar_axes, shown, vertical=True)


def put_colour_bar(axes: Axes, shown: Overlay, *, vertical: bool = False) -> None:
    """The colours of a continuous overlay, its two limits, and what they mean."""
    low, high = shown.limits or (0.0, 1.0)
    ramp = mpl.colormaps["viridis"](np.linspace(0, 1, 128))[:, None, :3]
    picture = ramp if vertical else np.swapaxes(ramp, 0, 1)
    axes.imshow(picture, origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    digits = 0 if high - low >= 20 else 1 if high - low >= 2 else 2
    ends = [format_number(low, digits), format_number(high, digits)]
    if high - low < 0.05:
        ends = [f"{limit:.2g}".replace("-", "−") for limit in (low, high)]
    for spine in axes.spines.values():
        spine.set_visible(False)
    label = shorten(shown.label, 34)
    if vertical:
        axes.set_xticks([])
        axes.set_yticks([0, 1], ends)
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        axes.set_ylabel(label, size=SMALL + 0.5)
    else:
        axes.set_yticks([])
        axes.set_xticks([0, 1], ends)
        axes.set_xlabel(label, size=SMALL, labelpad=-7)
    axes.tick_params(length=0, pad=2, labelsize=SMALL)


def _label_axes(axes: Axes, embedding: Embedding) -> None:
    """PCA has axes that mean something; the others have none."""
    if embedding.method == "pca":
        shares = embedding.settings.get("explained_variance_ratio", ())
        for place, label in enumerate((axes.set_xlabel, axes.set_ylabel)):
            share = f" ({100 * shares[place]:.0f} % of variance)" if len(shares) > place else ""
            cast(Any, label)(f"component {place + 1}{share}")
