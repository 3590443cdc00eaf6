"""Activation maps of single images, before any reduction."""

import numpy as np
import torch
from numpy.typing import NDArray

from cytolens.activations.capture import Model, capture, device_of, evaluating, network_of
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.activations.layers import resolve_layer
from cytolens.errors import InputError
from cytolens.records.layers import Layer


def capture_maps(
    model: Model, images: NDArray[np.float32], layer: Layer | str, *, batch_size: int | None = None
) -> NDArray[np.float32]:
    """Rectified activation maps (N, C, h, w) of images (N, C, H, W) at a layer; (N, F) if dense.

    The values after the non-linearity, negative ones (of a leaky one) set to zero. The network is
    in eval mode meanwhile and left as found. For many cells use ``extract``.
    """
    if images.ndim != 4:
        raise InputError(f"images of shape {images.shape} came; give (image, channel, y, x)")
    network = network_of(model)
    place = resolve_layer(network, images.shape[1:], layer).activation
    device = device_of(network)
    maps: list[NDArray[np.float32]] = []
    at_once = cells_at_once(batch_size, device)
    with (
        evaluating(network),
        torch.inference_mode(),
        fast_layout(network, images.shape[1:], device, [place], n=len(images)) as layout,
        capture(network, [place], stop_at_last=True) as values,
    ):
        for start in range(0, len(images), at_once):
            batch = np.ascontiguousarray(images[start : start + at_once], dtype=np.float32)
            network(laid_out(torch.from_numpy(batch).to(device), layout))
            maps.append(values[place].clamp(min=0).float().cpu().contiguous().numpy())
    return np.concatenate(maps)
