"""The start of a forward pass of a network that takes normalised crops: a hook on the module."""

from typing import Any

import torch
from torch import Tensor, nn

from cytolens.classifier.card import CropNormalisation, Normalisation


class Normalise:
    """Crops of the files' own intensities, as a network takes them."""

    def __init__(self, how: Normalisation | CropNormalisation) -> None:
        self.how = how

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Crops (n, C, h, w) normalised; one image channel as each of several."""
        how, crops = self.how, args[0]
        if isinstance(how, CropNormalisation):
            return (_by_itself(crops, how), *args[1:])
        if crops.shape[1] not in (1, len(how.mean)):
            raise ValueError(
                f"{crops.shape[1]} image channels came; the card normalises {len(how.mean)}"
            )
        mean, std = (torch.tensor(part).to(crops)[:, None, None] for part in (how.mean, how.std))
        return ((crops / how.scale - mean) / std, *args[1:])


def normalise_of(module: nn.Module) -> Normalise | None:
    """The hook of this kind that a module begins with; None where it has none."""
    hooks = module._forward_pre_hooks.values()  # pyright: ignore[reportPrivateUsage]
    return next((hook for hook in hooks if isinstance(hook, Normalise)), None)


def _by_itself(crops: Tensor, how: CropNormalisation) -> Tensor:
    over = (2, 3) if how.each_channel else (1, 2, 3)
    if how.percentiles is None:
        mean = crops.mean(over, keepdim=True)
        return (crops - mean) / (crops.std(over, correction=0, keepdim=True) + how.eps)
    rows = crops.flatten(2) if how.each_channel else crops.flatten(1)[:, None]
    at = torch.tensor(how.percentiles).to(crops) / 100
    low, high = torch.quantile(rows, at, dim=2)[..., None, None]  # (n, C or 1, 1, 1)
    return (crops - low) / (high - low + how.eps)
