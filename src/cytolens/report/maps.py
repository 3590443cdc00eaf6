"""The chapter on the maps: drawings and captions."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cytolens.figures.cluster_map import plot_cluster_outlines
from cytolens.figures.map_panels import plot_embedding_panel, plot_maps_by_depth
from cytolens.figures.maps import SHADE_LIMIT
from cytolens.figures.outlines import CORE
from cytolens.figures.style import METHODS, shorten
from cytolens.figures.thumbnails import plot_thumbnails
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding
from cytolens.report import quality
from cytolens.report.results import StudyResults

if TYPE_CHECKING:
    from cytolens.report.story import Chapter, Drawing

_READING = {
    "tsne": "Near cells are alike to the network; distances between far groups, their sizes and "
    "the axes mean nothing.",
    "umap": "Near cells are alike to the network; distances between far groups and the axes mean "
    "little.",
    "pacmap": "Near cells are alike to the network; distances between far groups and the axes mean "
    "little.",
    "pca": "Axes are the two directions of largest variance; cells may overlap that differ in "
    "others.",
}

_CHAIN = (
    "Each map starts from its neighbour, so that cells keep their place as far as the features "
    "allow. "
)


def chapter(results: StudyResults) -> "Chapter":
    """The main map in every colouring, its clusters and cells; the maps of all depths."""
    drawings: list[Drawing] = []
    cells, layer = results.mapped_cells, results.main_layer
    if cells is not None and layer is not None and layer in results.main_maps:
        embedding, clusters = results.main_maps[layer], results.clusters.get(layer)
        plot = partial(
            plot_embedding_panel, embedding, cells, clusters=clusters,
            probabilities=results.mapped_probabilities, covariate=results.covariate,
            values=results.map_values,
        )  # fmt: skip
        title = f"The map of {layer}, by what is known of the cells"
        drawings.append(("map_panel", title, of_panel(embedding, results), plot, False))
        if clusters is not None and clusters.n:
            plot = partial(plot_cluster_outlines, embedding, clusters, cells)
            title = "The clusters on the map, and their typical cells"
            drawings.append(("map_clusters", title, of_clusters(clusters), plot, False))
        plot = partial(plot_thumbnails, embedding, cells)
        title = "The cells themselves on the map"
        drawings.append(("map_thumbnails", title, of_thumbnails(embedding), plot, False))
    depths = {found.name: found.depth for found in results.layers}
    for method, by_layer in results.maps.items():
        ordered = sorted(by_layer.values(), key=lambda e: depths.get(e.layer, 0))
        if cells is not None and len(ordered) > 1:
            main = by_layer is results.main_maps
            plot = partial(
                plot_maps_by_depth, ordered, cells, clusters=results.clusters,
                probabilities=results.mapped_probabilities, depths=depths or None,
                only_class=not main,
            )  # fmt: skip
            title = f"The maps by depth ({METHODS.get(method, method)})"
            text = of_depths(ordered, clustered=main and bool(results.clusters))
            drawings.append((f"maps_by_depth_{method}", title, text, plot, False))
    found = (quality.quality_table(results),)
    return "maps", "Maps of the feature space", (), drawings, found


def of_panel(embedding: Embedding, results: StudyResults) -> str:
    """Caption of the map in every colouring."""
    n = len(embedding.coordinates)
    text = (
        f"Each of the {n:,} points is a cell, placed by its {embedding.layer} features. "
        f"{_READING.get(embedding.method, '')} {quality.of_map(embedding.quality)} "
        "Lines on the map by class hold 50 % and 90 % of each class; those around clusters hold "
        f"{100 * CORE:.0f} %."
    )
    if n > SHADE_LIMIT:
        text += (
            f" With more than {SHADE_LIMIT:,} cells, a pixel has the mean colour of its "
            "cells, denser where there are more; categories of less than 2 % of the cells are "
            "drawn as points above that."
        )
    wrong_test, wrong_rest = _errors(results)
    if wrong_test is not None and wrong_rest is not None:
        text += (
            f" Of the crosses {wrong_test:,} are test cells; the other {wrong_rest:,} were used "
            "for training or validation, where errors are rarer than they will be on new cells."
        )
    elif wrong_rest is not None:
        text += f" {wrong_rest:,} cells are predicted wrongly."
    for title in results.map_values:
        text += f" {shorten(title, 34)} is the one of the layer that matters most to the decision."
    return text + (
        " If group or a covariate orders the map as the class does, the network may be using it."
    )


def of_clusters(clusters: Clusters) -> str:
    """Caption of the clusters on the map."""
    purity = clusters.table.max(axis=1).sum() / max(clusters.table.sum(), 1)
    return (
        f"The clusters of {clusters.layer}, found in its features and not on the map. An outline "
        f"bounds the smallest region that holds {100 * CORE:.0f} % of a cluster; where it falls "
        "into pieces, or two cross, the map has not kept what the clustering found. The share is "
        "that of the most frequent class; over all clusters it is "
        f"{100 * purity:.0f} %. Typical cells are those nearest to the mean of the cluster."
    )


def of_thumbnails(embedding: Embedding) -> str:
    """Caption of the map of crops."""
    return (
        f"The same map of {embedding.layer}, with crops in place of points, framed in the colour "
        "of their class. Above, each place of the grid shows the one cell nearest to its middle, "
        "and where many cells share a place the others are not seen. Below, the part where most "
        "cells have neighbours of other classes: cells are assigned to squares at the least total "
        "displacement, so that none hides another; how far they were moved is said beside them. "
        "Walk across a border between classes to see what changes with it."
    )


def of_depths(embeddings: Sequence[Embedding], *, clustered: bool) -> str:
    """Caption of the maps of all depths."""
    text = (
        "The same cells at every depth, from the pixels to the logits. "
        f"{_CHAIN if embeddings[0].method != 'pca' else ''}{quality.of_maps(embeddings)} "
    )
    if clustered:
        text += (
            "Clusters are found at each depth anew; a colour goes over to the cluster of the next "
            "depth that shares most cells with it. "
        )
    return text + "Whether classes separate is measured in the features, not on these maps (below)."


def _errors(results: StudyResults) -> tuple[int | None, int | None]:
    """Wrongly predicted cells on the map: test cells, and all others (None where not known)."""
    cells, probabilities = results.cells, results.probabilities
    if cells is None or probabilities is None:
        return None, None
    wrong = probabilities.argmax(axis=1) != cells.labels
    on_map = np.ones(len(cells), dtype=bool)
    if results.mapped is not None:
        on_map[:] = False
        on_map[results.mapped] = True
    if results.split is None:
        return None, int((wrong & on_map).sum())
    test = np.zeros(len(cells), dtype=bool)
    test[results.split.test] = True
    return int((wrong & on_map & test).sum()), int((wrong & on_map & ~test).sum())
