"""What differs between less and more, in words that a biologist measures by."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, estimate_from
from cytolens.records.contrast import PropertyShift

Floats = NDArray[np.float64]

FEWEST = 8  # pairs in which a property is known
LEAST = 0.3  # s.d. that a shift is worth naming from
_RESAMPLES = 2000


def standardised(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Properties (N,) in s.d. of the cells; those that do not vary are left out."""
    found: dict[str, Floats] = {}
    for name, values in columns.items():
        known = values[np.isfinite(values)]
        if len(known) > 1 and known.std() > 1e-9 * max(abs(float(known.mean())), 1e-300):
            found[name] = (values - known.mean()) / known.std()
    return found


def name_shifts(
    natural: Mapping[str, Floats],
    made: Mapping[str, Floats] | None = None,
    *,
    rng: np.random.Generator,
) -> tuple[PropertyShift, ...]:
    """By property, more minus less in s.d. of cells: in real pairs (k,) and in edited cells (m,).

    The largest shift of the real pairs comes first. Intervals over pairs, at 95 % for all
    properties together (Bonferroni). A shift is named where its interval in real pairs leaves out
    0, it is at least 0.3 s.d., and edited cells do not shift the other way by as much. Edited
    cells are too few for an interval.
    """
    level = 1 - 0.05 / max(len(natural), 1)
    found: list[PropertyShift] = []
    for name, values in natural.items():
        shift = _mean(values, level, rng)
        if shift is None:
            continue
        edited = None
        if made is not None and np.isfinite(made.get(name, np.nan)).any():
            edited = Estimate(float(np.nanmean(made[name])), np.nan, np.nan)
        against = edited is not None and edited.value * np.sign(shift.value) <= -LEAST
        clear = (shift.low > 0 or shift.high < 0) and abs(shift.value) >= LEAST
        found.append(PropertyShift(name, shift, edited, bool(clear and not against)))
    return tuple(sorted(found, key=lambda shift: -abs(shift.natural.value)))


def _mean(values: Floats, level: float, rng: np.random.Generator) -> Estimate | None:
    """Mean over pairs with an interval; None where the property is known of too few."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return None
    drawn = known[rng.integers(0, len(known), (_RESAMPLES, len(known)))].mean(1)
    return estimate_from(float(known.mean()), drawn, grouped=False, level=level)
