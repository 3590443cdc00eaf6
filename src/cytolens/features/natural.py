"""How strongly real cells answer to an objective: the yardstick of every feature image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.features.objectives import Objective
from cytolens.features.private_copy import Respond


@dataclass(frozen=True)
class Natural:
    """The objective over cells, target by target."""

    mean: NDArray[np.float64]  # (K,)
    deviation: NDArray[np.float64]  # (K,), population standard deviation
    maximum: NDArray[np.float64]  # (K,)
    peak: NDArray[np.float64]  # (K,), largest value at any position of any cell
    trough: NDArray[np.float64]  # (K,), smallest
    n: int

    @property
    def table(self) -> NDArray[np.float32]:
        """(K, 3): mean, standard deviation, maximum."""
        columns = (self.mean, self.deviation, self.maximum)
        return np.stack(columns, axis=1).astype(np.float32)


def extremes(place: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest value at any position of each image, (N,) each."""
    values = place.flatten(1) if place.ndim > 1 else place[:, None]
    return values.amax(1), values.amin(1)


def measure_natural(
    respond: Respond, objective: Objective, images: Iterator[NDArray[np.float32]], *, like: Tensor
) -> Natural:
    """The objective over all cells, every target on every cell, in one pass over the images."""
    n, k = 0, len(objective)
    total, squares = np.zeros(k), np.zeros(k)
    maximum, peak, trough = np.full(k, -np.inf), np.full(k, -np.inf), np.full(k, np.inf)
    shift = np.zeros(k)
    for batch in images:
        crops = torch.from_numpy(np.ascontiguousarray(batch)).to(like)
        with torch.no_grad():
            response = respond(crops, crops)
            for target in range(k):
                pursued = torch.full((len(crops),), target, device=like.device)
                scores = objective(response, pursued).double().cpu().numpy()
                if n == 0:
                    shift[target] = scores[0]  # keeps the sum of squares exact
                total[target] += (scores - shift[target]).sum()
                squares[target] += ((scores - shift[target]) ** 2).sum()
                maximum[target] = max(maximum[target], scores.max())
                if objective.place is not None:
                    high, low = extremes(objective.place(response, pursued))
                    peak[target] = max(peak[target], float(high.max()))
                    trough[target] = min(trough[target], float(low.min()))
        n += len(crops)
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return Natural(shift + mean, deviation, maximum, peak, trough, n)
