"""The network as it is optimised through: a private copy, frozen and made fast; never the user's.

On a CPU the forward pass is faster with batch norm folded into the convolution before it and with
channels last in memory. Both leave the answers as they are, up to rounding; this is checked.
"""

import copy
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cytolens.activations import Place, capture, device_of, evaluating
from cytolens.errors import ModelError
from cytolens.features.canvas import Canvas
from cytolens.features.objectives import Response
from cytolens.records import Layer

Respond = Callable[[Tensor, Tensor], Response]
"""(images, the views of them that the network sees), both (N, C, H, W) -> what it answers."""


def dtype_of(model: nn.Module) -> torch.dtype:
    """Floating-point type of the network's first weight; float32 for a network without weights."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return torch.float32 if weight is None else weight.dtype


def places_of(layers: Iterable[Layer]) -> tuple[Place, ...]:
    """Where the values before and after the non-linearity of the layers are taken."""
    return tuple(place for layer in layers for place in (layer.pre_activation, layer.activation))


@contextmanager
def responding(
    model: nn.Module, layers: Mapping[str, Layer], canvas: Canvas, *, device: torch.device
) -> Generator[Respond]:
    """Within the block, a function from images to what the network answers at ``layers``.

    The forward pass ends at the last of them. It runs through a private copy; a network that
    cannot be copied is used itself, and is left as found.
    """
    network = _fast_copy(model, places_of(layers.values()), canvas, device)
    if network is None and device_of(model).type != device.type:
        raise ModelError(f"the network cannot be copied to {device}; move it there before")
    used = model if network is None else network
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(used),
        capture(used, places_of(layers.values()), stop_at_last=True) as captured,
    ):

        def respond(images: Tensor, views: Tensor) -> Response:
            used(views.contiguous(memory_format=torch.channels_last))
            return Response(
                image=canvas.unit(images),
                background=canvas.unit(canvas.background),
                expected=canvas.unit(canvas.start),
                spread=None
                if canvas.spread is None
                else canvas.spread / (canvas.high - canvas.low),
                pre_activation={
                    name: captured[layer.pre_activation] for name, layer in layers.items()
                },
                activation={name: captured[layer.activation] for name, layer in layers.items()},
            )

        yield respond


def _fast_copy(
    model: nn.Module, places: tuple[Place, ...], canvas: Canvas, device: torch.device
) -> nn.Module | None:
    """A frozen copy on the device, batch norm folded where that is exact; None if uncopyable."""
    try:
        with torch.inference_mode(False):
            plain = copy.deepcopy(model).to(device).eval().requires_grad_(False)
            folded = copy.deepcopy(plain)
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    for network in (plain, folded):
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if not _fold(folded, {name for name, _, _ in places}):
        return plain
    probe = torch.linspace(0, 1, 2 * canvas.start.numel(), device=device)
    probe = canvas.low + (canvas.high - canvas.low) * probe.view(2, *canvas.shape).to(canvas.low)
    return folded if _agree(plain, folded, probe, places) else plain


def _fold(network: nn.Module, watched: set[str]) -> bool:
    """Fold batch norm into the convolution just before it, in plain Sequentials; True if any.

    A pair stays as it is if one of the two is watched before its normalisation, is used elsewhere
    too, or carries hooks.
    """
    names: dict[int, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    done = False
    for parent in [module for module in network.modules() if type(module) is nn.Sequential]:
        for (first, conv), (second, norm) in pairwise(list(parent.named_children())):
            if not (type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d):
                continue
            hooked = conv._forward_hooks or norm._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
            shared = len(names[id(conv)]) + len(names[id(norm)]) > 2
            if hooked or shared or names[id(conv)][0] in watched or norm.running_mean is None:
                continue
            setattr(parent, first, fuse_conv_bn_eval(conv, norm))
            setattr(parent, second, nn.Identity())
            done = True
    return done


def _agree(plain: nn.Module, folded: nn.Module, probe: Tensor, places: tuple[Place, ...]) -> bool:
    """True if both networks give the same values at the places, up to rounding."""
    answers: list[dict[Place, Tensor]] = []
    for network in (plain, folded):
        with torch.no_grad(), capture(network, places, stop_at_last=True) as captured:
            network(probe)
            answers.append(dict(captured))
    first, second = answers
    tolerance = 1e3 * torch.finfo(probe.dtype).eps
    return all(
        (first[place] - second[place]).abs().max() <= tolerance * (1 + first[place].abs().max())
        for place in places
    )
