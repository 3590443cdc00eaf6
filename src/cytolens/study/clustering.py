"""Clusters by depth, what they are, the parts of each class, and how clusters pass on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.model import Classifier
from cytolens.clusters.clustering import cluster
from cytolens.clusters.flow import measure_flow
from cytolens.clusters.subpopulations import describe_clusters
from cytolens.features.directions import whitened_directions
from cytolens.features.objectives import direction
from cytolens.features.optimisation import feature_images
from cytolens.figures.clusters import letter
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.clusters import ClassParts, ClusterDescription, Clusters
from cytolens.records.features import FeatureImages
from cytolens.records.layers import Activations, Layer
from cytolens.study.pictures import gallery_layers
from cytolens.study.settings import StudySettings

_MAIN = 3  # times as many halves at the layer that is shown large
_FEWEST = 40  # cells of a class that is looked into
_MOST_IMAGES = 12  # of parts of classes
_DIFFERENCES = 6  # in the summary, per cluster


def shown_layer(layers: tuple[Layer, ...]) -> Layer:
    """The layer whose clusters are shown large: the last that feature images are made of."""
    return (gallery_layers(layers) or layers)[-1]


def cluster_layers(
    acts: Activations,
    cells: Cells,
    mapped: NDArray[np.int64],
    *,
    settings: StudySettings,
    progress: Progress,
) -> dict[str, Clusters]:
    """Clusters of the ``mapped`` cells at every depth, and how sure they are."""
    some = cells.subset(mapped)
    main = shown_layer(acts.layers).name
    made: dict[str, Clusters] = {}
    for done, name in enumerate(acts):
        progress(done, len(acts.layers), name)
        made[name] = cluster(
            acts.rows(name, mapped),
            some.labels,
            layer=name,
            method=settings.clustering,
            n_clusters=settings.n_clusters,
            n_classes=len(some.class_names),
            groups=some.groups,
            halves=settings.halves * (_MAIN if name == main else 1),
            rng=settings.seed,
        )
    return made


def populations(
    model: Classifier,
    acts: Activations,
    cells: Cells,
    clusters: Mapping[str, Clusters],
    properties: Mapping[str, NDArray[np.float64]],
    mapped: NDArray[np.int64],
    *,
    settings: StudySettings,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What the clusters of the main layer are, and the parts of each class there.

    ``described``: the clusters, each against all other cells; ``classes``: each class clustered on
    its own, its clusters against the rest of it; ``images``: feature images of these, in their
    order (None where they cannot be made); ``flow``: of clusters from layer to layer.
    ``properties`` are of the ``mapped`` cells.
    """
    layer = shown_layer(acts.layers)
    some = cells.subset(mapped)
    features = acts.rows(layer.name, mapped)
    progress(0, len(some.class_names) + 2, "what distinguishes the clusters")
    described = describe_clusters(
        clusters[layer.name].labels, properties, groups=some.groups, rng=settings.seed
    )
    parted: list[ClassParts] = []
    for index, name in enumerate(some.class_names):
        progress(index + 1, len(some.class_names) + 2, name)
        members = np.flatnonzero(some.labels == index)
        if len(members) >= _FEWEST:
            parted.append(_part(index, members, features, some, properties, layer, settings))
    progress(len(some.class_names) + 1, len(some.class_names) + 2, "feature images")
    ordered = {name: clusters[name] for name in acts}
    return {
        "layer": layer.name,
        "described": described,
        "classes": tuple(parted),
        "images": _images(model, features, tuple(parted), some, layer, options),
        "flow": measure_flow(ordered, rng=settings.seed),
    }


def _part(
    index: int,
    members: NDArray[np.int64],
    features: NDArray[np.float32],
    cells: Cells,
    properties: Mapping[str, NDArray[np.float64]],
    layer: Layer,
    settings: StudySettings,
) -> ClassParts:
    """A class clustered on its own, and what distinguishes its clusters."""
    own = cells.subset(members)
    found = cluster(
        features[members],
        np.zeros(len(members), dtype=np.int64),
        layer=layer.name,
        method=settings.clustering,
        groups=own.groups,
        halves=settings.halves,
        rng=settings.seed,
    )
    described = describe_clusters(
        found.labels,
        {name: column[members] for name, column in properties.items()},
        groups=own.groups,
        rng=settings.seed,
    )
    return ClassParts(index, members, found, described)


def _images(
    model: Classifier,
    features: NDArray[np.float32],
    parted: tuple[ClassParts, ...],
    cells: Cells,
    layer: Layer,
    options: Mapping[str, Any],
) -> FeatureImages | None:
    """An image per part: the direction from the mean of its class to that of the part."""
    if features.shape[1] != layer.channels:
        return None
    directions: list[NDArray[np.float64]] = []
    names: list[str] = []
    for parts in parted:
        if parts.clusters.n > 1:
            members = [np.flatnonzero(parts.clusters.labels == k) for k in range(parts.clusters.n)]
            directions.append(whitened_directions(features[parts.cells], members))
            class_name = cells.class_names[parts.class_index]
            names += [f"{class_name}, part {letter(k)}" for k in range(parts.clusters.n)]
    if not names:
        return None
    vectors = np.concatenate(directions)[:_MOST_IMAGES]
    toward = direction(layer.name, vectors, names=names[:_MOST_IMAGES])
    return feature_images(model.network, objective=toward, **options)


def layer_entries(found: Clusters, shared: Estimate | None) -> dict[str, Any]:
    """For summary.json: the clusters of one layer; ``shared`` with the next one."""
    stability, groups = found.stability, found.groups
    entries: dict[str, Any] = {"n": found.n, "method": found.method}
    if found.table.shape[1] > 1:
        entries |= _estimates(found.agreement)
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


def study_entries(found: Mapping[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
    """For summary.json: what the clusters of the main layer are, and the parts of the classes."""
    return {
        "clusters": {
            "layer": found["layer"],
            "described": [_description(told) for told in found["described"]],
        },
        "sub_populations": [
            {
                "class": class_names[parts.class_index],
                "layer": found["layer"],
                **layer_entries(parts.clusters, None),
                "described": [_description(told) for told in parts.described],
            }
            for parts in found["classes"]
        ],
    }


def _description(told: ClusterDescription) -> dict[str, Any]:
    return {
        "name": told.name,
        "n": told.n,
        "differences": [
            {"property": d.name, "proven": d.proven, "auc": d.auc.as_dict()}
            for d in told.differences[:_DIFFERENCES]
        ],
    }


def _estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.as_dict() for name, estimate in found.items()}
