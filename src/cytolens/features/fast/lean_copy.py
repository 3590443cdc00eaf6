"""A private, frozen, faster copy of the network, for the ascent; the user's network is not changed.

Batch norm is folded into the convolution before it, memory holds channels last where the network
runs with that, and the last convolution computes only the channel that an image needs
(`convolutions`). Answers stay the same up to rounding, which is checked on a probe; where they do
not, the network is used unchanged. What each change saves: `benchmarks/results/fast_path.md`.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cytolens.activations.capture import Place, capture
from cytolens.activations.forward import laid_out
from cytolens.features.fast.convolutions import OwnChannel
from cytolens.records.layers import Layer


@dataclass(frozen=True)
class LeanCopy:
    """A private copy that does no more work than it has to."""

    network: nn.Module
    last: OwnChannel | None  # the convolution that gives the layer aimed at
    layout: torch.memory_format  # that images are to lie in memory in

    @staticmethod
    def of(
        model: nn.Module,
        places: tuple[Place, ...],
        probe: Tensor,
        aim: Layer | None,
    ) -> "LeanCopy | None":
        """A frozen copy on the probe's device, simplified where exact; None if uncopyable."""
        try:
            with torch.inference_mode(False):
                plain = copy.deepcopy(model).to(probe.device, probe.dtype)
                plain = plain.eval().requires_grad_(False)
                folded = copy.deepcopy(plain)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        layout, expected = _lie_fast((plain, folded), probe, places)
        probe = laid_out(probe, layout)
        changed = _fold(folded, {name for name, _, _ in places})
        same = changed and _agree(_values(folded, probe, places), expected)
        network = folded if same else plain
        last = None if aim is None else _single_out(network, probe, places, aim, expected)
        return LeanCopy(network, last, layout)


def _lie_fast(
    networks: tuple[nn.Module, nn.Module], probe: Tensor, places: tuple[Place, ...]
) -> tuple[torch.memory_format, dict[Place, Tensor]]:
    """Let weights lie in memory as is fastest; that layout, and what the first network holds.

    Networks that look at activations with ``view`` do not run with channels last.
    """
    for network in networks:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        layout = torch.channels_last
        return layout, _values(networks[0], laid_out(probe, layout), places)
    except RuntimeError:
        layout = torch.contiguous_format
        for network in networks:
            network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        return layout, _values(networks[0], laid_out(probe, layout), places)


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
            hooked = _hooked(conv) or _hooked(norm)
            shared = len(names[id(conv)]) + len(names[id(norm)]) > 2
            if hooked or shared or names[id(conv)][0] in watched or norm.running_mean is None:
                continue
            setattr(parent, first, fuse_conv_bn_eval(conv, norm))
            setattr(parent, second, nn.Identity())
            done = True
    return done


def _single_out(
    network: nn.Module,
    probe: Tensor,
    places: tuple[Place, ...],
    layer: Layer,
    expected: Mapping[Place, Tensor],
) -> OwnChannel | None:
    """Let each image have its own channel of the layer alone; None where that cannot be.

    Whether the network can go on with a single channel until the forward pass ends is tried.
    """
    name = _source(network, probe, layer.pre_activation)
    conv = network.get_submodule(name or "")
    if name is None or not OwnChannel.suits(conv) or _hooked(conv):
        return None
    assert isinstance(conv, nn.Conv2d)
    if not OwnChannel.pays(conv):
        return None
    last = OwnChannel(conv)
    last.own = own = torch.tensor([0, last.conv.out_channels - 1], device=probe.device)
    rows = torch.arange(2, device=probe.device)
    reduced = {
        place: values[rows, own, None]
        if place in (layer.pre_activation, layer.activation)
        else values
        for place, values in expected.items()
    }
    done = _replace(network, {name: last}, probe, reduced)
    last.own = None
    return last if done else None


def _replace(
    network: nn.Module,
    new: Mapping[str, nn.Module],
    probe: Tensor,
    expected: Mapping[Place, Tensor],
) -> bool:
    """Put modules in the place of others if the network still says what is expected of it."""
    old = {name: network.get_submodule(name) for name in new}
    _put(network, new)
    try:
        if _agree(_values(network, probe, expected), expected):
            return True
    except Exception:  # whatever the network's own code makes of the change
        pass
    _put(network, old)
    return False


def _put(network: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, module)


def _source(network: nn.Module, probe: Tensor, place: Place) -> str | None:
    """Name of the convolution, called once, whose output is the value at the place.

    All outputs are held until the end: memory that is used again would make two look like one.
    """
    made: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, args, output: made.setdefault(name, []).append(output)

    named = [(name, part) for name, part in network.named_modules() if type(part) is nn.Conv2d]
    handles = [conv.register_forward_hook(keep(name)) for name, conv in named]
    try:
        value = _values(network, probe, [place])[place]
    finally:
        for handle in handles:
            handle.remove()
    return next(
        (
            name
            for name, outputs in made.items()
            if [output.data_ptr() for output in outputs] == [value.data_ptr()]
        ),
        None,
    )


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]


def _values(network: nn.Module, probe: Tensor, places: Iterable[Place]) -> dict[Place, Tensor]:
    """What the network holds at the places; that there is a gradient is tried too."""
    places, images = list(places), probe.detach().requires_grad_()
    with (
        torch.enable_grad(),
        capture(network, places, stop_at_last=True) as captured,
    ):
        network(images)
        values = {place: captured[place] for place in places}
        total = sum(value.sum() for value in values.values())
        if isinstance(total, Tensor) and total.requires_grad:
            torch.autograd.grad(total, images, allow_unused=True)
    return {place: value.detach() for place, value in values.items()}


def _agree(values: Mapping[Place, Tensor], expected: Mapping[Place, Tensor]) -> bool:
    """True if both are the same up to rounding."""
    return all(
        values[place].shape == wanted.shape
        and (values[place] - wanted).abs().max()
        <= 1e3 * torch.finfo(wanted.dtype).eps * (1 + wanted.abs().max())
        for place, wanted in expected.items()
    )
