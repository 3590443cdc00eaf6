"""The ascent itself: steps, their length, and what the finished images look like to the network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from cytolens.errors import ModelError, SettingError
from cytolens.features.canvas import Canvas
from cytolens.features.natural import extremes
from cytolens.features.objectives import Objective
from cytolens.features.parametrisations import Parametrisation
from cytolens.features.priors import Guidance
from cytolens.features.private_copy import Respond
from cytolens.features.transforms import Transforms, draw_views, transform

MOMENTUM = 0.8
"""Share of the mean gradient that is kept from step to step."""


@dataclass(frozen=True)
class Climb:
    """How the ascent goes; the same for every image."""

    parametrisation: Parametrisation
    transforms: Transforms
    regularisers: Objective | None
    steps: int
    learning_rate: float

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0:
            raise SettingError(
                f"steps={self.steps}, learning_rate={self.learning_rate} cannot be used; "
                "give at least one step and a learning rate above zero"
            )

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
    objective: Objective,
    targets: Tensor,
    centre: Tensor,
    scale: Tensor,
    ceiling: Tensor | None,
    climb: Climb,
    canvas: Canvas,
    seeds: Sequence[int],
    step_done: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) of the chosen targets, and the objective at each step (n, steps)."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    painting = climb.parametrisation(canvas, draws)
    views = draw_views(draws, climb.steps).to(canvas.low)  # (steps, n, 4)
    optimiser = _Momentum(painting.parameters)
    focus = objective.focus
    own = None if focus is None else torch.tensor(focus.channels, device=targets.device)[targets]
    regularisers = climb.regularisers
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
        aim = torch.asinh((sought - centre[targets]) / scale[targets])
        if regularisers is not None:
            aim = aim - regularisers(response)
        aim.sum().backward()
        optimiser.climb(climb.rate(step))
        history.append(score.detach())
        step_done(step + 1)
    with torch.no_grad():
        return painting.image(), torch.stack(history, dim=1)


def look(
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
