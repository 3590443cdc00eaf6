"""Directions in the activation space of a layer that tell some cells from all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def whitened_directions(
    features: NDArray[np.floating], groups: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """From the mean of all cells to the mean of each group of cells, (K, F), of length 1.

    ``features`` (N, F). Each channel is divided by its variance over the cells (by no less than
    0.01 of the largest s.d.), so that loud channels do not drown the others: the diagonal of the
    whitening of Carter et al. 2019 (Activation Atlas, "whitening"), whose full matrix would need
    more cells than a study has. A group whose mean is that of all cells points nowhere: zeros.
    """
    deviation = features.std(0, dtype=np.float64)
    deviation = np.maximum(deviation, 0.01 * deviation.max() + 1e-12)
    centre = features.mean(0, dtype=np.float64)
    means = np.stack([features[members].mean(0, dtype=np.float64) for members in groups])
    directions = (means - centre) / deviation**2
    return directions / (np.linalg.norm(directions, axis=1, keepdims=True) + 1e-12)
