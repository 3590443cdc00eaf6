"""What likeness to images, to cells and to controls says of which cells drive a channel."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.features.comparison import Comparison, drawn_predictivity, measure_predictivity
from cytolens.features.controls import Controls
from cytolens.numerics.estimates import Estimate, mean_of, mean_of_both
from cytolens.numerics.intervals import ANYTHING, SHARE
from cytolens.numerics.resampling import resample_weights
from cytolens.records.features import FeatureImages

Floats = NDArray[np.float64]
BEST = 9  # natural cells that are taken together
DRIVING = 0.1  # share of the cells whose mean is about the best that likeness can do
RESAMPLES = 200  # of the held-out cells
_RIVALS = {
    "start_cell": "above_start",
    "hold_only": "above_hold_only",
    "wrong_channel": "above_wrong_channel",
}
"""What the images of a layer are compared with, image by image."""


@dataclass(frozen=True)
class Space:
    """A representation, and cells in it."""

    compare: Comparison
    points: NDArray[np.float32]  # (n, F), the prior's cells
    held_out: NDArray[np.float32]  # (m, F)


@dataclass(frozen=True)
class Judged:
    """Predictivity of one layer's images in one representation, with all it is compared with."""

    table: Mapping[str, Floats]  # (K,) each; NaN where a control was not made
    errors: Floats  # (K,), standard errors of the images' own, over cells
    estimates: Mapping[str, Estimate]
    ahead: NDArray[np.bool_]  # (K,), clearly above the start cell and the rotated channels


@dataclass(frozen=True)
class Held:
    """The held-out cells of one layer: what their channels answer, and which are drawn again."""

    scores: NDArray[np.floating]  # (m, C)
    weights: Floats  # (R, m), over groups where there are groups
    cell_weights: Floats  # (R, m), over cells
    grouped: bool


def draw_held_out(
    scores: NDArray[np.floating],
    groups: NDArray[np.generic] | None,
    rng: np.random.Generator,
) -> Held:
    """The same resamples for all images of a layer, and for all that they are compared with."""
    over_cells = resample_weights(len(scores), groups=None, resamples=RESAMPLES, rng=rng)
    weights = over_cells
    if groups is not None:
        weights = resample_weights(len(scores), groups=groups, resamples=RESAMPLES, rng=rng)
    return Held(scores, weights, over_cells, groups is not None)


def judge(
    space: Space,
    images: FeatureImages,
    on_prior: NDArray[np.floating],
    held: Held,
    *,
    unconstrained: FeatureImages | None,
    controls: Controls | None,
    random: NDArray[np.int64],
    rng: np.random.Generator,
) -> Judged:
    """Predictivity of ``images`` in one representation; see `features.measure_faithfulness`.

    ``on_prior`` (n, K): what the images' channels answer to the prior's cells; ``random`` (K,): a
    cell of the prior for each.
    """
    channels, count = images.channels, len(images.channels)
    order = np.argsort(-on_prior, axis=0, kind="stable")
    tenth = max(BEST, round(DRIVING * len(order)))
    points = space.compare(images.images)
    candidates = {
        "predictivity": points,
        "best_cell": space.points[order[0]],
        "nine_best_cells": space.points[order[:BEST]].mean(0),
        "driving_cells": space.points[order[:tenth]].mean(0),
        "random_cell": space.points[random],
    }
    if count > 1:
        candidates["others"] = (points.sum(0) - points) / (count - 1)
    if unconstrained is not None:
        candidates["unconstrained"] = space.compare(unconstrained.images)
    if images.starts is not None:
        candidates["start_cell"] = space.compare(images.starts)
    if controls is not None:
        for name in ("hold_only", "wrong_channel"):
            made = getattr(controls, name)
            if len(made):
                placed = np.full(points.shape, np.nan, np.float32)
                placed[controls.rows[: len(made)]] = space.compare(made)
                candidates[name] = placed

    def areas(point: NDArray[np.float32], score: NDArray[np.floating]) -> tuple[float, float]:
        known = np.isfinite(point).all()
        return measure_predictivity(point, space.held_out, score) if known else (np.nan, np.nan)

    def drawn(
        made: NDArray[np.float32], scores: NDArray[np.floating], weights: Floats
    ) -> Floats:  # (R, k)
        rows = [
            drawn_predictivity(point, space.held_out, scores[:, k], weights)
            if np.isfinite(point).all()
            else np.full(len(weights), np.nan)
            for k, point in enumerate(made)
        ]
        return np.array(rows).reshape(len(made), len(weights)).T

    own = held.scores[:, channels]  # (m, K)
    table: dict[str, Floats] = {}
    errors = np.full(count, np.nan)
    redrawn: dict[str, Floats] = {}
    estimates: dict[str, Estimate] = {}
    for name, candidate in candidates.items():
        found = [areas(candidate[k], own[:, k]) for k in range(count)]
        table[name] = np.array([value for value, _ in found])
        if name == "predictivity":
            errors = np.array([error for _, error in found])
    alive = ~images.dead & np.isfinite(table["predictivity"])

    def over_both(values: Floats, again: Floats, *, within: tuple[float, float]) -> Estimate:
        used = alive if len(values) == count else np.ones(len(values), dtype=bool)
        return mean_of_both(values[used], again[:, used], grouped=held.grouped, within=within)

    for name, candidate in candidates.items():
        redrawn[name] = drawn(candidate, own, held.weights)
        estimates[name] = over_both(table[name], redrawn[name], within=SHARE)
    for rival, name in _RIVALS.items():
        if rival in candidates:
            estimates[name] = over_both(
                table["predictivity"] - table[rival],
                redrawn["predictivity"] - redrawn[rival], within=ANYTHING,
            )  # fmt: skip
    ahead = np.zeros(count, dtype=bool)
    if controls is not None and len(controls.rotated):
        asked = held.scores @ controls.directions.T.astype(held.scores.dtype)  # (m, r)
        turned = space.compare(controls.rotated)
        values = np.array([areas(turned[k], asked[:, k])[0] for k in range(len(turned))])
        over_groups = drawn(turned, asked, held.weights)
        estimates["rotation"] = over_both(values, over_groups, within=SHARE)
        level, moved = float(_row_means(values[None])[0, 0]), _row_means(over_groups)
        estimates["above_rotation"] = over_both(
            table["predictivity"] - level, redrawn["predictivity"] - moved, within=ANYTHING
        )
        if "start_cell" in candidates:
            weights = held.cell_weights
            image = drawn(points, own, weights)
            start = drawn(candidates["start_cell"], own, weights)
            level_drawn = _row_means(drawn(turned, asked, weights))
            ahead = alive & _clearly_above(
                table["predictivity"] - table["start_cell"], image - start
            )
            ahead &= _clearly_above(table["predictivity"] - level, image - level_drawn)
    if count > 1:
        estimates["own_best"] = _own_best(space, points, own, alive, rng)
    return Judged(table, errors, estimates, ahead)


def _row_means(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of what is known in each row (R, K), as (R, 1); NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(1, keepdims=True)
    total = np.where(known, values, 0).sum(1, keepdims=True, dtype=np.float64)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _clearly_above(difference: Floats, drawn: Floats) -> NDArray[np.bool_]:
    """Differences (K,) that lie above zero by two standard errors over cells."""
    return difference - 2 * drawn.std(0) > 0


def _own_best(
    space: Space,
    points: NDArray[np.float32],
    scores: NDArray[np.floating],
    alive: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Estimate:
    """Share of the channels of which no other image of the layer predicts more; null: by chance."""
    rows = np.flatnonzero(alive).tolist()
    best: list[float] = []
    for channel in rows:
        areas = [
            measure_predictivity(points[k], space.held_out, scores[:, channel])[0] for k in rows
        ]
        best.append(float(rows[int(np.argmax(areas))] == channel))
    found = mean_of(np.array(best), rng=rng)
    chance = 1 / len(rows) if rows else np.nan
    return Estimate(found.value, found.low, found.high, null=chance)
