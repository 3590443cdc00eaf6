"""The one rule by which every interval is made: over cells, and over groups of cells.

**Over cells**: percentiles of a bootstrap (Efron & Tibshirani 1993, chapter 13).

**Over groups** (donors, plates): what is estimated is what cells of *new* groups like these would
give. The number is measured again without each group in turn, and the interval is

    value ± t · sqrt(Σ (without one group - value)²),   t of G - 1 degrees of freedom,

on a scale on which the number has no ends (logit for a share, logarithm for a ratio, Fisher's z
for a correlation). This is the delete-one-group jackknife (Efron & Stein 1981; for clusters Bell &
McCaffrey 2002) with its sum of squares not shrunk by (G - 1) / G, which groups of unequal size and
skewed differences between groups need. It contains what cells within a group vary by. Percentiles
of a two-stage bootstrap are too narrow with few groups: they cover .77 at three groups.
`benchmarks/coverage.py` measures both.

**Below three groups** there is no interval: one or two say next to nothing of how groups differ.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_GROUPS = 3

Range = tuple[float, float]
SHARE: Range = (0, 1)
CORRELATION: Range = (-1, 1)
POSITIVE: Range = (0, np.inf)
AT_MOST_ONE: Range = (-np.inf, 1)
ANYTHING: Range = (-np.inf, np.inf)

Interval = tuple[float, float]
UNKNOWN: Interval = (np.nan, np.nan)


def percentile_interval(values: NDArray[np.floating], level: float = 0.95) -> Interval:
    """The middle ``level`` of the values that are defined; NaN where none is."""
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return UNKNOWN
    tail = 50 * (1 - level)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def group_interval(
    value: float, without: ArrayLike, *, within: Range = ANYTHING, level: float = 0.95
) -> Interval:
    """Interval of ``value`` from what it is ``without`` each group in turn, (G,).

    NaN below three groups, and where the value is not defined without one of them.

    >>> low, high = group_interval(0.8, [0.75, 0.8, 0.85], within=SHARE)
    >>> print(f"{low:.2f} {high:.2f}")
    0.37 0.96
    """
    others = np.asarray(without, np.float64)
    if no_interval(others) is not None:
        return UNKNOWN
    error = float(np.sqrt(((others - value) ** 2).sum()))
    return t_interval(value, error, len(others) - 1, within=within, level=level)


def no_interval(without: ArrayLike, unit: str = "group") -> str | None:
    """Why no interval over groups can be given, in words; None where one can.

    >>> no_interval([0.8, 0.9])
    '2 groups'
    """
    others = np.asarray(without, np.float64)
    if len(others) < FEWEST_GROUPS:
        return f"{len(others)} {unit}{'' if len(others) == 1 else 's'}"
    return None if np.isfinite(others).all() else f"not defined without one {unit}"


def t_interval(
    value: float, error: float, freedom: float, *, within: Range = ANYTHING, level: float = 0.95
) -> Interval:
    """``value`` ± t · ``error``, laid off on the scale on which ``within`` has no ends.

    Nearer to an end than its error the value says little of where it lies: the scale is that of
    one error from the end.
    """
    from scipy.stats import t  # slow to load

    if not np.isfinite([value, error]).all() or error == 0:
        return (value, value) if error == 0 else UNKNOWN
    start, end = within
    inner = float(np.clip(value, start + error, end - error))
    if start + error > end - error:
        inner = (start + end) / 2
    below, above = inner - start, end - inner
    slope = 1 / below + 1 / above if np.isfinite(below) or np.isfinite(above) else 1.0
    step = float(t.ppf(0.5 + level / 2, freedom)) * error * slope
    low, high = (_moved(inner, way * step, within) for way in (-1, 1))
    return min(low, value), max(high, value)


def combined(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of independent (error, freedom) together.

    Source: Satterthwaite 1946, Biometrics Bulletin 2.
    """
    squares = np.array([error**2 for error, _ in parts])
    freedoms = np.array([freedom for _, freedom in parts])
    total = float(squares.sum())
    if total == 0:
        return 0.0, float(freedoms.min())
    return float(np.sqrt(total)), total**2 / float((squares**2 / freedoms).sum())


def _moved(value: float, step: float, within: Range) -> float:
    """``value`` moved by ``step`` on the scale on which ``within`` has no ends."""
    start, end = within
    if np.isinf(start) and np.isinf(end):
        return value + step
    if np.isinf(end):
        return start + (value - start) * float(np.exp(step))
    if np.isinf(start):
        return end - (end - value) * float(np.exp(-step))
    odds = np.log((value - start) / (end - value)) + step
    return start + (end - start) / (1 + float(np.exp(-np.clip(odds, -500, 500))))
