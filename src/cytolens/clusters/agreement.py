"""How far two partitions of the same cells agree: found clusters with classes, or with groups."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, estimate_from, null_limit
from cytolens.numerics.intervals import CORRELATION, SHARE
from cytolens.numerics.resampling import Labels, permuted_labels, resampled_counts

Floats = NDArray[np.float64]


def measure_agreement(
    clusters: Labels,
    labels: Labels,
    *,
    groups: Labels | None = None,
    within: Labels | None = None,
    resamples: int = 500,
    permutations: int = 200,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """``ari``, ``nmi`` and ``purity`` of the clusters (N,), -1 for none, and the labels (N,).

    ``ari``: adjusted Rand index, 0 for independent partitions, 1 for the same (Hubert & Arabie
    1985). ``nmi``: normalised mutual information, 0…1, by the mean of the entropies (Vinh, Epps &
    Bailey 2010). ``purity``: share of cells with the label most frequent in their cluster
    (Manning, Raghavan & Schütze 2008, section 16.3); it and nmi are above 0 by chance too, which
    the null shows: the 95 % limit for labels permuted respecting ``groups`` (see
    `permuted_labels`), or, where ``within`` (N,) is given, among cells alike in that alone.
    Intervals are over cells, or over ``groups``.
    """
    rows, columns = int(clusters.max()) + 2, int(labels.max()) + 1  # cells of no cluster: row 0
    pairs = (clusters + 1) * columns + labels
    value = np.bincount(pairs, minlength=rows * columns)[None]
    drawn = resampled_counts(pairs, rows * columns, groups=groups, resamples=resamples, rng=rng)
    kept = groups if within is None else within
    shuffled = permuted_labels(labels, groups=kept, permutations=permutations, rng=rng)
    null = np.stack(
        [np.bincount((clusters + 1) * columns + y, minlength=rows * columns) for y in shuffled]
    )
    found: dict[str, Estimate] = {}
    for name, measure in MEASURES.items():
        tables = [counts.reshape(-1, rows, columns) for counts in (value, drawn, null)]
        found[name] = estimate_from(
            float(measure(tables[0])[0]), measure(tables[1]),
            grouped=groups is not None, within=RANGES[name], null=null_limit(measure(tables[2])),
        )  # fmt: skip
    return found


def adjusted_rand(tables: NDArray[np.int64]) -> Floats:
    """Adjusted Rand index of each table (R, cluster, class) of numbers of cells; NaN never.

    1 where both partitions are trivial in the same way, as in scikit-learn.
    """
    counts = tables.astype(np.float64)

    def pairs(x: Floats) -> Floats:
        return x * (x - 1) / 2

    together = pairs(counts).sum(axis=(1, 2))
    in_rows = pairs(counts.sum(axis=2)).sum(axis=1)
    in_columns = pairs(counts.sum(axis=1)).sum(axis=1)
    expected = in_rows * in_columns / np.maximum(pairs(counts.sum(axis=(1, 2))), 1)
    most = (in_rows + in_columns) / 2
    room = most - expected
    return np.divide(together - expected, room, out=np.ones(len(counts)), where=room > 0)


def normalised_information(tables: NDArray[np.int64]) -> Floats:
    """Mutual information of each table (R, cluster, class) over the mean of the entropies.

    As in scikit-learn, 1 where both partitions are trivial.
    """
    information, mean = informations(tables)
    return np.divide(information, mean, out=np.ones(len(mean)), where=mean > 1e-12)


def informations(tables: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mutual information of each table (R, cluster, class) and the mean of its entropies, nats."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)

    def entropy(p: Floats) -> Floats:
        return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)

    h_rows, h_columns = entropy(shares.sum(axis=2)), entropy(shares.sum(axis=1))
    joint = entropy(shares.reshape(len(shares), -1))
    return np.maximum(h_rows + h_columns - joint, 0), (h_rows + h_columns) / 2


def purity(tables: NDArray[np.int64]) -> Floats:
    """Share of the cells of each table (R, cluster, class) that are of their cluster's main class.

    Row 0 is that of the cells of no cluster, which is no cluster: they are left out. NaN where
    no cell is in one.
    """
    counts = tables[:, 1:].astype(np.float64)
    total = counts.sum(axis=(1, 2))
    best = counts.max(axis=2).sum(axis=1)
    return np.divide(best, total, out=np.full(len(counts), np.nan), where=total > 0)


MEASURES: dict[str, Callable[[NDArray[np.int64]], Floats]] = {
    "ari": adjusted_rand,
    "nmi": normalised_information,
    "purity": purity,
}

RANGES = {"ari": CORRELATION, "nmi": SHARE, "purity": SHARE}
