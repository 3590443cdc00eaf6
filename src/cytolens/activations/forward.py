"""How crops go through a network fast: how they lie in memory, how many at a time, how exactly."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cytolens.activations.capture import Place, capture

_ON_CPU, _ON_GPU = 128, 2048  # cells; more no longer fit the cache, or gain nothing
_WORTH_TRYING = 32  # images; for fewer to see how they may lie takes longer than it saves


def cells_at_once(batch_size: int | None, device: torch.device) -> int:
    """Cells per forward pass: as asked for, else what suits the device."""
    return batch_size or (_ON_CPU if device.type == "cpu" else _ON_GPU)


def computes_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 (AVX512-BF16), in half the time of float32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())


@contextmanager
def fast_layout(
    model: nn.Module,
    shape: tuple[int, int, int],
    target: torch.device,
    places: Iterable[Place] = (),
    *,
    n: int = _WORTH_TRYING,
) -> Generator[torch.memory_format, None, None]:
    """Within the block the weights lie in memory as the layout given asks; afterwards as before.

    Images of ``shape`` (C, H, W) are to lie in memory in the same way. ``places`` are the last that
    the network is run to; none: all of it. Networks that look at activations with ``view`` do not
    run with channels last; they, other devices and few images (``n``) keep the usual layout.
    """
    weights = [(weight, weight.data) for weight in model.parameters() if weight.ndim == 4]
    layout = torch.contiguous_format
    try:
        if target.type == "cpu" and n >= _WORTH_TRYING:
            for weight, data in weights:
                weight.data = laid_out(data, torch.channels_last)
            blank = laid_out(torch.zeros(2, *shape), torch.channels_last)
            if _runs(model, blank, places):
                layout = torch.channels_last
            else:
                _put_back(weights)
        yield layout
    finally:
        _put_back(weights)


def laid_out(images: Tensor, layout: torch.memory_format) -> Tensor:
    """A copy of the images that lies in memory as asked.

    ``contiguous()`` gives back images of one channel whatever their strides are, and convolutions
    may take such for channels last.
    """
    return images.clone(memory_format=layout)


def _runs(model: nn.Module, images: Tensor, places: Iterable[Place]) -> bool:
    """Whether the network takes the images, up to the last of the places."""

    def ignore(place: Place, value: Tensor) -> None:
        pass

    try:
        with torch.inference_mode(), capture(model, places, stop_at_last=True, consume=ignore):
            model(images)
    except RuntimeError:
        return False
    return True


def _put_back(weights: list[tuple[nn.Parameter, Tensor]]) -> None:
    for weight, data in weights:
        weight.data = data
