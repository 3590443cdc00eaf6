"""Which channels of a layer decide: gradient × activation and ablation, over many cells.

The gallery of a layer begins with the channels that matter.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import (
    NON_LINEARITIES,
    Place,
    capture,
    device_of,
    evaluating,
    network_of,
)
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.activations.layers import resolve_layer
from cytolens.activations.views import parts_of, with_views
from cytolens.classifier.model import Classifier
from cytolens.errors import SettingError
from cytolens.features.canvas import batches_of
from cytolens.features.decision import decision, gradient_times_activation
from cytolens.features.responding import dtype_of
from cytolens.records.cells import Cells, Progress
from cytolens.records.layers import Layer


def measure_contributions(
    model: nn.Module | Classifier,
    cells: Cells | NDArray[np.float32],
    *,
    layer: Layer | str,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """What each channel (N, C) of a layer adds to the decision on each cell, in logits.

    The decision is the predicted class's logit minus the mean of the others'; a contribution is
    activation × gradient of the decision, summed over positions: the first-order effect of taking
    the channel away (Simonyan et al. 2014; Molchanov et al. 2017, who prune by it). Its sign tells
    whether the channel speaks for (+) or against (-) the class that the cell is given.

    The model is left as found. Raises ModelError where the decision does not depend on the layer.
    """
    network = network_of(model)
    at_once = _at_once(network, batch_size)
    image_shape = _shape_of(cells)
    found = resolve_layer(network, image_shape, layer)
    logits_place = resolve_layer(network, image_shape, "logits").activation
    like = torch.empty((), dtype=dtype_of(network), device=device_of(network))
    places = [found.pre_activation, found.activation, logits_place]
    rows: list[NDArray[np.float32]] = []
    done = 0
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(network),
        fast_layout(network, image_shape, like.device, places) as layout,
        capture(network, places) as values,
    ):
        for batch in batches_of(cells, image_shape, at_once):
            images = torch.from_numpy(np.ascontiguousarray(batch)).to(like)
            network(laid_out(images, layout).requires_grad_())
            product = gradient_times_activation(values[logits_place], values, found)
            product = product.flatten(2).sum(2) if product.ndim > 2 else product
            rows.append(product.float().cpu().numpy())
            done += len(images)
            if progress is not None:
                progress(done, len(cells), f"importance of the channels of {found.name}")
    return np.concatenate(rows)


def measure_importance(
    model: nn.Module | Classifier,
    cells: Cells | NDArray[np.float32],
    *,
    layer: Layer | str,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Importance (C,) of each channel: mean absolute contribution to the decision, in logits.

    ``np.argsort(-importance)`` puts the channels that matter first. See `measure_contributions`.
    """
    contributions = measure_contributions(
        model, cells, layer=layer, batch_size=batch_size, progress=progress
    )
    return np.abs(contributions).mean(axis=0)


def measure_ablation(
    model: nn.Module | Classifier,
    cells: Cells | NDArray[np.float32],
    *,
    layer: Layer | str,
    channels: Sequence[int] | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """By how much the decision changes without each of ``channels`` (K,), in logits.

    The decision is the logit of the class that the whole network gives, minus the mean of the
    others'. A channel is removed by giving every cell the channel's mean over the cells, position
    by position; the result is the mean absolute change over the cells. Zero would be an input that
    the network has never seen (mean ablation, e.g. Morcos et al. 2018, arXiv:1803.06959, section
    3.1, who find that it does the least harm). All channels of the layer by default.

    Unlike the first-order `measure_importance` it includes how later layers respond to the loss;
    like it, it removes one channel at a time, so of two channels that do the same work neither may
    seem to matter. The value is put back after the non-linearity; before it, where that is applied
    as a function other than ReLU. Costs, per channel, a pass from the layer on where the network
    allows that, else a whole one.

    The model is left as found. Raises SettingError for channels that do not exist.
    """
    network = network_of(model)
    at_once = _at_once(network, batch_size)
    image_shape = _shape_of(cells)
    found = resolve_layer(network, image_shape, layer)
    chosen = list(range(found.channels) if channels is None else channels)
    if any(not 0 <= channel < found.channels for channel in chosen):
        raise SettingError(f"layer '{found.name}' has channels 0 to {found.channels - 1}")
    note = f"ablation of the channels of {found.name}"
    changes = np.zeros(len(chosen))
    copies = max(1, _NUMBERS_AT_ONCE // (at_once * math.prod(found.shape)))
    logits = resolve_layer(network, image_shape, "logits")
    with (
        torch.inference_mode(),
        evaluating(network),
        fast_layout(network, image_shape, device_of(network)) as layout,
    ):
        cut = _Cut(network, found, logits, layout)
        for batch in batches_of(cells, image_shape, at_once):
            cut.add(batch)
        for done, batch in enumerate(batches_of(cells, image_shape, at_once)):
            for start in range(0, len(chosen), copies):
                some = slice(start, start + copies)
                changes[some] += cut.change(done, batch, chosen[some])
            if progress is not None:
                progress(min((done + 1) * at_once, len(cells)), len(cells), note)
    return changes / len(cells)


_NUMBERS_AT_ONCE = 2**23  # of a layer's activation: so many copies of a batch share one pass
_KEEPS_ITS_MEAN = ("relu", "relu6")  # functions that leave the mean of their own values alone


class _Cut:
    """A network whose channels at one layer can be set to their mean over cells."""

    def __init__(
        self, model: nn.Module, layer: Layer, logits: Layer, layout: torch.memory_format
    ) -> None:
        module, call, side = layer.activation
        side, function, views = parts_of(side)
        self.model = model
        self.place: Place = (module, call, with_views(side, views))
        self.logits_place = logits.activation
        self.layout = layout  # that images are to lie in memory in
        self.function = NON_LINEARITIES[function] if function in _KEEPS_ITS_MEAN else None
        self.total: Tensor | float = 0.0
        self.n = 0
        self.base: list[Tensor] = []  # logits of the whole network, batch by batch
        self.resumes = False  # the network goes on from the layer with any number of images
        self.like = torch.empty((), dtype=dtype_of(model), device=device_of(model))

    def add(self, batch: NDArray[np.float32]) -> None:
        """Add a batch to the mean, and keep its logits."""

        def sum_up(value: Tensor) -> None:
            seen = value if self.function is None else self.function(value)
            self.total = self.total + seen.double().sum(0)

        logits = self._run(self._images(batch), sum_up)
        self.n += len(batch)
        self.base.append(logits)
        if len(self.base) == 1:
            self.resumes = self._resumes(self._images(batch[:2]), logits[:2])

    def _resumes(self, images: Tensor, logits: Tensor) -> bool:
        """Whether the network goes on from the layer with twice as many images."""
        try:
            twice = self._run(images, lambda value: _copies(value, 2))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False  # a skip connection, a batch size that is remembered …
        return twice.shape == (2 * len(logits), logits.shape[1]) and torch.allclose(
            twice, _copies(logits, 2), rtol=1e-3, atol=1e-4
        )

    def change(
        self, index: int, batch: NDArray[np.float32], channels: Sequence[int]
    ) -> NDArray[np.float64]:
        """Summed absolute change (K,) of the decision on the batch of that index."""
        n, k = len(batch), len(channels)
        mean = (self.total / self.n).to(self.like)  # type: ignore[union-attr]
        images = self._images(batch)

        def replace(value: Tensor) -> Tensor:
            value = _copies(value, k) if self.resumes else value.clone()
            for copy, channel in enumerate(channels):
                value[copy * n : (copy + 1) * n, channel] = mean[channel]
            return value

        logits = self._run(images if self.resumes else _copies(images, k), replace)
        base = self.base[index]
        given = base.argmax(1)
        before = decision(base, given)
        after = decision(logits, given.repeat(k))
        return (after.view(k, n) - before).abs().double().sum(1).cpu().numpy()

    def _images(self, batch: NDArray[np.float32]) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(batch)).to(self.like)
        return laid_out(images, self.layout)

    def _run(self, images: Tensor, at_layer: Callable[[Tensor], Tensor | None]) -> Tensor:
        """Logits, with ``at_layer`` called with the layer's value, which may give another."""
        seen: list[Tensor] = []

        def consume(place: Place, value: Tensor) -> Tensor | None:
            changed = at_layer(value) if place == self.place else None
            if place == self.logits_place:
                seen.append((value if changed is None else changed).clone())
            return changed

        with capture(self.model, [self.place, self.logits_place], consume=consume):
            self.model(images)
        return seen[-1]


def _copies(value: Tensor, k: int) -> Tensor:
    return torch.cat([value] * k)  # as it lies in memory


def _at_once(network: nn.Module, batch_size: int | None) -> int:
    """Cells per pass; raises SettingError below one."""
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"batch_size={batch_size} cannot be used; give at least 1")
    return cells_at_once(batch_size, device_of(network))


def _shape_of(cells: Cells | NDArray[np.float32]) -> tuple[int, int, int]:
    shape = cells.shape if isinstance(cells, Cells) else cells.shape[1:]
    return (int(shape[0]), int(shape[1]), int(shape[2]))
