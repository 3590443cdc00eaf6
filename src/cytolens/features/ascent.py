"""The ascent: its settings, its steps, and what the network answers to the finished images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from cytolens.errors import ModelError, SettingError
from cytolens.features.canvas import Canvas
from cytolens.features.natural import extremes
from cytolens.features.objectives import Objective
from cytolens.features.parametrisations import Parametrisation, find_parametrisation
from cytolens.features.priors import Guidance, Prior
from cytolens.features.responding import Respond
from cytolens.features.transforms import Transforms, draw_views, transform

MOMENTUM = 0.8
"""Share of the mean gradient that is kept from step to step."""

REGULARISATION: Mapping[str, float] = {"departure": 1.0, "total_variation": 4.0, "blur": 40.0}
"""Default weights without a prior; see `regularisers` for their unit."""

LEARNING_RATES: Mapping[str, float] = {"cells": 0.03, "components": 0.05}
"""Default learning rates by prior, where it is not 0.1: in s.d. of the cells."""


@dataclass(frozen=True, eq=False)
class Ascent:
    """How feature images are made; one set of settings for all images of a call.

    ``steps``: of gradient ascent. 24 reach 95 % of what 256 steps of Adam reached
    (`benchmarks/results/feature_images.md`); twice the default of 32 adds 3 to 5 % of activation,
    and nothing to what images predict (`benchmarks/results/steps.md`).
    ``learning_rate``: of the first step, in the units of the parametrisation; later steps are
    shorter. None takes 0.1, or 0.03 and 0.05 for the priors ``cells`` and ``components``, whose
    unit is one s.d. of the cells.
    ``transforms``: the random views that an image is optimised in.
    ``variants``: images per target. Above one it takes a prior, and makes one image for each kind
    of cell that drives the target, the most frequent kind first.
    ``prior_weight``: how strongly the prior holds images, as a relative change of the target per
    unit; at 2 images keep the texture of cells and still climb.
    ``batch_size``: images at once; None suits the device's memory and cache.

    A prior sets the following four itself; the first two must then stay None, and so must
    ``value_range``. ``regularisers`` given with a prior are added to it.

    ``parametrisation``: a name of `PARAMETRISATIONS` or a function; None is "fourier".
    ``start`` (C, H, W): where images start; None is the mean of the cells, or without cells the
    middle of the value range.
    ``value_range`` in prepared intensities: one (low, high), or (C, 2) with one per image channel;
    None takes the 0.1 and 99.9 % quantiles of the cells, or (0, 1) without cells.
    ``regularisers``: weights by name or an objective; ``{}`` is none; None is `REGULARISATION`
    without a prior, and none with one. The unit is a relative change of the target.

    ``background``: a number, or one per image channel, that views are padded with; None takes it
    from the prior, or is 0.
    ``guided_by`` (n, K): with a prior, images start and are held as if these were the answers of
    its n cells to the K targets: what an image owes to its start is seen by that.

    Raises SettingError for numbers that cannot be used.
    """

    steps: int = 32
    learning_rate: float | None = None
    transforms: Transforms = field(default_factory=Transforms)
    variants: int = 1
    prior_weight: float = 2.0
    batch_size: int | None = None
    parametrisation: str | Parametrisation | None = None
    start: ArrayLike | None = None
    value_range: tuple[float, float] | ArrayLike | None = None
    regularisers: Mapping[str, float] | Objective | None = None
    background: float | ArrayLike | None = None
    guided_by: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        counts = (self.steps, self.variants, 1 if self.batch_size is None else self.batch_size)
        rate = 0.1 if self.learning_rate is None else self.learning_rate
        if min(counts) < 1 or not rate > 0:
            raise SettingError(
                f"steps={self.steps}, variants={self.variants}, batch_size={self.batch_size}, "
                f"learning_rate={self.learning_rate} cannot be used; give at least one step, "
                "variant and image per batch, and a learning rate above zero"
            )

    def with_prior(self, prior: Prior | None) -> "Ascent":
        """The same with everything filled in that was left to the prior or to the defaults."""
        given = (self.start, self.parametrisation, self.value_range)
        if prior is not None and any(setting is not None for setting in given):
            raise SettingError(
                "a prior says where images start, how they change and between which intensities; "
                "give no start, parametrisation or value_range with it"
            )
        if prior is None and self.variants > 1:
            raise SettingError(f"variants={self.variants}: several images per target take a prior")
        if self.guided_by is not None and (prior is None or not prior.starts_from_cells):
            raise SettingError("guided_by takes a prior whose images start at cells")
        kind, held = (None, REGULARISATION) if prior is None else (prior.kind, {})
        return replace(
            self,
            learning_rate=self.learning_rate or LEARNING_RATES.get(kind or "", 0.1),
            parametrisation=find_parametrisation(self.parametrisation or "fourier"),
            value_range=self.value_range if prior is None else prior.value_range,
            regularisers=held if self.regularisers is None else self.regularisers,
            background=prior.background
            if prior is not None and self.background is None
            else self.background,
        )


@dataclass(frozen=True)
class Climb:
    """An ascent as it goes, for some images: what is climbed, how, and by what yardstick."""

    objective: Objective
    parametrisation: Parametrisation
    transforms: Transforms
    regularisers: Objective | None
    steps: int
    learning_rate: float
    centre: Tensor  # (target), the objective's mean over cells
    scale: Tensor  # (target), its s.d.
    ceiling: Tensor | None  # (target), what is not worth exceeding

    def held_by(self, guidance: Guidance, rows: list[int]) -> "Climb":
        """The climb of some images, with what a prior holds each of them by."""
        if guidance.hold is None:
            return self
        hold = guidance.hold(rows)
        return replace(self, regularisers=hold + self.regularisers if self.regularisers else hold)

    def rate(self, step: int) -> float:
        """Learning rate at a step: full at first, to zero along a quarter of a cosine."""
        return self.learning_rate * math.cos(math.pi / 2 * step / self.steps)


class _Momentum:
    """Steps of a set length, along the mean of the last few gradients' directions.

    One length for all the numbers of an image, so that those that matter more move more: with a
    second moment for each (Adam, Kingma & Ba 2015) every Fourier coefficient takes equal steps,
    whether the target asks for it or not; gratings come up slowly, and specks come with them. And
    no memory of how long gradients were: they are longest at the start, where steps would be
    kept short by what was (normalised as by Mordvintsev et al. 2015). In 24 steps this gets 95 %
    of what Adam with one second moment per image got in 256 (`benchmarks/results`). Images do not
    share anything, and the scale of the objective does not matter.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.parameters = parameters  # (n, …)
        self.mean = torch.zeros_like(parameters)

    @torch.no_grad()
    def climb(self, rate: float) -> None:
        """One step up the gradient, of ``rate`` root mean square; drops the gradient."""
        gradient = self.parameters.grad
        assert gradient is not None
        self.mean.lerp_(gradient / _length(gradient), 1 - MOMENTUM)
        self.parameters.add_(rate * self.mean / _length(self.mean))
        self.parameters.grad = None


def _length(values: Tensor) -> Tensor:
    """Root mean square of each image's numbers (n, 1, …), above zero."""
    squares = values.square().mean(tuple(range(1, values.ndim)), keepdim=True)
    return squares.sqrt().clamp_min(torch.finfo(values.dtype).tiny)


def ascend(
    respond: Respond,
    climb: Climb,
    targets: Tensor,
    canvas: Canvas,
    seeds: Sequence[int],
    step_done: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) of the chosen targets, and the objective at each step (n, steps)."""
    objective, ceiling = climb.objective, climb.ceiling
    centre, scale = climb.centre[targets], climb.scale[targets]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    painting = climb.parametrisation(canvas, draws)
    views = draw_views(draws, climb.steps).to(canvas.low)  # (steps, n, 4)
    optimiser = _Momentum(painting.parameters)
    focus = objective.focus
    own = None if focus is None else torch.tensor(focus.channels, device=targets.device)[targets]
    history: list[Tensor] = []
    for step in range(climb.steps):
        images = painting.image()
        view = transform(images, views[step], climb.transforms, canvas.background)
        answer = respond(images, view, own)
        response = replace(answer, expected=canvas.unit(canvas.start), step=step)
        score = objective(response, targets)  # (n,)
        if not score.requires_grad:
            raise ModelError("no gradient flows from the target to the image; is it detached?")
        sought = score if ceiling is None else torch.minimum(score, ceiling[targets])
        aim = torch.asinh((sought - centre) / scale)
        if climb.regularisers is not None:
            aim = aim - climb.regularisers(response)
        aim.sum().backward()
        optimiser.climb(climb.rate(step))
        history.append(score.detach())
        step_done(step + 1)
    with torch.no_grad():
        return painting.image(), torch.stack(history, dim=1)


def measure_finished(
    respond: Respond, objective: Objective, targets: Tensor, images: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The finished images as the network sees them, untransformed.

    Gives the objective (n,), the map (n, h, w), the largest and smallest value in place (n,).
    """
    images = images.detach().requires_grad_()
    response = respond(images, images)
    score = objective(response, targets)
    if objective.place is not None:
        placed = objective.place(response, targets)
        high, low = extremes(placed.detach())
        if placed.ndim == 3:
            return score.detach(), placed.detach().relu(), high, low
    else:
        high = low = score.detach()
    (gradient,) = torch.autograd.grad(score.sum(), images)
    return score.detach(), _smooth(gradient.abs().sum(1)), high, low


def _smooth(maps: Tensor) -> Tensor:
    """Maps (n, H, W) blurred with a Gaussian whose deviation is 1/32 of the larger side."""
    deviation = max(maps.shape[-2:]) / 32
    reach = min(math.ceil(3 * deviation), min(maps.shape[-2:]) - 1)
    line = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (line / deviation).square())
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = functional.pad(maps[:, None], (reach,) * 4, mode="reflect")
    return functional.conv2d(padded, kernel[None, None])[:, 0]
