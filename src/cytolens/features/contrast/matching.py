"""Real cells that differ along the axis of a target and in little else."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.alignment import ORIENTATIONS, turned

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

TAIL = 0.1  # of the training cells: less is at or below the 10th percentile, more above the 90th
_MOST_IN_TAIL = 300  # cells of each tail that are compared with all of the other
STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of the target that a series steps through
_NEAR = 0.05  # of the training cells, on either side of a step


def goals_of(scores: Floats) -> Floats:
    """(2,), the 10th and the 90th percentile of the target."""
    return np.quantile(scores, [TAIL, 1 - TAIL])


def clearest_pairs(
    points: Floats, scores: Floats, slope: Floats, *, most: int, rng: np.random.Generator
) -> tuple[Rows, Rows, Floats]:
    """Rows of less and of more (k,), and the cosine of the axis with all differences so far, (k,).

    Pairs are of a cell of the lowest decile of ``scores`` (n,) and one of the highest; each cell is
    in one pair at most. The first is the pair whose difference in ``points`` (n, F) lies most along
    ``slope`` (F,); then always that with which the mean of the differences lies most along it: what
    the pairs differ in by accident cancels, and what they have in common stays.
    """
    length = float(np.linalg.norm(slope))
    low, high = goals_of(scores)
    if length == 0 or low == high:
        nobody = np.zeros(0, dtype=np.int64)
        return nobody, nobody, np.zeros(0)
    less, more = (_some(np.flatnonzero(one), rng) for one in (scores <= low, scores >= high))
    count = min(most, len(less), len(more))
    axis = slope / length
    total = np.zeros(points.shape[1])
    below, above = (points[some] @ axis for some in (less, more))
    own = [np.square(points[some]).sum(1) for some in (more, less)]
    whole = own[0][:, None] + own[1][None] - 2 * points[more] @ points[less].T  # squared lengths
    chosen: list[tuple[int, int]] = []
    cosines: list[float] = []
    for _ in range(count):
        ahead = above[:, None] - below[None] + total @ axis
        turned_by = (points[more] @ total)[:, None] - (points[less] @ total)[None]
        squared = whole + 2 * turned_by + total @ total
        cosine = ahead / np.sqrt(np.maximum(squared, 1e-12))
        if chosen:
            used = np.array(chosen)
            cosine[used[:, 0]] = cosine[:, used[:, 1]] = -np.inf
        place = divmod(int(cosine.argmax()), len(less))
        chosen.append(place)
        cosines.append(float(cosine[place]))
        total = total + points[more[place[0]]] - points[less[place[1]]]
    first, second = np.array(chosen, dtype=np.int64).reshape(-1, 2).T
    return less[second], more[first], np.array(cosines)


def cells_of_steps(scores: Floats) -> list[Rows]:
    """Rows near the 10th, 30th, 50th, 70th and 90th percentile of ``scores`` (n,), a tenth each.

    None where the steps cannot be told apart, as of a channel that is silent in half of the cells.
    """
    edges = np.quantile(scores, [[step - _NEAR, step + _NEAR] for step in STEPS])
    if (edges[1:, 0] <= edges[:-1, 1]).any():
        return []
    return [np.flatnonzero((scores >= low) & (scores <= high)) for low, high in edges]


def matched_series(
    points: Floats, steps: Sequence[Rows], slope: Floats, *, most: int
) -> NDArray[np.int64]:
    """Series of cells with more and more of a target, alike otherwise: rows (m, 5).

    Each has a cell of each of the five ``steps``. The others are those whose ``points`` (n, F) are
    nearest to the middle one moved along ``slope`` (F,) alone, to where cells of the step lie on
    average. Each cell is in one series at most; that whose cells are nearest comes first.
    """
    length = float(np.linalg.norm(slope))
    if length == 0 or not steps:
        return np.zeros((0, len(STEPS)), dtype=np.int64)
    axis = slope / length
    along, centre = points @ axis, len(STEPS) // 2
    middle = steps[centre]
    apart: list[Floats] = []  # of each step: squared distance from where it should be, (middle, c)
    for rows in steps:
        wanted = points[middle] + np.outer(along[rows].mean() - along[middle], axis)
        apart.append(((points[rows] - wanted[:, None]) ** 2).sum(2))
    itself = np.eye(len(middle), dtype=bool)
    apart[centre] = np.where(itself, apart[centre], np.inf)
    chosen: list[list[int]] = []
    for _ in range(min(most, *map(len, steps))):
        best = int(np.sum([one.min(1) for one in apart], axis=0).argmin())
        places = [int(one[best].argmin()) for one in apart]
        chosen.append([int(rows[place]) for rows, place in zip(steps, places, strict=True)])
        for one, place in zip(apart, places, strict=True):
            one[:, place] = np.inf
    return np.array(chosen, dtype=np.int64)


def matched_cells(
    points: Floats, scores: Floats, slope: Floats, start: Floats
) -> NDArray[np.int64]:
    """For each of ``start`` (m, F), a row of less and a row of more, (m, 2).

    Of the lowest and of the highest decile of ``scores`` (n,), the cell whose ``points`` (n, F)
    differ from the start least but along ``slope`` (F,).
    """
    axis = slope / max(float(np.linalg.norm(slope)), 1e-300)
    low, high = goals_of(scores)
    found: list[Rows] = []
    for rows in (np.flatnonzero(scores <= low), np.flatnonzero(scores >= high)):
        apart = points[rows] - start[:, None]  # (m, rows, F)
        found.append(rows[((apart**2).sum(2) - (apart @ axis) ** 2).argmin(1)])
    return np.stack(found, axis=1)


def _some(rows: Rows, rng: np.random.Generator) -> Rows:
    if len(rows) <= _MOST_IN_TAIL:
        return rows
    return np.sort(rng.choice(rows, _MOST_IN_TAIL, replace=False))


def turned_like(pictures: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each picture (n, C, H, W) in that of its eight orientations most like its other.

    By correlation of pixels. Pictures that are not square stay as they are.
    """
    if pictures.shape[-1] != pictures.shape[-2] or not len(pictures):
        return pictures
    views = np.stack([turned(pictures, *way) for way in ORIENTATIONS])
    wanted = others - others.mean(axis=(1, 2, 3), keepdims=True)
    alike = (views * wanted).sum(axis=(2, 3, 4))  # all views of a picture have the same variance
    return views[alike.argmax(axis=0), np.arange(len(pictures))]
