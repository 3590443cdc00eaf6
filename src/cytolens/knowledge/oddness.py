"""Crops that do not show one whole cell like the others, found by what was measured on them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.neighbours import find_neighbours
from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]

FAR = 3.5  # robust standard deviations, beyond which a value is an outlier
EMPTY_BELOW = 0.7  # Otsu's η; noise alone has 2/π
FEWEST_PIXELS = 20  # of a cell
MOST_CUT = 0.25  # of the crop's frame that a cell may touch
MOST_AT_PEAK = 0.02  # of a cell's pixels that may have the highest intensity there is
SECOND_CELL = 0.4  # of the largest part's area, from which the second is no debris
MOST_NOT_FOUND = 0.25  # of all crops; beyond, the cells are not such that they can be outlined
NEIGHBOURS = 10


def find_odd(
    properties: Mapping[str, Floats],
    checks: Mapping[str, Floats],
    labels: Labels,
    *,
    features: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], tuple[str, ...], Floats, tuple[str, ...]]:
    """Odd cells, the oddest first; the reasons; how odd; and what could not be looked for.

    ``properties`` and ``checks`` (N,) are those of `images.measurement.measure_cells`. A value is
    odd that lies more than 3.5 robust standard deviations (1.4826 times the median absolute
    deviation; Iglewicz & Hoaglin 1993) beyond the median of *every* class of ``labels`` (N,), so
    that a wrong label makes no cell odd:

    - "empty": no threshold divides the crop;
    - "debris": what there is, is smaller than 20 px, or odd by both its area and total brightness;
    - "cut off": it touches more than a quarter of the crop's frame;
    - "doublet": oddly bright in total, and either a second part of at least 0.4 of the area of
      the largest, or an oddly large area;
    - "out of focus": oddly little fine detail;
    - "saturated": more than 2 % of its pixels have the highest intensity found in any crop;
    - "far from all others": by the distance to the tenth neighbour in ``features`` (N, F).

    Where no threshold divides more than a quarter of the crops, brightness does not separate cells
    from ground: then only the last two are looked for. Where more than a quarter touch
    much of the frame, that is not odd.
    """
    n = len(labels)
    found: dict[str, Floats] = {}
    remarks: list[str] = []
    if checks:
        outlined = np.isfinite(properties["area"])
        empty = checks["separability"] < EMPTY_BELOW
        if empty.mean() > MOST_NOT_FOUND:
            remarks.append(
                f"In {empty.mean():.0%} of the crops brightness does not separate cell from "
                "ground: empty crops, debris, doublets and blur were not looked for."
            )
        else:
            found = _by_measurement(properties, checks, labels, empty)
            cut = (~empty & ~outlined & (checks["cut"] > MOST_CUT)).mean()
            if cut > MOST_NOT_FOUND:
                del found["cut off"]
                remarks.append(
                    f"In {cut:.0%} of the crops the cell touches much of the frame, as crops are "
                    "tight: that was not counted as odd, and the area of these cells is not known."
                )
        peak, plateau = checks["peak"], checks["plateau"]
        at_limit = (peak >= np.nanmax(peak, initial=-np.inf)) & (plateau > MOST_AT_PEAK)
        found["saturated"] = np.where(at_limit, FAR * plateau / MOST_AT_PEAK, 0)
    if features is not None and n > 2 * NEIGHBOURS:
        reach = find_neighbours(features, NEIGHBOURS).distances[:, -1].astype(np.float64)
        found["far from all others"] = _excess(_logarithm(reach), labels)
    if not found:
        return np.empty(0, np.int64), (), np.empty(0), tuple(remarks)
    strength = np.stack(
        [np.nan_to_num(values, nan=0.0) for values in found.values()]
    )  # (reason, N)
    strength = np.where(strength > FAR, strength, 0)
    score = strength.max(axis=0)
    odd = np.flatnonzero(score > 0)
    odd = odd[np.argsort(-score[odd], kind="stable")]
    names = np.array(list(found))
    reasons = tuple(", ".join(names[strength[:, cell] > 0]) for cell in odd)
    return odd, reasons, score[odd], tuple(remarks)


def _by_measurement(
    properties: Mapping[str, Floats],
    checks: Mapping[str, Floats],
    labels: Labels,
    empty: NDArray[np.bool_],
) -> dict[str, Floats]:
    """Robust standard deviations beyond the other cells (N,), by reason; 0 where none."""
    sure = 10 * FAR  # there is nothing to compare: the oddest of all
    area, light = _logarithm(properties["area"]), _logarithm(properties["total_brightness"])
    outlined = np.isfinite(properties["area"])
    cut = ~empty & ~outlined & (checks["cut"] > MOST_CUT)
    bright, large = _excess(light, labels), _excess(area, labels)
    two = (checks["second"] >= SECOND_CELL) | (large > FAR)
    return {
        "empty": np.where(empty, sure, 0),
        "debris": np.where(
            ~outlined & ~empty & ~cut,
            sure,
            np.minimum(_excess(-area, labels), _excess(-light, labels)),
        ),
        "cut off": np.where(cut, sure, 0),
        "doublet": np.where(two, bright, 0),
        "out of focus": np.where(empty, 0, _excess(-_logarithm(properties["focus"]), labels)),
    }


def _logarithm(values: Floats) -> Floats:
    """Natural logarithm, of values that are not positive a thousandth of the median's."""
    positive = values[values > 0]
    least = 1e-3 * float(np.median(positive)) if positive.size else 1.0
    return np.log(np.maximum(values, least))


def _excess(values: Floats, labels: Labels) -> Floats:
    """How many robust standard deviations above the median of every class a value (N,) is."""
    lowest = np.full(len(values), np.inf)
    for one in np.unique(labels):
        inside = values[(labels == one) & np.isfinite(values)]
        if len(inside) < 2 * NEIGHBOURS:
            continue
        middle = np.median(inside)
        spread = 1.4826 * float(np.median(np.abs(inside - middle)))
        if spread > 0:
            lowest = np.minimum(lowest, (values - middle) / spread)
        else:
            lowest = np.minimum(lowest, 0)
    return np.where(np.isfinite(lowest), lowest, 0)
