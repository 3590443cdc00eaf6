"""The ascent in bfloat16, where the network is large and the processor computes in it.

There a step takes half to two thirds of the time. Images differ from those of full precision as
from those of another seed; their activation, which is measured in full precision, does not
(benchmarks/results/feature_images.md).
"""

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cytolens.activations.forward import computes_bfloat16
from cytolens.classifier.threads import LARGE, operations_of
from cytolens.features.objectives import Response
from cytolens.features.responding import Respond

Shape = tuple[int, int, int]
_operations: WeakKeyDictionary[nn.Module, dict[Shape, int]] = WeakKeyDictionary()  # counted once


def gains_by_half(network: nn.Module, shape: Shape, like: Tensor) -> bool:
    """Whether the ascent is made in bfloat16: `LARGE` networks in float32 on such a processor.

    ``shape`` (C, H, W) of the images; ``like``: a tensor of their type, where they are computed.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32 or not computes_bfloat16():
        return False
    counted = _operations.setdefault(network, {})
    if shape not in counted:
        counted[shape] = operations_of(network, shape)
    return counted[shape] >= LARGE


def in_half(respond: Respond) -> Respond:
    """The same answers, computed in bfloat16 and given in float32."""

    def answer(images: Tensor, views: Tensor, own: Tensor | None = None) -> Response:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = respond(images, views, own)
        return replace(
            found,
            pre_activation={name: value.float() for name, value in found.pre_activation.items()},
            activation={name: value.float() for name, value in found.activation.items()},
        )

    return answer
