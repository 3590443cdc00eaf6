"""What saliency is compared with: methods that people use, from captum, and no network at all.

captum is an optional extra; it is imported when Grad-CAM or path gradients are asked for. The maps
without a network know nothing of the classifier: where they point at a plant as often, pointing
proves nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from cytolens.activations.capture import capture, device_of, evaluating
from cytolens.activations.views import parts_of
from cytolens.errors import MissingExtra
from cytolens.features.gain import Background, background_levels
from cytolens.records.layers import Layer

STEPS = 50  # of the path of integrated gradients: captum's default
BATCH = 16  # cells at a time
FINE = 1.0  # pixels, standard deviation of the smallest structure looked for without a network


def gradcam(
    network: nn.Module, images: NDArray[np.float32], *, layer: Layer, target: int
) -> NDArray[np.float32]:
    """Grad-CAM of images (N, C, H, W) at a layer, for the logit of a class: (N, H, W), ≥ 0.

    People take the last convolution, after its non-linearity where that is a module. Up-scaled
    bilinearly. Source: Selvaraju et al. 2017, by captum's LayerGradCam.
    """
    captum = _captum()
    name, _, side = layer.activation
    side, _, views = parts_of(side)
    if views:
        return gradcam_of_maps(network, images, layer=layer, target=target)
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


def gradcam_of_maps(
    network: nn.Module, images: NDArray[np.float32], *, layer: Layer, target: int
) -> NDArray[np.float32]:
    """The same without captum, which takes a module's output as it is: for maps of tokens.

    A channel's weight is the mean of its gradient over positions (Selvaraju et al. 2017, eq. 1).
    """
    found: list[NDArray[np.float32]] = []
    made_by_function = parts_of(layer.activation[2])[1]  # and so not on the way to the logits
    place = layer.pre_activation if made_by_function else layer.activation
    with evaluating(network), torch.enable_grad(), capture(network, [place]) as values:
        for batch in _batches(images, device_of(network)):
            logits = network(batch.requires_grad_())
            maps = values[place]
            (slope,) = torch.autograd.grad(logits[:, target].sum(), maps)
            weights = slope.mean((2, 3), keepdim=True)
            seen = (weights * maps).sum(1, keepdim=True).relu()
            large = F.interpolate(seen, images.shape[2:], mode="bilinear", align_corners=False)
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


def brightness(images: NDArray[np.float32], background: Background) -> NDArray[np.float64]:
    """How far above the background each pixel is, (N, H, W), summed over image channels, ≥ 0."""
    above = _above(images, background)
    return ndimage.gaussian_filter(np.maximum(above, 0), (0, FINE, FINE))


def difference_of_gaussians(
    images: NDArray[np.float32], background: Background
) -> NDArray[np.float64]:
    """How far each place stands out from around it, (N, H, W): spots and lines, bright or dark.

    Of Gaussians of 1.6 and 2.6 times `FINE`, the ratio that is nearest to the Laplacian (Marr &
    Hildreth 1980, Proc. R. Soc. B 207).
    """
    above = _above(images, background)
    fine, wide = (ndimage.gaussian_filter(above, (0, s, s)) for s in (1.6 * FINE, 2.6 * FINE))
    return np.abs(fine - wide)


def fine_detail(images: NDArray[np.float32], background: Background) -> NDArray[np.float64]:
    """How strong what is finer than a pixel is at each place, (N, H, W): the root of its power."""
    above = _above(images, background)
    detail = above - ndimage.gaussian_filter(above, (0, FINE, FINE))
    power = ndimage.gaussian_filter(detail**2, (0, 1.5 * FINE, 1.5 * FINE))
    return np.sqrt(np.maximum(power, 0))


NETWORK_FREE: Mapping[str, Callable[[NDArray[np.float32], Background], NDArray[np.float64]]] = {
    "brightness": brightness,
    "difference_of_gaussians": difference_of_gaussians,
    "fine_detail": fine_detail,
}
"""Maps that know of no network, by name."""


def _above(images: NDArray[np.float32], background: Background) -> NDArray[np.float64]:
    level = background_levels(background, images.shape[1])
    return (images - level).sum(axis=1, dtype=np.float64)


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
