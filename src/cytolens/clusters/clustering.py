"""Groups of cells found in a layer's features, and how far they agree with the classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.clusters.agreement import measure_agreement
from cytolens.clusters.methods import Method, find_method
from cytolens.clusters.stability import measure_stability
from cytolens.errors import InputError, SettingError
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.features import checked_features, is_constant
from cytolens.numerics.resampling import Labels, codes, permuted_labels
from cytolens.numerics.threads import limited_threads
from cytolens.records.by_layer import of_each_layer
from cytolens.records.clusters import ClusterGroups, Clusters


@of_each_layer
def cluster(
    features: Any,
    labels: Any = None,
    *,
    name: str = "features",
    method: str | Method = "kmeans",
    n_clusters: int | None = None,
    n_classes: int | None = None,
    groups: NDArray[np.generic] | None = None,
    halves: int = 0,
    typical: int = 24,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
    threads: int | None = None,
) -> Clusters:
    """Clusters of the cells at a layer, from ``features`` (N, F).

    ``features``: an array, or anything that NumPy makes one of; or activations, or arrays by layer
    name, and the answer is by layer. ``labels`` (N,), class numbers or names, do not guide the
    clusters: they number and describe them. Without labels all cells count as one class, and
    there is no agreement.

    ``method``: `kmeans` (the default: every cell gets a cluster, and each has a mean that is a
    direction to make a feature image of), `gmm`, `hdbscan` or `leiden`. Without ``n_clusters``
    k-means takes the number with the highest silhouette between the number of classes and 8 (or
    two more than the classes, where those are many), `gmm` that of the lowest BIC. Clusters are
    numbered by the class most frequent in them, then by size, so that numbers mean about the same
    from layer to layer.

    The record holds per cluster the ``typical`` cells nearest to its mean, nearest first; the
    table of clusters and classes (cells without a cluster are in no row); and ``ari``, ``nmi`` and
    ``purity`` with the classes, see `measure_agreement`. With ``groups`` (N,) the same of these,
    and which clusters are mostly one group; with ``halves`` how stable the clusters are over so
    many random halves of the cells, and whether there are gaps between them, see
    `measure_stability`.

    Constant features form one cluster. Raises InputError for features that are no matrix, NaN or
    unequal lengths, SettingError for an unknown method or an impossible number of clusters.

    >>> import numpy as np
    >>> features = np.random.default_rng(0).normal(size=(60, 4))
    >>> features += np.repeat([0, 9, 18], 20)[:, None]
    >>> cluster(features, rng=0).n
    3
    >>> found = cluster(features, np.repeat([0, 1, 1], 20), n_clusters=3, rng=0)
    >>> print(found.table.tolist(), found.agreement["purity"].value)
    [[20, 0], [0, 20], [0, 20]] 1.0
    """
    array = checked_features(features, name=name)
    y = np.zeros(len(array), dtype=np.int64) if labels is None else np.asarray(labels)
    y = y.astype(np.int64) if y.dtype.kind in "iu" else codes(y)
    if len(y) != len(array) or len(array) == 0:
        raise InputError(f"{name}: {len(array)} cells but {len(y)} labels; lengths must agree")
    k = int(max(n_classes or 0, y.max() + 1))
    if n_clusters is not None and not 1 <= n_clusters <= len(array):
        raise SettingError(f"n_clusters is {n_clusters}; give 1 to {len(array)}, one per cell")
    found_by, find = find_method(method)
    draw = generator(rng)
    candidates = range(max(2, k), max(8, k + 2) + 1)
    stability = None
    with limited_threads(threads, cells=len(array)):
        if is_constant(array):
            found, settings = np.zeros(len(array), dtype=np.int64), {"constant_features": True}
        else:
            found, settings = find(array, n_clusters, candidates, draw)
        found = _numbered(found, y, k)
        if halves > 0:
            stability = measure_stability(
                array, found, method=method, n_clusters=n_clusters, candidates=candidates,
                halves=halves, rng=draw,
            )  # fmt: skip
    count = int(found.max()) + 1
    members = [np.flatnonzero(found == c) for c in range(count)]
    options: dict[str, Any] = {"resamples": resamples, "permutations": permutations, "rng": draw}
    return Clusters(
        layer=name,
        method=found_by,
        labels=found,
        typical=tuple(_nearest_to_mean(array, cells)[:typical] for cells in members),
        table=_table(found, y, count, k),
        agreement={}
        if labels is None
        else measure_agreement(found, y, groups=codes(groups), **options),
        settings=settings,
        stability=stability,
        groups=None if groups is None else compare_with_groups(found, groups, y, **options),
    )


def compare_with_groups(
    found: Labels,
    groups: NDArray[np.generic],
    classes: Labels,
    *,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
) -> ClusterGroups:
    """How far clusters (N,) follow ``groups`` (N,) beyond what the ``classes`` (N,) explain.

    The null permutes groups among cells of one class; where each class is of groups of its own it
    permutes little, as the two cannot be separated. Intervals are over cells, of these groups.
    """
    names, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    draw = generator(rng)
    count = int(found.max()) + 1
    drawn = permuted_labels(group, groups=classes, permutations=permutations, rng=draw)
    tables = np.stack([_table(found, other, count, len(names)) for other in drawn])
    shares = tables.max(axis=2, initial=0) / np.maximum(tables.sum(axis=2), 1)  # (R, K)
    limits = np.percentile(shares, 100 - 5 / max(count, 1), axis=0)
    return ClusterGroups(
        names=tuple(names.tolist()),
        table=_table(found, group, count, len(names)),
        agreement=measure_agreement(
            found, group, within=classes, resamples=resamples, permutations=permutations, rng=draw
        ),
        expected=shares.mean(axis=0),
        null=np.asarray(limits, dtype=np.float64),
    )


def _table(found: Labels, labels: Labels, rows: int, columns: int) -> NDArray[np.int64]:
    """Number of cells (cluster, label); cells of no cluster are in no row."""
    pairs = (found + 1) * columns + labels
    counts = np.bincount(pairs, minlength=(rows + 1) * columns)
    return counts.reshape(rows + 1, columns)[1:].astype(np.int64)


def _numbered(found: Labels, labels: Labels, n_classes: int) -> Labels:
    """Clusters renumbered by their most frequent class, then by size; -1 stays."""
    names = np.unique(found[found >= 0])

    def rank(name: np.int64) -> tuple[int, int]:
        of_class = np.bincount(labels[found == name], minlength=n_classes)
        return int(of_class.argmax()), -int(of_class.sum())

    numbered = np.full(len(found), -1, dtype=np.int64)
    for place, name in enumerate(sorted(names, key=rank)):
        numbered[found == name] = place
    return numbered


def _nearest_to_mean(features: NDArray[np.float32], cells: Labels) -> Labels:
    """``cells`` ordered by distance from their mean."""
    chosen = features[cells].astype(np.float64)
    return cells[np.argsort(((chosen - chosen.mean(axis=0)) ** 2).sum(axis=1), kind="stable")]
