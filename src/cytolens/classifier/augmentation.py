"""Views of a cell that are as true as the one recorded: in flow it lies at any angle, anywhere.

Training only. Rotation, reflection and sub-pixel shift are one affine map per crop, resampled
once, so that nothing is interpolated twice; every crop draws its own.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cytolens.records.cells import Preparation

_MIXUP = 0.2  # of cells in groups


@dataclass(frozen=True)
class Augmentation:
    """How far crops are turned, moved and dimmed in training; zero or False leaves it out."""

    rotation: float = 180.0  # degrees, uniform in ±
    reflection: bool = True  # half of the crops
    shift: float = 2.0  # pixels, uniform in ±, both directions
    brightness: float = 0.4  # gain is log-uniform in 1/(1 + brightness) … 1 + brightness
    # An offset blurs where a level lies between a crop's lowest and highest value, so it is small.
    offset: float = 0.02  # of the crop's own range of values, uniform in ±
    exact: float = 0.5  # share of crops turned by a multiple of 90° only, whole pixels: unblurred
    mixup: float = 0.0  # crops are mixed with others, in shares from Beta(mixup, mixup)


def suited_to(preparation: Preparation, *, grouped: bool = False) -> Augmentation:
    """The usual views, without gain and offset where each crop is scaled by its own range.

    No such crop is brighter than another, so brighter views would never be met again. Where cells
    are ``grouped`` (donors, plates), they are mixed, too: what is learnt holds better for new
    groups (benchmarks/results/accuracy.md).
    """
    alike = preparation.intensity == "image"
    usual = Augmentation(brightness=0.0, offset=0.0) if alike else Augmentation()
    return replace(usual, mixup=_MIXUP) if grouped else usual


def mix(
    crops: Tensor, amount: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Each crop (N, C, H, W) mixed with another: crops, own shares (N,), rows of the others (N,).

    Mixup (Zhang et al. 2018, arXiv:1710.09412), each with a share of its own, at least one half:
    the larger part of a draw from Beta(``amount``, ``amount``).
    """
    drawn = rng.beta(amount, amount, len(crops)).astype(np.float32)
    share = torch.from_numpy(np.maximum(drawn, 1 - drawn)).to(crops)
    others = rng.permutation(len(crops))
    own = share[:, None, None, None]
    return crops * own + crops[torch.from_numpy(others).to(crops.device)] * (1 - own), share, others


def augment(crops: Tensor, settings: Augmentation, *, generator: torch.Generator) -> Tensor:
    """A random view of each crop (N, C, H, W), same shape; draws are made on the CPU.

    Outside of the crop its border goes on, which for padded crops is the background. Half of the
    crops (``exact``) are only turned by multiples of 90°, reflected and moved by whole pixels:
    interpolation blurs, and a network that has only seen blurred chromatin misjudges sharp one.
    """
    n = len(crops)

    def draw(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, right, down = draw(settings.rotation), draw(settings.shift), draw(settings.shift)
    mirrored = torch.rand(n, generator=generator) < (0.5 if settings.reflection else 0.0)
    exact = torch.rand(n, generator=generator) < settings.exact
    gain = torch.exp(draw(math.log1p(settings.brightness)))
    offset = draw(settings.offset)
    square = crops.shape[-1] == crops.shape[-2]
    quarter = 90.0 if square else 180.0
    angle = torch.where(exact, (angle / quarter).round() * quarter, angle)
    right, down = (torch.where(exact, move.round(), move) for move in (right, down))
    moved = turn(crops, angle, mirrored=mirrored, right=right, down=down)
    return _dim(moved, gain.to(crops), offset.to(crops))


def turn(crops: Tensor, angle: Tensor, *, mirrored: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Crops (N, C, H, W) mirrored left–right where asked, turned, then moved.

    ``angle`` (N,) degrees, counter-clockwise as seen; ``right``, ``down`` (N,) pixels. Bicubic.
    """
    height, width = crops.shape[-2:]
    radians = torch.deg2rad(angle)
    cos, sin = torch.cos(radians), torch.sin(radians)
    flip = torch.where(mirrored, -1.0, 1.0)
    # affine_grid wants the inverse map, output place -> input place, both in -1 … 1.
    aspect = height / width
    linear = torch.stack([flip * cos, -flip * sin * aspect, sin / aspect, cos], dim=1)  # (N, 4)
    linear = linear.view(-1, 2, 2)
    move = torch.stack([right * 2 / width, down * 2 / height], dim=1)[:, :, None]  # (N, 2, 1)
    theta = torch.cat([linear, -linear @ move], dim=2).to(crops)  # (N, 2, 3)
    grid = functional.affine_grid(theta, list(crops.shape), align_corners=False)
    return functional.grid_sample(
        crops, grid, mode="bicubic", padding_mode="border", align_corners=False
    )


def _dim(crops: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Gain about each crop's lowest value and an offset in units of its range; all channels."""
    low, high = crops.flatten(1).aminmax(dim=1)
    low, span, gain, offset = (v.view(-1, 1, 1, 1) for v in (low, high - low, gain, offset))
    return low + (crops - low) * gain + offset * span
