"""From an activation (N, C, H, W) to features (N, F)."""

import math
from collections.abc import Callable

from torch import Tensor

from cytolens.errors import choose


def _mean(maps: Tensor) -> Tensor:
    return maps.mean(dim=tuple(range(2, maps.ndim)))


def _max(maps: Tensor) -> Tensor:
    return maps.amax(dim=tuple(range(2, maps.ndim)))


def _centre(maps: Tensor) -> Tensor:
    for length in maps.shape[2:]:
        maps = maps.select(2, length // 2)
    return maps


def _flat(maps: Tensor) -> Tensor:
    return maps.flatten(1)


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "max": _max,
    "centre": _centre,
    "flat": _flat,
}
"""How a channel's map becomes a number; "flat" keeps every neuron."""


def reduction_named(name: str) -> Callable[[Tensor], Tensor]:
    """The reduction of that name; raises SettingError, listing the known ones, otherwise."""
    return REDUCTIONS[choose("reduction", name, list(REDUCTIONS))]


def reduce_activations(activations: Tensor, *, reduction: str = "mean") -> Tensor:
    """Features (N, F) of activations (N, C, ...): one number per channel, or all neurons.

    ``mean``: average over positions, blind to where in the cell.
    ``max``: strongest position. ``centre``: the neuron in the middle, [H // 2, W // 2].
    ``flat``: every neuron, F = C · H · W, row-major. Activations (N, F) stay as they are.
    """
    return activations if activations.ndim == 2 else reduction_named(reduction)(activations)


def n_features(shape: tuple[int, ...], *, reduction: str) -> int:
    """F for activations of a ``shape`` without the batch: (C, H, W) or (F,)."""
    if reduction_named(reduction) is not _flat:
        return shape[0]
    return math.prod(shape)
