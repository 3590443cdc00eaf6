"""A network as a function from images to its answers at some layers, left as it was found."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from cytolens.activations.capture import Place, capture, device_of, evaluating
from cytolens.activations.forward import laid_out
from cytolens.errors import ModelError
from cytolens.features.canvas import Canvas
from cytolens.features.fast.lean_copy import LeanCopy
from cytolens.features.fast.tile import Tile, find_tile
from cytolens.features.objectives import Focus, Response
from cytolens.records.layers import Layer


class Respond(Protocol):
    """What the network answers to images and the views of them that it sees."""

    def __call__(self, images: Tensor, views: Tensor, own: Tensor | None = None) -> Response:
        """The response to (N, C, H, W) each; of the last layer only channels ``own`` (N,) matter.

        Where the network allows it, that layer is then computed for these channels alone.
        """
        ...


def dtype_of(model: nn.Module) -> torch.dtype:
    """Floating-point type that the network is run in: that of its first weight.

    float32 for a network without weights or in half precision, see `evaluating`.
    """
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    half = (torch.float16, torch.bfloat16)
    return torch.float32 if weight is None or weight.dtype in half else weight.dtype


def places_of(layers: Iterable[Layer]) -> tuple[Place, ...]:
    """Where the values before and after the non-linearity of the layers are taken."""
    return tuple(place for layer in layers for place in (layer.pre_activation, layer.activation))


@contextmanager
def responding(
    network: nn.Module,
    layers: Mapping[str, Layer],
    canvas: Canvas,
    *,
    device: torch.device,
    focus: Focus | None = None,
) -> Generator[Respond]:
    """Within the block, a function from images to what the network answers at ``layers``.

    The forward pass ends at the last of them. It runs through a private copy; a network that
    cannot be copied is used itself, and is left as found. ``focus`` is all that will be read of
    its layer where ``own`` is given.
    """
    places = places_of(layers.values())
    aim = None if focus is None else layers[focus.layer]
    probe = _probe(canvas, device)
    lean = LeanCopy.of(network, places, probe, aim)
    if lean is None and device_of(network).type != device.type:
        raise ModelError(f"the network cannot be copied to {device}; move it there before")
    used, last, layout = network, None, torch.contiguous_format
    if lean is not None:
        used, last, layout = lean.network, lean.last, lean.layout
    probe = laid_out(probe, layout)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(used),
        capture(used, places, stop_at_last=True) as captured,
    ):
        tile = None
        if aim is not None and focus is not None and len(layers) == 1:
            tile = _tile(used, captured, aim, focus, probe)

        def respond(images: Tensor, views: Tensor, own: Tensor | None = None) -> Response:
            if last is not None:
                last.own = own
            part = None if own is None else tile
            seen = views if part is None else part.cut(views)
            used(laid_out(seen, layout))

            def values(place: Place) -> Tensor:
                return captured[place] if part is None else part.place(captured[place])

            return Response(
                image=canvas.unit(images),
                background=canvas.unit(canvas.background),
                expected=canvas.unit(canvas.start),
                deviation=None
                if canvas.deviation is None
                else canvas.deviation / (canvas.high - canvas.low),
                pre_activation={key: values(at.pre_activation) for key, at in layers.items()},
                activation={key: values(at.activation) for key, at in layers.items()},
                reduced=None if last is None or own is None or focus is None else focus.layer,
            )

        yield respond


def _probe(canvas: Canvas, device: torch.device) -> Tensor:
    """Two images of noise within the value range, on which it is tried whether answers stay."""
    noise = torch.rand((2, *canvas.shape), generator=torch.Generator().manual_seed(0))
    return canvas.low + (canvas.high - canvas.low) * noise.to(canvas.low).to(device)


def _tile(
    network: nn.Module,
    captured: Mapping[Place, Tensor],
    layer: Layer,
    focus: Focus,
    probe: Tensor,
) -> Tile | None:
    """The tile of the image that the only neuron asked for sees; None where it needs it all."""
    if focus.position is None or layer.receptive_field is None or len(layer.shape) != 3:
        return None

    def answer(images: Tensor) -> Tensor:
        network(images)
        return captured[layer.pre_activation]

    try:
        return find_tile(answer, probe, focus.position, layer.receptive_field)
    except Exception:  # whatever the network's own code makes of smaller images
        return None
