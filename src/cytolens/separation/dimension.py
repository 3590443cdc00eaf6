"""In how many directions the cells of a layer vary, estimated from their two nearest neighbours."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.neighbours import find_neighbours
from cytolens.numerics.resampling import Labels

LEFT_OUT = 0.1
"""Share of the largest ratios that the fit leaves out, as in the paper: outliers."""

FEWEST = 20
"""Cells at different places below which no dimension is given."""


def neighbour_ratios(
    features: NDArray[np.float32], asked: Labels
) -> tuple[NDArray[np.float64], Labels]:
    """Distance to the second over distance to the first neighbour, and of which of ``asked``.

    ``asked`` are indices of cells; all cells are neighbours. Cells that coincide count as one, or
    the first distance would be 0, so that there may be fewer ratios (m,) than cells asked; none
    where fewer than `FEWEST` cells lie at different places.
    """
    places = {row.tobytes(): cell for cell, row in reversed(list(enumerate(features + 0.0)))}
    distinct = np.sort(np.fromiter(places.values(), np.int64))
    wanted = np.flatnonzero(np.isin(distinct, asked))
    if len(distinct) < FEWEST:
        return np.empty(0), np.empty(0, np.int64)
    rows = features[distinct]
    near = find_neighbours(rows, 4, asked=wanted).indices  # 4: float32 may swap the nearest
    away = np.empty(near.shape)
    for place, cell in enumerate(wanted):
        away[place] = np.linalg.norm(rows[near[place]].astype(np.float64) - rows[cell], axis=1)
    away.sort(axis=1)
    usable = away[:, 0] > 0
    return away[usable, 1] / away[usable, 0], distinct[wanted[usable]]


def two_nearest_dimension(
    ratios: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intrinsic dimension (R,) from `neighbour_ratios` (m,), each weighted by ``weights`` (R, m).

    The ratios of d-dimensional cells follow F(r) = 1 - r^-d: d is the slope of -log(1 - F) over
    log r through the origin, without the largest tenth. Resampling the ratios rather than the
    cells leaves each cell its neighbours; a cell drawn twice would be its own nearest. Their
    spread is about a fifth too narrow, as neighbouring ratios are correlated. NaN where all ratios
    are 1. Source: Facco et al. 2017, Scientific Reports 7, 12140, equation 5.
    """
    order = np.argsort(ratios, kind="stable")
    x, w = np.log(ratios[order]), weights[:, order]
    total = w.sum(axis=1, keepdims=True)
    below = (np.cumsum(w, axis=1) - (w - 1) / 2) / np.maximum(total, 1)  # copies: mean of theirs
    kept = (below <= 1 - LEFT_OUT + 1e-12) & (w > 0)
    y = -np.log1p(-np.where(kept, below, 0))
    w = np.where(kept, w, 0)
    power = w @ x**2
    return np.divide((w * y) @ x, power, out=np.full(len(w), np.nan), where=power > 0)
