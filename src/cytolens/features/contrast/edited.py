"""A few cells from the middle of a target, edited to less and to more, and judged by others."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cytolens.activations.capture import device_of
from cytolens.features.canvas import prepare_canvas
from cytolens.features.contrast.axis import Floats
from cytolens.features.contrast.editing import (
    Filling,
    Images,
    Score,
    fill_in,
    share_changed,
    sparse_edits,
)
from cytolens.features.contrast.judging import Judge, Reading, read_target
from cytolens.features.contrast.matching import goals_of, matched_cells, turned_like
from cytolens.features.contrast.questions import Rows
from cytolens.features.contrast.subject import Subject
from cytolens.features.natural import answers_at
from cytolens.features.objectives import direction
from cytolens.features.responding import dtype_of, responding
from cytolens.records.contrast import Edits, Target

SPARSE, FILLED = "sparse edit", "region filled in"
_EDITED = 4  # cells
_MIDDLE = (0.4, 0.6)  # quantiles of the held-out cells between which an edited cell lies
_LEVELS = (0.3, 0.7)  # quantiles of the target, of the steps of a series
_LEAST_READ = 0.2  # squared correlation with the target below which a judge says nothing


def edit_cells(
    subject: Subject,
    target: Target,
    judges: Sequence[Judge],
    test: Rows,
    filling: Filling,
    *,
    series: bool,
    rng: np.random.Generator,
) -> tuple[Edits | None, Images | None]:
    """The edits and, if asked for, a series of five (5, C, H, W) of the cell that shows it best.

    Cells are drawn from ``test``, rows of the data, between the 40th and 60th percentile of the
    target; None where there is none. The goals are the 10th and 90th percentile of the known
    cells. Of the two ways the one is taken, for less and for more, of which the first judge sees
    more.
    """
    known, asked = subject.scores(target)
    goals, deviation = goals_of(known), float(known.std())
    low, high = np.quantile(asked, _MIDDLE)
    middle = (asked >= low) & (asked <= high) & (asked > goals[0]) & (asked < goals[1])
    chosen = rng.permutation(np.flatnonzero(middle & np.isin(subject.asked, test)))[:_EDITED]
    if not len(chosen):
        return None, None
    start, own = subject.crops[chosen], asked[chosen]
    readings = [read_target(judge, subject.asked, known, asked) for judge in judges]
    measured = subject.cells.images.masks(subject.asked[chosen])
    distance = goals - own[:, None]  # (m, 2)
    seed = int(rng.integers(2**31))

    def plain(crops: Images) -> Floats:
        """The target in crops (N,), without a gradient."""
        layer = subject.layers[target.layer]
        found = answers_at(subject.network, [layer], crops).score[layer.name]
        return found @ target.weights

    with _differentiable(subject, target) as score:

        def sparse(rows: Rows, levels: Floats) -> list[Images]:
            """The cells ``rows`` edited to each of the levels, together."""
            each = np.tile(rows, len(levels))
            made = sparse_edits(
                score,
                start[each],
                np.repeat(levels, len(rows)),
                measured=measured[each],
                deviation=deviation,
                value_range=subject.prior.value_range,
                seed=seed,
            )
            return np.split(made, len(levels))

        everyone = np.arange(len(start))

        ways = {
            SPARSE: sparse(everyone, goals),
            FILLED: fill_in(plain, start, goals.tolist(), filling, measured=measured),
        }
        seen = {way: _seen(readings, start, both, distance) for way, both in ways.items()}
        taken = [
            max(ways, key=lambda way, side=side: _middle(seen[way][:, side, 0])) for side in (0, 1)
        ]
        both = [ways[way][side] for side, way in enumerate(taken)]
        matched = matched_cells(
            subject.space.known, known, subject.axes.slope(known), subject.asked_points[chosen]
        )
        edits = Edits(
            cells=subject.asked[chosen],
            start=start,
            less=both[0],
            more=both[1],
            ways=(taken[0], taken[1]),
            own=np.stack([plain(crops) - own for crops in both], axis=1) / distance,
            judged=np.stack([seen[way][:, side] for side, way in enumerate(taken)], axis=1),
            common=np.stack([subject.oddness(subject.space(crops)) for crops in both], axis=1),
            changed=np.stack([share_changed(start, crops) for crops in both], axis=1),
            matched_rows=subject.known[matched],
            matched=np.stack(
                [turned_like(subject.prior.crops[rows], start) for rows in matched.T], axis=1
            ),
        )
        if not series:
            return edits, None
        one = int(edits.accepted.sum(1).argmax())
        alone = everyone[one : one + 1]
        lower, upper = sparse(alone, np.quantile(known, _LEVELS))
    return edits, np.stack([edits.less[one], lower[0], start[one], upper[0], edits.more[one]])


def _seen(
    readings: Sequence[Reading], start: Images, both: Sequence[Images], distance: Floats
) -> Floats:
    """Share of the distance to the goals (m, 2) that each judge sees: (m, 2, J).

    NaN for a judge that can hardly read the target.
    """
    found = np.full((len(start), 2, len(readings)), np.nan)
    for judge, reading in enumerate(readings):
        if reading.fit < _LEAST_READ:
            continue
        before = reading(start)
        for side, crops in enumerate(both):
            found[:, side, judge] = (reading(crops) - before) / distance[:, side]
    return found


def _middle(shares: Floats) -> float:
    """Median share, none counted as more than all; the least where the judge says nothing."""
    return -np.inf if np.isnan(shares).any() else float(np.median(shares.clip(0, 1)))


@contextmanager
def _differentiable(subject: Subject, target: Target) -> Generator[Score]:
    """Within the block, how much of the target is in images (N, C, H, W), with a gradient."""
    network, layer = subject.network, subject.layers[target.layer]
    device = device_of(network)
    like = torch.empty((), dtype=dtype_of(network), device=device)
    shape = (subject.crops.shape[1], subject.crops.shape[2], subject.crops.shape[3])
    limits = subject.prior.value_range
    canvas = prepare_canvas(shape, limits, None, None, subject.prior.crops, like)
    objective = direction(layer.name, target.weights)
    length = float(np.linalg.norm(target.weights))
    with responding(network, {layer.name: layer}, canvas, device=device) as respond:

        def score(images: Tensor) -> Tensor:
            there = images.to(like)
            first = torch.zeros(len(images), dtype=torch.int64, device=device)
            return objective(respond(there, there), first).to(images) * length

        yield score
