"""Which clusters of one layer are which of the next."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytolens.clusters.agreement import informations
from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate, Rng, generator, percentile_interval
from cytolens.numerics.resampling import Labels, resampled_counts
from cytolens.records.clusters import ClusterFlow, Clusters

_SWEEPS = 8  # back and forth


def measure_flow(
    clusters: Mapping[str, Clusters],
    *,
    resamples: int = 200,
    permutations: int = 200,
    rng: Rng = None,
) -> ClusterFlow:
    """How the clusters of the same cells pass from each layer to the next, in the order given.

    The adjusted mutual information of neighbouring layers is 1 where the clusters are the same,
    0 where they have no more in common than independent ones (Vinh, Epps & Bailey 2010); its
    interval is a bootstrap over cells, its null the 95 % limit for permuted cells. Within layers
    the clusters are ordered so that few bands cross: by the mean place of their cells in the
    neighbouring layers, back and forth (Sugiyama, Tagawa & Toda 1981, barycentre method).

    Raises InputError where layers have not the same cells.

    >>> from cytolens.clusters.clustering import cluster
    >>> features = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat([0, 9], 30)[:, None]
    >>> found = cluster({"conv1": features[:, :2], "conv2": features}, n_clusters=2, rng=0)
    >>> print(measure_flow(found, rng=0).to_next("conv1"))
    1.000 [1.000, 1.000]
    """
    labels = [found.labels for found in clusters.values()]
    if len({len(found) for found in labels}) > 1:
        raise InputError("flow: the layers' clusters are of different cells; cluster the same ones")
    draw = generator(rng)
    pairs = pairwise(labels)
    agreement = [_shared(a, b, resamples, permutations, draw) for a, b in pairs]
    stacked = np.stack(labels) if labels else np.zeros((0, 0), dtype=np.int64)
    return ClusterFlow(tuple(clusters), stacked, _ordered(labels), tuple(agreement))


def _shared(
    before: Labels, after: Labels, resamples: int, permutations: int, rng: np.random.Generator
) -> Estimate:
    """Adjusted mutual information; what is expected by chance is the mean over permutations."""
    rows, columns = int(before.max()) + 2, int(after.max()) + 2
    start = (before + 1) * columns
    drawn = resampled_counts(start + after + 1, rows * columns, resamples=resamples, rng=rng)
    value = np.bincount(start + after + 1, minlength=rows * columns)
    chance = np.stack(
        [
            np.bincount(start + rng.permutation(after) + 1, minlength=rows * columns)
            for _ in range(permutations)
        ]
    )
    tables = np.concatenate([value[None], drawn, chance]).reshape(-1, rows, columns)
    shared, most = informations(tables)
    expected = shared[1 + resamples :].mean()
    room = most - expected
    adjusted = np.divide(shared - expected, room, out=np.ones(len(room)), where=room > 1e-12)
    low, high = percentile_interval(adjusted[1 : 1 + resamples])
    null = float(np.percentile(adjusted[1 + resamples :], 95))
    return Estimate(float(adjusted[0]), low, high, null)


def _ordered(labels: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], ...]:
    """The clusters of each layer from top to bottom; those without one (-1) at the bottom."""
    order = [np.arange(int(found.max(initial=-1)) + 1) for found in labels]
    if not labels:
        return ()
    places = [_places(found, mine) for found, mine in zip(labels, order)]
    best, fewest = list(order), _crossings(labels, places)
    for sweep in range(2 * _SWEEPS):
        steps = range(1, len(labels)) if sweep % 2 == 0 else range(len(labels) - 2, -1, -1)
        for at in steps:
            neighbour = places[at - 1 if sweep % 2 == 0 else at + 1]
            mean = [neighbour[labels[at] == k].mean() for k in range(len(order[at]))]
            order[at] = np.argsort(mean, kind="stable")
            places[at] = _places(labels[at], order[at])
        crossed = _crossings(labels, places)
        if crossed < fewest:
            best, fewest = list(order), crossed
    return tuple(best)


def _places(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The middle of each cell's cluster, as a share of the cells from the top, (N,)."""
    sizes = np.bincount(labels + 1, minlength=len(order) + 1)
    stacked = np.append(sizes[1:][order], sizes[0])
    middle = np.cumsum(stacked) - stacked / 2
    of = np.empty(len(order) + 1)
    of[order + 1] = middle[:-1]
    of[0] = middle[-1]
    return of[labels + 1] / max(len(labels), 1)


def _crossings(labels: list[NDArray[np.int64]], places: list[NDArray[np.float64]]) -> int:
    """Pairs of cells whose bands cross between neighbouring layers."""
    total = 0
    for a, b in pairwise(places):
        rows, columns = (np.unique(p, return_inverse=True)[1] for p in (a, b))
        table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
        np.add.at(table, (rows, columns), 1)
        above_right = np.cumsum(table[::-1], axis=0)[::-1]  # rows below, itself included
        below = np.vstack([above_right[1:], np.zeros((1, table.shape[1]), np.int64)])
        left = np.cumsum(below, axis=1) - below
        total += int((table * left).sum())
    return total
