"""A real cell changed as little as possible until the network sees less, or more, of a target.

Two ways. A *sparse edit* adds the smooth change with the least sum of absolute values that reaches
the goal: for what surrounds a cell, or makes it brighter here and darker there. A region *filled
in* is cut out and given what the cells' own distribution leads one to expect from what is around
it, with the cell's own noise: for what is there or not. Which is better is decided by a network
that had no part in making either (`judging`).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cytolens.features.priors import Prior
from cytolens.features.texture import view_of

Images = NDArray[np.float32]
Floats = NDArray[np.float64]
Score = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) -> how much of the target is in each, (N,), with a gradient."""

STEPS = 100
_SMOOTH = 1 / 32  # of the crop's smaller side, s.d. of the Gaussian that a change is smoothed by
_RATE = 0.03  # of the value range per step
_NOISE = 0.005  # of the value range, s.d. of what is added to each view while the edit is made
_FIRST_WEIGHT = 0.003  # of the change's sum of absolute values
_REACHED = 0.02  # of the s.d. of the target: so near, the goal counts as reached
_DISC = 1 / 14  # of the crop's smaller side, radius of the discs that a region is made of
_COUNTS = (1, 2, 3, 5, 8, 12)  # discs that are tried together
_AT_ONCE = 512  # images


def sparse_edits(
    score: Score,
    crops: Images,
    goals: Floats,
    *,
    measured: NDArray[np.bool_],
    deviation: float,
    value_range: Floats,
    steps: int = STEPS,
    seed: int = 0,
) -> Images:
    """Each crop (n, C, H, W) with the least smooth change that brings its score to its goal (n,).

    Adam on the change, with an L1 penalty whose weight falls for a crop while the goal is not
    reached and rises afterwards. At every step all crops are seen in another of their eight
    orientations and under fresh noise, so that what only this network's pixels see is not found.
    Only ``measured`` pixels (n, H, W) change, none of the padding. ``deviation`` is the s.d. of the
    score over cells, ``value_range`` (C, 2) bounds the pixels.
    Of a crop whose goal is never reached, the last state is given.
    """
    with torch.inference_mode(False), torch.enable_grad():
        start = torch.from_numpy(np.ascontiguousarray(crops))
        wanted = torch.from_numpy(goals).to(start)
        low, high = (torch.from_numpy(v).to(start)[:, None, None] for v in value_range.T)
        span = high - low
        inside = torch.from_numpy(measured).to(start)[:, None]
        smooth = _smoother(start.shape[1], max(1.0, min(start.shape[-2:]) * _SMOOTH))
        with torch.no_grad():
            way = (wanted - score(start)).sign()
        change = torch.zeros_like(start, requires_grad=True)
        optimiser = torch.optim.Adam([change], lr=_RATE)
        draw = torch.Generator().manual_seed(seed)
        weight = torch.full((len(start),), _FIRST_WEIGHT)
        behind = torch.zeros(len(start))  # running mean of the distance to the goal
        best, least = start.clone(), torch.full((len(start),), torch.inf)
        edited = start
        for step in range(steps):
            added = smooth(change) * span * inside
            edited = torch.maximum(torch.minimum(start + added, high), low)
            edited = torch.where(inside > 0, edited, start)
            noise = torch.randn(start.shape, generator=draw) * _NOISE * span
            distance = way * (wanted - score(view_of(edited + noise, step))) / deviation
            amount = change.abs().flatten(1).sum(1)
            optimiser.zero_grad()
            (distance.relu().sum() + (weight * amount).sum()).backward()  # pyright: ignore[reportUnknownMemberType]
            optimiser.step()
            with torch.no_grad():
                behind = 0.7 * behind + 0.3 * distance
                reached = behind <= _REACHED
                weight = torch.where(reached, weight * 1.08, weight * 0.93).clamp(1e-6, 1)
                change.copy_(change.sign() * (change.abs() - _RATE / 10).clamp_min(0))
                kept = reached & (amount < least)
                best[kept], least[kept] = edited[kept], amount[kept]
        best[least.isinf()] = edited.detach()[least.isinf()]
    return best.numpy()


def _smoother(channels: int, deviation: float) -> Callable[[Tensor], Tensor]:
    """Gaussian smoothing of (N, C, H, W); a single pixel keeps its sum."""
    reach = int(3 * deviation)
    line = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    line = line / line.sum()
    rows, columns = (
        line.view(shape).expand(channels, 1, *shape[2:])
        for shape in ((1, 1, 1, len(line)), (1, 1, len(line), 1))
    )

    def smooth(images: Tensor) -> Tensor:
        along = functional.conv2d(images, rows.to(images), padding=(0, reach), groups=channels)
        return functional.conv2d(along, columns.to(images), padding=(reach, 0), groups=channels)

    return smooth


class Filling:
    """What the cells' distribution leads one to expect in a region, given all around it.

    The distribution is Gaussian: the principal components of a prior's cells in all orientations,
    and even noise for the rest.
    """

    def __init__(self, prior: Prior, *, rng: np.random.Generator) -> None:
        count = len(prior.components)
        self.axes = prior.components.reshape(count, -1).astype(np.float64)  # (k, D), orthonormal
        self.mean = prior.crops.mean(0, dtype=np.float64).ravel()
        variances = prior.deviations.astype(np.float64) ** 2
        total = prior.crops.reshape(len(prior.crops), -1).var(0, dtype=np.float64).sum()
        noise = max(total - variances.sum(), 1e-6 * total + 1e-18) / self.mean.size
        self.precision = 1 + noise / np.maximum(variances, 1e-18)  # (k,)
        self.draw = rng

    def __call__(self, crops: Images, regions: NDArray[np.bool_]) -> Iterator[Images]:
        """Crops (n, C, H, W) with each of the regions (r, H, W) filled in, one after the other."""
        flat = crops.reshape(len(crops), -1).astype(np.float64) - self.mean
        whole = flat @ self.axes.T  # (n, k)
        for region in regions:
            inside = np.flatnonzero(np.broadcast_to(region, crops.shape[1:]))
            within = self.axes[:, inside]  # (k, pixels)
            found = self._without(within, whole - flat[:, inside] @ within.T)
            others = np.delete(np.arange(flat.shape[1]), inside)
            others = others[self.draw.integers(0, len(others), len(inside))]
            noise = flat[:, others] - found @ self.axes[:, others]  # the cell's own, of elsewhere
            filled = flat + self.mean
            filled[:, inside] = found @ within + noise - noise.mean(1, keepdims=True)
            filled[:, inside] += self.mean[inside]
            yield filled.reshape(crops.shape).astype(np.float32)

    def _without(self, within: Floats, seen: Floats) -> Floats:
        """Components (n, k) from what is seen outside of a region, by its smaller system.

        By Woodbury's identity one of as many unknowns as the region has pixels.
        """
        if within.shape[1] >= len(within):
            whole = np.diag(self.precision) - within @ within.T
            return np.linalg.solve(whole, seen.T).T.astype(np.float64)
        usual: Floats = seen / self.precision
        scaled = within / self.precision[:, None]
        small = np.eye(within.shape[1]) - within.T @ scaled
        return (usual + np.linalg.solve(small, within.T @ usual.T).T @ scaled.T).astype(np.float64)


def fill_in(
    score: Callable[[Images], Floats],
    crops: Images,
    goals: Sequence[float],
    filling: Filling,
    *,
    measured: NDArray[np.bool_],
) -> list[Images]:
    """For each goal, every crop (n, C, H, W) with what is filled in that brings its score nearest.

    Only ``measured`` pixels (n, H, W) change.
    Discs all over the crop are tried one by one; those that help most are then filled in together,
    as few as reach the goal.
    """
    height, width = crops.shape[2:]
    discs = _discs(height, width, max(2.0, min(height, width) * _DISC))
    start = score(crops)
    step = max(1, _AT_ONCE // len(crops))
    tried = filling(crops, discs)
    scores: list[Floats] = []
    while batch := list(islice(tried, step)):
        mixed = np.where(measured[None, :, None], np.stack(batch), crops)
        scores.append(score(mixed.reshape(-1, *crops.shape[1:])).reshape(len(batch), -1))
    gains = np.concatenate(scores) - start  # (disc, n)
    made: list[Images] = []
    for goal in goals:
        way = np.sign(goal - start)
        order = np.argsort(-way * gains, axis=0, kind="stable")
        best, missing = crops.copy(), np.abs(goal - start)
        for count in _COUNTS:
            regions = np.logical_or.reduce(discs[order[:count]])  # (n, H, W)
            filled = np.concatenate(
                [next(filling(crops[k : k + 1], regions[k : k + 1])) for k in range(len(crops))]
            )
            filled = np.where(measured[:, None], filled, crops)
            left = np.maximum(way * (goal - score(filled)), 0)
            better = left < 0.9 * missing  # a larger region has to be worth it
            best[better], missing[better] = filled[better], left[better]
        made.append(best)
    return made


def _discs(height: int, width: int, radius: float) -> NDArray[np.bool_]:
    """Discs (n, H, W) all over a crop, a radius apart."""
    step = max(1, round(radius))
    y, x = np.mgrid[:height, :width]
    middles = [
        (v, u) for v in range(step // 2, height, step) for u in range(step // 2, width, step)
    ]
    return np.stack([(y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in middles])


def share_changed(start: Images, edited: Images, *, kept: float = 0.9) -> Floats:
    """Share of the pixels (n,) that hold nine tenths of the change."""
    change = np.abs(edited - start).sum(axis=1).reshape(len(start), -1).astype(np.float64)
    change = np.sort(change, axis=1)[:, ::-1]
    part = np.cumsum(change, axis=1) / np.maximum(change.sum(1, keepdims=True), 1e-12)
    return np.where(change.sum(1) > 0, ((part < kept).sum(1) + 1) / change.shape[1], 0.0)
