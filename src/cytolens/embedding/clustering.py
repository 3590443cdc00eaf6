"""Groups of cells found in a layer's features, and how far they agree with the classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, KMeans

from cytolens.embedding.measures import pair_distances, silhouettes
from cytolens.embedding.neighbours import (
    checked_features,
    is_constant,
    limited_threads,
    nearest_of,
    principal_components,
    reduce_features,
)
from cytolens.embedding.resampling import (
    Labels,
    codes,
    interval,
    permuted_labels,
    resampled_counts,
)
from cytolens.errors import InputError, SettingError, choose
from cytolens.records import Clusters, Settings
from cytolens.statistics import Estimate, Rng, generator

JUDGED_ON = 2000  # cells on which a number of clusters is judged
DENSE_DIMENSIONS = 10  # density means little in more
DENSE_FIT = 5000  # cells a density is estimated from; others join their nearest neighbour

Method = Callable[
    [NDArray[np.float32], int | None, range, np.random.Generator], tuple[Labels, Settings]
]


def cluster(
    features: Any,
    labels: NDArray[np.integer],
    *,
    layer: str,
    method: str | Method = "kmeans",
    n_clusters: int | None = None,
    n_classes: int | None = None,
    groups: NDArray[np.generic] | None = None,
    typical: int = 24,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
    threads: int | None = None,
) -> Clusters:
    """Clusters of the cells at a layer, from ``features`` (N, F); ``labels`` (N,) do not guide it.

    ``method``: `kmeans` (the default: every cell gets a cluster, and each has a mean that is a
    direction to make a feature image of) or `hdbscan`. Without ``n_clusters`` k-means takes the
    number with the highest silhouette between the number of classes and 8 (or two more than the
    classes, where those are many). Clusters are numbered by the class most frequent in them,
    then by size, so that numbers mean about the same from layer to layer.

    The record holds per cluster the ``typical`` cells nearest to its mean, nearest first; the
    table of clusters and classes (cells without a cluster are in no row); and ``ari`` and
    ``nmi`` with the classes, cells without a cluster counting as one cluster more. Their
    interval is a bootstrap over cells, or over ``groups``; their null the 95 % limit under
    permuted labels.

    Constant features form one cluster. Raises InputError for NaN or unequal lengths,
    SettingError for an unknown method or an impossible number of clusters.
    """
    array = checked_features(features, name=f"layer {layer}")
    y = np.asarray(labels, dtype=np.int64)
    if len(y) != len(array) or len(array) == 0:
        raise InputError(f"layer {layer}: {len(array)} cells but {len(y)} labels")
    k = int(max(n_classes or 0, y.max() + 1))
    if n_clusters is not None and not 1 <= n_clusters <= len(array):
        raise SettingError(f"n_clusters is {n_clusters}; 1 to {len(array)} cells can be parted")
    name, find = _method(method)
    draw = generator(rng)
    with limited_threads(threads, cells=len(array)):
        if is_constant(array):
            found, settings = np.zeros(len(array), dtype=np.int64), {"constant_features": True}
        else:
            found, settings = find(array, n_clusters, range(max(2, k), max(8, k + 2) + 1), draw)
    found = _numbered(found, y, k)
    count = int(found.max()) + 1
    members = [np.flatnonzero(found == c) for c in range(count)]
    table = np.stack([np.bincount(y[cells], minlength=k) for cells in members] or [np.zeros(k)])
    group = codes(groups)
    return Clusters(
        layer=layer,
        method=name,
        labels=found,
        typical=tuple(_nearest_to_mean(array, cells)[:typical] for cells in members),
        table=table[:count].astype(np.int64),
        agreement=measure_agreement(
            found, y, groups=group, resamples=resamples, permutations=permutations, rng=draw
        ),
        settings=settings,
    )


def kmeans(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[Labels, Settings]:
    """k-means, the best of five k-means++ starts (Arthur & Vassilvitskii 2007).

    Layers of over 256 features are first cut to 50 principal components.
    """
    seen = reduce_features(features)
    seed = int(rng.integers(2**31))
    distinct = len(np.unique(seen, axis=0))
    starts: Any = 5  # the type is declared by its default, "auto"
    judged = np.arange(len(seen))
    if len(seen) > JUDGED_ON:
        judged = rng.choice(len(seen), JUDGED_ON, replace=False)

    def fit(k: int) -> Labels:
        return KMeans(k, n_init=starts, random_state=seed).fit_predict(seen).astype(np.int64)

    settings: Settings = {"reduced_to": seen.shape[1] if seen is not features else None}
    if n_clusters is not None:
        k = min(n_clusters, distinct)
        return fit(k), {**settings, "n_clusters": k, "chosen_by": "given"}
    most = max(2, min(distinct, len(seen) // 2))
    fits = {k: fit(k) for k in sorted({min(k, most) for k in candidates})}
    widths = silhouettes(
        pair_distances(seen[judged]), np.stack([found[judged] for found in fits.values()])
    )
    scores = dict(zip(fits, widths.mean(axis=1).tolist()))
    best = max(scores, key=lambda k: scores[k])
    return fits[best], {
        **settings,
        "n_clusters": best,
        "chosen_by": "silhouette",
        "silhouettes": {str(k): score for k, score in scores.items()},
    }


def hdbscan(
    features: NDArray[np.float32],
    n_clusters: int | None,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[Labels, Settings]:
    """HDBSCAN (Campello, Moulavi & Sander 2013) on at most 10 principal components.

    A cluster has at least 2 % of the cells (and 5). ``n_clusters`` is not asked for: the
    density decides, also that a cell belongs to none (-1); where cells form one continuum, as
    at most layers of real cells, that can be all. Of more than 5,000 cells a seeded draw is
    clustered, and each other cell joins its nearest neighbour in it.
    """
    if n_clusters is not None:
        raise SettingError("hdbscan finds the number of clusters itself; leave n_clusters out")
    seen, _ = principal_components(features, DENSE_DIMENSIONS)
    n = len(seen)
    fitted = np.arange(n) if n <= DENSE_FIT else np.sort(rng.choice(n, DENSE_FIT, replace=False))
    smallest = max(5, len(fitted) // 50)
    settings: Settings = {"min_cluster_size": smallest, "reduced_to": seen.shape[1]}
    found = np.full(n, -1, dtype=np.int64)
    if len(fitted) < 2 * smallest:
        return found, settings
    copy: Any = True  # the same, "warn"
    model = HDBSCAN(min_cluster_size=smallest, min_samples=5, copy=copy)
    found[fitted] = model.fit_predict(seen[fitted])
    if n > len(fitted):
        found = found[fitted][nearest_of(seen, seen[fitted])]
    return found, {**settings, "fitted_on": len(fitted)}


METHODS: dict[str, Method] = {"kmeans": kmeans, "hdbscan": hdbscan}


def measure_agreement(
    clusters: Labels,
    labels: Labels,
    *,
    groups: Labels | None = None,
    resamples: int = 500,
    permutations: int = 200,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """Adjusted Rand index and normalised mutual information of two partitions of the cells.

    ``ari``: 0 for independent partitions, 1 for the same (Hubert & Arabie 1985). ``nmi``: 0…1,
    by the mean of the entropies (Vinh, Epps & Bailey 2010); it is above 0 by chance too, which
    the null shows.
    """
    rows, columns = int(clusters.max()) + 2, int(labels.max()) + 1  # cells of no cluster: row 0
    pairs = (clusters + 1) * columns + labels
    value = np.bincount(pairs, minlength=rows * columns)[None]
    drawn = resampled_counts(pairs, rows * columns, groups=groups, resamples=resamples, rng=rng)
    shuffled = permuted_labels(labels, groups=groups, permutations=permutations, rng=rng)
    null = np.stack(
        [np.bincount((clusters + 1) * columns + y, minlength=rows * columns) for y in shuffled]
    )
    measures = {"ari": adjusted_rand, "nmi": normalised_information}
    found: dict[str, Estimate] = {}
    for name, measure in measures.items():
        tables = [counts.reshape(-1, rows, columns) for counts in (value, drawn, null)]
        low, high = interval(measure(tables[1]))
        limit = float(np.percentile(measure(tables[2]), 95))
        found[name] = Estimate(float(measure(tables[0])[0]), low, high, limit)
    return found


def adjusted_rand(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Adjusted Rand index of each table (R, cluster, class) of numbers of cells; NaN never.

    1 where both partitions are trivial in the same way, as in scikit-learn.
    """
    counts = tables.astype(np.float64)

    def pairs(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x * (x - 1) / 2

    together = pairs(counts).sum(axis=(1, 2))
    in_rows = pairs(counts.sum(axis=2)).sum(axis=1)
    in_columns = pairs(counts.sum(axis=1)).sum(axis=1)
    expected = in_rows * in_columns / np.maximum(pairs(counts.sum(axis=(1, 2))), 1)
    most = (in_rows + in_columns) / 2
    room = most - expected
    return np.divide(together - expected, room, out=np.ones(len(counts)), where=room > 0)


def normalised_information(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mutual information of each table (R, cluster, class) over the mean of the entropies.

    As in scikit-learn, 1 where both partitions are trivial.
    """
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)

    def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)

    h_rows, h_columns = entropy(shares.sum(axis=2)), entropy(shares.sum(axis=1))
    joint = entropy(shares.reshape(len(shares), -1))
    mean = (h_rows + h_columns) / 2
    information = np.maximum(h_rows + h_columns - joint, 0)
    return np.divide(information, mean, out=np.ones(len(shares)), where=mean > 1e-12)


def _method(method: str | Method) -> tuple[str, Method]:
    if callable(method):
        return getattr(method, "__name__", "own"), method
    name = choose("clustering method", method, list(METHODS))
    return name, METHODS[name]


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
