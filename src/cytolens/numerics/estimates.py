"""Estimates with their doubt: bootstrap intervals over cells, or over groups of cells."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rng = int | np.random.Generator | None


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and, where it makes a claim, its controls.

    ``null`` is the upper 95 % limit of the same number under permuted labels; ``untrained`` the
    same number for the network before training. Both are None where they do not apply.
    """

    value: float
    low: float
    high: float
    null: float | None = None
    untrained: float | None = None

    def as_dict(self) -> dict[str, float]:
        """For summary.json: value, low, high, and the controls that exist."""
        entries = {"value": self.value, "low": self.low, "high": self.high}
        controls = {"null": self.null, "untrained": self.untrained}
        return {**entries, **{key: value for key, value in controls.items() if value is not None}}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def generator(rng: Rng) -> np.random.Generator:
    """A NumPy Generator from an int seed, a Generator (used as it is) or None (fresh entropy)."""
    return np.random.default_rng(rng)


def one_seed(rng: Rng) -> int:
    """A seed with which the same draws are made several times: an int is itself, else drawn."""
    return rng if isinstance(rng, int) else int(generator(rng).integers(2**63 - 1))


def resample(
    n: int, *, groups: NDArray[np.generic] | None = None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of one bootstrap resample of ``n`` cells.

    With ``groups`` (n,) a group is drawn whole, with replacement, and then cells within it, with
    replacement (two-stage bootstrap, Davison & Hinkley 1997, section 3.8). With a single group
    that is the plain bootstrap over its cells, and speaks of that group alone.
    """
    if groups is None:
        return rng.integers(0, n, size=n)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = rng.integers(0, len(members), size=len(members))
    return np.concatenate([rng.choice(members[i], size=len(members[i])) for i in drawn])


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = 1000,
    rng: Rng = None,
) -> Estimate:
    """Estimate of ``statistic(indices)`` over ``n`` cells with its 95 % percentile interval.

    Resamples on which the statistic is not defined (NaN, e.g. a class is absent) are left out.
    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval).
    """
    draw = generator(rng)
    value = float(statistic(np.arange(n)))
    values = np.array([statistic(resample(n, groups=groups, rng=draw)) for _ in range(resamples)])
    return Estimate(value, *percentile_interval(values))


def percentile_interval(values: NDArray[np.floating]) -> tuple[float, float]:
    """2.5 % and 97.5 % of the values that are defined; NaN where none is."""
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def null_limit(values: NDArray[np.floating], percent: float = 95) -> float | None:
    """The percentile of the values that are defined, a limit by chance; None where none is."""
    defined = values[np.isfinite(values)]
    return float(np.percentile(defined, percent)) if defined.size else None


def mean_of(values: ArrayLike, *, resamples: int = 1000, rng: Rng = None) -> Estimate:
    """Mean of those of the values (n,) that are finite, with its bootstrap interval over them.

    Fewer than two have no interval (NaN).
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else np.nan, np.nan, np.nan)
    return bootstrap(lambda rows: known[rows].mean(), len(known), resamples=resamples, rng=rng)


def mean_ranks(values: ArrayLike, *, axis: int = -1) -> NDArray[np.float64]:
    """Ranks from 1 along an axis, float64; equal values share the mean of their ranks."""
    from scipy.stats import rankdata  # slow to load

    return np.asarray(rankdata(values, axis=axis), np.float64)


def spearman(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation row by row, (R, n) each -> (R,); NaN where all ranks are equal."""
    a, b = (mean_ranks(rows) for rows in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    product = (a * b).sum(axis=1)
    return np.divide(product, scale, out=np.full_like(scale, np.nan), where=scale > 0)
