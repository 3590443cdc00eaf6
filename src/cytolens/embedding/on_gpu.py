"""Neighbours and affinities on a GPU, for t-SNE: exact, where a CPU has to search in lists.

The same sums as `numerics.neighbours` and `affinities`, in PyTorch; on device "cpu" too, for tests.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.embedding.affinities import BISECTIONS
from cytolens.embedding.tsne import SparseRows
from cytolens.numerics.neighbours import Neighbours

_AT_ONCE = 2**29  # distances held at once, 2 GiB


def find_neighbours_on(features: NDArray[np.float32], k: int, device: str) -> Neighbours:
    """The ``k`` nearest other cells of each cell of ``features`` (N, F); all pairs are compared.

    As `find_neighbours`, exact for any number of cells.
    """
    x = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(device)
    x = x - x.mean(dim=0)
    n, k = len(x), min(k, len(x) - 1)
    squares = x.square().sum(dim=1)
    indices = torch.empty((n, k), dtype=torch.int64, device=x.device)
    distances = torch.empty((n, k), device=x.device)
    step = max(1, _AT_ONCE // n)
    for first in range(0, n, step):
        rows = torch.arange(first, min(first + step, n), device=x.device)
        apart = torch.addmm(squares, x[rows], x.T, alpha=-2)  # minus the cell's own square
        apart[rows - first, rows] = torch.inf
        found = apart.topk(k, largest=False, sorted=False).indices
        exact = torch.linalg.vector_norm(x[found] - x[rows][:, None], dim=2)
        distances[rows], order = exact.sort(dim=1, stable=True)
        indices[rows] = found.gather(1, order)
    return Neighbours(indices.cpu().numpy(), distances.cpu().numpy())


def joint_affinities_on(neighbours: Neighbours, perplexity: float, device: str) -> SparseRows:
    """`joint_affinities` (N, N), on the device."""
    near = torch.from_numpy(neighbours.indices).to(device)
    distances = torch.from_numpy(neighbours.distances).to(device)
    n, k = near.shape
    p = _affinities(distances, perplexity)
    own = torch.arange(n, device=near.device).repeat_interleave(k)
    keys = torch.cat([own * n + near.reshape(-1), near.reshape(-1) * n + own])
    keys, order = keys.sort()
    values = torch.cat([p.reshape(-1), p.reshape(-1)])[order]
    pairs, place = keys.unique_consecutive(return_inverse=True)
    summed = torch.zeros(len(pairs), device=near.device).index_add_(0, place, values)
    summed /= summed.sum(dtype=torch.float64).float()
    counts = torch.bincount(pairs // n, minlength=n)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseRows(starts, pairs % n, summed)


def _affinities(distances: Tensor, perplexity: float) -> Tensor:
    """`affinities.neighbour_affinities` of ``distances`` (n, k)."""
    squares = distances.square()
    excess = squares - squares[:, :1]
    scale = excess.mean(dim=1, keepdim=True)
    excess = torch.where(scale > 0, excess / scale, torch.zeros_like(excess))
    wanted = np.log(min(perplexity, 0.9 * distances.shape[1]))
    low = torch.full_like(scale, -10)
    high = torch.full_like(scale, 40)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        precision = torch.exp2(middle)
        weights = torch.exp(-precision * excess)
        total = weights.sum(dim=1, keepdim=True)
        mean = (weights * excess).sum(dim=1, keepdim=True) / total
        wide = total.log() + precision * mean > wanted
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    weights = torch.exp(-torch.exp2((low + high) / 2) * excess)
    return weights / weights.sum(dim=1, keepdim=True)
