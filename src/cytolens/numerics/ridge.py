"""Ridge fits to many columns at once, for cells that were held out."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.probe import PENALTIES
from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]

MOST_BLOCKS = 4  # parts of the training cells that a penalty is chosen with


def held_out_fits(
    features: Floats,
    columns: Floats,
    folds: Labels,
    *,
    blocked: NDArray[np.bool_] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Ridge fits to ``columns`` (n, M) by probes that were fitted to the other folds.

    Gives, each (n, M), for the fold that a cell is in: the fit about the training mean, the
    training mean, and the mean over the training cells of column times fit. The penalty is
    chosen per column within the training folds: by generalised cross-validation (Golub, Heath &
    Wahba 1979), which speaks for other cells of the same groups; for columns that are ``blocked``
    (M,), where there are three folds or more, by the error on training folds left out in turn,
    which speaks for other groups. All columns share one eigendecomposition per fold.
    """
    fits, means, powers = (np.zeros(columns.shape) for _ in range(3))
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        if not train.any():
            continue
        centre = features[train].mean(axis=0)
        known = features[train] - centre
        power, axes = np.linalg.eigh(known.T @ known)
        kept = power > 1e-10 * max(float(power[-1]), 1e-300)
        given = columns[train]
        means[test] = given.mean(axis=0)
        if not kept.any():
            continue
        power, axes = power[kept], axes[:, kept] / np.sqrt(power[kept])
        basis = known @ axes  # orthonormal columns (n, r)
        inner = basis.T @ given  # (r, M); the basis is centred, so the columns need not be
        total = (given**2).sum(axis=0) - len(given) * given.mean(axis=0) ** 2
        factors = power / (power + PENALTIES[:, None] * power.mean())  # (penalty, r)
        best = _least_criterion(factors, inner, total, len(given))
        others = folds[train]
        if blocked is not None and blocked.any() and len(np.unique(others)) > 1:
            best[blocked] = _least_error(basis, power, given[:, blocked], others)
        slopes = factors[best].T * inner
        fits[test] = ((features[test] - centre) @ axes) @ slopes
        powers[test] = (slopes * inner).sum(axis=0) / len(given)
    return fits, means, powers


def _least_criterion(factors: Floats, inner: Floats, total: Floats, n: int) -> NDArray[np.int64]:
    """The penalty (M,), by its place, of least generalised cross-validation."""
    residual = total - (2 * factors - factors**2) @ inner**2  # (penalty, M)
    freedom = factors.sum(axis=1) + 1
    usable = freedom < 0.9 * n  # near interpolation the criterion means nothing
    usable[-1] = True
    free = (np.maximum(n - freedom, 1) ** 2)[:, None]
    return np.where(usable[:, None], residual / free, np.inf).argmin(axis=0)


def _least_error(basis: Floats, power: Floats, columns: Floats, folds: Labels) -> NDArray[np.int64]:
    """The penalty (m,), by its place, of least squared error on folds left out in turn."""
    order = np.unique(folds, return_inverse=True)[1].ravel()
    blocks = order % MOST_BLOCKS if order.max() >= MOST_BLOCKS else order
    scores = basis * np.sqrt(power)  # principal components of the training cells
    errors = np.zeros((len(PENALTIES), columns.shape[1]))
    errors[1::2] = np.inf  # every other one is tried
    for block in np.unique(blocks):
        out = blocks == block
        centre, mean = scores[~out].mean(axis=0), columns[~out].mean(axis=0)
        rest = scores[~out] - centre
        variance, axes = np.linalg.eigh(rest.T @ rest)
        target = axes.T @ (rest.T @ (columns[~out] - mean))  # (r, m)
        seen, truth = (scores[out] - centre) @ axes, columns[out] - mean
        for place in range(0, len(PENALTIES), 2):
            penalty = PENALTIES[place] * power.mean()
            fit = seen @ (target / (np.maximum(variance, 0) + penalty)[:, None])
            errors[place] += ((truth - fit) ** 2).sum(axis=0)
    return errors.argmin(axis=0)
