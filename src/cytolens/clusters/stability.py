"""Are there clusters at all, or is it a continuum cut in pieces? Stability, number and gaps."""

from collections import Counter
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cytolens.clusters.gaps import measure_gaps, parts_of
from cytolens.clusters.methods import NUMBERED, Method, find_method, kmeans
from cytolens.numerics.estimates import Estimate, Rng, generator, percentile_interval
from cytolens.numerics.features import is_constant, principal_components
from cytolens.numerics.resampling import Labels
from cytolens.records.clusters import ClusterStability

Floats = NDArray[np.float64]

HALF = 1000  # cells in a half at most
DIMENSIONS = 30  # principal components that halves are clustered in, of layers with more features
_STARTS = 2  # of k-means
_NUMBERED_IN = 10  # halves in which the number is chosen anew; a share needs no more


def measure_stability(
    features: NDArray[np.float32],
    found: Labels,
    *,
    method: str | Method = "kmeans",
    n_clusters: int | None = None,
    candidates: range = range(2, 9),
    halves: int = 20,
    clouds: int | None = None,
    rng: Rng = None,
) -> ClusterStability:
    """How sure the clusters ``found`` (N,), -1 for none, in ``features`` (N, F) are.

    Random halves of the cells (at most 1,000 each, in at most 30 principal components) are
    clustered again by the same method:

    - ``jaccard``: for each cluster the mean over halves of its Jaccard index with the cluster most
      like it there (Hennig 2007, Computational Statistics & Data Analysis 52, with subsets);
    - ``ari``: the adjusted Rand index of the two partitions, its interval the middle 95 % of the
      halves. Both have as null the 95 % limit over ``clouds`` (half as many as halves) Gaussian
      clouds without structure but of the same covariance, cut by the same method (and into as many,
      where it takes a number): a long cloud is halved the same way each time, so stability alone
      proves nothing;
    - ``numbers``: how often each number of clusters was chosen, in the first ten halves (not where
      ``n_clusters`` is given);
    - ``gap``: whether the density falls between clusters, see `measure_gaps`, on the cells outside
      of the half; per cluster, towards the one it is least separated from. Clusters without a gap
      between them are of one part: a continuum, cut in pieces.
    """
    from sklearn.metrics import adjusted_rand_score  # slow to load

    name, find = find_method(method)
    find = partial(kmeans, starts=_STARTS) if find is kmeans else find
    draw = generator(rng)
    count = int(found.max()) + 1 if len(found) else 0
    if count == 0 or len(found) < 4 or is_constant(features):
        return _unknown(count)
    seen = features
    if features.shape[1] > DIMENSIONS:
        seen, _ = principal_components(features, DIMENSIONS)
    asked = count if name in NUMBERED else None
    size = min(len(seen) // 2, HALF)
    agreements, numbers = np.zeros(halves), Counter[int]()
    jaccards = np.full((halves, count), np.nan)
    gaps, limits = np.zeros((halves, count, count)), np.ones((halves, count, count))
    for r in range(halves):
        order = draw.permutation(len(seen))
        inside = order[:size]
        if asked is not None and n_clusters is None and r < _NUMBERED_IN:
            numbers[_count(find(seen[inside], None, candidates, draw)[0])] += 1
        again = _compact(find(seen[inside], asked, candidates, draw)[0])
        if asked is None:
            numbers[_count(again)] += 1
        agreements[r] = adjusted_rand_score(found[inside], again)
        table = _overlaps(found[inside], again, count)
        present = np.isin(np.arange(count), found[inside])
        jaccards[r, present] = table.max(axis=1, initial=0)[present]
        if table.size:
            twins = np.ix_(table.argmax(axis=1), table.argmax(axis=1))
            gap, limit = measure_gaps(seen[inside], again, seen[order[size:]])
            gaps[r], limits[r] = gap[twins], limit[twins]
    clouds = max(halves // 2, 1) if clouds is None else clouds
    null_ari, null_jaccard = _of_clouds(seen, find, asked, candidates, size, clouds, draw)
    low, high = percentile_interval(agreements)
    gap, limit = np.median(gaps, axis=0), np.median(limits, axis=0)
    shown = np.arange(count), (gap - limit + 2 * np.eye(count)).argmin(axis=1)
    alone = np.full(count, np.nan)
    return ClusterStability(
        jaccard=np.nansum(jaccards, axis=0) / np.maximum(np.isfinite(jaccards).sum(axis=0), 1),
        jaccard_null=null_jaccard,
        ari=Estimate(float(agreements.mean()), low, high, null_ari),
        numbers={str(k): numbers[k] for k in sorted(numbers)},
        gap=gap[shown] if count > 1 else alone,
        gap_null=limit[shown] if count > 1 else alone,
        parts=parts_of(gap > limit),
        halves=halves,
        size=size,
    )


def _unknown(count: int) -> ClusterStability:
    """Where there is nothing to cluster again."""
    unknown = np.full(count, np.nan)
    ari, one = Estimate(np.nan, np.nan, np.nan), np.zeros(count, dtype=np.int64)
    return ClusterStability(unknown, None, ari, {}, unknown, unknown, one, 0, 0)


def _count(labels: Labels) -> int:
    return len(np.unique(labels[labels >= 0]))


def _compact(labels: Labels) -> Labels:
    """Clusters numbered without a gap; -1 stays."""
    names = np.unique(labels[labels >= 0])
    return np.where(labels >= 0, np.searchsorted(names, labels), -1)


def _overlaps(found: Labels, again: Labels, count: int) -> Floats:
    """Jaccard index of each of ``count`` clusters with each of those found again: (K, K')."""
    most = int(again.max()) + 1
    pairs = (found + 1) * (most + 1) + again + 1
    table = np.bincount(pairs, minlength=(count + 1) * (most + 1)).reshape(count + 1, most + 1)
    both = table[1:, 1:].astype(np.float64)
    either = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0) - both
    return both / np.maximum(either, 1)


def _of_clouds(
    seen: NDArray[np.float32],
    find: Method,
    asked: int | None,
    candidates: range,
    size: int,
    clouds: int,
    rng: np.random.Generator,
) -> tuple[float | None, float | None]:
    """95 % limits of the ARI and of a cluster's Jaccard index where there is but one cloud.

    None where the method finds no two clusters in any.
    """
    from sklearn.metrics import adjusted_rand_score

    covariance = np.atleast_2d(np.cov(seen, rowvar=False, dtype=np.float64))
    values, vectors = np.linalg.eigh(covariance)
    spread = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    agreements, jaccards = list[float](), list[float]()
    for _ in range(clouds):
        cloud = (rng.normal(size=(2 * size, len(spread))) @ spread).astype(np.float32)
        whole = _compact(find(cloud, asked, candidates, rng)[0])
        if _count(whole) < 2:
            continue
        inside = rng.permutation(2 * size)[:size]
        again = _compact(find(cloud[inside], asked, candidates, rng)[0])
        agreements.append(float(adjusted_rand_score(whole[inside], again)))
        table = _overlaps(whole[inside], again, int(whole.max()) + 1)
        jaccards += table.max(axis=1, initial=0).tolist()
    if not agreements:
        return None, None
    return float(np.percentile(agreements, 95)), float(np.percentile(jaccards, 95))
