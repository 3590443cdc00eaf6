"""Feature images: gradient ascent on the image until the network answers as strongly as it can.

All targets of a layer are one batch; each image has its own seed and its own random views, so it
is, up to rounding, what it would be alone.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cytolens.activations.capture import device_of
from cytolens.activations.layers import resolve_layer
from cytolens.errors import ModelError, SettingError
from cytolens.features.ascent import Climb, ascend, look
from cytolens.features.canvas import Canvas, batches_of, prepare_canvas
from cytolens.features.natural import Natural, measure_natural
from cytolens.features.objectives import Focus, Objective, channel, direction
from cytolens.features.parametrisations import (
    START_NOISE,
    Parametrisation,
    find_parametrisation,
    fourier,
)
from cytolens.features.priors import Guidance, Prior, guide
from cytolens.features.private_copy import Respond, dtype_of, responding
from cytolens.features.regularisers import weigh
from cytolens.features.transforms import Transforms
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import FeatureImages
from cytolens.records.layers import Layer

REGULARISATION: Mapping[str, float] = {"departure": 1.0, "total_variation": 4.0, "blur": 40.0}
"""Default weights; see `regularisers` for their unit."""

PIXELS_AT_ONCE = {"cpu": 16 * 48**2, "cuda": 2**18}
"""Image pixels optimised in one batch: on a CPU memory that is used again stays in the cache."""

LEARNING_RATES: Mapping[str, float] = {"cells": 0.03, "components": 0.05}
"""Default learning rates by prior, where it is not 0.1: in s.d. of the cells."""


@torch.inference_mode(False)
@torch.enable_grad()
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
    background: float | ArrayLike | None = None,
    start: ArrayLike | None = None,
    prior: Prior | None = None,
    prior_weight: float = 2.0,
    variants: int = 1,
    parametrisation: str | Parametrisation | None = None,
    transforms: Transforms | None = None,
    regularisers: Mapping[str, float] | Objective | None = REGULARISATION,
    steps: int = 64,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    cells: Cells | NDArray[np.float32] | None = None,
    rng: Rng = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> FeatureImages:
    """One image per target that makes a network answer as strongly as it can.

    What is maximised: ``channels`` of ``layer`` (all unless given), or ``directions`` (K, F) in
    the activation space of ``layer`` with ``names``, or any ``objective``.

    ``prior`` (see `fit_prior`): what the user's own cells say an image may look like. It says
    where images start, how they change and what holds them (by ``prior_weight``, a relative
    change of the target per unit), in place of ``parametrisation`` and ``regularisers``. With
    ``variants`` above one there are several images per target, one for each kind of cell that
    drives it, the most frequent first.

    ``value_range`` in prepared intensities is one (low, high), or (C, 2) with one per image
    channel; None takes it from the prior or the cells (0.1 and 99.9 % quantiles), else (0, 1).
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
    if variants < 1 or (variants > 1 and prior is None):
        raise SettingError(f"variants={variants}: several images per target take a prior")
    if prior is not None:
        if any(given is not None for given in (start, parametrisation, value_range)):
            raise SettingError(
                "a prior says where images start, how they change and between which intensities; "
                "give no start, parametrisation or value_range with it"
            )
        value_range = prior.value_range
        if background is None:
            background = prior.background
        if regularisers is REGULARISATION:
            regularisers = None
    pixelwise = find_parametrisation(parametrisation or "fourier")
    penalties = (
        regularisers
        if regularisers is None or isinstance(regularisers, Objective)
        else weigh(regularisers)
    )
    place = device_of(model) if device is None else torch.device(device)
    size = batch_size or _batch_size(input_shape[1] * input_shape[2], place)
    if size < 1:
        raise SettingError(f"batch_size={batch_size} cannot be used; give at least 1")
    seed = int(generator(rng).integers(2**62))
    canvas = prepare_canvas(
        input_shape,
        value_range,
        0.0 if background is None else background,
        start,
        cells if prior is None else prior.crops,
        torch.empty((), dtype=dtype_of(model), device=place),
    )
    note = f"feature images of {' and '.join(objective.layers)}"
    of = np.repeat(np.arange(len(objective)), variants)  # (K,), the target of each image
    n_chunks = math.ceil(len(of) / size)
    chunks = [part.tolist() for part in np.array_split(np.arange(len(of)), n_chunks)]
    labels = _variant_names(objective.targets, variants)
    parts: list[tuple[Tensor, ...]] = []
    focus = _focus(objective, penalties)
    with responding(model, layers, canvas, device=place, focus=focus) as respond:
        natural = None
        if cells is not None:
            crops = batches_of(cells, input_shape, batch_size or 4 * size)
            natural = measure_natural(respond, objective, crops, like=canvas.low)
        guidance, on_prior = Guidance(None, pixelwise, None, np.full(len(of), -1)), None
        if prior is not None and (natural is None or prior.starts_from_cells):
            crops = batches_of(prior.crops, input_shape, batch_size or 4 * size)
            on_prior = measure_natural(respond, objective, crops, like=canvas.low)
        if prior is not None:
            answered = None if on_prior is None else on_prior.scores
            guidance = guide(prior, answered, n=len(of), variants=variants, weight=prior_weight)
        climb = Climb(
            parametrisation=guidance.parametrisation,
            transforms=transforms or Transforms(),
            regularisers=penalties,
            steps=steps,
            learning_rate=LEARNING_RATES.get(prior.kind if prior else "", 0.1)
            if learning_rate is None
            else learning_rate,
        )
        typical = natural or on_prior or _on_noise(respond, objective, canvas)
        centre, deviation = torch.from_numpy(typical.mean).to(canvas.low), typical.deviation
        scale = torch.from_numpy(np.where(deviation > 1e-8, deviation, 1.0)).to(canvas.low)
        ceiling = None
        if guidance.capped and on_prior is not None:
            ceiling = torch.from_numpy(on_prior.maximum).to(canvas.low)
        for index, chunk in enumerate(chunks):

            def step_done(step: int, index: int = index) -> None:
                if progress is not None:
                    progress(index * steps + step, len(chunks) * steps, note)

            targets = torch.from_numpy(of[chunk]).to(place)
            images, history = ascend(
                respond,
                objective,
                targets,
                centre,
                scale,
                ceiling,
                climb.held_by(guidance, chunk),
                canvas.starting_at(guidance.start, chunk),
                [_seed(seed, labels[image]) for image in chunk],
                step_done,
            )
            parts.append((images, history, *look(respond, objective, targets, images)))
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
        targets=labels,
        channels=np.array(objective.channels, dtype=np.int64)[of],
        images=images,
        activation=activation,
        natural=np.full((len(of), 3), np.nan, np.float32) if natural is None else natural.table[of],
        activation_maps=maps,
        history=history,
        dead=_dead(objective, of, natural or on_prior, peak, trough, rectified=rectified),
        settings={
            "prior": None if prior is None else prior.as_settings,
            "parametrisation": getattr(climb.parametrisation, "__name__", "custom"),
            "transforms": asdict(climb.transforms),
            "regularisers": dict(regularisers)
            if isinstance(regularisers, Mapping)
            else list(regularisers.targets if regularisers else ()),
            "prior_weight": prior_weight,
            "steps": steps,
            "learning_rate": climb.learning_rate,
            "value_range": torch.cat([canvas.low, canvas.high], 1)[..., 0].cpu().tolist(),
            "background": canvas.background.flatten().cpu().tolist(),
            "start": "given"
            if start is not None
            else guidance.cells.tolist()
            if guidance.start is not None
            else "middle"
            if cells is None and prior is None
            else "mean",
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


def _variant_names(targets: Sequence[str], variants: int) -> tuple[str, ...]:
    if variants == 1:
        return tuple(targets)
    return tuple(f"{name}, {k + 1} of {variants}" for name in targets for k in range(variants))


def _batch_size(pixels: int, device: torch.device) -> int:
    """Images of that many pixels to optimise at once; eight large ones share the weights' cost."""
    at_once = PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cuda"])
    return max(1, at_once // pixels, min(8, 2**19 // pixels))


def _focus(objective: Objective, regularisers: Objective | None) -> Focus | None:
    """What the ascent reads of the objective's layer, if it reads nothing else there."""
    focus, others = objective.focus, () if regularisers is None else regularisers.layers
    return None if focus is None or focus.layer in others else focus


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


def _dead(
    objective: Objective,
    of: NDArray[np.int64],
    natural: Natural | None,
    peak: NDArray[np.float32],
    trough: NDArray[np.float32],
    *,
    rectified: bool,
) -> NDArray[np.bool_]:
    """Channels that never answer: not above zero where a non-linearity follows, else not at all."""
    high = peak if natural is None else np.maximum(peak, natural.peak[of])
    low = trough if natural is None else np.minimum(trough, natural.trough[of])
    silent = high <= 0 if rectified else (high == 0) & (low == 0)
    return silent & (np.array(objective.channels)[of] >= 0)
