"""How near its neighbours are to a cell: the affinities of t-SNE, of old cells and of new ones."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from cytolens.numerics.neighbours import Neighbours

Float = TypeVar("Float", np.float32, np.float64)
BISECTIONS = 40


def neighbour_affinities(distances: NDArray[Float], perplexity: float) -> NDArray[Float]:
    """Of each cell to its neighbours (n, k), adding up to 1 by row: Gaussian, of one perplexity.

    ``distances`` (n, k) ascend along rows; the result is of their dtype, and each row depends on
    its own distances alone. ``perplexity`` is clipped to what k neighbours allow. Where all are
    equally near they share equally. Source: van der Maaten & Hinton 2008, section 2; the width is
    found by bisection.
    """
    squares = distances**2
    excess = squares - squares[:, :1]
    scale = excess.mean(axis=1, keepdims=True)
    excess = np.divide(excess, scale, out=np.zeros_like(excess), where=scale > 0)
    wanted = np.log(min(perplexity, 0.9 * distances.shape[1]))
    low = np.full((len(distances), 1), -10.0, dtype=distances.dtype)  # of log2 of the precision
    high = np.full_like(low, 40.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        precision = np.exp2(middle)
        weights = np.exp(-precision * excess)
        total = weights.sum(axis=1, keepdims=True)
        entropy = np.log(total) + precision * (weights * excess).sum(axis=1, keepdims=True) / total
        wide = entropy > wanted
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    weights = np.exp(-np.exp2((low + high) / 2) * excess)
    return weights / weights.sum(axis=1, keepdims=True)


def joint_affinities(neighbours: Neighbours, perplexity: float) -> csr_matrix:
    """Joint probabilities p of pairs of neighbours, symmetric (N, N), adding up to 1, float32.

    `neighbour_affinities`, both ways (van der Maaten & Hinton 2008, section 2).
    """
    p = neighbour_affinities(neighbours.distances, perplexity)
    n, k = p.shape
    starts = np.arange(0, n * k + 1, k, dtype=np.int64)
    directed = csr_matrix((p.ravel(), neighbours.indices.astype(np.int32).ravel(), starts), (n, n))
    joint = (directed + directed.T).tocsr()
    joint.data /= joint.data.sum(dtype=np.float64)
    return joint
