"""The chapter on the maps of the feature space, and on what they kept of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytolens.figures.cluster_map import plot_cluster_outlines
from cytolens.figures.labels import format_number, map_name
from cytolens.figures.map_panels import plot_embedding_panel, plot_maps_by_depth
from cytolens.figures.maps import SHADE_LIMIT
from cytolens.figures.outlines import CORE
from cytolens.figures.thumbnails import plot_thumbnails
from cytolens.records.cells import Cells, Split
from cytolens.records.classifier import Predictions
from cytolens.records.clusters import Clusters
from cytolens.records.features import ChannelRanking
from cytolens.records.layers import Activations
from cytolens.records.maps import Embedding
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUALITY = {
    "recall_10": "recall@10",
    "recall_100": "recall@100",
    "trustworthiness": "trustworthiness",
    "continuity": "continuity",
    "distance_correlation": "correlation of distances",
    "kl_divergence": "KL divergence",
}
_FEW_KEPT = 0.2  # recall@10 below which a map is to be read by groups only
_QUALITY_TEXT = (
    "Recall@k: share of a cell's k nearest neighbours in the features that are among its k "
    "nearest on the map. Trustworthiness: 1 unless neighbours on the map are far apart in the "
    "features; continuity: 1 unless neighbours in the features are far apart on the map. "
    "Correlation of distances: Spearman's, over random pairs of cells. KL divergence (nats): what "
    "t-SNE minimises; comparable between maps of the same cells only."
)
_READING = {
    "tsne": "Cells that lie close together are alike to the network; distances between far groups, "
    "their sizes and the axes mean nothing.",
    "pca": "The axes are the two directions of largest variance; cells that overlap may differ in "
    "others.",
}
_READING_OTHERS = (
    "Cells that lie close together are alike to the network; distances between far groups and the "
    "axes mean little."
)


def figures(results: Results) -> Iterator[Drawing]:
    """The main map in every colouring, its clusters and cells; the maps of all depths."""
    cells, layer = results.mapped_cells, results.main_layer
    clusters = results.by_layer("clusters", Clusters)
    if cells is None:
        return
    if layer is not None and layer in results.main_maps:
        yield from _main_map(results, cells, results.main_maps[layer], clusters.get(layer))
    depths = {found.name: found.depth for found in results.layers}
    maps = results.nested("maps", Embedding)
    first = next(iter(maps), "")
    for method, by_layer in maps.items():
        ordered = sorted(by_layer.values(), key=lambda found: depths.get(found.layer, 0))
        if len(ordered) > 1:
            fold = "" if method == first else "Maps of another kind"
            yield _by_depth(results, cells, method, ordered, clusters, depths, fold)


def tables(results: Results) -> Iterable[ReportTable | None]:
    """Every map with every number that says what it kept."""
    maps = [m for by_layer in results.nested("maps", Embedding).values() for m in by_layer.values()]
    keys = [key for key in _QUALITY if any(key in found.quality for found in maps)]
    if not keys:
        return
    depths = {layer.name: layer.depth for layer in results.layers}
    maps.sort(key=lambda found: depths.get(found.layer, 0))
    rows = tuple(
        (
            found.layer,
            map_name(found.method),
            *(format_number(found.quality.get(key), 3) for key in keys),
        )
        for found in maps
    )
    header = ("layer", "map", *(_QUALITY[key] for key in keys))
    yield ReportTable("What each map kept", header, rows, _QUALITY_TEXT, 2, folded=True)


def result(results: Results) -> str:
    """How much the main map kept."""
    shown = results.main_maps.get(results.main_layer or "")
    if shown is None:
        return ""
    return f"{map_name(shown.method)} of {shown.layer}. {quality_of_map(shown.quality)}"


def _drawn(results: Results, shown: Cells) -> str:
    """That not all cells are on the map, where it is so."""
    every = results.cells
    if every is None or len(every) == len(shown):
        return ""
    return f", drawn at random from {len(every):,}"


def _of_how_many(embedding: Embedding) -> str:
    """What a map of very many cells cannot show."""
    kept = embedding.quality.get("recall_10", 1.0)
    if not kept < _FEW_KEPT:
        return ""
    return (
        f"Of a cell's ten nearest neighbours in the features {10 * kept:.1f} are among its ten "
        "nearest here: the map shows which groups there are, and how they border on each other, "
        "not which single cells are alike. "
    )


def _main_map(
    results: Results, cells: Cells, embedding: Embedding, clusters: Clusters | None
) -> Iterator[Drawing]:
    layer = embedding.layer
    plot = partial(_plot_panel, results, cells, embedding, clusters)
    caption = (
        f"Each of the {len(cells):,} points is a cell{_drawn(results, cells)}, placed by its "
        f"{layer} features. {_of_how_many(embedding)}"
        f"{_READING.get(embedding.method, _READING_OTHERS)} If group or a covariate orders the map "
        "as the class does, the network may be using it."
    )
    title, note = f"The map of {layer} in several colourings", _panel_note(results, embedding)
    channel = _main_channel(results, layer)
    if channel is not None:
        note += f" Channel {channel} is the one of this layer that matters most to the decision."
    yield Drawing("map_panel", title, caption, plot, note)
    if clusters is not None and clusters.n:
        purity = clusters.table.max(axis=1).sum() / max(clusters.table.sum(), 1)
        caption = (
            "The clusters, found in the features and not on the map, as outlines, with their "
            "typical cells. The share is that of the most frequent class; over all clusters it is "
            f"{100 * purity:.0f} %. Where an outline falls into pieces, or two cross, the map has "
            "not kept the cluster."
        )
        note = (
            f"An outline bounds the smallest region that holds {100 * CORE:.0f} % of a cluster. "
            "Typical cells are those nearest to the mean of the cluster."
        )
        plot = partial(plot_cluster_outlines, embedding, clusters, cells)
        yield Drawing("map_clusters", "The clusters on the map", caption, plot, note)
    caption = (
        "The same map with crops in place of points, framed in the colour of their class. Walk "
        "across a border between classes to see what changes. Above, each place shows one cell; "
        "others at the same place are hidden."
    )
    note = (
        "Above: each place of a grid shows the cell nearest to its middle. Below: the part where "
        "most cells have neighbours of other classes. There each cell has a square of its own, "
        "assigned so that cells move as little as possible in total; the text says how far."
    )
    plot = partial(plot_thumbnails, embedding, cells)
    title = f"The cells on the map of {layer}"
    yield Drawing(
        "map_thumbnails", title, caption, plot, note, front=2, brief=partial(plot, brief=True)
    )


def _by_depth(
    results: Results,
    cells: Cells,
    method: str,
    ordered: Sequence[Embedding],
    clusters: Mapping[str, Clusters],
    depths: Mapping[str, int],
    fold: str,
) -> Drawing:
    main = ordered[0].method == next(iter(results.main_maps.values())).method
    plot = partial(
        plot_maps_by_depth, ordered, cells, clusters=clusters, depths=depths or None,
        probabilities=_probabilities(results), only_class=not main,
    )  # fmt: skip
    caption = (
        "The same cells at every depth, from the pixels to the logits. See from where on the "
        "classes lie apart. Separation itself is measured in the features (next chapter), as maps "
        "can show gaps that are not there."
    )
    note = quality_of_maps(ordered)
    if method != "pca":
        note = f"Each map starts from the previous one, so that cells stay where they can. {note}"
    if main and clusters:
        note += (
            " Clusters are found at each depth separately; a cluster takes the colour of the one "
            "before it that shares most cells with it."
        )
    title = f"The maps by depth ({map_name(method)})"
    return Drawing(f"maps_by_depth_{method}", title, caption, plot, note, fold=fold)


def _plot_panel(
    results: Results, cells: Cells, embedding: Embedding, clusters: Clusters | None
) -> "Figure":
    layer, channel, values = embedding.layer, _main_channel(results, embedding.layer), {}
    activations, mapped = results.read("activations", Activations), results.mapped
    if channel is not None and activations is not None and mapped is not None:
        values = {f"{layer}, channel {channel}": activations.rows(layer, mapped)[:, channel]}
    probabilities = _probabilities(results)
    return plot_embedding_panel(
        embedding, cells, clusters=clusters, probabilities=probabilities, values=values
    )


def _main_channel(results: Results, layer: str) -> int | None:
    """The channel of a layer that matters most, where its activation is at hand."""
    ranking = results.by_layer("ranking", ChannelRanking).get(layer)
    activations = results.read("activations", Activations)
    if ranking is None or activations is None or not len(ranking.importance):
        return None
    first = int(np.nan_to_num(ranking.importance, nan=-np.inf).argmax())
    return first if first < activations.features[layer].shape[1] else None


def _probabilities(results: Results) -> NDArray[np.floating] | None:
    """Predictions for the cells on the maps."""
    found, mapped = results.read("evaluation", Predictions), results.mapped
    if found is None:
        return None
    return found.probabilities if mapped is None else found.probabilities[mapped]


def _panel_note(results: Results, embedding: Embedding) -> str:
    n = len(embedding.coordinates)
    text = (
        f"{quality_of_map(embedding.quality)} Lines on the map by class hold 50 % and 90 % of each "
        f"class; those around clusters hold {100 * CORE:.0f} %."
    )
    if n > SHADE_LIMIT:
        text += (
            f" With more than {SHADE_LIMIT:,} cells, a pixel has the mean colour of its cells and "
            "is denser where there are more; categories of less than 2 % of the cells are drawn "
            "as points on top."
        )
    test, others = _errors(results)
    if test is not None:
        text += (
            f" Of the crosses {test:,} are test cells; the other {others:,} were used for training "
            "or validation, where errors are rarer than they will be on new cells."
        )
    elif others is not None:
        text += f" {others:,} cells are predicted wrongly."
    return text.strip()


def _errors(results: Results) -> tuple[int | None, int | None]:
    """Wrongly predicted cells on the map: test cells, and all others (None where not known)."""
    cells, found = results.cells, results.read("evaluation", Predictions)
    if cells is None or found is None:
        return None, None
    mapped = np.arange(len(cells)) if results.mapped is None else results.mapped
    wrong = mapped[found.probabilities[mapped].argmax(axis=1) != cells.labels[mapped]]
    split = results.read("split", Split)
    if split is None:
        return None, len(wrong)
    test = int(np.isin(wrong, split.test).sum())
    return test, len(wrong) - test


def quality_of_map(quality: Mapping[str, float]) -> str:
    """One sentence with every number known of a map; empty where there is none."""
    known = {key: format_number(quality[key]) for key in _QUALITY if key in quality}
    return _quality_sentence("The map", known)


def quality_of_maps(maps: Sequence[Embedding]) -> str:
    """The same as ranges over several maps."""
    known: dict[str, str] = {}
    for key in _QUALITY:
        values = [found.quality[key] for found in maps if key in found.quality]
        if values:
            low, high = format_number(min(values)), format_number(max(values))
            known[key] = low if low == high else f"{low} to {high}"
    return _quality_sentence("The maps", known)


def _quality_sentence(what: str, known: Mapping[str, str]) -> str:
    shares = [f"{_QUALITY[key]} {text}" for key, text in known.items() if key != "kl_divergence"]
    text = f"{what} kept (1: all) {', '.join(shares)}." if shares else ""
    if "kl_divergence" in known:
        text += f" KL divergence {known['kl_divergence']} nats."
    return text.strip()


CHAPTER = Chapter("maps", "Maps of the feature space", 30, figures, tables, result=result)
