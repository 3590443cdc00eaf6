"""Images at the scale of what a neuron sees: its receptive field, and no more.

A neuron of a shallow layer sees a few pixels. An image of a whole crop for it repeats one small
pattern, or is a cell that has the pattern somewhere: neither shows what the neuron asks for. So its
own image is made on its field alone, and stands beside the patches of cells that drive it most
(patches as in Zeiler & Fergus 2014, arXiv:1311.2901, figure 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cytolens.activations.capture import capture, device_of, evaluating, network_and_shape
from cytolens.activations.layers import find_layers, resolve_layer
from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError
from cytolens.features.ascent import Ascent
from cytolens.features.objectives import neuron
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import Prior, fit_prior
from cytolens.features.resemblance import correlate_pixels
from cytolens.features.responding import dtype_of
from cytolens.features.transforms import Transforms
from cytolens.numerics.estimates import Rng, generator, one_seed
from cytolens.records.features import FeatureImages, FieldImages
from cytolens.records.layers import Layer

ALIKE = 0.95
"""Pixel correlation, in any orientation, above which two patches are shown as one."""
_STEADY = 16  # views are shifted by at most the field's side over this: else it would blur
_POOL = 300  # patches whose variation the constrained images stay in
_STEPS = 32  # of these; they are small
_PROBES = 16  # images of noise: where a window takes the largest value, each hides most of it
_AT_ONCE = 128  # cells


@dataclass(frozen=True)
class Box:
    """What the neuron in the middle of a layer sees, and how it moves with the neuron."""

    top: int
    left: int
    height: int
    width: int
    middle: tuple[int, int]  # of the layer's map, row and column
    step: tuple[int, int]  # pixels from a neuron to the next

    def at(self, row: int, column: int) -> tuple[int, int]:
        """Top and left of what another neuron sees; negative outside of the crop."""
        return (
            self.top + self.step[0] * (row - self.middle[0]),
            self.left + self.step[1] * (column - self.middle[1]),
        )

    def inside(self, maps: tuple[int, int], crop: tuple[int, int]) -> NDArray[np.bool_]:
        """The neurons (h, w) that see nothing outside of the crop."""
        rows, columns = (np.arange(n) for n in maps)
        top = self.top + self.step[0] * (rows - self.middle[0])
        left = self.left + self.step[1] * (columns - self.middle[1])
        whole = (top >= 0) & (top + self.height <= crop[0])
        return whole[:, None] & ((left >= 0) & (left + self.width <= crop[1]))


def cell_side(crops: NDArray[np.float32], background: NDArray[np.float64]) -> float:
    """Side, in pixels, of the square that holds the typical cell of crops (N, C, H, W).

    The median over cells of the smallest square about the crop's middle with 95 % of the squared
    departure from the ``background`` (C,), each image channel scaled to its own variation.

    >>> crops = np.zeros((3, 1, 20, 20), np.float32)
    >>> crops[:, :, 5:15, 5:15] = 1
    >>> cell_side(crops, np.zeros(1))
    10.0
    """
    height, width = crops.shape[2:]
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) for n in (height, width))
    reach = np.maximum(rows[:, None], columns[None]).ravel()  # of each pixel from the middle
    sides = np.sort(np.unique(reach))
    power = np.square(crops - background[:, None, None].astype(np.float32))
    power = power / np.maximum(power.mean((0, 2, 3), keepdims=True), 1e-20)
    flat = power.sum(1).reshape(len(crops), -1)
    rings = np.stack([flat[:, reach == side].sum(1) for side in sides], axis=1).cumsum(1)
    held = rings / np.maximum(rings[:, -1:], 1e-20) >= 0.95
    return float(np.median(2 * sides[held.argmax(1)] + 1))


def covers_a_cell(layer: Layer, side: float) -> bool:
    """Whether a neuron of the layer sees as much as a typical cell of this side, in pixels."""
    if len(layer.shape) != 3 or layer.receptive_field is None:
        return True
    return layer.receptive_field >= side


def field_images(
    model: nn.Module | Classifier,
    layer: Layer | str,
    channels: Sequence[int],
    *,
    prior: Prior,
    cells: NDArray[np.float32],
    input_shape: tuple[int, int, int] | None = None,
    ascent: Ascent | None = None,
    patches: int = 3,
    rng: Rng = None,
    device: str | None = None,
) -> FieldImages:
    """Each channel's middle neuron on its receptive field, and the patches that drive it most.

    The image is made in Fourier space between the intensities of the ``prior``'s cells, and without
    any other constraint; all outside of the neuron's field is cut off. Of the prepared crops
    ``cells`` (N, C, H, W) the patches under the strongest neuron that sees no border are looked at,
    one of each cell; shown are the ``patches`` strongest that do not look the same in any of the
    eight orientations. ``likely`` are images of the same neurons that change along the principal
    components of such patches and stay in their ellipsoid (prior ``components``). ``similarity``
    of either is the pixel correlation with the most similar patch of the channel, over the eight
    orientations too.

    Raises InputError for a layer without positions, or whose neurons all see the border.
    """
    network, shape = network_and_shape(model, input_shape)
    found = resolve_layer(network, shape, layer)
    if len(found.shape) != 3:
        raise InputError(f"'{found.name}' has no positions, so its neurons see whole crops")
    box = _box(network, found, shape)
    inside = box.inside(found.shape[1:], shape[1:])
    if not inside.any():
        raise InputError(f"all neurons of '{found.name}' see the border of the crop")
    chosen = list(channels)
    views = Transforms(shift=max(box.height, box.width) / _STEADY)
    steady = replace(ascent or Ascent(), transforms=views, variants=1)
    made = feature_images(
        network, objective=neuron(found.name, chosen), input_shape=shape,
        prior=prior.named("range"), cells=cells, ascent=steady, rng=rng, device=device,
    )  # fmt: skip
    cut = made.images[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    strength, places = _strongest(network, cells, found, chosen, inside)
    every = [
        np.stack([_cut(cells[n], box, *places[n, k]) for n in range(len(cells))])
        for k in range(len(chosen))
    ]
    best = [
        _different(own, np.argsort(-strength[:, k], kind="stable"), patches)
        for k, own in enumerate(every)
    ]
    likely = _likely(network, found, chosen, box, shape, every, prior, steady, rng, device)
    return FieldImages(
        found.name,
        _compared(made, np.ascontiguousarray(cut), every),
        None
        if likely is None
        else _compared(replace(likely, layer=found.name), likely.images, every),
        np.stack([own[rows] for own, rows in zip(every, best)]),
        np.stack([strength[rows, k] for k, rows in enumerate(best)]),
        len(cells),
    )


def _likely(
    network: nn.Module,
    layer: Layer,
    channels: list[int],
    box: Box,
    shape: tuple[int, int, int],
    every: list[NDArray[np.float32]],
    prior: Prior,
    ascent: Ascent,
    rng: Rng,
    device: str | None,
) -> FeatureImages | None:
    """Images of the neurons along the components of patches that drive them or their likes.

    None where the layer is not found when the network is given fields instead of crops.
    """
    pool = np.concatenate(every)
    draw = generator(one_seed(rng))
    pool = pool[np.sort(draw.permutation(len(pool))[:_POOL])]
    small = fit_prior(pool, "components", background=prior.background, rng=draw)
    within = _OnField(network, box, shape, prior.background).to(device_of(network))
    size = (shape[0], box.height, box.width)
    module, call, side = layer.pre_activation
    place = (f"network.{module}".rstrip("."), call, side)
    there = next((la for la in find_layers(within, size) if la.pre_activation == place), None)
    if there is None:
        return None
    return feature_images(
        within, objective=neuron(there.name, channels, y=box.middle[0], x=box.middle[1]),
        input_shape=size, prior=small, ascent=replace(ascent, steps=min(ascent.steps, _STEPS)),
        rng=rng, device=device,
    )  # fmt: skip


class _OnField(nn.Module):
    """The network as a function of the part of the crop that the middle neuron sees."""

    paper: Tensor

    def __init__(
        self,
        network: nn.Module,
        box: Box,
        shape: tuple[int, int, int],
        background: NDArray[np.float64],
    ) -> None:
        super().__init__()
        self.network = network
        right, below = shape[2] - box.left - box.width, shape[1] - box.top - box.height
        self.around = (box.left, right, box.top, below)
        paper = torch.tensor(background, dtype=dtype_of(network))[:, None, None]
        self.register_buffer("paper", paper)

    def forward(self, patches: Tensor) -> Tensor:
        """What the network gives for the patches (N, C, f, g) on the background."""
        return self.network(functional.pad(patches - self.paper, self.around) + self.paper)


def _compared(
    images: FeatureImages, pixels: NDArray[np.float32], every: list[NDArray[np.float32]]
) -> FeatureImages:
    """With these pixels (K, C, f, g), and their likeness to each channel's patches."""
    found = [correlate_pixels(pixels[k : k + 1], own).max() for k, own in enumerate(every)]
    return replace(images, images=pixels, similarity=np.array(found, np.float32))


def _box(network: nn.Module, layer: Layer, shape: tuple[int, int, int]) -> Box:
    """Found by the gradient of the middle neuron, on images of noise."""
    like = torch.empty((), dtype=dtype_of(network), device=device_of(network))
    noise = torch.rand((_PROBES, *shape), generator=torch.Generator().manual_seed(0)).to(like)
    height, width = layer.shape[1:]
    middle = height // 2, width // 2
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(network),
        capture(network, [layer.pre_activation], stop_at_last=True) as values,
    ):
        images = noise.requires_grad_()
        network(images)
        answer = values[layer.pre_activation][:, :, middle[0], middle[1]]
        (slope,) = torch.autograd.grad(answer.square().sum(), images)
    seen = slope.abs().sum((0, 1)).cpu().numpy() > 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        raise InputError(f"the middle neurons of '{layer.name}' see nothing of the crop")
    step = max(1, round(shape[1] / height)), max(1, round(shape[2] / width))
    return Box(
        int(rows[0]), int(columns[0]),
        int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1), middle, step,
    )  # fmt: skip


def _strongest(
    network: nn.Module,
    cells: NDArray[np.float32],
    layer: Layer,
    channels: Sequence[int],
    inside: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest activation of each cell (N, K), and the neuron's row and column (N, K, 2)."""
    strength: list[NDArray[np.float32]] = []
    places: list[NDArray[np.int64]] = []
    for start in range(0, len(cells), _AT_ONCE):
        maps = capture_maps(network, cells[start : start + _AT_ONCE], layer)[:, list(channels)]
        flat = np.where(inside, maps, -1).reshape(*maps.shape[:2], -1)
        best = flat.argmax(2)
        strength.append(np.take_along_axis(flat, best[..., None], 2)[..., 0])
        places.append(np.stack(np.unravel_index(best, maps.shape[2:]), axis=-1))
    return np.concatenate(strength), np.concatenate(places)


def _cut(crop: NDArray[np.float32], box: Box, row: int, column: int) -> NDArray[np.float32]:
    top, left = box.at(int(row), int(column))
    return crop[:, top : top + box.height, left : left + box.width]


def _different(
    patches: NDArray[np.float32], order: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The first ``count`` in this order that do not look the same, whichever way they are turned.

    Where there are not as many, the first of all fill up.
    """
    looked = order[: 20 * count]
    alike = correlate_pixels(patches[looked], patches[looked]) > ALIKE
    kept: list[int] = []
    for at in range(len(looked)):
        if len(kept) < count and not alike[at, kept].any():
            kept.append(at)
    rest = [at for at in range(len(looked)) if at not in kept]
    return looked[sorted((kept + rest)[:count])]
