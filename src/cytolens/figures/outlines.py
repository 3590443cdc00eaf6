"""Clusters as outlines on a map: where the core of each lies, how large and how pure it is."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from cytolens.figures.density import Extent, draw_contours, extent_of
from cytolens.figures.labels import shorten
from cytolens.figures.style import SMALL, colours
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding

CORE = 0.75  # share of a cluster's cells that its outline holds


def draw_cluster_outlines(
    axes: Axes,
    embedding: Embedding,
    clusters: Clusters,
    *,
    class_names: Sequence[str] = (),
    palette: Sequence[str] | None = None,
    labels: str = "number",
    extent: Extent | None = None,
) -> list[tuple[float, float] | None]:
    """A line around the core of every cluster, labelled where the cluster is densest.

    The line bounds the smallest region of the map that holds three quarters of the cluster's
    cells; a cluster that the map has torn apart has several. ``labels``: "number", "full" (number,
    size, and the share of its most frequent class) or "none". ``palette`` has a colour per
    cluster; by default those that `overlay` gives clusters, which no class has. Gives the place of
    each label, None for clusters of fewer than five cells on the map, which are not outlined.
    """
    frame = extent_of(embedding.coordinates) if extent is None else extent
    tints = colours(clusters.n, first=clusters.table.shape[1]) if palette is None else palette
    halo = [withStroke(linewidth=2.2, foreground="white")]
    places: list[tuple[float, float] | None] = []
    for k in range(clusters.n):
        members = embedding.coordinates[clusters.labels == k]
        at = draw_contours(axes, members, frame, colour=tints[k], shares=(CORE,), linewidth=1.3)
        places.append(None if at is None else (float(at[0]), float(at[1])))
        if at is None or labels == "none":
            continue
        text = str(k) if labels == "number" else describe_cluster(clusters, k, class_names)
        size = 8 if labels == "number" else SMALL
        axes.text(
            at[0], at[1], text, ha="center", va="center", size=size, weight="bold",
            color="#222222", path_effects=halo, zorder=6, linespacing=1.1,
        )  # fmt: skip
    return places


def describe_cluster(clusters: Clusters, k: int, class_names: Sequence[str] = ()) -> str:
    """Number, size, and purity: the share of the class that most of its cells belong to."""
    counts = clusters.table[k]
    text = f"{k}:  n = {counts.sum():,}"
    if not counts.sum():
        return text
    name = class_names[int(counts.argmax())] if len(class_names) else "one class"
    return f"{text}\n{100 * counts.max() / counts.sum():.0f} % {shorten(name, 18)}"
