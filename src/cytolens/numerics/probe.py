"""A linear probe whose answers for many labellings of the same cells cost little more than one."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from cytolens.numerics.neighbours import principal_components

MOST_FEATURES = 256
"""Features above which the probe sees the first principal components instead: pixels."""

PENALTIES = np.logspace(-7, 2, 19)
"""Ridge penalties tried, relative to the mean eigenvalue of the features' scatter."""


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


MOST_BLOCKS = 4
"""Parts of the training cells that the penalty is chosen with, where folds are whole groups."""


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
        mean = features[train].mean(axis=0)
        known, unknown = features[train] - mean, features[test] - mean
        power, axes = np.linalg.eigh(known.T @ known)
        kept = power > 1e-10 * max(power[-1], 1e-300)
        if not kept.any():
            continue  # nothing varies: the first class for all
        power, axes = power[kept], axes[:, kept] / np.sqrt(power[kept])
        basis, test_basis = known @ axes, unknown @ axes  # orthonormal columns (n, r)
        step = max(1, 20_000_000 // (len(known) * n_classes))
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
        shrinkage = _shrinkage(power, inner, (indicators**2).sum(axis=(0, 2)), n)  # (r, P)
    else:
        shrinkage = _shrinkage_over_blocks(power, basis, indicators, blocks)
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


def _shrinkage(
    power: NDArray[np.float64], inner: NDArray[np.float64], total: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Ridge factors power / (power + penalty), (r, P), of least generalised cross-validation."""
    factors = power / (power + PENALTIES[:, None] * power.mean())  # (penalty, r)
    explained = (inner**2).sum(axis=2)  # (r, P)
    residual = total - (2 * factors - factors**2) @ explained  # (penalty, P)
    freedom = factors.sum(axis=1) + 1
    usable = freedom < 0.9 * n  # near interpolation the criterion means nothing
    usable[-1] = True
    criterion = np.where(
        usable[:, None], residual / (np.maximum(n - freedom, 1) ** 2)[:, None], np.inf
    )
    return factors[criterion.argmin(axis=0)].T


def _shrinkage_over_blocks(
    power: NDArray[np.float64],
    basis: NDArray[np.float64],
    indicators: NDArray[np.float64],
    blocks: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Ridge factors, (r, P), of least squared error on blocks (n,) of cells left out in turn.

    With hat matrix B D B', the errors on a block left out are (I - B_b D B_b')⁻¹ times those of
    the fit to all (Hastie, Tibshirani & Friedman 2009, section 7.10, for one cell); Woodbury's
    identity turns that into one system of the size of the basis per block and penalty.
    """
    indicators = indicators @ helmert(indicators.shape[2]).T  # they add up to 0: one fewer
    n, p, k = indicators.shape
    order = np.unique(blocks, return_inverse=True)[1]
    blocks = order % MOST_BLOCKS if order.max() >= MOST_BLOCKS else order
    basis = np.concatenate([np.full((n, 1), 1 / np.sqrt(n)), basis], axis=1)  # intercept
    targets = indicators.reshape(n, p * k)
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for block in np.unique(blocks):
        rows = blocks == block
        parts.append((basis[rows].T @ basis[rows], basis[rows].T @ targets[rows]))
    whole = sum(inner for _, inner in parts)  # (r + 1, P K)
    penalties = PENALTIES[::2]
    errors = np.zeros((len(penalties), p))
    for place, penalty in enumerate(penalties):
        kept = np.append(1.0, power / (power + penalty * power.mean()))
        fit = kept[:, None] * whole
        for gram, inner in parts:
            left = gram @ fit
            rest = inner - left
            turned = np.linalg.solve(np.diag(1 / kept + 1e-12) - gram, rest)
            error = fit * (left - 2 * inner) + turned * (rest + turned / kept[:, None])
            errors[place] += error.sum(axis=0).reshape(p, k).sum(axis=1)  # but a constant
    best = penalties[errors.argmin(axis=0)]
    return power[:, None] / (power[:, None] + best * power.mean())
