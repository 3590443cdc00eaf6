"""Estimates with their doubt: intervals over cells, or over groups of cells (`intervals`)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolens.numerics.intervals import (
    ANYTHING,
    Range,
    combined,
    group_interval,
    no_interval,
    percentile_interval,
    t_interval,
)
from cytolens.numerics.resampling import left_in, parts_of

Rng = int | np.random.Generator | None
_AT_ONCE = 1_000_000  # numbers drawn


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and, where it makes a claim, its controls.

    ``null`` is the upper 95 % limit of the same number under permuted labels; ``untrained`` the
    same number for the network before training. Both are None where they do not apply. Where no
    interval can be given ``low`` and ``high`` are NaN, and ``no_interval`` says why: "2 groups".
    """

    value: float
    low: float
    high: float
    null: float | None = None
    untrained: float | None = None
    no_interval: str | None = None

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def most(self) -> float:
        """The high end of the interval; where none can be given, the value itself."""
        return self.high if self.no_interval is None else self.value

    @property
    def least(self) -> float:
        """The low end of the interval; where none can be given, the value itself."""
        return self.low if self.no_interval is None else self.value

    def as_dict(self) -> dict[str, float | str]:
        """For summary.json: value, low, high, the controls that exist, why there is no interval."""
        entries = {"value": self.value, "low": self.low, "high": self.high}
        more = {"null": self.null, "untrained": self.untrained, "no_interval": self.no_interval}
        return {**entries, **{key: value for key, value in more.items() if value is not None}}

    def __str__(self) -> str:
        if self.no_interval is not None:
            return f"{self.value:.3f} (no interval: {self.no_interval})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate_from(
    value: float,
    drawn: NDArray[np.floating],
    *,
    grouped: bool,
    within: Range = ANYTHING,
    level: float = 0.95,
    null: float | None = None,
    untrained: float | None = None,
) -> Estimate:
    """``value`` with the interval that ``drawn`` (R,) gives, the same number for other cells.

    For bootstrap resamples of the cells; or, if ``grouped``, for all cells but those of one group
    at a time (`resampled_counts` and `resample_weights` give either). ``within`` is the range of
    the number. The rule is that of `numerics.intervals`.
    """
    interval, why = percentile_interval(drawn, level), None
    if grouped:
        interval = group_interval(value, drawn, within=within, level=level)
        why = no_interval(drawn)
    return Estimate(value, *interval, null, untrained, why)


def generator(rng: Rng) -> np.random.Generator:
    """A NumPy Generator from an int seed, a Generator (used as it is) or None (fresh entropy)."""
    return np.random.default_rng(rng)


def one_seed(rng: Rng) -> int:
    """A seed with which the same draws are made several times: an int is itself, else drawn."""
    return rng if isinstance(rng, int) else int(generator(rng).integers(2**63 - 1))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    groups: NDArray[np.generic] | None = None,
    within: Range = ANYTHING,
    resamples: int = 1000,
    rng: Rng = None,
) -> Estimate:
    """Estimate of ``statistic(indices)`` over ``n`` cells with its 95 % interval.

    Over ``groups`` (n,) where they are given. Resamples of cells on which the statistic is not
    defined (NaN, e.g. a class is absent) are left out.
    """
    draw = generator(rng)
    if groups is None:
        chosen = (draw.integers(0, n, size=n) for _ in range(resamples))
    else:
        parts = parts_of(groups, rng=draw)
        left = (left_in(parts, np.array([out])) for out in range(int(parts.max()) + 1))
        chosen = (np.flatnonzero(there[0]) for there in left)
    drawn = np.array([statistic(rows) for rows in chosen])
    value = float(statistic(np.arange(n)))
    return estimate_from(value, drawn, grouped=groups is not None, within=within)


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
    draw, step = generator(rng), max(1, _AT_ONCE // len(known))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    drawn = np.concatenate(
        [
            known[draw.integers(0, len(known), size=(size, len(known)))].mean(axis=1)
            for size in sizes
        ]
    )
    return estimate_from(float(known.mean()), drawn, grouped=False)


def mean_of_both(
    values: NDArray[np.floating], drawn: NDArray[np.floating], *, grouped: bool, within: Range
) -> Estimate:
    """Mean of ``values`` (K,), of channels, each measured on the same cells; over both.

    ``drawn`` (R, K) holds the values once the cells are drawn again (`resample_weights`), of
    groups if ``grouped``. The errors over channels and over cells add up, with the degrees of
    freedom of both together, so that the interval speaks of other channels and of other cells.
    Slightly too wide: what cells and channels do together counts twice (Cameron, Gelbach & Miller
    2011, J. Bus. Econ. Stat. 29, subtract it and may end below 0). Fewer than three channels, or
    groups, have no interval.
    """
    known = np.isfinite(values)
    values, means = values[known], drawn[:, known].mean(axis=1)
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    mean, n = float(values.mean()), len(values)
    without = (values.sum() - values) / max(n - 1, 1)
    why = no_interval(without, "channel") or (no_interval(means) if grouped else None)
    if why is not None:
        return Estimate(mean, np.nan, np.nan, no_interval=why)
    over_channels = float(np.sqrt(np.square(without - mean).sum())), n - 1
    over_cells = float(np.nanstd(means)), 1e6
    if grouped:
        over_cells = float(np.sqrt(np.square(means - mean).sum())), len(means) - 1
    error, freedom = combined([over_channels, over_cells])
    return Estimate(mean, *t_interval(mean, error, freedom, within=within))


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
