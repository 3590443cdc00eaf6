"""Which channels of a layer decide: gradient × activation, over many cells.

The gallery of a layer begins with the channels that matter.
"""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations import capture, device_of, evaluating, resolve_layer
from cytolens.errors import ModelError, SettingError
from cytolens.features.canvas import batches_of
from cytolens.features.private_copy import dtype_of
from cytolens.records import Cells, Layer, Progress


def measure_contributions(
    model: nn.Module,
    cells: Cells | NDArray[np.float32],
    *,
    layer: Layer | str,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """What each channel (N, C) of a layer adds to the decision on each cell, in logits.

    The decision is the predicted class's logit minus the mean of the others'; a contribution is
    activation × gradient of the decision, summed over positions: the first-order effect of taking
    the channel away (Simonyan et al. 2014; Molchanov et al. 2017, who prune by it). Its sign tells
    whether the channel speaks for (+) or against (-) the class that the cell is given.

    The model is left as found. Raises ModelError where the decision does not depend on the layer.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size={batch_size} cannot be used; give at least 1")
    shape = cells.shape if isinstance(cells, Cells) else cells.shape[1:]
    image_shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    found = resolve_layer(model, image_shape, layer)
    logits_place = resolve_layer(model, image_shape, "logits").activation
    like = torch.empty((), dtype=dtype_of(model), device=device_of(model))
    rows: list[NDArray[np.float32]] = []
    done = 0
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(model),
        capture(model, [found.pre_activation, found.activation, logits_place]) as values,
    ):
        for batch in batches_of(cells, image_shape, batch_size):
            images = torch.from_numpy(np.ascontiguousarray(batch)).to(like).requires_grad_()
            model(images)
            decision = _decision(values[logits_place]).sum()
            before, after = values[found.pre_activation], values[found.activation]
            gradients = cast(
                "tuple[Tensor | None, Tensor | None]",
                torch.autograd.grad(decision, [after, before], allow_unused=True),
            )
            # An activation made by a function lies on a side branch; for a ReLU the product is the
            # same before it, as its gradient is 0 or 1.
            if gradients[0] is not None:
                product = (after * gradients[0]).detach()
            elif gradients[1] is not None:
                product = (before * gradients[1]).detach()
            else:
                raise ModelError(
                    f"the decision does not depend on layer '{found.name}'; choose another"
                )
            product = product.flatten(2).sum(2) if product.ndim > 2 else product
            rows.append(product.float().cpu().numpy())
            done += len(images)
            if progress is not None:
                progress(done, len(cells), f"importance of the channels of {found.name}")
    return np.concatenate(rows)


def measure_importance(
    model: nn.Module,
    cells: Cells | NDArray[np.float32],
    *,
    layer: Layer | str,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Importance (C,) of each channel: mean absolute contribution to the decision, in logits.

    ``np.argsort(-importance)`` puts the channels that matter first. See `measure_contributions`.
    """
    contributions = measure_contributions(
        model, cells, layer=layer, batch_size=batch_size, progress=progress
    )
    return np.abs(contributions).mean(axis=0)


def _decision(logits: Tensor) -> Tensor:
    """The predicted class's logit minus the mean of the others', (N,)."""
    best = logits.max(dim=1).values
    if logits.shape[1] == 1:
        return best
    return best - (logits.sum(1) - best) / (logits.shape[1] - 1)
