"""Which of two alike cells drives a target more? Questions that a display has to answer.

That a display looks like the cells that drive a target says little: so does any of these cells. It
is asked of pairs of held-out cells of one class that are near neighbours and yet differ in the
target (after the two-alternative tests of Borowski et al. 2021, arXiv:2010.12606). A display
answers by the direction that it shows, in a representation that neither the network nor the choice
of the display had a part in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, Rng, bootstrap
from cytolens.numerics.intervals import SHARE, Range
from cytolens.numerics.neighbours import find_neighbours

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

NEIGHBOURS = 10
DIFFERENT = 0.5  # s.d. of the target by which the two cells of a question differ at least
FEWEST = 20  # questions


@dataclass(frozen=True)
class Questions:
    """Pairs of held-out cells, and whose interval it is."""

    more: Rows  # (q,), rows of the held-out cells: the one that drives the target more
    less: Rows  # (q,)
    groups: NDArray[np.generic] | None  # (q,), of the cell that the question is about

    def __len__(self) -> int:
        return len(self.more)

    def answered(self, points: Floats, direction: Floats, *, rng: Rng = None) -> Estimate:
        """Share of the questions that ``direction`` (F,) in ``points`` (m, F) answers.

        Ties count half. NaN with fewer than 20 questions.
        """
        if len(self) < FEWEST:
            return Estimate(np.nan, np.nan, np.nan, no_interval=f"{len(self)} questions")
        along = points @ direction
        step = along[self.more] - along[self.less]
        right = (step > 0) + 0.5 * (step == 0)
        return mean_over(right, self.groups, within=SHARE, rng=rng)


def mean_over(
    values: Floats, groups: NDArray[np.generic] | None, *, within: Range, rng: Rng = None
) -> Estimate:
    """Mean of ``values`` (n,), of cells, with its interval over cells or their groups (n,)."""
    return bootstrap(
        lambda rows: float(values[rows].mean()),
        len(values),
        groups=groups,
        within=within,
        resamples=200,
        rng=rng,
    )


def near_in_class(points: Floats, labels: NDArray[np.int64]) -> list[Rows]:
    """Of each held-out cell, those among its ten nearest that are of its class."""
    count = min(NEIGHBOURS, len(points) - 1)
    found = find_neighbours(points.astype(np.float32), count).indices
    return [row[labels[row] == labels[cell]] for cell, row in enumerate(found)]


def ask(near: list[Rows], scores: Floats, groups: NDArray[np.generic] | None) -> Questions:
    """Of each cell with the neighbour that differs most from it in the target, if by enough."""
    least = DIFFERENT * float(scores.std())
    asked: list[tuple[int, int, int]] = []
    for cell, others in enumerate(near):
        if not len(others):
            continue
        other = int(others[np.abs(scores[others] - scores[cell]).argmax()])
        step = scores[cell] - scores[other]
        if step and abs(step) >= least:
            asked.append((cell, other, cell) if step > 0 else (other, cell, cell))
    more, less, about = np.array(asked, dtype=np.int64).reshape(-1, 3).T
    return Questions(more, less, None if groups is None else groups[about])
