"""The axis of a target: how cells change with it once their natural variation is taken out.

Cells are described by their texture under random filters, a space that no network of the study has
a part in. Ridge regression of the target on its principal components gives the direction along
which it changes while all else stays: two cells whose difference lies along it differ in the target
and in little else. Averages of cells that drive a target differ along everything that goes with it
(Haufe et al. 2014, NeuroImage 87, on patterns and filters).

How far a difference lies along the axis depends on the scale of the components: as they are, the
few large ones decide, and divided by their s.d. the many small ones. In between, pairs answer best
(benchmarks/contrast_pairs.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.features.priors import Prior, unit
from cytolens.features.texture import describe, texture_filters
from cytolens.numerics.ridge import least_criterion, ridge_factors

Floats = NDArray[np.float64]

COMPONENTS = 40  # of the texture, at most
CELLS_PER_COMPONENT = 8  # at least
TEMPERING = 0.75  # power of its s.d. that each component is divided by; 1: all count alike


@dataclass(frozen=True)
class Space:
    """Where cells are matched: uncorrelated components of their texture."""

    prior: Prior
    centre: Floats  # (F,)
    axes: Floats  # (F, k)
    known: Floats  # (n, k), the prior's cells

    @classmethod
    def of(cls, prior: Prior) -> "Space":
        """The space of a prior's cells."""
        texture = prior.texture.astype(np.float64)
        centre = texture.mean(0)
        _, sizes, rows = np.linalg.svd(texture - centre, full_matrices=False)
        kept = int((sizes > 1e-6 * max(float(sizes[0]), 1e-12)).sum())
        count = max(1, min(COMPONENTS, kept, len(texture) // CELLS_PER_COMPONENT))
        deviations = np.maximum(sizes[:count] / np.sqrt(len(texture)), 1e-12)
        axes = rows[:count].T / deviations**TEMPERING
        return cls(prior, centre, axes, (texture - centre) @ axes)

    def __call__(self, crops: NDArray[np.float32]) -> Floats:
        """Crops (n, C, H, W), prepared, as points (n, k)."""
        prior = self.prior
        above = unit(crops, prior.value_range, prior.background)
        found = describe(texture_filters(crops.shape[1]), above)
        texture = (found - prior.texture_mean) / prior.texture_deviation
        return (texture - self.centre) @ self.axes


class Regression:
    """Ridge regression of many targets on the same points (n, F); decomposed once.

    Columns are taken in units of their s.d. The penalty of each target is that of least generalised
    cross-validation (`numerics.ridge`).
    """

    def __init__(self, points: Floats) -> None:
        deviation = points.std(0)
        least = 1e-9 * max(float(deviation.max(initial=0)), 1e-300)
        self.deviation = np.where(deviation > least, deviation, np.inf)
        scaled = (points - points.mean(0)) / self.deviation
        basis, sizes, rows = np.linalg.svd(scaled, full_matrices=False)
        kept = sizes > 1e-5 * max(float(sizes[0]), 1e-300)
        self.basis, self.sizes, self.rows = basis[:, kept], sizes[kept], rows[kept]

    def slope(self, scores: Floats) -> Floats:
        """The slope (F,) of ``scores`` (n,) over the points; zeros where they are constant."""
        about = scores - scores.mean()
        total = float((about**2).sum())
        if total <= 1e-18 * max(float((scores**2).sum()), 1e-300) or not len(self.sizes):
            return np.zeros(len(self.deviation))
        power, inner = self.sizes**2, self.basis.T @ about
        best = least_criterion(power, inner[:, None] ** 2, np.array([total]), len(about))[0]
        shrunk = ridge_factors(power)[best] * inner / self.sizes
        return (shrunk @ self.rows) / self.deviation


def explained(points: Floats, scores: Floats, slope: Floats) -> Floats:
    """Of each cell (n,): 1 - squared error over the variance of the scores; its mean is R².

    ``scores`` about the mean of other cells is what an axis of these predicts.
    """
    fit = points @ slope
    error = (scores - scores.mean() - fit + fit.mean()) ** 2
    return 1 - error / max(float(scores.var()), 1e-24)
