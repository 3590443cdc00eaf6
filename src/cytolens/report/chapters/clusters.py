"""The chapter on clusters: whether there are any, what they are, and how they pass on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cytolens.figures.clusters import letter, plot_class_parts, plot_clusters
from cytolens.figures.flow import plot_flow
from cytolens.figures.labels import format_interval, format_number
from cytolens.figures.origins import plot_from_cells
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Split
from cytolens.records.classifier import TrainedNetwork
from cytolens.records.clusters import (
    ClassParts,
    ClusterDescription,
    ClusterFlow,
    Clusters,
    Populations,
)
from cytolens.report.began import began_text
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

_BEGAN = "How the images of the parts of classes were made"
_METHODS = {
    "kmeans": "k-means",
    "gmm": "a mixture of Gaussians",
    "hdbscan": "HDBSCAN",
    "leiden": "communities of the neighbour graph, Leiden",
}
_FLOW_NOTE = (
    "The height of a bar is its number of cells. Below: adjusted mutual information of the two "
    "layers (1: the same clusters, 0: no more than independent ones; in brackets the 95 % limit of "
    "independent ones)."
)


def figures(results: Results) -> Iterator[Drawing]:
    """The clusters of the layer shown, the parts of each class there, and the flow by depth."""
    cells, shown, populations = results.mapped_cells, _shown(results), _populations(results)
    if cells is None:
        return
    if shown is not None and shown.layer in results.main_maps:
        images = None if results.galleries is None else results.galleries.clusters
        if images is not None and images.layer != shown.layer:
            images = None
        described = () if populations is None else populations.described
        caption = (
            "Clusters found in the features without the labels, drawn on the map. The bars show "
            "their classes. Compare stability with what a Gaussian without clusters reaches: a "
            "stable cluster without a gap around it is a piece of a continuum, not a kind of cell."
        )
        plot = partial(
            plot_clusters, shown, results.main_maps[shown.layer], cells, images,
            described=described,
        )  # fmt: skip
        note = _clusters_note(shown, described, images=images is not None)
        if images is not None:
            note += began_text(
                images, f"How the images of the clusters of {images.layer} were made"
            )
        yield Drawing("clusters", f"Clusters of {shown.layer}", caption, plot, note)
    if populations is None:
        return
    if populations.classes:
        plot = partial(
            plot_class_parts, populations.classes, cells, populations.images, populations.own
        )
        title = f"The parts of each class at {populations.layer}"
        caption = _parts_caption(populations.classes)
        note = _parts_note(images=populations.images is not None)
        note += began_text(populations.images, _BEGAN)
        yield Drawing("class_parts", title, caption, plot, note)
        if populations.images is not None and populations.images.starts is not None:
            shape: dict[str, Any] = {
                "channel_names": cells.channel_names, "pixel_size": cells.pixel_size,
            }  # fmt: skip
            short = tuple(name.replace(", part ", " ") for name in populations.images.targets)
            images = replace(populations.images, targets=short)
            plot = partial(plot_from_cells, [images], least_columns=6, **shape)
            caption = (
                "The image of each part, made in the direction from the mean of its class to that "
                "of the part, with the cell that it began as and what was changed."
            )
            yield Drawing("class_parts_starts", _BEGAN, caption, plot, fold="Images of the parts")
    if len(populations.flow.layers) > 1:
        plot = partial(plot_flow, populations.flow, cells.labels, cells.class_names)
        title = "Which clusters become which, from layer to layer"
        caption = _flow_caption(populations.flow)
        yield Drawing("cluster_flow", title, caption, plot, _FLOW_NOTE)


def tables(results: Results) -> Iterable[ReportTable | None]:
    """Clusters by layer, their agreement with classes and groups, and what distinguishes them."""
    clusters, shown, populations = _clusters(results), _shown(results), _populations(results)
    names = () if results.cells is None else results.cells.class_names
    yield _layers_table(clusters)
    yield _agreement_table(clusters)
    yield None if shown is None or not names else clusters_table(shown, names)
    yield None if populations is None or not names else _differences_table(populations, names)


def sentences(results: Results) -> tuple[str, ...]:
    """Whether there are clusters at all, how many, and which are groups rather than kinds."""
    clusters, shown = _clusters(results), _shown(results)
    known = [found for found in clusters.values() if found.stability is not None]
    found: list[str] = []
    if known:
        found.append(_gaps(known, results))
    if shown is not None:
        found.append(_how_many(shown))
    if any(one.groups is not None for one in clusters.values()):
        kind = "group" if results.cells is None else results.cells.group_name or "group"
        found.append(_groups(clusters, kind))
    return tuple(text for text in found if text)


def clusters_table(found: Clusters, class_names: Sequence[str]) -> ReportTable | None:
    """Cluster against class at the layer shown, and the group that most of its cells are of."""
    rows: list[tuple[str, ...]] = []
    groups = found.groups
    for k, row in enumerate(found.table):
        entries = [str(k), *(f"{count:,}" for count in row), f"{row.sum():,}"]
        if groups is not None:
            flag = ": mostly one group" if groups.dominated[k] else ""
            entries.append(
                f"{groups.names[groups.main[k]]} {100 * groups.share[k]:.0f} % (expected "
                f"{100 * groups.expected[k]:.0f}, chance {100 * groups.null[k]:.0f}){flag}"
            )
        rows.append(tuple(entries))
    if not rows:
        return None
    header = ("cluster", *class_names, "cells", *(["largest group"] if groups else []))
    title = f"Clusters of {found.layer} against classes"
    return ReportTable(title, header, tuple(rows), folded=len(rows) > 20)


def _clusters(results: Results) -> Mapping[str, Clusters]:
    return results.by_layer("clusters", Clusters)


def _populations(results: Results) -> Populations | None:
    return results.read("populations", Populations)


def _shown(results: Results) -> Clusters | None:
    """The clusters of the layer that is shown large."""
    return _clusters(results).get(results.main_layer or "")


def _clusters_note(
    found: Clusters, described: Sequence[ClusterDescription], *, images: bool
) -> str:
    text = (
        f"Method: {_METHODS.get(found.method, found.method)}. Typical cells are those nearest to "
        "the mean of a cluster. "
    )
    if described:
        text += (
            "The name says which properties the cells of a cluster have more or less of than all "
            "others, the strongest first, if the difference exceeds what the largest of all "
            "properties reaches by chance (table below); clusters that are classes are named by "
            "what differs between classes. "
        )
    ari = found.agreement.get("ari")
    if ari is not None:
        limit = "" if ari.null is None else f", permuted labels at most {format_number(ari.null)}"
        text += (
            f"Agreement with the classes: adjusted Rand index {format_interval(ari)}{limit} "
            "(1: the same partition, 0: as by chance). "
        )
    stability = found.stability
    if stability is not None:
        text += (
            "Stable: overlap (Jaccard index) with the same cluster found again in "
            f"{stability.halves} random halves of {stability.size:,} cells; in brackets the most "
            "that a Gaussian of the same covariance, without clusters, reaches: a long Gaussian is "
            "cut at the same place every time. Gap: by how much the density of the cells falls "
            "towards the nearest other cluster (0: not at all, 1: to nothing); in brackets the "
            "limit where it does not fall (grey: not beyond it). "
        )
    if images:
        text += (
            "The feature image is made to point from the mean of all cells towards the mean of the "
            "cluster; it is no average of cells. "
        )
    return text.rstrip()


def _parts_caption(parts: Sequence[ClassParts]) -> str:
    divided = sum(1 for one in parts if _number_of_parts(one.clusters) > 1)
    text = "Each class clustered on its own, and what its parts differ in. "
    text += (
        f"Gaps divide {divided} of {len(parts)} classes into sub-populations. "
        if divided
        else "No gap divides any class: the names say along what a class varies, and are not kinds "
        "of cells. "
    )
    return text + "Differences in padding or size may only show how the cells were cut out."


def _parts_note(*, images: bool) -> str:
    text = (
        "AUC: share of pairs in which the cell of the part has more of the property than a cell of "
        "the rest of the class (0.5: no difference), with 95 % interval; grey where the largest of "
        "all properties reaches as much by chance."
    )
    if images:
        text += (
            " Feature images point from the mean of the class towards that of the part. One is "
            "shown only where most of the 15 cells that are most like it, of as many cells of each "
            "part and in texture statistics that had no part in its making, are of its part; below "
            "it stands their share."
        )
    return text


def _flow_caption(flow: ClusterFlow) -> str:
    text = (
        "A column per layer, a bar per cluster; bands are the cells that two clusters share. "
        "Colour: the most frequent class, paler where less pure; grey: in no cluster."
    )
    known = [shared.value for shared in flow.agreement if np.isfinite(shared.value)]
    if known:
        text += (
            f" The agreement below runs from {format_number(min(known))} to "
            f"{format_number(max(known))}: where it is low, the network groups the cells anew."
        )
    return text


def _layers_table(clusters: Mapping[str, Clusters]) -> ReportTable | None:
    rows = tuple(
        (
            name,
            str(found.n),
            _chosen_in(found),
            format_interval(found.stability.ari),
            format_number(found.stability.ari.null),
            str(found.stability.n_parts),
        )
        for name, found in clusters.items()
        if found.stability is not None
    )
    header = ("layer", "clusters", "chosen in", "stability", "of a Gaussian", "parts")
    text = (
        "Chosen in: share of random halves that give this number, and what others give. Stability: "
        "adjusted Rand index between the clusters of halves and of all cells. Of a Gaussian: what "
        "a Gaussian of the same covariance, without clusters, reaches. Parts: divided by gaps."
    )
    folded = len(rows) > 20
    return ReportTable("Clusters by layer", header, rows, text, folded=folded) if rows else None


def _agreement_table(clusters: Mapping[str, Clusters]) -> ReportTable | None:
    rows: list[tuple[str, ...]] = []
    for name, found in clusters.items():
        agreements = [("classes", found.agreement)]
        if found.groups is not None:
            agreements.append(("groups", found.groups.agreement))
        for place, (kind, known) in enumerate(agreements):
            values = (_with_null(known.get(key)) for key in ("ari", "nmi", "purity"))
            rows.append((name if place == 0 else "", kind, *values))
    if not rows:
        return None
    header = ("layer", "with", "adjusted Rand", "mutual information", "purity")
    text = (
        "After the bar: the 95 % limit by chance, with labels permuted. Groups are permuted within "
        "classes, so that a cluster that is a class does not count as a group."
    )
    title = "Agreement of the clusters with classes and groups"
    return ReportTable(title, header, tuple(rows), text, 2, folded=len(rows) > 12)


def _differences_table(found: Populations, class_names: Sequence[str]) -> ReportTable | None:
    described = [(f"cluster {k}", one) for k, one in enumerate(found.described)]
    for parts in found.classes:
        name = class_names[parts.class_index]
        described += [(f"{name}, {letter(k)}", one) for k, one in enumerate(parts.described)]
    rows: list[tuple[str, ...]] = []
    for name, one in described:
        for place, difference in enumerate(one.differences[:4]):
            null = difference.auc.null
            rows.append(
                (
                    name if place == 0 else "",
                    one.name or "–" if place == 0 else "",
                    difference.name.replace("_", " "),
                    format_interval(difference.auc),
                    "–" if null is None else f"{format_number(1 - null)} to {format_number(null)}",
                )
            )
    if not rows:
        return None
    header = ("cells", "name", "property", "AUC", "by chance")
    text = (
        "AUC: share of pairs in which the cell has more than one of the others (of all cells, or "
        "of its class). By chance: what the largest of all properties and clusters stays within "
        "when cells exchange clusters."
    )
    title = "What distinguishes clusters and parts"
    return ReportTable(title, header, tuple(rows), text, 3, folded=len(rows) > 12)


def _gaps(known: Sequence[Clusters], results: Results) -> str:
    divided = [f"{c.layer} ({_number_of_parts(c)})" for c in known if _number_of_parts(c) > 1]
    continuum = "clusters are pieces of a continuum, however stable they are."
    if not divided:
        return f"At no layer does a gap in the density divide the clusters: {continuum}"
    text = f"Gaps in the density divide the cells into parts at {', '.join(divided)}"
    text += f"; at the other layers {continuum}" if len(divided) < len(known) else "."
    return text + _trained(results)


def _trained(results: Results) -> str:
    """How many of the clustered cells the network was trained on."""
    split, cells = results.read("split", Split), results.cells
    network = results.read("classifier", TrainedNetwork)
    if split is None or cells is None or (network is not None and network.seen != "no"):
        return ""  # said at the top of the report
    mapped = np.arange(len(cells)) if results.mapped is None else results.mapped
    share = np.isin(mapped, split.train).mean()
    if share == 0:
        return ""
    return (
        f" {100 * share:.0f} % of these cells were trained on; a network may pull those further "
        "apart than new ones."
    )


def _how_many(found: Clusters) -> str:
    """How sure the number of clusters is."""
    numbers = {} if found.stability is None else found.stability.numbers
    if not numbers:
        return ""
    same, total = numbers.get(str(found.n), 0), sum(numbers.values())
    others = [f"{k} in {n}" for k, n in numbers.items() if k != str(found.n)]
    text = f"The number of clusters at {found.layer}, {found.n}, is chosen in {same} of {total} "
    return f"{text}random halves of the cells" + (f" ({', '.join(others)})." if others else ".")


def _groups(clusters: Mapping[str, Clusters], kind: str) -> str:
    """Which clusters are mostly one group."""
    mostly = [
        f"cluster {k} of {name} is {groups.names[groups.main[k]]} ({100 * groups.share[k]:.0f} % "
        f"of it; {100 * groups.expected[k]:.0f} % expected from its classes)"
        for name, groups in ((name, found.groups) for name, found in clusters.items())
        if groups is not None
        for k in np.flatnonzero(groups.dominated)
    ]
    if not mostly:
        return f"No cluster at any layer is mostly one {kind}, beyond what its classes explain."
    more = f"; and {len(mostly) - 4} more" if len(mostly) > 4 else ""
    return f"Some clusters are a {kind} rather than a kind of cell: {'; '.join(mostly[:4])}{more}."


def _chosen_in(found: Clusters) -> str:
    numbers = {} if found.stability is None else found.stability.numbers
    if not numbers:
        return "–"
    total = sum(numbers.values())
    shares = {k: 100 * n / total for k, n in numbers.items()}
    others = ", ".join(f"{k}: {share:.0f}" for k, share in shares.items() if k != str(found.n))
    return f"{shares.get(str(found.n), 0):.0f} %{f' ({others})' if others else ''}"


def _number_of_parts(found: Clusters) -> int:
    return 0 if found.stability is None else found.stability.n_parts


def _with_null(estimate: Estimate | None) -> str:
    null = None if estimate is None else estimate.null
    return format_interval(estimate) + ("" if null is None else f" | {format_number(null)}")


CHAPTER = Chapter("clusters", "Clusters", 60, figures, tables, sentences)
