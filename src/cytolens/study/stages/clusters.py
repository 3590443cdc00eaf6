"""Clusters by depth, what they are, the parts of each class, and how clusters pass on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.clusters import ClassParts, ClusterDescription, Clusters, Populations
from cytolens.records.features import FeatureImages
from cytolens.records.knowledge import Properties
from cytolens.records.layers import Activations, Layer
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows, properties_at

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.study.stages.features import Ascents

_MAIN = 3  # times as many halves at the layer that is shown large
_FEWEST = 40  # cells of a class that is looked into
_MOST_IMAGES = 12  # of parts of classes
_DIFFERENCES = 6  # in the summary, per cluster


def clusters(
    activations: Activations,
    cells: Cells,
    mapped: Rows,
    main_layer: str,
    *,
    clustering: str,
    n_clusters: int | None,
    halves: int,
    seed: int,
    progress: Progress,
) -> dict[str, Clusters]:
    """Clusters of the mapped cells at every depth, and how stable they are."""
    from cytolens.clusters.clustering import cluster

    some = cells.subset(mapped)
    made: dict[str, Clusters] = {}
    for done, name in enumerate(activations):
        progress(done, len(activations.layers), name)
        made[name] = cluster(
            activations.rows(name, mapped),
            some.labels,
            name=name,
            method=clustering,
            n_clusters=n_clusters,
            n_classes=len(some.class_names),
            groups=some.groups,
            halves=halves * (_MAIN if name == main_layer else 1),
            rng=seed,
        )
    return made


def populations(
    network: "Classifier",
    activations: Activations,
    cells: Cells,
    mapped: Rows,
    main_layer: str,
    clusters: Mapping[str, Clusters],
    properties: Properties,
    ascents: "Ascents",
    *,
    clustering: str,
    halves: int,
    seed: int,
    progress: Progress,
) -> Populations:
    """What the clusters of the layer shown are, and the parts of each class there."""
    from cytolens.clusters.flow import measure_flow
    from cytolens.clusters.subpopulations import describe_clusters

    layer = next(layer for layer in activations.layers if layer.name == main_layer)
    some, values = cells.subset(mapped), properties_at(properties, cells, mapped)
    features = activations.rows(layer.name, mapped)
    steps = len(some.class_names) + 2
    progress(0, steps, "what distinguishes the clusters")
    described = describe_clusters(clusters[layer.name].labels, values, groups=some.groups, rng=seed)
    parts: list[ClassParts] = []
    for index, name in enumerate(some.class_names):
        progress(index + 1, steps, name)
        members = np.flatnonzero(some.labels == index)
        if len(members) >= _FEWEST:
            found = _parts_of_class(
                index, members, features, some, values, layer.name, clustering, halves, seed
            )
            parts.append(found)
    progress(steps - 1, steps, "feature images")
    images = _images(network, features, parts, some, layer, ascents)
    own = None
    if images is not None and ascents.prior is not None:
        from cytolens.features.belonging import share_of_own

        members = [
            found.cells[found.clusters.labels == k]
            for found in parts
            if found.clusters.n > 1
            for k in range(found.clusters.n)
        ][: len(images.images)]
        own = share_of_own(images.images, members, some, ascents.prior, rng=seed)
    return Populations(
        layer=layer.name,
        described=described,
        classes=tuple(parts),
        images=images,
        flow=measure_flow({name: clusters[name] for name in activations}, rng=seed),
        own=own,
    )


def _parts_of_class(
    index: int,
    members: Rows,
    features: NDArray[np.float32],
    cells: Cells,
    properties: Mapping[str, NDArray[np.float64]],
    layer: str,
    clustering: str,
    halves: int,
    seed: int,
) -> ClassParts:
    """A class clustered on its own, and what distinguishes its clusters."""
    from cytolens.clusters.clustering import cluster
    from cytolens.clusters.subpopulations import describe_clusters

    own = cells.subset(members)
    found = cluster(
        features[members],
        np.zeros(len(members), dtype=np.int64),
        name=layer,
        method=clustering,
        groups=own.groups,
        halves=halves,
        rng=seed,
    )
    described = describe_clusters(
        found.labels,
        {name: column[members] for name, column in properties.items()},
        groups=own.groups,
        rng=seed,
    )
    return ClassParts(index, members, found, described)


def _images(
    network: "Classifier",
    features: NDArray[np.float32],
    parts: list[ClassParts],
    cells: Cells,
    layer: Layer,
    ascents: "Ascents",
) -> FeatureImages | None:
    """An image per part: the direction from the mean of its class to that of the part."""
    from cytolens.features.directions import whitened_directions
    from cytolens.figures.clusters import letter

    if features.shape[1] != layer.channels:
        return None
    directions: list[NDArray[np.float64]] = []
    names: list[str] = []
    for found in parts:
        if found.clusters.n > 1:
            members = [np.flatnonzero(found.clusters.labels == k) for k in range(found.clusters.n)]
            directions.append(whitened_directions(features[found.cells], members))
            class_name = cells.class_names[found.class_index]
            names += [f"{class_name}, part {letter(k)}" for k in range(found.clusters.n)]
    if not names:
        return None
    every = np.concatenate(directions)[:_MOST_IMAGES]
    return ascents.of_directions(network, layer.name, every, names[:_MOST_IMAGES])


def _summary_of_clusters(clusters: Mapping[str, Clusters], populations: Populations) -> Summary:
    shared = populations.flow.to_next
    return Summary(
        layers={
            name: {"clusters": _entries_of_layer(found, shared(name))}
            for name, found in clusters.items()
        }
    )


def _summary_of_populations(populations: Populations, cells: Cells) -> Summary:
    layer = populations.layer
    parts = [
        {
            "class": cells.class_names[found.class_index],
            "layer": layer,
            **_entries_of_layer(found.clusters, None),
            "described": [_description(described) for described in found.described],
        }
        for found in populations.classes
    ]
    described = [_description(found) for found in populations.described]
    return Summary({"clusters": {"layer": layer, "described": described}, "sub_populations": parts})


def _entries_of_layer(found: Clusters, shared: Estimate | None) -> dict[str, Any]:
    """For summary.json: the clusters of one layer; ``shared`` with the next one."""
    stability, groups = found.stability, found.groups
    entries: dict[str, Any] = {"n": found.n, "method": found.method}
    if found.table.shape[1] > 1:
        entries |= as_entries(found.agreement)
    if stability is not None:
        entries |= {
            "stability": stability.ari.as_dict(),
            "numbers": dict(stability.numbers),
            "parts": stability.n_parts,
            "jaccard": stability.jaccard.tolist(),
            "jaccard_null": stability.jaccard_null,
            "gap": stability.gap.tolist(),
            "gap_null": stability.gap_null.tolist(),
            "part": stability.parts.tolist(),
        }
    if groups is not None:
        entries |= {f"group_{key}": e.as_dict() for key, e in groups.agreement.items()}
        entries["one_group"] = [
            {
                "cluster": int(k),
                "group": groups.names[groups.main[k]],
                "share": float(groups.share[k]),
                "expected": float(groups.expected[k]),
                "null": float(groups.null[k]),
            }
            for k in np.flatnonzero(groups.dominated)
        ]
    if shared is not None:
        entries["shared_with_next"] = shared.as_dict()
    return entries


def _description(found: ClusterDescription) -> dict[str, Any]:
    return {
        "name": found.name,
        "n": found.n,
        "differences": [
            {"property": d.name, "proven": d.proven, "auc": d.auc.as_dict()}
            for d in found.differences[:_DIFFERENCES]
        ],
    }


CLUSTERS = Stage("clusters", "clustering", clusters, version=3, summary=_summary_of_clusters)
POPULATIONS = Stage(
    "populations",
    "describing the clusters",
    populations,
    version=3,
    summary=_summary_of_populations,
)
