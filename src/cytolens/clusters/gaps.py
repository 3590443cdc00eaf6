"""Does the density of cells fall between two clusters, or is one continuum cut in pieces?"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]

FEWEST = 8  # cells on each side of a border, below which a gap cannot be shown
_SIMULATED = 2000  # uniform samples behind the limit of a gap
_SAMPLE = 400  # cells in each


def measure_gaps(
    inside: NDArray[np.float32], labels: Labels, outside: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """The gap between each two clusters (K, K), on cells ``outside``, and its limit by chance.

    Clusters, the metric (pooled covariance within clusters, as in linear discriminant analysis)
    and borders are of the cells ``inside``, ``labels`` 0 to K - 1, or -1. The clusters' means are
    joined two by two, the nearest first (average linkage); at each joining those cells outside are
    projected on the line between the two sides' means whose mean squared distance from these is
    less than that from any cluster elsewhere. They lie in a convex region; so wherever the density
    is log-concave (one Gaussian, a uniform rod) so is that of the projection (Prékopa 1973): it has
    one mode, and rises towards the border from at least one side. The gap is the lesser of how far
    it is from that on either side, see `gap_of`; its limit is at 5 % for all joinings together. It
    is that between the two nearest clusters of the sides; between others it is the widest on the
    way from one to the other.
    """
    from scipy.cluster.hierarchy import linkage  # slow to load
    from scipy.spatial.distance import pdist
    from sklearn.metrics.pairwise import euclidean_distances

    count = int(labels.max()) + 1
    gaps, limits = np.zeros((count, count)), np.ones((count, count))
    if count < 2:
        return gaps, limits
    members = [inside[labels == k].astype(np.float64) for k in range(count)]
    centres = np.stack([cells.mean(axis=0) for cells in members])
    rest = np.concatenate([cells - centre for cells, centre in zip(members, centres)])
    ridge = 1e-3 * inside.var(axis=0, dtype=np.float64).mean()
    pooled = rest.T @ rest / len(rest) + ridge * np.eye(rest.shape[1])
    units = np.linalg.inv(np.linalg.cholesky(pooled)).T
    centres, cells = centres @ units, outside @ units
    sizes = np.bincount(labels[labels >= 0])
    off = euclidean_distances(cells, centres, squared=True)
    apart = euclidean_distances(centres)
    sides = [np.array([k]) for k in range(count)]
    ways: list[tuple[float, float, int, int]] = []
    for first, second, _, _ in linkage(pdist(centres), "average"):
        left, right = sides[int(first)], sides[int(second)]
        both = np.concatenate([left, right])
        sides.append(both)
        start, end = (np.average(centres[k], axis=0, weights=sizes[k]) for k in (left, right))
        line = end - start
        length = float(line @ line)
        elsewhere = np.delete(off, both, axis=1).min(axis=1, initial=np.inf)
        middle = ((cells - (start + end) / 2) ** 2).sum(axis=1)
        chosen = cells[middle + length / 4 <= elsewhere]
        widths = [
            np.concatenate([members[c] for c in side]) @ (units @ line) for side in (left, right)
        ]
        spread = [float(places.std()) for places in widths]
        border = spread[0] / sum(spread) if sum(spread) > 0 else 0.5
        i, j = np.unravel_index(apart[np.ix_(left, right)].argmin(), (len(left), len(right)))
        along = (chosen - start) @ line - border * length
        ways.append((*_both_sides(along, count), int(left[i]), int(right[j])))
    joined = np.arange(count)
    for gap, limit, i, j in sorted(ways, key=lambda way: way[0] / way[1]):
        if joined[i] != joined[j]:
            across = np.outer(joined == joined[i], joined == joined[j])
            across |= across.T
            gaps[across], limits[across] = gap, limit
            joined[joined == joined[j]] = joined[i]
    return gaps, limits


def _both_sides(along: Floats, count: int) -> tuple[float, float]:
    """Gap and limit for places (n,) on the line between two of ``count`` clusters, border at 0."""
    sides = -along[along < 0], along[along >= 0]
    if min(map(len, sides)) < FEWEST:
        return 0.0, 1.0
    found = [(gap_of(side), _quantile(count) / len(side) ** 0.5) for side in sides]
    return min(found, key=lambda pair: pair[0] / pair[1])


def gap_of(distances: Floats) -> float:
    """How far the density of cells at these ``distances`` (n,) from a border is from falling.

    The largest distance between their distribution function and its least concave majorant, of
    which the slope is the best density that only falls away from the border (Grenander 1956):
    0 where cells are densest at the border, near 1 where it is empty.
    """
    from scipy.optimize import isotonic_regression

    places, counts = np.unique(distances, return_counts=True)
    widths = np.diff(places, prepend=0.0)
    if widths[0] <= 0:  # cells on the border itself
        places, counts, widths = places[1:], counts[1:], widths[1:]
    if len(places) == 0:
        return 0.0
    shares = counts / len(distances)
    below = 1 - shares[::-1].cumsum()[::-1]  # at each place, the cells nearer than it
    slopes = np.asarray(isotonic_regression(shares / widths, weights=widths, increasing=False).x)
    majorant = 1 - shares.sum() + (slopes * widths).cumsum()
    return float((majorant - below).max())


def parts_of(apart: NDArray[np.bool_]) -> Labels:
    """The part (K,) of each cluster, numbered in their order; no gap leads out of a part.

    ``apart`` (K, K): whether there is a gap between two clusters.
    """
    parts = np.arange(len(apart))
    for a, b in zip(*np.nonzero(~apart)):
        parts[parts == parts[b]] = parts[a]
    _, first, found = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[found].astype(np.int64)


@cache
def _quantile(count: int) -> float:
    """Limit of the gap times sqrt(n) where density is even, which is hardest to distinguish.

    At 5 % for all joinings of ``count`` clusters (Bonferroni), and half of that, as the median over
    halves is taken (Meinshausen, Meier & Bühlmann 2009, Journal of the American Statistical
    Association 104, section 2).
    """
    share = 0.025 / max(count - 1, 1)
    return float(np.quantile(_even(), 1 - share))


@cache
def _even() -> Floats:
    draw = np.random.default_rng(0)
    samples = draw.random((_SIMULATED, _SAMPLE))
    return np.array([gap_of(sample) for sample in samples]) * _SAMPLE**0.5
