"""Small networks whose feature images are known, or quick."""

import math
from collections import OrderedDict
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from cytolens.features.ascent import Ascent
from cytolens.features.optimisation import feature_images
from cytolens.records.features import FeatureImages

FIELDS = {field.name for field in fields(Ascent)}


def tiny(channels: int = 1, classes: int = 3, seed: int = 0) -> nn.Module:
    """conv–norm–ReLU twice, pooled, dense; random weights, and norms that are not the identity."""
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(seed)

    def block(before: int, after: int) -> nn.Module:
        norm = nn.BatchNorm2d(after)
        norm.running_mean.copy_(torch.randn(after) / 5)  # pyright: ignore
        norm.running_var.copy_(torch.rand(after) + 0.5)  # pyright: ignore
        conv = nn.Conv2d(before, after, 3, padding=1)
        return nn.Sequential(OrderedDict(conv=conv, norm=norm, relu=nn.ReLU(inplace=True)))

    network = nn.Sequential(
        OrderedDict(
            conv1=block(channels, 4),
            pool=nn.MaxPool2d(2),
            conv2=block(4, 6),
            global_pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            hidden=nn.Sequential(OrderedDict(linear=nn.Linear(6, 5), relu=nn.ReLU())),
            logits=nn.Linear(5, classes),
        )
    ).eval()
    torch.random.set_rng_state(torch_state)
    return network


class Functional(nn.Module):
    """A network that applies its non-linearity as a function, and is given plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.logits = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.relu(self.norm(self.conv(x)))
        return self.logits(x.mean((2, 3)))


def gabor(angle: float, wavelength: float, size: int = 25) -> Tensor:
    """Even Gabor filter (size, size) without mean; angle in degrees, wavelength in pixels.

    The wave runs along (cos angle, sin angle) in (x, y), y downwards.
    """
    reach = size // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    along = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    envelope = torch.exp(-(x**2 + y**2) / (2 * (size / 4.5) ** 2))
    wave = torch.cos(2 * math.pi * along / wavelength)
    mean = (wave * envelope).sum() / envelope.sum()
    return (wave - mean) * envelope


def gabor_network(angles: tuple[float, ...], wavelengths: tuple[float, ...]) -> nn.Module:
    """One channel per filter, and a dense layer over their means, so that it is a classifier."""
    n = len(angles)
    conv = nn.Conv2d(1, n, 25, bias=False)
    filters = [gabor(a, w) for a, w in zip(angles, wavelengths, strict=True)]
    with torch.no_grad():
        conv.weight.copy_(torch.stack(filters)[:, None])
    first = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))
    return nn.Sequential(
        OrderedDict(
            conv1=first,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            logits=nn.Linear(n, 2),
        )
    ).eval()


def images_made(model: nn.Module, **options: Any) -> FeatureImages:
    """`feature_images`, with those of the options that are fields of `Ascent` put there."""
    ascent = Ascent(**{key: options.pop(key) for key in set(options) & FIELDS})
    return feature_images(model, ascent=ascent, **options)
