"""What a classifier decides by, and how much each place of a layer adds to the decision."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import Place, device_of, evaluating
from cytolens.errors import ModelError
from cytolens.records.layers import Layer


def logits_of(network: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (N, class), float32, of a few images (N, C, H, W); the network is left as found."""
    with evaluating(network), torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(device_of(network))
        return network(batch).float().cpu().numpy()


def decision(logits: Tensor, given: Tensor | None = None) -> Tensor:
    """How far one class stands out: its logit (N,) minus the mean of the others', of (N, K).

    ``given`` (N,) are the classes, by default those that the logits predict. With a single logit,
    that one.
    """
    given = logits.argmax(1) if given is None else given
    own = logits.gather(1, given[:, None])[:, 0]
    if logits.shape[1] == 1:
        return own
    return own - (logits.sum(1) - own) / (logits.shape[1] - 1)


def gradient_times_activation(
    logits: Tensor, values: Mapping[Place, Tensor], layer: Layer
) -> Tensor:
    """What each value of a layer, (N, C, h, w) or (N, F), adds to the decision, to first order.

    In logits, of the class that each image is given. ``values`` has those of ``layer`` before and
    after its non-linearity. Sources: Simonyan et al. 2014; Ancona et al. 2018, section 2.

    Raises ModelError where the decision does not depend on the layer.
    """
    wanted = [values[layer.activation], values[layer.pre_activation]]
    found = torch.autograd.grad(decision(logits).sum(), wanted, allow_unused=True)
    # An activation made by a function lies on a side branch; for a ReLU the product is the same
    # before it, as its gradient is 0 or 1.
    for value, gradient in zip(wanted, cast("tuple[Tensor | None, ...]", found), strict=True):
        if gradient is not None:
            return (value * gradient).detach()
    raise does_not_depend_on(layer)


def does_not_depend_on(layer: Layer) -> ModelError:
    """The error for a layer that the decision does not pass through."""
    return ModelError(f"the decision does not depend on layer '{layer.name}'; choose another")
