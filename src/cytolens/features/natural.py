"""What the network answers to real cells: the yardstick of every feature image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import capture, device_of, evaluating
from cytolens.activations.forward import cells_at_once, fast_layout, laid_out
from cytolens.features.objectives import Objective, channel_means
from cytolens.features.responding import Respond, dtype_of, places_of
from cytolens.features.texture import moments_of
from cytolens.records.layers import Layer


@dataclass(frozen=True)
class Natural:
    """The objective over cells, target by target."""

    mean: NDArray[np.float64]  # (K,)
    deviation: NDArray[np.float64]  # (K,), population standard deviation
    maximum: NDArray[np.float64]  # (K,)
    peak: NDArray[np.float64]  # (K,), largest value at any position of any cell
    trough: NDArray[np.float64]  # (K,), smallest
    scores: NDArray[np.float32]  # (n, K), of every cell

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.scores)

    @property
    def table(self) -> NDArray[np.float32]:
        """(K, 3): mean, standard deviation, maximum."""
        columns = (self.mean, self.deviation, self.maximum)
        return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Answers:
    """What the network answers to images, at every layer."""

    score: Mapping[str, NDArray[np.float32]]  # layer -> (N, C), the objective of each channel
    texture: Mapping[str, NDArray[np.float32]]  # layer -> (N, 2 C), means and s.d. over positions


def extremes(place: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest value at any position of each image, (N,) each."""
    values = place.flatten(1) if place.ndim > 1 else place[:, None]
    return values.amax(1), values.amin(1)


def measure_natural(
    respond: Respond, objective: Objective, images: Iterator[NDArray[np.float32]], *, like: Tensor
) -> Natural:
    """The objective over all cells, every target on every cell, in one pass over the images."""
    k = len(objective)
    peak, trough = np.full(k, -np.inf), np.full(k, np.inf)
    rows: list[NDArray[np.float64]] = []
    for batch in images:
        crops = torch.from_numpy(np.ascontiguousarray(batch)).to(like)
        with torch.no_grad():
            response = respond(crops, crops)
            found: list[NDArray[np.float64]] = []
            for target in range(k):
                pursued = torch.full((len(crops),), target, device=like.device)
                found.append(objective(response, pursued).double().cpu().numpy())
                if objective.place is not None:
                    high, low = extremes(objective.place(response, pursued))
                    peak[target] = max(peak[target], float(high.max()))
                    trough[target] = min(trough[target], float(low.min()))
        rows.append(np.stack(found, axis=1))
    scores = np.concatenate(rows)
    return Natural(
        mean=scores.mean(0),
        deviation=scores.std(0),
        maximum=scores.max(0),
        peak=peak,
        trough=trough,
        scores=scores.astype(np.float32),
    )


_FEWEST, _PIXELS_HELD = 8, 2**18  # images, and their pixels, of which all layers are held at once


def answers_at(model: nn.Module, layers: Sequence[Layer], images: NDArray[np.float32]) -> Answers:
    """What a network answers to images (N, C, H, W) at some layers; the model is left as found."""
    score: dict[str, list[NDArray[np.float32]]] = {layer.name: [] for layer in layers}
    texture: dict[str, list[NDArray[np.float32]]] = {layer.name: [] for layer in layers}
    like = torch.empty((), dtype=dtype_of(model), device=device_of(model))
    places, pixels = places_of(layers), images.shape[2] * images.shape[3]
    batch = min(cells_at_once(None, like.device), max(_FEWEST, _PIXELS_HELD // pixels))
    with (
        torch.no_grad(),
        evaluating(model),
        fast_layout(model, images.shape[1:], like.device, places, n=len(images)) as layout,
        capture(model, places, stop_at_last=True) as values,
    ):
        for start in range(0, len(images), batch):
            some = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(like)
            model(laid_out(some, layout))
            for layer in layers:
                after, before = values[layer.activation], values[layer.pre_activation]
                means = channel_means(before, after)
                moments = moments_of(after) if after.ndim > 2 else after
                score[layer.name].append(means.float().cpu().numpy())
                texture[layer.name].append(moments.float().cpu().numpy())
    return Answers(
        {name: np.concatenate(rows) for name, rows in score.items()},
        {name: np.concatenate(rows) for name, rows in texture.items()},
    )
