"""Does an image predict which cells drive a channel? Measured in separate spaces.

Cells and images are compared in two representations that the explained network has no part in.
One is the texture statistics of another, wider set of random filters than those of the prior, which
were never trained on anything, averaged over all eight orientations; as the prior holds images by
filters of this kind, it is not quite a stranger to them. The other is: scattering coefficients
(see `scattering`). Similarity is the cosine of the angle, seen from the mean cell: which way from
the average a cell departs, not how far.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cytolens.features.priors import Prior, unit
from cytolens.features.scattering import scatter
from cytolens.features.texture import RandomFilters, describe
from cytolens.numerics.auc import area_under_curve, weighted_areas

TOP, LOWER = 0.9, 0.5
"""Quantiles of activation: cells above the first are compared with those below the second."""


REPRESENTATIONS = ("filters", "wavelets")
"""By the names of their columns: "predictivity", and "predictivity_by_wavelets"."""


@dataclass(frozen=True)
class Comparison:
    """A representation of images, standardised over the cells of a prior."""

    describe: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (N, C, H, W) to (N, F)
    value_range: NDArray[np.float64]  # (C, 2)
    background: NDArray[np.float64]  # (C,)
    mean: NDArray[np.float32]  # (F,)
    deviation: NDArray[np.float32]  # (F,)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images (N, C, H, W) as points (N, F), in standard deviations from the mean cell."""
        above = unit(images, self.value_range, self.background)
        return self.standardised(self.describe(above))

    def standardised(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `described` gives (N, F), as points (N, F)."""
        return (found - self.mean) / self.deviation


def described(prior: Prior, crops: NDArray[np.float32], representation: str) -> NDArray[np.float32]:
    """Crops (n, C, H, W), prepared, in one of `REPRESENTATIONS`, (n, F); not standardised."""
    return _seen(representation, crops.shape[1])(unit(crops, prior.value_range, prior.background))


def prepare_comparison(
    prior: Prior, representation: str = "filters", *, known: NDArray[np.float32] | None = None
) -> tuple[Comparison, NDArray[np.float32]]:
    """One of `REPRESENTATIONS`, and the prior's own cells in it (n, F).

    ``known``: what `described` gives of these cells, where it is known already.
    """
    seen = _seen(representation, prior.crops.shape[1])
    found = described(prior, prior.crops, representation) if known is None else known
    mean, deviation = found.mean(0), found.std(0)
    deviation = np.maximum(deviation, 1e-3 * np.abs(mean).max() + 1e-9)
    if representation == "wavelets":  # fine scales are faint, and count all the same
        deviation = found.std(0) + 1e-9
    made = Comparison(seen, prior.value_range, prior.background, mean, deviation)
    return made, made.standardised(found)


def _seen(
    representation: str, n_channels: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    if representation == "wavelets":
        return _scattered
    widths = (32, 64, 64, 128)
    return partial(describe, RandomFilters(n_channels, widths=widths, seed=0, pooling="largest"))


def _scattered(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return scatter(images).rows


def measure_predictivity(
    point: NDArray[np.float32], cells: NDArray[np.float32], activation: NDArray[np.floating]
) -> tuple[float, float]:
    """How well similarity to an image predicts which cells drive a channel, and its s.e.

    The area under the ROC curve with which similarity of ``cells`` (n, F) to ``point`` (F,)
    separates those in the top decile of ``activation`` (n,) from its lower half; 0.5 is chance. The
    standard error is that of Hanley & McNeil 1982, equation 2. NaN where the channel is silent.
    """
    high, low = _apart(activation)
    n, m = int(high.sum()), int(low.sum())
    if n == 0 or m == 0:
        return np.nan, np.nan
    similarity = _similarity(point, cells)
    area = area_under_curve(similarity[high], similarity[low])
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)
    return area, float(np.sqrt(max(variance, 0) / (n * m)))


def drawn_predictivity(
    point: NDArray[np.float32],
    cells: NDArray[np.float32],
    activation: NDArray[np.floating],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The area of `measure_predictivity` for each row of ``weights`` (R, n) of the cells: (R,).

    Which cells drive the channel is decided once, by all of them.
    """
    high, low = _apart(activation)
    used = high | low
    if not high.any() or not low.any():
        return np.full(len(weights), np.nan)
    return weighted_areas(_similarity(point, cells)[used], high[used], weights[:, used])


def _apart(activation: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The cells (n,) in the top decile, and those in the lower half; none where both are one."""
    high = activation >= np.quantile(activation, TOP)
    low = activation <= np.quantile(activation, LOWER)
    return (high & False, low & False) if (high & low).any() else (high, low)


def _similarity(point: NDArray[np.float32], cells: NDArray[np.float32]) -> NDArray[np.float64]:
    length = np.linalg.norm(cells, axis=1) * np.linalg.norm(point)
    return (cells @ point / np.maximum(length, 1e-12)).astype(np.float64)
