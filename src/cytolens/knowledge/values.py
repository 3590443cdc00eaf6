"""Columns of a table as what can be predicted: numbers, or the codes of categories."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_OF_A_VALUE = 5  # cells of a category, a cell a fold; rarer ones are left out
MOST_VALUES = 24  # categories; of more the most frequent
_MISSING = ("", "nan", "none", "na", "n/a")


def as_values(column: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_], int]:
    """A column (N,) as numbers, which of them are known, and of how many categories (0: none).

    Text and columns of two values become codes 0, 1 …; categories of fewer than five cells, and
    those beyond the 24 most frequent, count as not known. Far outliers of numbers are set to
    Tukey's outer fences.
    """
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        values = array.astype(np.float64)
        known = np.isfinite(values)
        names = np.unique(values[known])
        if len(names) != 2:
            return _fenced(values, known), known, 0
    else:
        array = array.astype(np.str_)
        known = ~np.isin(np.char.lower(np.char.strip(array)), _MISSING)
    names, inverse, counts = np.unique(array[known], return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    kept = np.sort(frequent[counts[frequent] >= FEWEST_OF_A_VALUE])
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    values = np.full(len(array), -1)
    values[known] = place[inverse.ravel()]
    return values.astype(np.float64), values >= 0, len(kept)


def _fenced(values: Floats, known: NDArray[np.bool_]) -> Floats:
    if not known.any():
        return values
    low, high = np.percentile(values[known], [25, 75])
    if high <= low:
        return values
    return np.clip(values, low - 3 * (high - low), high + 3 * (high - low))
