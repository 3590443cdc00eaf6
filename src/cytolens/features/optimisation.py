"""Feature images: gradient ascent on the image until the network answers as strongly as it can.

All targets of a layer are one batch; each image has its own seed and its own random views, so it
is, up to rounding, what it would be alone.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import device_of, network_and_shape
from cytolens.activations.layers import resolve_layer
from cytolens.classifier.model import Classifier
from cytolens.errors import ModelError, SettingError
from cytolens.features.ascent import Ascent, Climb, ascend, measure_finished
from cytolens.features.canvas import Canvas, batches_of, prepare_canvas
from cytolens.features.fast.half import gains_by_half, in_half
from cytolens.features.natural import Natural, measure_natural
from cytolens.features.objectives import Focus, Objective, channel
from cytolens.features.parametrisations import START_NOISE, find_parametrisation, fourier
from cytolens.features.priors import Guidance, Prior, guide
from cytolens.features.regularisers import weigh
from cytolens.features.resemblance import similarity_to_cells
from cytolens.features.responding import Respond, dtype_of, responding
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import FeatureImages
from cytolens.records.layers import Layer

PIXELS_AT_ONCE = 16 * 48**2  # on a CPU: what is computed stays in its cache
BYTES_PER_PIXEL = 4096  # of an image, on a GPU: about what the layers of a ResNet-18 take, twice
"""Image pixels optimised in one batch: on a CPU memory that is used again stays in the cache."""


@torch.inference_mode(False)
@torch.enable_grad()
def feature_images(
    model: nn.Module | Classifier,
    *,
    layer: Layer | str | None = None,
    channels: Sequence[int] | None = None,
    objective: Objective | None = None,
    input_shape: tuple[int, int, int] | None = None,
    prior: Prior | None = None,
    cells: Cells | NDArray[np.float32] | None = None,
    ascent: Ascent | None = None,
    rng: Rng = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> FeatureImages:
    """One image per target that makes a network answer as strongly as it can.

    What is maximised: ``channels`` of ``layer`` (all unless given), or any ``objective``, such as
    a `direction` in the activation space of a layer. ``input_shape`` (C, H, W) is that of the
    crops that the network takes; a Classifier knows it.

    ``prior`` (see `fit_prior`): what the user's own cells say an image may look like. It says
    where images start, how they change and what holds them. ``ascent`` has all other settings;
    None is `Ascent()`.

    ``cells`` (prepared crops) are the yardstick: ``natural`` is the objective's mean, s.d. and
    maximum over them, NaN without cells. The objective is maximised on the scale of that mean and
    s.d., or without cells of those over random images with 1/frequency spectra. Where there is no
    prior, ``cells`` also give the default start and value range. With cells of several image
    channels, these are correlated in the images as they are in the cells.

    ``activation`` and ``activation_maps`` are those of the finished, untransformed image. A map
    is the rectified target where it arises (h, w); where the target has no positions (dense
    layers, sums over layers) it is the absolute gradient of the target with respect to the
    image, at the size of the image, smoothed (Simonyan et al. 2014). ``dead`` marks channels
    whose value before the non-linearity is never above zero on any cell nor on the image.

    With a prior, ``similarity`` is the pixel correlation with the most similar of its cells, over
    the eight orientations, and ``starts`` are the cells that images began as, where they did.

    The model may be in any mode and on any device; it is left as found, hooks and all. Equal
    seeds give equal images: an image depends on ``rng`` and its target's name, and not on what
    else is in the batch. Large networks climb in bfloat16 where the processor computes in it
    (`fast.half`); ``activation`` and all else is then measured in float32.

    Raises SettingError for settings that cannot be used, ModelError for a network that cannot
    be differentiated.

    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    >>> made = feature_images(
    ...     network, layer="0", channels=[1, 3], input_shape=(1, 12, 12),
    ...     ascent=Ascent(steps=4), rng=0,
    ... )
    >>> made.targets, made.images.shape, made.history.shape
    (('channel 1', 'channel 3'), (2, 1, 12, 12), (2, 4))
    """
    network, shape = network_and_shape(model, input_shape)
    aim = _aim(network, objective, layer, channels, shape)
    task = _resolve(network, *aim, shape, prior, cells, ascent or Ascent(), rng, device)
    with responding(
        network, task.layers, task.canvas, device=task.canvas.low.device, focus=_focus(task)
    ) as respond:
        ground = _prepare(task, respond)
        half = gains_by_half(network, task.canvas.shape, task.canvas.low)
        made = _climb(task, ground, respond, progress, half=half)
    return _record(task, ground, made, half=half)


@dataclass(frozen=True)
class _Task:
    """What a call asks for, with every default filled in."""

    objective: Objective
    layers: Mapping[str, Layer]  # that the objective looks at, by the names it uses
    canvas: Canvas
    prior: Prior | None
    cells: Cells | NDArray[np.float32] | None
    ascent: Ascent
    regularisers: Objective | None
    batch_size: int
    of: NDArray[np.int64]  # (K,), the target of each image
    names: tuple[str, ...]  # (K,), of the images
    seed: int

    @property
    def note(self) -> str:
        """For messages: what is being made."""
        return f"feature images of {' and '.join(self.objective.layers)}"

    @property
    def crops(self) -> NDArray[np.float32]:
        """The prior's cells; raises SettingError without a prior."""
        if self.prior is None:
            raise SettingError("there is no prior, and so there are no cells to start from")
        return self.prior.crops


@dataclass(frozen=True)
class _Ground:
    """What is known before the first step: answers to real cells, and what the prior says."""

    natural: Natural | None  # answers to the cells given
    on_prior: Natural | None  # answers to the prior's own cells
    guidance: Guidance
    climb: Climb


def _aim(
    network: nn.Module,
    objective: Objective | None,
    layer: Layer | str | None,
    channels: Sequence[int] | None,
    shape: tuple[int, int, int],
) -> tuple[Objective, dict[str, Layer]]:
    """The objective that is meant, and the layers that it looks at, by the names it uses."""
    if (objective is None) == (layer is None):
        raise SettingError("give either a layer (and channels of it) or an objective")
    if layer is not None:
        found = resolve_layer(network, shape, layer)
        chosen = range(found.channels) if channels is None else channels
        return channel(found.name, chosen), {found.name: found}
    if objective is None or not objective.layers:
        raise SettingError("the objective looks at no layer; a regulariser alone makes no image")
    if channels is not None:
        raise SettingError("channels are those of a layer; give them to the objective instead")
    return objective, {name: resolve_layer(network, shape, name) for name in objective.layers}


def _resolve(
    network: nn.Module,
    objective: Objective,
    layers: Mapping[str, Layer],
    shape: tuple[int, int, int],
    prior: Prior | None,
    cells: Cells | NDArray[np.float32] | None,
    ascent: Ascent,
    rng: Rng,
    device: str | torch.device | None,
) -> _Task:
    """The task with defaults from the prior, the cells and the device."""
    ascent = ascent.with_prior(prior)
    held, guiding = ascent.regularisers, ascent.guided_by
    wanted = (0 if prior is None else len(prior.crops), len(objective))
    if guiding is not None and guiding.shape != wanted:
        raise SettingError(
            f"guided_by of shape {guiding.shape} came; give {wanted}, (cell of the prior, target)"
        )
    place = device_of(network) if device is None else torch.device(device)
    n, variants = len(objective), ascent.variants
    return _Task(
        objective=objective,
        layers=layers,
        canvas=prepare_canvas(
            shape,
            ascent.value_range,
            ascent.background,
            ascent.start,
            cells if prior is None else prior.crops,
            torch.empty((), dtype=dtype_of(network), device=place),
        ),
        prior=prior,
        cells=cells,
        ascent=ascent,
        regularisers=held if isinstance(held, Objective) else weigh(held or {}),
        batch_size=ascent.batch_size or _batch_size(shape[1] * shape[2], place),
        of=np.repeat(np.arange(n), variants),
        names=_variant_names(objective.targets, variants),
        seed=int(generator(rng).integers(2**62)),
    )


def _natural(
    task: _Task, respond: Respond, objective: Objective, cells: Cells | NDArray[np.float32]
) -> Natural:
    """What the network answers to cells, of an objective."""
    size = task.ascent.batch_size or 4 * task.batch_size
    crops = batches_of(cells, task.canvas.shape, size)
    return measure_natural(respond, objective, crops, like=task.canvas.low)


def _prepare(task: _Task, respond: Respond) -> _Ground:
    """The network's answers to real cells, and how each image starts, changes and is held."""
    prior, ascent, canvas = task.prior, task.ascent, task.canvas
    natural = None
    if task.cells is not None:
        natural = _natural(task, respond, task.objective, task.cells)
    wanted = prior is not None and (natural is None or prior.starts_from_cells)
    on_prior = _natural(task, respond, task.objective, task.crops) if wanted else None
    guiding = ascent.guided_by
    if guiding is None and on_prior is not None:
        guiding = on_prior.scores
    if prior is None:
        parametrisation = find_parametrisation(ascent.parametrisation or "fourier")
        guidance = Guidance(None, parametrisation, None, np.full(len(task.of), -1))
    else:
        guidance = guide(
            prior,
            guiding,
            n=len(task.of),
            variants=ascent.variants,
            weight=ascent.prior_weight,
        )
    typical = natural or on_prior or _on_noise(respond, task.objective, canvas)
    deviation = np.where(typical.deviation > 1e-8, typical.deviation, 1.0)
    best = on_prior.maximum if guidance.capped and on_prior is not None else None
    climb = Climb(
        objective=task.objective,
        parametrisation=guidance.parametrisation,
        transforms=ascent.transforms,
        regularisers=task.regularisers,
        steps=ascent.steps,
        learning_rate=ascent.learning_rate or 0.0,
        centre=torch.from_numpy(typical.mean).to(canvas.low),
        scale=torch.from_numpy(deviation).to(canvas.low),
        ceiling=None if best is None else torch.from_numpy(best).to(canvas.low),
    )
    return _Ground(natural, on_prior, guidance, climb)


def _climb(
    task: _Task, ground: _Ground, respond: Respond, progress: Progress | None, *, half: bool
) -> tuple[NDArray[np.float32], ...]:
    """Batch by batch: images, objective by step, and what `measure_finished` gives."""
    climbing = in_half(respond) if half else respond
    climb, of = ground.climb, task.of
    n_chunks = math.ceil(len(of) / task.batch_size)
    parts: list[tuple[Tensor, ...]] = []
    for index, part in enumerate(np.array_split(np.arange(len(of)), n_chunks)):
        chunk = part.tolist()

        def step_done(step: int, index: int = index) -> None:
            if progress is not None:
                progress(index * climb.steps + step, n_chunks * climb.steps, task.note)

        targets = torch.from_numpy(of[chunk]).to(task.canvas.low.device)
        images, history = ascend(
            climbing,
            climb.held_by(ground.guidance, chunk),
            targets,
            task.canvas.starting_at(ground.guidance.start, chunk),
            [_seed(task.seed, task.names[image]) for image in chunk],
            step_done,
        )
        finished = measure_finished(respond, task.objective, targets, images)
        parts.append((images, history, *finished))
    return tuple(torch.cat(column).float().cpu().numpy() for column in zip(*parts, strict=True))


def _record(
    task: _Task, ground: _Ground, made: tuple[NDArray[np.float32], ...], *, half: bool
) -> FeatureImages:
    """The finished images, and how they were made."""
    images, history, activation, maps, peak, trough = made
    if not np.isfinite(images).all() or not np.isfinite(activation).all():
        raise ModelError(
            f"{task.note} became NaN or infinite; check the network's weights, or lower "
            "learning_rate"
        )
    of, natural, canvas, held = task.of, ground.natural, task.canvas, task.ascent.regularisers
    starts = similarity = None
    if task.prior is not None:
        similarity = similarity_to_cells(images, task.crops)
        if ground.guidance.start is not None:
            starts = task.crops[ground.guidance.cells]
    rectified = any(la.pre_activation != la.activation for la in task.layers.values())
    if task.ascent.start is not None:
        start: Any = "given"
    elif ground.guidance.start is not None:
        start = ground.guidance.cells.tolist()
    else:
        start = "middle" if task.cells is None and task.prior is None else "mean"
    return FeatureImages(
        layer="+".join(task.objective.layers),
        targets=task.names,
        channels=np.array(task.objective.channels, dtype=np.int64)[of],
        images=images,
        activation=activation,
        natural=np.full((len(of), 3), np.nan, np.float32) if natural is None else natural.table[of],
        activation_maps=maps,
        history=history,
        dead=_dead(task, natural or ground.on_prior, peak, trough, rectified=rectified),
        settings={
            "prior": None if task.prior is None else task.prior.as_settings,
            "parametrisation": getattr(ground.climb.parametrisation, "__name__", "custom"),
            "transforms": asdict(ground.climb.transforms),
            "regularisers": list(held.targets) if isinstance(held, Objective) else dict(held or {}),
            "prior_weight": task.ascent.prior_weight,
            "steps": ground.climb.steps,
            "precision": "bfloat16" if half else "float32",
            "learning_rate": ground.climb.learning_rate,
            "value_range": torch.cat([canvas.low, canvas.high], 1)[..., 0].cpu().tolist(),
            "background": canvas.background.flatten().cpu().tolist(),
            "start": start,
            "cells": 0 if natural is None else natural.n,
            "seed": task.seed,
        },
        starts=starts,
        similarity=similarity,
    )


def _variant_names(targets: Sequence[str], variants: int) -> tuple[str, ...]:
    if variants == 1:
        return tuple(targets)
    return tuple(f"{name}, {k + 1} of {variants}" for name in targets for k in range(variants))


def _batch_size(pixels: int, device: torch.device) -> int:
    """Images of that many pixels to optimise at once; eight large ones share the weights' cost."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, free // (2 * BYTES_PER_PIXEL * pixels))
    return max(1, PIXELS_AT_ONCE // pixels, min(8, 2**19 // pixels))


def _focus(task: _Task) -> Focus | None:
    """What the ascent reads of the objective's layer, if it reads nothing else there."""
    focus = task.objective.focus
    others = () if task.regularisers is None else task.regularisers.layers
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
    task: _Task,
    natural: Natural | None,
    peak: NDArray[np.float32],
    trough: NDArray[np.float32],
    *,
    rectified: bool,
) -> NDArray[np.bool_]:
    """Channels that never answer: not above zero where a non-linearity follows, else not at all."""
    of = task.of
    high = peak if natural is None else np.maximum(peak, natural.peak[of])
    low = trough if natural is None else np.minimum(trough, natural.trough[of])
    silent = high <= 0 if rectified else (high == 0) & (low == 0)
    return silent & (np.array(task.objective.channels)[of] >= 0)
