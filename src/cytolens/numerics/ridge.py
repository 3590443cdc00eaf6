"""Ridge regression on many columns at once, for cells that were held out."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]

PENALTIES = np.logspace(-7, 2, 19)
"""Ridge penalties tried, relative to the mean eigenvalue of the features' scatter."""

MOST_BLOCKS = 4
"""Parts of the training cells that a penalty is chosen with, where folds are whole groups."""


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
        given = columns[train]
        means[test] = given.mean(axis=0)
        basis, unseen, power = training_basis(features, train, test)
        if not len(power):
            continue
        inner = basis.T @ given  # (r, M); the basis is centred, so the columns need not be
        total = (given**2).sum(axis=0) - len(given) * given.mean(axis=0) ** 2
        best = least_criterion(power, inner**2, total, len(given))
        others = folds[train]
        if blocked is not None and blocked.any() and len(np.unique(others)) > 1:
            centred = given[:, blocked] - given[:, blocked].mean(axis=0)
            best[blocked] = 2 * block_errors(power, basis, centred, others).argmin(axis=0)
        slopes = ridge_factors(power)[best].T * inner
        fits[test] = unseen @ slopes
        powers[test] = (slopes * inner).sum(axis=0) / len(given)
    return fits, means, powers


def fit_unseen(
    features: Floats,
    columns: Floats,
    train: NDArray[np.bool_],
    *,
    blocks: Labels | None = None,
) -> Floats:
    """Ridge fits to ``columns`` (n, M) of the cells that are not in ``train`` (n,), from those that
    are: (m, M).

    Features (n, F) count in standard deviations over the training cells. The penalty is chosen per
    column as in `held_out_fits`: where ``blocks`` (n,), groups, of the training cells are three
    or more, for other groups, else by generalised cross-validation.
    """
    spread = features[train].std(axis=0)
    scaled = (features - features[train].mean(axis=0)) / np.where(spread > 0, spread, 1)
    given = columns[train]
    means = given.mean(axis=0)
    basis, unseen, power = training_basis(scaled, train, ~train)
    if not len(power):
        return np.tile(means, (int((~train).sum()), 1))
    inner = basis.T @ given
    if blocks is not None and len(np.unique(blocks[train])) >= 3:
        best = 2 * block_errors(power, basis, given - means, blocks[train]).argmin(axis=0)
    else:
        total = (given**2).sum(axis=0) - len(given) * means**2
        best = least_criterion(power, inner**2, total, len(given))
    return means + unseen @ (ridge_factors(power)[best].T * inner)


def training_basis(
    features: Floats, train: NDArray[np.bool_], test: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """An orthonormal basis of centred training features (n, r), the test cells in it (m, r).

    And the scatter along each of its directions (r,); r is 0 where nothing varies.
    """
    centre = features[train].mean(axis=0)
    known, unknown = features[train] - centre, features[test] - centre
    power, axes = np.linalg.eigh(known.T @ known)
    kept = power > 1e-10 * max(float(power[-1]), 1e-300)
    axes = axes[:, kept] / np.sqrt(power[kept])
    return known @ axes, unknown @ axes, power[kept]


def ridge_factors(power: Floats) -> Floats:
    """How much of each direction of the basis every penalty leaves: (penalty, r)."""
    return power / (power + PENALTIES[:, None] * power.mean())


def least_criterion(power: Floats, explained: Floats, total: Floats, n: int) -> NDArray[np.int64]:
    """The index of the penalty of least generalised cross-validation, for each of M targets: (M,).

    ``explained`` (r, M) are their squared products with the basis of ``n`` cells, ``total`` (M,)
    their sums of squares. Source: Golub, Heath & Wahba 1979, Technometrics 21.
    """
    factors = ridge_factors(power)
    residual = total - (2 * factors - factors**2) @ explained  # (penalty, M)
    freedom = factors.sum(axis=1) + 1
    usable = freedom < 0.9 * n  # near interpolation the criterion means nothing
    usable[-1] = True
    free = (np.maximum(n - freedom, 1) ** 2)[:, None]
    return np.where(usable[:, None], residual / free, np.inf).argmin(axis=0)


def block_errors(power: Floats, basis: Floats, columns: Floats, blocks: Labels) -> Floats:
    """Squared error, but a constant, on blocks (n,) of cells left out in turn: (penalty, M).

    Of every other penalty, for centred ``columns`` (n, M) in the ``basis`` (n, r). With hat matrix
    B D B', the errors on a block left out are (I - B_b D B_b')⁻¹ times those of the fit to all
    (Hastie, Tibshirani & Friedman 2009, section 7.10, for one cell); Woodbury's identity turns
    that into one system of the size of the basis per block and penalty.
    """
    order = np.unique(blocks, return_inverse=True)[1].ravel()
    blocks = order % MOST_BLOCKS if order.max() >= MOST_BLOCKS else order
    basis = np.concatenate([np.full((len(basis), 1), len(basis) ** -0.5), basis], axis=1)
    parts: list[tuple[Floats, Floats]] = []
    for block in np.unique(blocks):
        rows = blocks == block
        parts.append((basis[rows].T @ basis[rows], basis[rows].T @ columns[rows]))
    whole = sum(inner for _, inner in parts)  # (r + 1, M), the intercept first
    factors = ridge_factors(power)[::2]
    errors = np.zeros((len(factors), columns.shape[1]))
    for place, shrunk in enumerate(factors):
        kept = np.append(1.0, shrunk)
        fit = kept[:, None] * whole
        for gram, inner in parts:
            left = gram @ fit
            rest = inner - left
            turned = np.linalg.solve(np.diag(1 / kept + 1e-12) - gram, rest)
            error = fit * (left - 2 * inner) + turned * (rest + turned / kept[:, None])
            errors[place] += error.sum(axis=0)
    return errors
