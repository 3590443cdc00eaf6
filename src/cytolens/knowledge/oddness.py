"""Crops that do not show one whole cell like the others, found by what was measured on them."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.neighbours import find_neighbours
from cytolens.numerics.resampling import Labels

Floats = NDArray[np.float64]

FAR = 3.5  # robust standard deviations, beyond which a value is an outlier
EMPTY_BELOW = 0.7  # Otsu's η; noise alone has 2/π
FEWEST_PIXELS = 20  # of a cell
SPECK = 9  # px, from which something is there that is no cell
MOST_CONTACT = 0.8  # of its diameter along the frame; a tenth of the diameter is then cut off
MOST_OF_A_CELL = 0.3  # of the usual area, beyond which it is no debris
MOST_AT_PEAK = 0.02  # of a cell's pixels that may have the highest intensity there is
SECOND_CELL = 0.75  # of the usual radius, from which a second part is a cell and no lobe
TWO_CELLS = 1.25  # of the usual area, that two cells have at least
NOTHING, DEBRIS = 0.12, 0.3  # of the usual cell's brightness: below, from this on
AS_BRIGHT = 0.5  # as the usual cell, from which what touches the frame is a cell
SEEN = 1.0  # times the noise, that the fine detail of a cell in focus has at least
BLURRED = 0.75  # of the usual coarse detail: blur that takes all fine detail takes of this too
MOST_NOT_FOUND = 0.25  # of all crops; beyond, the cells are not such that they can be outlined
NEIGHBOURS = 10
TAIL, TAIL_SD = 0.8, 0.8416  # a quantile on the odd side, and where a Gaussian has it

_COMMON: Mapping[str, str] = {
    "empty": "In {share:.0%} of the crops no cell was found: that was not counted as odd.",
    "debris": "{share:.0%} of the crops look like debris: that was not counted as odd.",
    "cut off": "In {share:.0%} of the crops the cell touches much of the frame, as crops are "
    "tight: that was not counted as odd, and where it touches a quarter of the frame, the area of "
    "the cell is not known.",
    "doublet": "{share:.0%} of the crops look like doublets: that was not counted as odd.",
    "out of focus": "{share:.0%} of the crops look blurred: that was not counted as odd.",
    "saturated": "{share:.0%} of the cells have the highest intensity there is in many pixels: "
    "that was not counted as odd.",
}


def find_odd(
    properties: Mapping[str, Floats],
    checks: Mapping[str, Floats],
    labels: Labels,
    *,
    features: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], tuple[str, ...], Floats, tuple[str, ...]]:
    """Odd cells, the oddest first; the reasons; how odd; and what could not be looked for.

    ``properties`` and ``checks`` (N,) are those of `properties.measurement.measure_cells`. A value
    is odd that lies more than 3.5 robust standard deviations beyond the median of *every* class of
    ``labels`` (N,), so that a wrong label makes no cell odd. The deviation is 1.4826 times the
    median absolute one (Iglewicz & Hoaglin 1993), or that of the 80 % quantile on the odd side
    where it is larger, as for skewed values. "Usual" is the median of a class, that which asks for
    most:

    - "empty": less than 20 px in one piece are brighter than a twentieth of the usual cell, and
      nothing is brighter than 0.12 of it or stands out of the noise on 9 px;
    - "debris": something stands out, at least 0.3 as bright as the usual cell and off the frame,
      whose area is below 0.3 of the usual one, and oddly small;
    - "cut off": a part at least half as bright as the usual cell touches the crop's frame along
      0.8 of the diameter of a disc of its area;
    - "doublet": a gap or a neck divides two parts, of which the smaller is as thick as 0.75 of the
      usual cell, oddly so, and both together are larger than 1.25 of it;
    - "out of focus": oddly little fine detail, and less than 0.75 of the usual coarse detail, where
      so bright a cell in focus would show it;
    - "saturated": more than 2 % of its pixels have the highest intensity found in any crop;
    - "far from all others": by the distance to the tenth neighbour in ``features`` (N, F).

    A cell is not odd for being dim, bright or large. How often each reason is right is measured in
    ``benchmarks/results/odd_cells.md``.

    Where no threshold divides more than a quarter of the crops, brightness does not separate cells
    from ground: then only the last two are looked for. A reason that holds for more than a quarter
    of the crops is not odd, and is not given.
    """
    n = len(labels)
    found: dict[str, Floats] = {}
    remarks: list[str] = []
    if checks:
        lost = (checks["separability"] < EMPTY_BELOW).mean()
        if lost > MOST_NOT_FOUND:
            remarks.append(
                f"In {lost:.0%} of the crops brightness does not separate cell from "
                "ground: empty crops, debris, doublets and blur were not looked for."
            )
        else:
            found = _by_measurement(properties, checks, labels)
        peak, plateau = checks["peak"], checks["plateau"]
        at_limit = (peak >= np.nanmax(peak, initial=-np.inf)) & (plateau > MOST_AT_PEAK)
        found["saturated"] = np.where(at_limit, FAR * plateau / MOST_AT_PEAK, 0)
        for reason, strong in list(found.items()):
            if (share := float((strong > FAR).mean())) > MOST_NOT_FOUND:
                del found[reason]
                remarks.append(_COMMON[reason].format(share=share))
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
    properties: Mapping[str, Floats], checks: Mapping[str, Floats], labels: Labels
) -> dict[str, Floats]:
    """Robust standard deviations beyond the other cells (N,), by reason; 0 where none."""
    sure = 10 * FAR  # there is nothing to compare: the oddest of all
    divided = checks["separability"] >= EMPTY_BELOW
    faint, speck, contact = checks["faint_area"], checks["speck"], checks["contact"]
    least = MOST_OF_A_CELL * _of_classes(faint, labels, min)
    nothing = (speck < SPECK) | (checks["height"] < NOTHING)
    debris = (faint < least) & (speck >= SPECK) & (contact == 0)
    debris &= checks["height"] >= DEBRIS
    cut = divided & (contact >= MOST_CONTACT) & (checks["strength"] >= AS_BRIGHT)
    cut &= faint >= least
    usual_radius = _of_classes(checks["radius"], labels, max)
    usual_area = _of_classes(checks["all_parts"], labels, max)
    second = checks["second_radius"]
    two = divided & (second >= SECOND_CELL * usual_radius)
    two &= checks["all_parts"] >= TWO_CELLS * usual_area
    blurred = _blur(properties["total_brightness"], checks, labels)
    return {
        "empty": np.where((faint < FEWEST_PIXELS) & nothing, sure, 0),
        "debris": np.where(debris, _excess(-_logarithm(faint), labels), 0),
        "cut off": np.where(cut, FAR * contact / MOST_CONTACT + 1e-9, 0),
        "doublet": np.where(two, _excess(second, labels, least=0.1 * usual_radius), 0),
        "out of focus": np.where(divided & (faint >= least), blurred, 0),
    }


def _blur(light: Floats, checks: Mapping[str, Floats], labels: Labels) -> Floats:
    """How oddly little fine detail there is (N,), 0 where noise would hide what a sharp cell has.

    And 0 where the coarse detail is as usual. The detail that a cell has when in focus grows with
    the square of its light.
    """
    square = np.maximum(light, 0) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        usual_coarse = square * _of_classes(checks["coarse"] / square, labels, min)
        usual_fine = square * _of_classes(checks["fine"] / square, labels, min)
        seen = usual_fine >= SEEN * checks["noise"]
        seen &= checks["coarse"] < BLURRED * usual_coarse
        sharpness = checks["fine"] / np.maximum(checks["coarse"], 0.1 * usual_coarse)
    return np.where(seen, _excess(-_logarithm(sharpness), labels), 0)


def _of_classes(values: Floats, labels: Labels, choose: Callable[[list[float]], float]) -> float:
    """The least or the largest of the medians of the classes of enough cells; NaN: of none."""
    medians = [
        float(np.median(inside))
        for one in np.unique(labels)
        if len(inside := values[(labels == one) & np.isfinite(values)]) >= 2 * NEIGHBOURS
    ]
    return float(choose(medians)) if medians else np.nan


def _logarithm(values: Floats) -> Floats:
    """Natural logarithm, of values that are not positive a thousandth of the median's."""
    positive = values[values > 0]
    least = 1e-3 * float(np.median(positive)) if positive.size else 1.0
    return np.log(np.maximum(values, least))


def _excess(values: Floats, labels: Labels, *, least: float = 0.0) -> Floats:
    """How many robust standard deviations above the median of every class a value (N,) is.

    A standard deviation is at least ``least``.
    """
    lowest = np.full(len(values), np.inf)
    for one in np.unique(labels):
        inside = values[(labels == one) & np.isfinite(values)]
        if len(inside) < 2 * NEIGHBOURS:
            continue
        middle = np.median(inside)
        spread = max(
            1.4826 * float(np.median(np.abs(inside - middle))),
            float(np.quantile(inside, TAIL) - middle) / TAIL_SD,
            least,
        )
        if spread > 0:
            lowest = np.minimum(lowest, (values - middle) / spread)
        else:
            lowest = np.minimum(lowest, 0)
    return np.where(np.isfinite(lowest), lowest, 0)
