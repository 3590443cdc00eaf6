"""Contrast pairs: less of what a network looks for, and more of it, in cells that are alike."""

from collections.abc import Mapping
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, mean_of
from cytolens.records.shown import record

ACCEPTED = 0.7
"""Share of the effect that other networks must see for an edited cell to be accepted."""
ODD = 0.01
"""An edited cell is odd where fewer than this share of held-out cells are as far from others."""


@record
class Target:
    """What cells have less or more of: a direction in the space of a layer's channels."""

    name: str  # as people read it, "G2 rather than S" or "conv5_2, channel 12"
    kind: str  # "class", "output", "cluster" or "channel"
    layer: str
    weights: NDArray[np.float64]  # (C,), of the channels' mean activations


@record
class PropertyShift:
    """How a measured property differs between less and more, in s.d. of cells."""

    name: str
    natural: Estimate  # in pairs of real cells; interval corrected over the properties
    made: Estimate | None  # in edited cells, where there are some
    named: bool  # holds in the natural pairs, and edited cells do not contradict


@record
class Edits:
    """Real held-out cells, each edited towards less and towards more; intensities are prepared.

    Axis 1 of the arrays with two columns: less, more. A share is of the distance, in the target,
    from the cell to the goal: 1 is all of it.
    """

    cells: NDArray[np.int64]  # (m,), rows of the data
    start: NDArray[np.float32]  # (m, C, H, W)
    less: NDArray[np.float32]  # (m, C, H, W)
    more: NDArray[np.float32]  # (m, C, H, W)
    ways: tuple[str, str]  # how they were made: "sparse edit" or "region filled in"
    own: NDArray[np.float64]  # (m, 2), share that the explained network sees
    judged: NDArray[np.float64]  # (m, 2, J), share that each judge sees; the first chose the way
    common: NDArray[np.float64]  # (m, 2), share of held-out cells that are as odd
    changed: NDArray[np.float64]  # (m, 2), share of the pixels that hold 90 % of the change
    matched_rows: NDArray[np.int64]  # (m, 2), rows of the data: real cells, alike but for the axis
    matched: NDArray[np.float32]  # (m, 2, C, H, W), these, turned like the cell

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """(m, 2): the judges see enough of the effect, and the edited cell is not odd."""
        return (self.judged.min(axis=2) >= ACCEPTED) & (self.common >= ODD)

    @property
    def transfer(self) -> NDArray[np.float64]:
        """(m, 2): the share that the last judge sees, which had no part in choosing."""
        return self.judged[:, :, -1]


@record
class Series:
    """The same kind of cell with more and more of a target, in five steps of real cells.

    The steps are training cells near the 10th, 30th, 50th, 70th and 90th percentile of the target.
    The numbers are of all ``n`` series that were found, of which the most alike are shown.
    ``order``: rank correlation between the step and what a regression on held-out cells reads of
    the target, by representation; ``unmatched``: the same of any cells of these steps.
    """

    rows: NDArray[np.int64]  # (r, 5), rows of the data, less first; the most alike cells first
    images: NDArray[np.float32]  # (r, 5, C, H, W), turned like the middle one
    n: int
    order: Mapping[str, Estimate]
    unmatched: Mapping[str, Estimate]
    apart: float  # distance in scattering to the middle cell; 1: as of any cells of these steps
    moved: Mapping[str, NDArray[np.float64]]  # by property: mean at each step (5,), in s.d.
    edited: NDArray[np.float32] | None = None  # (5, C, H, W), one cell edited from less to more


@record
class ContrastPairs:
    """Real cells that differ in a target and in little else, and cells edited to differ in it.

    ``answers``: share of questions answered, "which of two alike held-out cells of one class drives
    the target more", by what is shown and by what it is compared with; chance is 0.5. By
    representation, then by display: ``pairs``, ``edits``, ``best_cells``, ``best_and_worst``,
    ``best_cell``, and ``axis``, a regression on all the cells, which is about the most that can be
    had.
    """

    target: Target
    goals: NDArray[np.float64]  # (2,), 10th and 90th percentile of the target, training cells
    fit: Estimate  # R² of the axis on held-out cells: what can be described of the target
    less_rows: NDArray[np.int64]  # (k,), rows of the data, the clearest pair first
    more_rows: NDArray[np.int64]  # (k,)
    less: NDArray[np.float32]  # (k, C, H, W), turned as they match best
    more: NDArray[np.float32]  # (k, C, H, W)
    along: NDArray[np.float64]  # (k,), cosine between the pair's difference and the axis
    answers: Mapping[str, Mapping[str, Estimate]]
    questions: int
    shifts: tuple[PropertyShift, ...]  # the largest first
    edits: Edits | None = None
    series: Series | None = None  # of the first three targets that differ
    controls: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])

    @property
    def named(self) -> tuple[PropertyShift, ...]:
        """The shifts that are named, the largest first."""
        return tuple(shift for shift in self.shifts if shift.named)


@record
class Contrasts:
    """The contrast pairs of a study, and the networks that judged its edits."""

    pairs: tuple[ContrastPairs, ...]
    judges: tuple[Estimate, ...] = ()  # balanced accuracy of each on held-out cells
    n_training: int = 0  # cells that pairs are drawn from

    def answered(self, representation: str, display: str) -> Estimate:
        """Share of the questions that a display answers, mean and interval over targets."""
        values = [
            pairs.answers[representation][display].value
            for pairs in self.pairs
            if display in pairs.answers.get(representation, {})
        ]
        return mean_of(values, rng=0)

    def control(self, name: str) -> Estimate:
        """Share of questions that a control's pairs answer, mean and interval over targets."""
        shares = [pairs.controls[name].value for pairs in self.pairs if name in pairs.controls]
        return mean_of(shares, rng=0)

    @property
    def accepted(self) -> tuple[int, int]:
        """How many edits are accepted, of how many."""
        edits = [pairs.edits for pairs in self.pairs if pairs.edits is not None]
        return sum(int(one.accepted.sum()) for one in edits), sum(one.own.size for one in edits)
