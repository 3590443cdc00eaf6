"""Feature images: gradient ascent on the image until the network answers as strongly as it can.

All targets of a layer are one batch; each image has its own seed and its own random views, so it
is, up to rounding, what it would be alone.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from cytolens.activations import device_of, resolve_layer
from cytolens.errors import ModelError, SettingError
from cytolens.features.canvas import Canvas, batches_of, prepare_canvas
from cytolens.features.natural import Natural, extremes, measure_natural
from cytolens.features.objectives import Objective, channel, direction
from cytolens.features.parametrisations import (
    START_NOISE,
    Parametrisation,
    find_parametrisation,
    fourier,
)
from cytolens.features.private_copy import Respond, dtype_of, responding
from cytolens.features.regularisers import weigh
from cytolens.features.transforms import Transforms, draw_views, transform
from cytolens.records import Cells, FeatureImages, Layer, Progress
from cytolens.statistics import Rng, generator

REGULARISATION: Mapping[str, float] = {"departure": 1.0, "total_variation": 4.0, "blur": 40.0}
"""Default weights; see `regularisers` for their unit."""

PIXELS_AT_ONCE = 2**18
"""Image pixels optimised in one batch: keeps the activations of small networks in the cache."""


@dataclass(frozen=True)
class _Climb:
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

    def rate(self, step: int) -> float:
        """Learning rate at a step: full at first, to zero along a quarter of a cosine."""
        return self.learning_rate * math.cos(math.pi / 2 * step / self.steps)


def feature_images(
    model: nn.Module,
    *,
    layer: Layer | str | None = None,
    channels: Sequence[int] | None = None,
    directions: ArrayLike | None = None,
    objective: Objective | None = None,
    names: Sequence[str] | None = None,
    input_shape: tuple[int, int, int],
    value_range: tuple[float, float] | ArrayLike | None = None,
    background: float | ArrayLike = 0.0,
    start: ArrayLike | None = None,
    parametrisation: str | Parametrisation = "fourier",
    transforms: Transforms | None = None,
    regularisers: Mapping[str, float] | Objective | None = REGULARISATION,
    steps: int = 96,
    learning_rate: float = 0.1,
    batch_size: int | None = None,
    cells: Cells | NDArray[np.float32] | None = None,
    rng: Rng = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> FeatureImages:
    """One image per target that makes a network answer as strongly as it can.

    What is maximised: ``channels`` of ``layer`` (all unless given), or ``directions`` (K, F) in
    the activation space of ``layer`` with ``names``, or any ``objective``.

    ``value_range`` in prepared intensities is one (low, high), or (C, 2) with one per image
    channel; None takes it from the cells (0.1 and 99.9 % quantiles), or (0, 1) without cells.
    Images start at ``start`` (C, H, W), by default the mean of the cells, or the middle of the
    value range without cells; views of them are padded with ``background`` (a number, or one per
    image channel). With cells of several image channels, these are correlated in the images as
    they are in the cells.

    ``cells`` also give the yardstick: ``natural``, the objective's mean, s.d. and maximum over
    them; without cells it is NaN. ``regularisers`` are weights by name, or an objective; their
    unit is a relative change of the target (see there), on the scale of its mean and s.d. over
    the cells, or, without cells, over random images with 1/frequency spectra.

    ``activation`` and ``activation_maps`` are those of the finished, untransformed image. A map
    is the rectified target where it arises (h, w); where the target has no positions (dense
    layers, sums over layers) it is the absolute gradient of the target with respect to the
    image, at the size of the image, smoothed (Simonyan et al. 2014). ``dead`` marks channels
    whose value before the non-linearity is never above zero on any cell nor on the image.

    The model may be in any mode and on any device; it is left as found, hooks and all. Of equal
    seeds, equal images: an image depends on ``rng`` and its target's name, and not on what else
    is in the batch.

    Raises SettingError for settings that cannot be used, ModelError for a network that cannot
    be differentiated.
    """
    objective, layers = _aim(model, objective, layer, channels, directions, names, input_shape)
    climb = _Climb(
        parametrisation=find_parametrisation(parametrisation),
        transforms=transforms or Transforms(),
        regularisers=regularisers
        if regularisers is None or isinstance(regularisers, Objective)
        else weigh(regularisers),
        steps=steps,
        learning_rate=learning_rate,
    )
    size = batch_size or max(1, PIXELS_AT_ONCE // (input_shape[1] * input_shape[2]))
    if size < 1:
        raise SettingError(f"batch_size={batch_size} cannot be used; give at least 1")
    seed = int(generator(rng).integers(2**62))
    place = device_of(model) if device is None else torch.device(device)
    canvas = prepare_canvas(
        input_shape,
        value_range,
        background,
        start,
        cells,
        torch.empty((), dtype=dtype_of(model), device=place),
    )
    note = f"feature images of {' and '.join(objective.layers)}"
    chunks = [range(a, min(a + size, len(objective))) for a in range(0, len(objective), size)]
    parts: list[tuple[Tensor, ...]] = []
    with responding(model, layers, canvas, device=place) as respond:
        natural = None
        if cells is not None:
            crops = batches_of(cells, input_shape, size)
            natural = measure_natural(respond, objective, crops, like=canvas.low)
        typical = natural or _on_noise(respond, objective, canvas)
        centre, deviation = torch.from_numpy(typical.mean).to(canvas.low), typical.deviation
        scale = torch.from_numpy(np.where(deviation > 1e-8, deviation, 1.0)).to(canvas.low)
        for index, chunk in enumerate(chunks):

            def step_done(step: int, index: int = index) -> None:
                if progress is not None:
                    progress(index * steps + step, len(chunks) * steps, note)

            targets = torch.tensor(chunk, device=place)
            seeds = [_seed(seed, objective.targets[target]) for target in chunk]
            images, history = _ascend(
                respond, objective, targets, centre, scale, climb, canvas, seeds, step_done
            )
            parts.append((images, history, *_look(respond, objective, targets, images)))
    images, history, activation, maps, peak, trough = (
        torch.cat(column).float().cpu().numpy() for column in zip(*parts, strict=True)
    )
    if not np.isfinite(images).all() or not np.isfinite(activation).all():
        raise ModelError(
            f"{note} became NaN or infinite; check the network's weights, or lower learning_rate"
        )
    rectified = any(layer.pre_activation != layer.activation for layer in layers.values())
    return FeatureImages(
        layer="+".join(objective.layers),
        targets=objective.targets,
        channels=np.array(objective.channels, dtype=np.int64),
        images=images,
        activation=activation,
        natural=np.full((len(objective), 3), np.nan, np.float32)
        if natural is None
        else natural.table,
        activation_maps=maps,
        history=history,
        dead=_dead(objective, natural, peak, trough, rectified=rectified),
        settings={
            "parametrisation": parametrisation
            if isinstance(parametrisation, str)
            else getattr(parametrisation, "__name__", "custom"),
            "transforms": asdict(climb.transforms),
            "regularisers": dict(regularisers)
            if isinstance(regularisers, Mapping)
            else list(regularisers.targets if regularisers else ()),
            "steps": steps,
            "learning_rate": learning_rate,
            "value_range": torch.cat([canvas.low, canvas.high], 1)[..., 0].cpu().tolist(),
            "background": canvas.background.flatten().cpu().tolist(),
            "start": "given" if start is not None else "middle" if cells is None else "mean",
            "cells": 0 if natural is None else natural.n,
            "seed": seed,
        },
    )


def _aim(
    model: nn.Module,
    objective: Objective | None,
    layer: Layer | str | None,
    channels: Sequence[int] | None,
    directions: ArrayLike | None,
    names: Sequence[str] | None,
    input_shape: tuple[int, int, int],
) -> tuple[Objective, dict[str, Layer]]:
    """The objective that is meant, and the layers that it looks at, by the names it uses."""
    if (objective is None) == (layer is None):
        raise SettingError("give either a layer (with channels or directions) or an objective")
    if channels is not None and directions is not None:
        raise SettingError("give either channels or directions, not both")
    if layer is not None:
        found = resolve_layer(model, input_shape, layer)
        if directions is not None:
            return direction(found.name, directions, names=names), {found.name: found}
        chosen = range(found.channels) if channels is None else channels
        return channel(found.name, chosen), {found.name: found}
    if objective is None or not objective.layers:
        raise SettingError("the objective looks at no layer; a regulariser alone makes no image")
    return objective, {name: resolve_layer(model, input_shape, name) for name in objective.layers}


def _seed(seed: int, target: str) -> int:
    """A seed of its own for every target, by its name."""
    words = np.random.SeedSequence([seed, zlib.crc32(target.encode())]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _on_noise(respond: Respond, objective: Objective, canvas: Canvas) -> Natural:
    """The objective over random images with 1/frequency spectra, where no cells are given."""
    draws = [torch.Generator().manual_seed(index) for index in range(32)]
    noise = fourier(canvas, draws, decay=1.0)
    with torch.no_grad():
        noise.parameters.div_(START_NOISE)  # unit deviation before the sigmoid
        images = noise.image().float().cpu().numpy()
    return measure_natural(respond, objective, iter([images]), like=canvas.low)


class _Adam:
    """Adam (Kingma & Ba 2015) with a single second moment for all the numbers of an image.

    Numbers that matter more then move more. With a second moment of its own each Fourier
    coefficient takes equal steps, whether the target asks for it or not: gratings come up slowly,
    and specks come with them (at 64 steps a Gabor filter got half the activation). Images do not
    share anything, and the scale of the objective does not matter.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.parameters = parameters  # (n, …)
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(
            parameters[(slice(None), *(slice(1),) * (parameters.ndim - 1))]
        )
        self.steps = 0

    @torch.no_grad()
    def climb(self, rate: float) -> None:
        """One step up the gradient, of about ``rate`` root mean square; drops the gradient."""
        gradient = self.parameters.grad
        assert gradient is not None
        self.steps += 1
        inner = tuple(range(1, gradient.ndim))
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.lerp_(gradient.square().mean(inner, keepdim=True), 1 - 0.99)
        mean = self.mean / (1 - 0.9**self.steps)
        size = (self.square / (1 - 0.99**self.steps)).sqrt()
        self.parameters.add_(rate * mean / size.clamp_min(torch.finfo(size.dtype).tiny))
        self.parameters.grad = None


def _ascend(
    respond: Respond,
    objective: Objective,
    targets: Tensor,
    centre: Tensor,
    scale: Tensor,
    climb: _Climb,
    canvas: Canvas,
    seeds: Sequence[int],
    step_done: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) of the chosen targets, and the objective at each step (n, steps)."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    painting = climb.parametrisation(canvas, draws)
    views = draw_views(draws, climb.steps).to(canvas.low)  # (steps, n, 4)
    optimiser = _Adam(painting.parameters)
    regularisers = climb.regularisers
    history: list[Tensor] = []
    for step in range(climb.steps):
        images = painting.image()
        view = transform(images, views[step], climb.transforms, canvas.background)
        response = respond(images, view)
        score = objective(response, targets)  # (n,)
        if not score.requires_grad:
            raise ModelError("no gradient flows from the target to the image; is it detached?")
        aim = torch.asinh((score - centre[targets]) / scale[targets])
        if regularisers is not None:
            aim = aim - regularisers(response)
        aim.sum().backward()
        optimiser.climb(climb.rate(step))
        history.append(score.detach())
        step_done(step + 1)
    with torch.no_grad():
        return painting.image(), torch.stack(history, dim=1)


def _look(
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


def _dead(
    objective: Objective,
    natural: Natural | None,
    peak: NDArray[np.float32],
    trough: NDArray[np.float32],
    *,
    rectified: bool,
) -> NDArray[np.bool_]:
    """Channels that never answer: not above zero where a non-linearity follows, else not at all."""
    high = peak if natural is None else np.maximum(peak, natural.peak)
    low = trough if natural is None else np.minimum(trough, natural.trough)
    silent = high <= 0 if rectified else (high == 0) & (low == 0)
    return silent & (np.array(objective.channels) >= 0)
