"""Where in a cell the evidence for its class lies: path gradients, averaged over early depths.

What makes a decision is known exactly at the pixels but ragged (neighbouring pixels compete), and
smooth but ever less local the deeper one looks. Along a path from an empty image to the cell, the
gradient of the decision times the change of a layer's activations adds up to the whole change of
the decision, at every depth alike (completeness: Sundararajan et al. 2017, section 3, for pixels;
Dhamdhere et al. 2018, section 2, for hidden units). So the maps of all depths are in one unit,
logits per position, and their mean keeps what they agree on.

An empty image is a plain start but a poor contrast: from it, all that makes a cell counts. Where
cells of other classes are at hand, half the evidence is taken along paths from them (expected
gradients, Erion et al. 2021): on planted rims, which lie all around a cell, the peak was then on
the rim in 0.98 instead of 0.90 of the cells, and nothing else lost.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cytolens.activations.capture import Place, capture, device_of, evaluating, network_of
from cytolens.activations.layers import find_layers, resolve_layer
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError, SettingError
from cytolens.features.decision import decision, does_not_depend_on, logits_of
from cytolens.features.gain import Background, background_levels, upscale
from cytolens.records.layers import Layer

LARGEST_FIELD = 1 / 3  # of the crop's height, the receptive field of the layer to explain at
SMOOTHING = 1 / 32  # of the crop's smaller side, standard deviation of the smoothing
STEPS = 8  # of the path from the background; half as many from each reference
REFERENCES = 4  # cells of other classes that a cell is compared with
_KINDS = ("conv", "block")  # of the layers that are averaged


def explaining_layer(candidates: Sequence[Layer], height: int) -> Layer | None:
    """The deepest layer whose receptive field is at most a third of the crop's height.

    A position of a deeper layer answers to much of the cell, and says little of where
    (`cytolens validate` measures it). The first candidate where all see more, None without any.
    """
    fine = [
        c for c in candidates if c.receptive_field and c.receptive_field <= LARGEST_FIELD * height
    ]
    return fine[-1] if fine else next(iter(candidates), None)


def measure_saliency(
    model: nn.Module | Classifier,
    images: NDArray[np.float32],
    *,
    layer: Layer | str,
    target: int | None = None,
    background: Background = 0.0,
    references: NDArray[np.float32] | None = None,
    steps: int = STEPS,
    smoothing: float | None = None,
    interpolation: str = "bicubic",
    stride: float | None = None,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Evidence for a class at every pixel (N, H, W) of images (N, C, H, W), in logits, ≥ 0.

    The decision is the logit of ``target`` minus the mean of the others'; without ``target``, that
    of the class each image is given. On ``steps`` + 1 images evenly spaced from ``background``
    (prepared intensity, one number or one per image channel) to the image, gradient × change of
    activation is summed (trapezoid) at the input and at every convolution and block up to
    ``layer``. The maps are up-scaled and averaged; what is positive of that is smoothed with a
    Gaussian of ``smoothing`` pixels (by default a 32nd of the crop's smaller side, 1.5 at 48 px).
    As coarse maps are spread over more pixels, they weigh as much more.
    ``references`` (R, C, H, W): cells of other classes (`contrasting`). The mean of the same from
    each of these to the image then makes half of the evidence.
    ``stride``: of the map of ``layer``, where it is not evident from its size (see ``gain``).

    The model is left as found. Raises SettingError for layers without positions, InputError for
    images that do not fit, ModelError where the decision does not depend on the layer.
    """
    network = network_of(model)
    if images.ndim != 4:
        raise InputError(f"images of shape {images.shape} came; give (image, channel, y, x)")
    if steps < 1 or batch_size < 1:
        raise SettingError(f"steps={steps}, batch_size={batch_size}: both must be at least 1")
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    found = resolve_layer(network, shape, layer)
    require_positions(found)
    earlier = [
        la
        for la in find_layers(network, shape)
        if la.kind in _KINDS and la.depth < found.depth and la.name != found.name
    ]
    # Before the non-linearity: that place is always on the path to the logits.
    places = [la.pre_activation for la in (*earlier, found)]
    logits = resolve_layer(network, shape, "logits").activation
    paper = torch.from_numpy(background_levels(background, shape[0]).copy()).to(device_of(network))
    rows: list[NDArray[np.float32]] = []
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(network),
        capture(network, [*places, logits]) as values,
    ):

        def along(start: Tensor, end: Tensor, count: int) -> NDArray[np.float32]:
            """Evidence (n, H, W) from ``start`` to ``end``, where it is positive."""
            network(end)
            given = values[logits].detach().argmax(1)
            wanted = given if target is None else torch.full_like(given, target)

            def score() -> Tensor:
                return decision(values[logits], wanted).sum()

            maps = _along_path(network, (start, end), values, places, score, count)
            if maps[-1] is None:
                raise does_not_depend_on(found)
            strides = [None] * (len(maps) - 1) + [stride]
            return _agreed(maps, shape[1:], interpolation=interpolation, strides=strides)

        for first in range(0, len(images), batch_size):
            batch = np.array(images[first : first + batch_size], dtype=np.float32)
            end = torch.from_numpy(batch).to(paper)
            evidence = along(paper, end, steps)
            if references is not None and len(references):
                starts = torch.from_numpy(np.array(references, dtype=np.float32)).to(paper)
                contrasts = [along(start, end, max(1, steps // 2)) for start in starts]
                evidence = (evidence + np.mean(contrasts, axis=0)) / 2
            rows.append(evidence)
    sigma = SMOOTHING * min(shape[1:]) if smoothing is None else smoothing
    smooth = ndimage.gaussian_filter(np.concatenate(rows), (0, sigma, sigma), mode="constant")
    return smooth.astype(np.float32)


def channel_saliency(
    model: nn.Module | Classifier,
    images: NDArray[np.float32],
    channels: NDArray[np.int64],
    *,
    layer: Layer | str,
    background: Background = 0.0,
    steps: int = STEPS,
    smoothing: float | None = None,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """What in each image (K, C, H, W) drives its channel (K,) of the layer: (K, H, W), ≥ 0.

    As `measure_saliency`, of the mean of the channel's rectified map instead of a decision, along
    the path from the background, over the input and the convolutions and blocks before the
    layer. A place counts by what the image has there beyond the background, so that it is finer
    than the channel's map, and sees what within its field the channel answers to. Zero for a
    channel that the background drives as much.
    """
    network = network_of(model)
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    found = resolve_layer(network, shape, layer)
    require_positions(found)
    places = [
        la.pre_activation
        for la in find_layers(network, shape)
        if la.kind in _KINDS and la.depth < found.depth
    ]
    paper = torch.from_numpy(background_levels(background, shape[0]).copy()).to(device_of(network))
    rows: list[NDArray[np.float32]] = []
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(network),
        capture(network, [*places, found.activation]) as values,
    ):
        for first in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[first : first + batch_size], np.float32))
            wanted = torch.from_numpy(channels[first : first + batch_size].copy())
            wanted = wanted.to(paper.device)

            def score(wanted: Tensor = wanted) -> Tensor:
                maps = values[found.activation].clamp(min=0)
                return (
                    maps[torch.arange(len(wanted), device=maps.device), wanted].mean((1, 2)).sum()
                )

            maps = _along_path(network, (paper, batch.to(paper)), values, places, score, steps)
            rows.append(_agreed(maps, shape[1:]))
    sigma = SMOOTHING * min(shape[1:]) if smoothing is None else smoothing
    return ndimage.gaussian_filter(np.concatenate(rows), (0, sigma, sigma)).astype(np.float32)


def _agreed(
    maps: Sequence[Tensor | None],
    size: tuple[int, ...],
    *,
    interpolation: str = "bicubic",
    strides: Sequence[float | None] | None = None,
) -> NDArray[np.float32]:
    """The mean of evidence from several depths, up-scaled, where it is positive: (n, H, W)."""
    upscaled = [
        upscale(m.float().cpu().numpy(), size, interpolation=interpolation, stride=stride)
        for m, stride in zip(maps, strides or [None] * len(maps), strict=True)
        if m is not None
    ]
    return np.maximum(np.mean(upscaled, axis=0), 0)


def contrasting(
    model: nn.Module, cells: NDArray[np.float32], target: int, *, most: int = REFERENCES
) -> NDArray[np.float32]:
    """The first of the cells (N, C, H, W) that the model gives another class than ``target``."""
    return cells[logits_of(model, cells).argmax(1) != target][:most]


def require_positions(layer: Layer) -> None:
    """Raise SettingError for a layer without positions."""
    if len(layer.shape) != 3 or layer.shape[1] * layer.shape[2] < 2:
        raise SettingError(f"layer '{layer.name}' has no positions; choose a convolutional layer")


def _along_path(
    model: nn.Module,
    ends: tuple[Tensor, Tensor],
    values: Mapping[Place, Tensor],
    places: Sequence[Place],
    score: Callable[[], Tensor],
    steps: int,
) -> list[Tensor | None]:
    """Evidence gathered between two images, (N, h, w) at the input and each place.

    Of the ``score`` (a scalar) of what was captured last. None where it does not pass through.
    """
    start, end = ends  # (1, C, H, W) or (C, H, W), and (n, C, H, W)
    maps: list[Tensor | None] = [None] * (1 + len(places))
    before: list[tuple[Tensor, Tensor] | None] = [None] * len(maps)
    for step in range(steps + 1):
        image = (start + step / steps * (end - start)).requires_grad_()
        model(image)
        reached = [image, *(values[place] for place in places)]
        gradients = cast(
            "tuple[Tensor | None, ...]", torch.autograd.grad(score(), reached, allow_unused=True)
        )
        for i, (value, gradient) in enumerate(zip(reached, gradients, strict=True)):
            if gradient is None:
                continue
            now, old = (value.detach(), gradient), before[i]
            if old is not None:
                gathered = ((old[1] + now[1]) / 2 * (now[0] - old[0])).sum(1)
                total = maps[i]
                maps[i] = gathered if total is None else total + gathered
            before[i] = now
    return maps
