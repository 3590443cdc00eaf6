"""Maps: the cells in the plane, coloured by what is known of them, or as the crops themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cytolens.figures.overlays import (
    Overlay,
    categorical,
    continuous,
    overlay,
    overlay_of_values,
)
from cytolens.figures.style import (
    INK,
    METHODS,
    SMALL,
    WIDTH,
    bare,
    colours,
    legend_text,
    number,
    shorten,
    styled,
)
from cytolens.figures.tiles import look_of
from cytolens.records import Cells, Clusters, Embedding

VECTOR_LIMIT = 2_000  # points; above, SVG holds them as a picture
SHADE_LIMIT = 20_000  # points; above, density is drawn instead of points
Layout = tuple[NDArray[np.int64], NDArray[np.int64]]


@styled
def plot_embedding(
    embedding: Embedding,
    cells: Cells | None = None,
    *,
    color: str | NDArray[Any] = "class",
    probabilities: NDArray[np.floating] | None = None,
    clusters: Clusters | None = None,
    crops: bool = False,
    layout: Layout | None = None,
) -> Figure:
    """One map. ``color`` names what it shows, or is an array (N,) of one value per cell.

    Names: class, prediction (errors are crossed), errors, confidence, group, cluster, or any
    covariate of the cells. With ``crops`` the cells themselves are drawn, see `plot_thumbnails`.
    Up to 2,000 points are vectors; above 20,000 density is drawn. t-SNE and UMAP have no units
    along their axes, so none are drawn; directions and gaps between far groups mean little.
    """
    if cells is not None and crops:
        return plot_thumbnails(embedding, cells, layout)
    if isinstance(color, str):
        if cells is None:
            raise TypeError("plot_embedding: give the cells, or color= as an array")
        shown = overlay(cells, color, probabilities=probabilities, clusters=clusters)
    else:
        shown = overlay_of_values("", color)
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    draw_map(axes, embedding.coordinates, shown)
    axes.set_title(f"{map_title(embedding)}" + (f": {shown.title.lower()}" if shown.title else ""))
    _label_axes(axes, embedding)
    _key(figure, axes, shown)
    return figure


@styled
def plot_embedding_panel(
    embedding: Embedding,
    cells: Cells,
    *,
    probabilities: NDArray[np.floating] | None = None,
    clusters: Clusters | None = None,
    covariate: str | None = None,
) -> Figure:
    """The same map six times: class, prediction, confidence, group, cluster, a covariate.

    What is not known is left out. The covariate defaults to the first one that varies, or to
    the size of the crop before padding.
    """
    overlays = [overlay(cells, "class")]
    if probabilities is not None:
        overlays += [
            overlay(cells, name, probabilities=probabilities)
            for name in ("prediction", "confidence")
        ]
    if cells.groups is not None:
        overlays.append(overlay(cells, "group"))
    if clusters is not None:
        overlays.append(overlay(cells, "cluster", clusters=clusters))
    extra = overlay(cells, covariate) if covariate is not None else _some_covariate(cells)
    overlays += [] if extra is None else [extra]

    columns = min(3, len(overlays))
    keys = max(-(-len(shown.categories) // _key_columns(shown)) for shown in overlays)
    rows = -(-len(overlays) // columns)
    height = rows * (2.5 + max(0.45, 0.18 * keys))
    figure = Figure(
        figsize=(WIDTH * columns / 3 if columns > 1 else 3.6, height), layout="constrained"
    )
    for place, shown in enumerate(overlays):
        axes = figure.add_subplot(rows, columns, place + 1)
        draw_map(axes, embedding.coordinates, shown)
        axes.set_title(f"{'abcdef'[place]}   {shown.title}")
        _key(figure, axes, shown, below=True)
    return figure


@styled
def plot_maps_by_depth(
    embeddings: Sequence[Embedding],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    *,
    depths: Mapping[str, int] | None = None,
) -> Figure:
    """The map of every depth, in depth order, coloured by class.

    Titles give the depth, the layer and recall@10: the share of each cell's ten nearest
    neighbours in the features that are among its ten nearest on the map.
    """
    shown = categorical("Class", labels, class_names)
    columns = 4 if len(embeddings) <= 16 else 5 if len(embeddings) <= 25 else 6
    columns = min(columns, max(len(embeddings), 2))
    rows = max(1, -(-len(embeddings) // columns))
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, rows * (side + 0.22) + 0.3), layout="constrained")
    for place, embedding in enumerate(embeddings):
        axes = figure.add_subplot(rows, columns, place + 1)
        draw_map(axes, embedding.coordinates, shown, small=True)
        depth = (depths or {}).get(embedding.layer, place)
        recall = embedding.quality.get("recall_10", float("nan"))
        name = shorten(embedding.layer, {4: 18, 5: 14, 6: 11}.get(columns, 20))
        axes.set_title(f"{depth}  {name}", size=8)
        axes.annotate(
            f"recall@10 {number(recall)}", (0.03, 0.03), xycoords="axes fraction", size=SMALL,
            color="#444444", path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    handles = _handles(shown)
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 5))
    return figure


@styled
def plot_thumbnails(embedding: Embedding, cells: Cells, layout: Layout | None = None) -> Figure:
    """The cells themselves on the map, without overlap, framed in the colour of their class.

    ``layout``: (indices of cells, their places (n, 2) as column and row of a grid), the result
    of `thumbnail_layout`, which is called where it is not given. Several image channels are
    shown by the first, which the title names; red, green and blue in colour.
    """
    found = _spread_out(embedding.coordinates) if layout is None else layout
    index, places = np.asarray(found[0]), np.asarray(found[1], dtype=np.int64)
    places = places - places.min(axis=0) if len(places) else places
    columns, rows = (places.max(axis=0) + 1).tolist() if len(places) else (1, 1)
    drawn = look_of(cells)
    _, height, width = cells.shape
    edge = max(1, round(max(height, width) / 24))
    h, w = height + 2 * edge + 1, width + 2 * edge + 1  # one white pixel between neighbours
    picture = np.ones((rows * h, columns * w, 3))
    palette = np.array([to_rgb(colour) for colour in colours(len(cells.class_names))])
    for start in range(0, len(index), 256):
        chosen = index[start : start + 256]
        order = np.argsort(chosen, kind="stable")  # read in order of the file
        for which, image in zip(order, cells.read(chosen[order])):
            column, row = places[start + which]
            y, x = (rows - 1 - row) * h, column * w
            picture[y : y + h - 1, x : x + w - 1] = palette[cells.labels[chosen[which]]]
            tile = picture[y + edge : y + edge + height, x + edge : x + edge + width]
            tile[...] = drawn.show(image)
    size = np.clip(WIDTH * rows * h / (columns * w), 2.0, 9.5)
    figure = Figure(figsize=(WIDTH, size + 0.55), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="antialiased")
    axes.set_axis_off()
    view = "" if len(drawn.views) == 1 else f", {drawn.views[0]}"
    axes.set_title(f"{map_title(embedding)}: {len(index):,} of {len(cells):,} cells{view}")
    handles = _handles(overlay(cells, "class"), square=True)
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 5))
    return figure


def _spread_out(coordinates: NDArray[np.floating]) -> Layout:
    """The layout of the embedding room, which is imported only where it is needed."""
    from cytolens.embedding import thumbnail_layout

    return thumbnail_layout(coordinates)


def map_title(embedding: Embedding) -> str:
    """``t-SNE of conv3``."""
    method = METHODS.get(embedding.method, embedding.method)
    return f"{method} of {shorten(embedding.layer, 28)}"


def draw_map(
    axes: Axes, coordinates: NDArray[np.floating], shown: Overlay, *, small: bool = False
) -> None:
    """Cells as points (or density, when there are many) on square axes without ticks."""
    xy = np.asarray(coordinates, dtype=np.float64)
    known = np.isfinite(xy).all(axis=1)
    n = int(known.sum())
    bare(axes)
    axes.set_aspect("equal")
    if n == 0:
        axes.text(0.5, 0.5, "no cells", transform=axes.transAxes, ha="center", va="center")
        return
    centre, half = _frame(xy[known])
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    factor = 0.4 if small else 1.0
    outside = int((np.abs(xy[known] - centre) > half).any(axis=1).sum())
    if outside:
        note = f"{outside} outside" if small else f"{outside} cells outside"
        axes.annotate(
            note, (0.98, 0.97), xycoords="axes fraction", ha="right", va="top",
            size=SMALL, color="#444444",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    if n > SHADE_LIMIT:
        extent = (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)
        finest = 160 if small else 400
        pixels = int(np.clip(0.8 * n**0.5, 100, finest))
        picture = _shade(xy[known], shown.rgb[known], extent, pixels)
        axes.imshow(picture, extent=extent, origin="lower", aspect="equal", interpolation="nearest")
    else:
        opacity = float(np.clip(1.15 - 0.1 * np.log10(n), 0.6, 0.9))
        order = np.random.default_rng(0).permutation(np.flatnonzero(known))  # no class on top
        axes.scatter(
            xy[order, 0], xy[order, 1], c=shown.rgb[order], linewidths=0,
            s=factor * np.clip(7000 / n, 1.0, 16.0), alpha=opacity,
            rasterized=n > (VECTOR_LIMIT // 10 if small else VECTOR_LIMIT),
        )  # fmt: skip
    if shown.marked is not None:
        at = xy[known & shown.marked]
        axes.scatter(
            at[:, 0], at[:, 1], marker="x", color=INK, linewidths=0.5,
            s=np.clip(1000 / max(len(at), 1), 2, 8), alpha=0.8, rasterized=len(at) > VECTOR_LIMIT,
        )  # fmt: skip
    if shown.numbered and shown.codes is not None:
        for code, (name, _) in enumerate(shown.categories):
            members = known & (shown.codes == code)
            if name != "none" and members.any():
                x, y = np.median(xy[members], axis=0)
                halo = [withStroke(linewidth=2.2, foreground="white")]
                axes.text(
                    x, y, name, ha="center", va="center", size=8, weight="bold", path_effects=halo
                )


def _frame(xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre (2,) and half width of a square around all cells, but for a few far ones.

    Up to one cell in two hundred is left outside where the frame would else be a third wider;
    t-SNE has no such cells, PCA does.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    inner_low, inner_high = np.percentile(xy, [0.25, 99.75], axis=0)
    if (high - low).max() > 1.35 * (inner_high - inner_low).max() > 0:
        low, high = inner_low, inner_high
    return (low + high) / 2, max(float((high - low).max()) * 0.54, 1e-6)


def _shade(
    xy: NDArray[np.float64],
    rgb: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    pixels: int,
) -> NDArray[np.float64]:
    """(pixels, pixels, 4): the mean colour of the cells in a pixel, denser where there are more.

    Opacity goes with the logarithm of the count. Source: the idea of datashader (Bednar 2016).
    """
    left, right, bottom, top = extent
    inside = (xy[:, 0] >= left) & (xy[:, 0] < right) & (xy[:, 1] >= bottom) & (xy[:, 1] < top)
    xy, rgb = xy[inside], rgb[inside]
    column = ((xy[:, 0] - left) / (right - left) * pixels).astype(np.int64)
    row = ((xy[:, 1] - bottom) / (top - bottom) * pixels).astype(np.int64)
    place = row * pixels + column
    count = np.bincount(place, minlength=pixels**2).astype(np.float64)
    picture = np.zeros((pixels**2, 4))
    for part in range(3):
        total = np.bincount(place, weights=rgb[:, part], minlength=pixels**2)
        picture[:, part] = total / np.maximum(count, 1)
    dense = np.percentile(count[count > 0], 99)
    picture[:, 3] = np.where(count > 0, 0.35 + 0.65 * np.log1p(count) / np.log1p(dense), 0)
    return np.clip(picture, 0, 1).reshape(pixels, pixels, 4)


def _key_columns(shown: Overlay) -> int:
    """Columns of the legend below a map; clusters have none, their numbers stand on the map."""
    if shown.numbered or not shown.categories:
        return 99
    return 3 if max(len(name) for name, _ in shown.categories) <= 6 else 2


def _handles(shown: Overlay, *, square: bool = False, length: int = 24) -> list[Line2D]:
    return [
        Line2D(
            [], [], linestyle="", marker="s" if square else "o", ms=5, color=colour,
            label=legend_text(name, length),
        )
        for name, colour in shown.categories
    ]  # fmt: skip


def _key(figure: Figure, axes: Axes, shown: Overlay, *, below: bool = False) -> None:
    """The legend or colour bar that belongs to a map."""
    if shown.categories:
        handles = [] if shown.numbered and len(shown.categories) > 12 else _handles(shown)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        if below:
            handles = [] if shown.numbered else _handles(shown, length=14)
            place = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.01)}
            place["ncols"] = _key_columns(shown)
        if handles:
            axes.legend(
                handles=handles, borderaxespad=0.2, columnspacing=0.8, handlelength=1.0,
                labelspacing=0.3, **place,
            )  # fmt: skip
    elif shown.limits is not None:
        low, high = shown.limits
        mappable = ScalarMappable(Normalize(low, high if high > low else low + 1), "viridis")
        options: dict[str, Any] = {"shrink": 0.75, "aspect": 18, "pad": 0.02}
        if below:
            options = {"orientation": "horizontal", "shrink": 0.8, "aspect": 22, "pad": 0.02}
        bar = figure.colorbar(mappable, ax=axes, **options)
        bar.set_label(shorten(shown.label, 30), size=SMALL + 0.5)
        bar.ax.tick_params(labelsize=SMALL + 0.5)
        cast(Any, bar.outline).set_visible(False)


def _label_axes(axes: Axes, embedding: Embedding) -> None:
    """PCA has axes that mean something; the others have none."""
    if embedding.method == "pca":
        shares = embedding.settings.get("explained_variance_ratio", ())
        for place, label in enumerate((axes.set_xlabel, axes.set_ylabel)):
            share = f" ({100 * shares[place]:.0f} % of variance)" if len(shares) > place else ""
            label(f"component {place + 1}{share}")


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
