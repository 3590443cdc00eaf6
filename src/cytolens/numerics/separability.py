"""The numbers behind separation, for many labellings or resamples of the same cells at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.features import is_constant
from cytolens.numerics.resampling import Labels


def silhouettes(distances: NDArray[np.float64], labellings: Labels) -> NDArray[np.float64]:
    """Silhouette width of each cell for each labelling, (P, n), from distances (n, n).

    A cell alone in its class has 0, as in scikit-learn.
    """
    p, n = labellings.shape
    n_classes = int(labellings.max()) + 1
    widths = np.empty((p, n))
    for which, labels in enumerate(labellings):
        members = (labels[:, None] == np.arange(n_classes)).astype(np.float64)  # (n, K)
        sizes = members.sum(axis=0)
        sums = distances @ members
        own = sizes[labels] - 1
        within = sums[np.arange(n), labels] / np.maximum(own, 1)
        between = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)
        between[np.arange(n), labels] = np.inf
        nearest = between.min(axis=1)
        wider = np.maximum(within, nearest)
        width = np.divide(nearest - within, wider, out=np.zeros(n), where=wider > 0)
        widths[which] = np.where((own > 0) & np.isfinite(nearest), width, 0)
    return widths


def halved_scores(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features z-scored and halved; those that do not vary are left out, having no z-score.

    Left in, dead channels would dilute the measure by their number.
    """
    wide = features.astype(np.float64)
    deviation = wide.std(axis=0)
    varies = deviation > 1e-6 * np.maximum(np.abs(wide).max(axis=0), 1e-30)
    return 0.5 * (wide[:, varies] - wide[:, varies].mean(axis=0)) / deviation[varies]


def discrimination_value(
    distances: NDArray[np.float64], labels: Labels, dimensions: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Generalised discrimination value, (R,), for cells weighted by each row of ``weights``.

    (mean over classes of the mean distance within - mean over pairs of classes of the mean
    distance between) / sqrt(dimensions), with ``distances`` (n, n) between features that were
    z-scored and halved (`halved_scores`). ``weights`` (R, n) are ones, or the number of times
    a cell was drawn; a cell and its own copy make no pair. Source: Schilling et al. 2021,
    Neural Networks 139, section 2.
    """
    names = np.unique(labels)
    members = [np.flatnonzero(labels == name) for name in names]
    sizes = np.stack([weights[:, cells].sum(axis=1) for cells in members], axis=1)  # (R, K)
    copies = np.stack([(weights[:, cells] ** 2).sum(axis=1) for cells in members], axis=1)
    within = np.zeros(len(weights))
    between = np.zeros(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):  # a class not drawn: NaN, left out
        for c, cells in enumerate(members):
            reach = weights[:, cells] @ distances[cells]  # (R, n)
            for d in range(c, len(members)):
                total = np.einsum("rn,rn->r", reach[:, members[d]], weights[:, members[d]])
                if c == d:
                    within += total / (sizes[:, c] ** 2 - copies[:, c])
                else:
                    between += total / (sizes[:, c] * sizes[:, d])
    k = len(names)
    return (within / k - between * 2 / (k * (k - 1))) / np.sqrt(max(dimensions, 1))


def votes(judges: Labels, labellings: Labels) -> Labels:
    """The class most frequent among ``judges`` (q, k) for each labelling: (P, q)."""
    k = judges.shape[1]
    weights = 1 + 1e-3 * 0.5 ** np.arange(k)  # ties go to the nearer
    classes = np.arange(int(labellings.max()) + 1)
    return np.stack(
        [
            np.stack([(labels[judges] == name) @ weights for name in classes]).argmax(axis=0)
            for labels in labellings
        ]
    )


def balanced_accuracies(
    counts: NDArray[np.int64] | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over classes of the share of correct answers, (R,), from counts (R, class, 2)."""
    totals = counts.sum(axis=2)
    shares = np.divide(counts[:, :, 1], totals, out=np.zeros(totals.shape), where=totals > 0)
    return shares.sum(axis=1) / np.maximum((totals > 0).sum(axis=1), 1)


def balanced_accuracy(right: NDArray[np.bool_], labels: Labels) -> float:
    """Mean over classes of the share of cells (n,) that were answered ``right``."""
    k = int(labels.max(initial=0)) + 1
    counts = np.bincount(2 * labels + right, minlength=2 * k)
    return float(balanced_accuracies(counts.reshape(1, k, 2))[0])


def pair_distances(features: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean distances (n, n) in float64."""
    from sklearn.metrics.pairwise import euclidean_distances  # slow to load

    if features.shape[1] == 0 or is_constant(features):
        return np.zeros((len(features), len(features)))
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return euclidean_distances(centred)
