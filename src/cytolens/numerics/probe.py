"""A linear probe whose answers for many labellings of the same cells cost little more than one."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.features import principal_components
from cytolens.numerics.ridge import (
    block_errors,
    least_criterion,
    ridge_factors,
    training_basis,
)

MOST_FEATURES = 256
"""Features above which the probe sees the first principal components instead: pixels."""


def probe_features(
    features: NDArray[np.float32], *, most: int = MOST_FEATURES
) -> NDArray[np.float64]:
    """What the probe sees: at most ``most`` features, of overall s.d. 1."""
    if features.shape[1] > most:
        features = principal_components(features, most)[0]
    seen = features.astype(np.float64)
    seen -= seen.mean(axis=0)
    scale = float(np.sqrt((seen**2).mean()))
    return seen / scale if scale > 0 else seen


def held_out_predictions(
    features: NDArray[np.float64],
    labellings: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    grouped: bool = False,
) -> NDArray[np.int64]:
    """The class of every cell by a linear probe fitted to the other folds: (labelling, cell).

    Linear discriminant analysis with equal priors, by ridge regression on class indicators:
    fits Ŷ of the indicators are classified by the nearest class mean in Mahalanobis distance
    within classes (Hastie, Buja & Tibshirani 1995, Ann. Statist. 23; without penalty it is
    Fisher's discriminant, and no class is masked by its neighbours). The penalty is chosen
    within the training folds, per labelling, by generalised cross-validation (Golub, Heath &
    Wahba 1979), which is leave-one-cell-out in effect; with ``grouped``, where no fold cuts a
    group, by the squared error on training folds left out in turn, since a penalty that serves
    other cells of the same groups may be too small for new groups. All ``labellings`` (P, N)
    share one eigendecomposition per fold. Rotating the features changes nothing.
    """
    predicted = np.zeros_like(labellings)
    grouped = grouped and len(np.unique(folds)) > 2
    n_classes = int(labellings.max()) + 1
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        basis, test_basis, power = training_basis(features, train, test)
        if not len(power):
            continue  # nothing varies: the first class for all
        step = max(1, 20_000_000 // (len(basis) * n_classes))
        for start in range(0, len(labellings), step):
            some = slice(start, start + step)
            predicted[some, test] = _classify(
                basis, test_basis, power, labellings[some][:, train], n_classes,
                folds[train] if grouped else None,
            )  # fmt: skip
    return predicted


def _classify(
    basis: NDArray[np.float64],
    test_basis: NDArray[np.float64],
    power: NDArray[np.float64],
    labels: NDArray[np.int64],
    n_classes: int,
    blocks: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """Classes of the test cells, (P, n_test), for training ``labels`` (P, n)."""
    p, n = labels.shape
    indicators = (labels.T[:, :, None] == np.arange(n_classes)).astype(np.float64)  # (n, P, K)
    sizes = indicators.sum(axis=0)  # (P, K)
    indicators -= sizes / n
    inner = (basis.T @ indicators.reshape(n, -1)).reshape(-1, p, n_classes)  # (r, P, K)
    if blocks is None:
        total = (indicators**2).sum(axis=(0, 2))
        best = least_criterion(power, (inner**2).sum(axis=2), total, n)  # (P,)
    else:
        from scipy.linalg import helmert  # slow to load

        contrasts = indicators @ helmert(n_classes).T  # they add up to 0: one fewer
        errors = block_errors(power, basis, contrasts.reshape(n, -1), blocks)
        best = 2 * errors.reshape(len(errors), p, -1).sum(axis=2).argmin(axis=0)
    shrinkage = ridge_factors(power)[best].T  # (r, P)
    # Fits in the basis are shrinkage × inner; class sums of the basis are inner itself, since
    # the basis is centred, so that means and scatter of the fits need no (n, P, K) array.
    fits = shrinkage[:, :, None] * inner  # (r, P, K)
    sums = np.einsum("rpc,rpk->pck", inner, fits)  # per class: sum of fits
    means = sums / np.maximum(sizes, 1)[:, :, None]  # (P, class, K)
    scatter = np.einsum("rpj,rpk->pjk", fits, fits) - np.einsum("pcj,pck->pjk", sums, means)
    ridge = 1e-6 * np.einsum("rpk,rpk->p", fits, fits) / n_classes + 1e-12
    metric = np.linalg.inv(scatter + ridge[:, None, None] * np.eye(n_classes))
    # d² = η'Mη - 2 η'Mμ + μ'Mμ; the first term is the same for all classes.
    slopes = np.einsum("pjk,pck->pjc", metric, means)
    offsets = np.einsum("pcj,pjc->pc", means, slopes)
    weights = np.einsum("rpj,pjc->rpc", fits, slopes)  # (r, P, class)
    scores = 2 * (test_basis @ weights.reshape(len(weights), -1)).reshape(-1, p, n_classes)
    scores -= np.where(sizes > 0, offsets, np.inf)  # a class not seen is never chosen
    return scores.argmax(axis=2).T
