"""The saliency methods that people use, from captum, to compare with: Grad-CAM and path gradients.

captum is an optional extra; it is imported when a baseline is asked for.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import capture, device_of, evaluating
from cytolens.errors import MissingExtra
from cytolens.features.gain import Background, background_levels
from cytolens.records.layers import Layer

STEPS = 50  # of the path of integrated gradients: captum's default
BATCH = 16  # cells at a time


def gradcam(
    network: nn.Module, images: NDArray[np.float32], *, layer: Layer, target: int
) -> NDArray[np.float32]:
    """Grad-CAM of images (N, C, H, W) at a layer, for the logit of a class: (N, H, W), ≥ 0.

    People take the last convolution, after its non-linearity where that is a module. Up-scaled
    bilinearly. Source: Selvaraju et al. 2017, by captum's LayerGradCam.
    """
    captum = _captum()
    name, _, side = layer.activation
    method = captum.LayerGradCam(network, network.get_submodule(name))
    found: list[NDArray[np.float32]] = []
    with evaluating(network), torch.enable_grad(), _out_of_place(network):
        for batch in _batches(images, device_of(network)):
            maps = method.attribute(
                batch.requires_grad_(),
                target=target,
                attribute_to_layer_input=side == "input",
                relu_attributions=True,
            )
            large = captum.LayerAttribution.interpolate(
                maps, images.shape[2:], interpolate_mode="bilinear"
            )
            found.append(large[:, 0].detach().float().cpu().numpy())
    return np.concatenate(found)


def integrated_gradients(
    network: nn.Module,
    images: NDArray[np.float32],
    *,
    target: int,
    background: Background,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Integrated gradients from the background to the images, for a class: (N, H, W), ≥ 0.

    Attributions are summed over image channels; what speaks against the class is set to zero, as
    in all saliencies here. Source: Sundararajan et al. 2017, by captum's IntegratedGradients.
    """
    method = _captum().IntegratedGradients(network)
    level = background_levels(background, images.shape[1])[None]
    found: list[NDArray[np.float32]] = []
    with evaluating(network), torch.enable_grad(), _out_of_place(network):
        for batch in _batches(images, device_of(network)):
            start = torch.from_numpy(level.copy()).to(batch).expand_as(batch)
            given = method.attribute(
                batch, baselines=start, target=target, n_steps=steps, internal_batch_size=256
            )
            found.append(given.sum(dim=1).clamp(min=0).detach().float().cpu().numpy())
    return np.concatenate(found)


def _batches(images: NDArray[np.float32], device: torch.device) -> Sequence[torch.Tensor]:
    return [
        torch.from_numpy(images[start : start + BATCH].copy()).to(device)
        for start in range(0, len(images), BATCH)
    ]


def _out_of_place(network: nn.Module) -> AbstractContextManager[Any]:
    """In-place non-linearities, which captum cannot handle, work on copies within the block."""
    return capture(network, [])


def require_captum() -> None:
    """Raise MissingExtra, with what to install, where captum is not there."""
    _captum()


def _captum() -> Any:
    try:
        return import_module("captum.attr")
    except ImportError:
        raise MissingExtra("comparing with Grad-CAM and integrated gradients", "captum") from None
