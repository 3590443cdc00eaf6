"""The chapter on clusters: are there any, what are they, whose are they, how do they pass on?"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cytolens.figures.clusters import letter, plot_class_parts, plot_clusters
from cytolens.figures.flow import plot_flow
from cytolens.figures.style import interval, number
from cytolens.numerics.estimates import Estimate
from cytolens.records.clusters import ClassParts, ClusterDescription, Clusters
from cytolens.records.features import FeatureImages
from cytolens.report.page import ReportTable
from cytolens.report.results import StudyResults

if TYPE_CHECKING:
    from cytolens.report.story import Chapter, Drawing

_METHODS = {
    "kmeans": "k-means",
    "gmm": "a mixture of Gaussians",
    "hdbscan": "HDBSCAN",
    "leiden": "communities of the neighbour graph, Leiden",
}


def chapter(results: StudyResults) -> "Chapter":
    """The clusters of the layer shown, the parts of each class there, and the flow by depth."""
    drawings: list[Drawing] = []
    layer, cells, found_parts = _layer(results), results.mapped_cells, results.populations
    if layer is not None and cells is not None and layer in results.main_maps:
        found = results.clusters[layer]
        images = _of(results.cluster_images, layer)
        described = () if found_parts is None else found_parts.described
        plot = partial(
            plot_clusters, found, results.main_maps[layer], cells, images,
            described=described,
        )  # fmt: skip
        text = of_clusters(found, described, images=images is not None)
        drawings.append(("clusters", f"Clusters of {layer}", text, plot, False))
    if cells is not None and found_parts is not None and found_parts.classes:
        parted, images = found_parts.classes, found_parts.images
        plot = partial(plot_class_parts, parted, cells, images)
        title = f"The parts of each class at {found_parts.layer}"
        text = of_parts(parted, images=images is not None)
        drawings.append(("class_parts", title, text, plot, False))
    flow = None if found_parts is None else found_parts.flow
    if flow is not None and cells is not None and len(flow.layers) > 1:
        plot = partial(plot_flow, flow, cells.labels, cells.class_names)
        title = "Which clusters become which, from layer to layer"
        drawings.append(("cluster_flow", title, of_flow(flow.agreement), plot, False))
    tables = (
        layers_table(results),
        agreement_table(results),
        clusters_table(results),
        differences_table(results),
    )
    return "clusters", "Clusters", sentences(results), drawings, tables


def sentences(results: StudyResults) -> tuple[str, ...]:
    """Whether there are clusters at all, how many, and which are groups rather than kinds."""
    known = [found for found in results.clusters.values() if found.stability is not None]
    said: list[str] = []
    if known:
        parted = [f"{c.layer} ({_parts(c)})" for c in known if _parts(c) > 1]
        said.append(
            "At no layer does a gap in the density divide the clusters: what was found is a "
            "continuum cut in pieces, however stable the cuts are."
            if not parted
            else "Gaps in the density divide the cells into parts at "
            f"{', '.join(parted)}"
            + (
                "; at the other layers clusters are a continuum cut in pieces, however stable "
                "the cuts are."
                if len(parted) < len(known)
                else "."
            )
            + (_trained(results) if parted else "")
        )
    layer = _layer(results)
    if layer is not None and results.clusters[layer].stability is not None:
        said.append(_number(results.clusters[layer]))
    if any(found.groups is not None for found in results.clusters.values()):
        said.append(_groups(results))
    return tuple(text for text in said if text)


def of_clusters(
    found: Clusters, described: tuple[ClusterDescription, ...] = (), *, images: bool
) -> str:
    """Caption of the clusters."""
    text = (
        f"Clusters ({_METHODS.get(found.method, found.method)}) found in the {found.layer} "
        "features without the labels, drawn on the map. Bars: their classes. Typical cells are "
        "those nearest to the mean of a cluster. "
    )
    if described:
        text += (
            "The name says what the cells of a cluster have more or less of than all others, the "
            "strongest first, if it exceeds what the largest of all properties reaches by chance "
            "(table below); clusters that are classes are named by what differs between classes. "
        )
    ari = found.agreement.get("ari")
    if ari is not None:
        text += (
            f"Agreement with the classes: adjusted Rand index {interval(ari)}{_null(ari)} (1: the "
            "same partition, 0: as by chance). "
        )
    stability = found.stability
    if stability is not None:
        text += (
            f"Stable: overlap (Jaccard index) with the cluster found again in {stability.halves} "
            f"random halves of {stability.size:,} cells; in brackets what one Gaussian cloud of "
            "the same covariance, without clusters, reaches at most: a long cloud is cut at the "
            "same place every time. Gap: by how much the density of cells not clustered falls "
            "towards the nearest other cluster (0: not at all, 1: nothing between), in brackets "
            "the limit where it does not fall (grey: not beyond it). "
        )
    if images:
        text += (
            "The feature image is made to point from the mean of all cells towards the mean of the "
            "cluster, on the network's own terms; it is no average of cells. "
        )
    return text.rstrip()


def of_parts(parted: tuple[ClassParts, ...], *, images: bool) -> str:
    """Caption of the parts of each class."""
    real = sum(1 for parts in parted if _parts(parts.clusters) > 1)
    text = (
        "Each class clustered on its own, and what its parts differ in: AUC is the share of pairs "
        "in which the cell of the part has more than one of the rest of the class (0.5: no "
        "difference), with 95 % interval; grey where the largest of all properties reaches as much "
        "by chance. "
    )
    text += (
        f"Gaps divide {real} of {len(parted)} classes into sub-populations. "
        if real
        else "No class is divided by a gap: names tell along what it varies, not kinds of cells. "
    )
    if images:
        text += "Feature images point from the mean of the class towards that of the part. "
    return text + "Properties of the crop (padding, size) speak of how cells were cut out."


def of_flow(agreement: tuple[Estimate, ...]) -> str:
    """Caption of the flow."""
    text = (
        "A column per layer, a bar per cluster, its height the number of cells; bands are the "
        "cells that two clusters have in common. Colour: the most frequent class, the paler the "
        "less pure; grey: in no cluster. Beneath: adjusted mutual information of the two layers "
        "(1: the same clusters, 0: no more than independent ones; in brackets their 95 % limit). "
    )
    known = [shared.value for shared in agreement if np.isfinite(shared.value)]
    if known:
        text += (
            f"It runs from {number(min(known))} to {number(max(known))}: where it is low, the "
            "network groups the cells anew. "
        )
    return text.rstrip()


def layers_table(results: StudyResults) -> ReportTable | None:
    """The clusters of every layer: how many, and how sure."""
    rows: list[tuple[str, ...]] = []
    for name, found in results.clusters.items():
        stability = found.stability
        if stability is not None:
            null = "–" if stability.ari.null is None else number(stability.ari.null)
            parts = str(stability.n_parts)
            row = (name, str(found.n), _chosen(found), interval(stability.ari), null, parts)
            rows.append(row)
    if not rows:
        return None
    header = ("layer", "clusters", "chosen in", "stability", "one cloud", "parts")
    text = (
        "Chosen in: share of random halves that give this number, and what others give. Stability: "
        "adjusted Rand index between the clusters of halves and of all cells; one cloud: what a "
        "Gaussian cloud of the same covariance reaches. Parts: divided by gaps."
    )
    return ReportTable("Clusters by layer", header, tuple(rows), text, folded=len(rows) > 20)


def agreement_table(results: StudyResults) -> ReportTable | None:
    """How far the clusters of every layer are classes, and groups."""
    rows: list[tuple[str, ...]] = []
    for name, found in results.clusters.items():
        pairs = [("classes", found.agreement)]
        if found.groups is not None:
            pairs.append(("groups", found.groups.agreement))
        for place, (kind, known) in enumerate(pairs):
            values = (_cell(known.get(key)) for key in ("ari", "nmi", "purity"))
            rows.append((name if place == 0 else "", kind, *values))
    if not rows:
        return None
    header = ("layer", "with", "adjusted Rand", "mutual information", "purity")
    text = (
        "After the bar: the 95 % limit by chance, with labels permuted; groups are exchanged "
        "within classes, so that clusters that are classes are not blamed on the groups of these."
    )
    title = "Agreement of the clusters with classes and groups"
    return ReportTable(title, header, tuple(rows), text, 2, folded=len(rows) > 12)


def clusters_table(results: StudyResults) -> ReportTable | None:
    """Cluster against class at the layer shown, and the group that most of its cells are of."""
    layer = _layer(results)
    if layer is None or results.cells is None or results.clusters[layer].n == 0:
        return None
    found, groups = results.clusters[layer], results.clusters[layer].groups
    rows: list[tuple[str, ...]] = []
    for k, row in enumerate(found.table):
        entries = [str(k), *(f"{count:,}" for count in row), f"{row.sum():,}"]
        if groups is not None:
            flag = ": mostly one group" if groups.dominated[k] else ""
            entries.append(
                f"{groups.names[groups.main[k]]} {100 * groups.share[k]:.0f} % (expected "
                f"{100 * groups.expected[k]:.0f}, chance {100 * groups.null[k]:.0f}){flag}"
            )
        rows.append(tuple(entries))
    header = ("cluster", *results.cells.class_names, "cells")
    header += ("largest group",) if groups is not None else ()
    return ReportTable(
        f"Clusters of {layer} against classes", header, tuple(rows), folded=len(rows) > 20
    )


def differences_table(results: StudyResults) -> ReportTable | None:
    """The strongest differences of each cluster, and of each part of a class, with their nulls."""
    names = () if results.cells is None else results.cells.class_names
    rows: list[tuple[str, ...]] = []
    found = results.populations
    told = [(f"cluster {k}", one) for k, one in enumerate(found.described if found else ())]
    for parts in found.classes if found else ():
        name = names[parts.class_index]
        told += [(f"{name}, {letter(k)}", one) for k, one in enumerate(parts.described)]
    for name, one in told:
        for place, difference in enumerate(one.differences[:4]):
            null = difference.auc.null
            rows.append(
                (
                    name if place == 0 else "",
                    one.name or "–" if place == 0 else "",
                    difference.name.replace("_", " "),
                    interval(difference.auc),
                    "–" if null is None else f"{number(1 - null)} to {number(null)}",
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


def _layer(results: StudyResults) -> str | None:
    """The layer whose clusters are shown."""
    layer = results.main_layer if results.populations is None else results.populations.layer
    return layer if layer in results.clusters else None


def _of(images: FeatureImages | None, layer: str) -> FeatureImages | None:
    return images if images is not None and images.layer == layer else None


def _parts(found: Clusters) -> int:
    return 0 if found.stability is None else found.stability.n_parts


def _number(found: Clusters) -> str:
    """How sure the number of clusters is."""
    stability = found.stability
    if stability is None or not stability.numbers:
        return ""
    total = sum(stability.numbers.values())
    same = stability.numbers.get(str(found.n), 0)
    others = [f"{k} in {n}" for k, n in stability.numbers.items() if k != str(found.n)]
    text = f"The number of clusters at {found.layer}, {found.n}, is chosen in {same} of {total} "
    return f"{text}random halves of the cells" + (f" ({', '.join(others)})." if others else ".")


def _trained(results: StudyResults) -> str:
    """How many of the clustered cells the network was trained on."""
    if results.split is None or results.cells is None:
        return ""
    mapped = np.arange(len(results.cells)) if results.mapped is None else results.mapped
    share = np.isin(mapped, results.split.train).mean()
    if share == 0:
        return ""
    return (
        f" {100 * share:.0f} % of these cells were trained on; a network may pull those further "
        "apart than new ones."
    )


def _groups(results: StudyResults) -> str:
    """Which clusters are mostly one group."""
    mostly: list[str] = []
    for name, found in results.clusters.items():
        if found.groups is None:
            continue
        for k in np.flatnonzero(found.groups.dominated):
            group, share = found.groups.names[found.groups.main[k]], found.groups.share[k]
            expected = 100 * found.groups.expected[k]
            mostly.append(
                f"cluster {k} of {name} is {group} ({100 * share:.0f} % of it; {expected:.0f} % "
                "expected from its classes)"
            )
    kind = "group" if results.cells is None else results.cells.group_name or "group"
    if not mostly:
        return f"No cluster at any layer is mostly one {kind}, beyond what its classes explain."
    more = f"; and {len(mostly) - 4} more" if len(mostly) > 4 else ""
    return f"Some clusters are a {kind} rather than a kind of cell: {'; '.join(mostly[:4])}{more}."


def _chosen(found: Clusters) -> str:
    stability = found.stability
    if stability is None or not stability.numbers:
        return "–"
    total = sum(stability.numbers.values())
    shares = {k: 100 * n / total for k, n in stability.numbers.items()}
    others = ", ".join(f"{k}: {share:.0f}" for k, share in shares.items() if k != str(found.n))
    return f"{shares.get(str(found.n), 0):.0f} %{f' ({others})' if others else ''}"


def _null(estimate: Estimate) -> str:
    return "" if estimate.null is None else f", permuted labels at most {number(estimate.null)}"


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return interval(estimate) + ("" if estimate.null is None else f" | {number(estimate.null)}")
