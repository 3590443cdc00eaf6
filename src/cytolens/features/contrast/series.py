"""The same kind of cell with more and more of a target, in five steps of real cells."""

import numpy as np

from cytolens.features.contrast.axis import Floats, Regression
from cytolens.features.contrast.editing import Images
from cytolens.features.contrast.matching import (
    STEPS,
    cells_of_steps,
    matched_series,
    turned_like,
)
from cytolens.features.contrast.questions import Rows
from cytolens.features.contrast.subject import SCATTERING, Subject
from cytolens.numerics.estimates import Estimate, mean_of, spearman
from cytolens.records.contrast import Series, Target

_SHOWN = 3
_MEASURED = 9  # series, as many as pairs
_DRAWN = 100  # series of any cells that these are compared with
_MIDDLE = len(STEPS) // 2


def series_of(
    subject: Subject, target: Target, *, edited: Images | None, rng: np.random.Generator
) -> Series:
    """Series of known cells, and how representations that did not choose them see their order.

    A regression on the cells asked reads the target out of each representation: none of these is
    in a series, and the network was not trained on them.
    """
    known, asked = subject.scores(target)
    steps = cells_of_steps(known)
    slope = subject.axes.slope(known)
    found = matched_series(subject.space.known, steps, slope, most=_MEASURED)
    drawn = np.zeros((0, len(STEPS)), dtype=np.int64)
    if len(found):
        drawn = np.stack([rng.choice(rows, _DRAWN) for rows in steps], axis=1)
    order, unmatched = (
        {
            name: order_of(points[some] @ Regression(subject.asked_as[name]).slope(asked), rng=rng)
            for name, points in subject.known_as.items()
        }
        for some in (found, drawn)
    )
    pictures = subject.prior.crops[found[:_SHOWN]]
    turned = [turned_like(pictures[:, k], pictures[:, _MIDDLE]) for k in range(len(STEPS))]
    rows = subject.known[found]
    points = subject.known_as[SCATTERING]
    return Series(
        rows=rows[:_SHOWN],
        images=np.stack(turned, axis=1),
        n=len(found),
        order=order,
        unmatched=unmatched,
        apart=_apart(points, found) / max(_apart(points, drawn), 1e-12),
        moved={
            name: values[rows].mean(0)
            for name, values in subject.properties.items()
            if len(rows) and np.isfinite(values[rows]).all()
        },
        edited=edited,
    )


def order_of(read: Floats, *, rng: np.random.Generator) -> Estimate:
    """Mean over series of the rank correlation between the step and what is ``read`` (m, 5)."""
    steps = np.broadcast_to(np.arange(float(read.shape[1])), read.shape)
    return mean_of(spearman(read, steps), rng=rng)


def _apart(points: Floats, series: Rows) -> float:
    """Mean distance of the other steps to the middle cell; NaN without a series."""
    if not len(series):
        return np.nan
    apart = points[np.delete(series, _MIDDLE, axis=1)] - points[series[:, _MIDDLE]][:, None]
    return float(np.linalg.norm(apart, axis=2).mean())
