"""How alike the layers of a network see the same cells: centred kernel alignment (CKA)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.estimates import Rng, estimate_from, generator
from cytolens.numerics.features import checked_features, is_constant
from cytolens.numerics.intervals import CORRELATION, no_interval
from cytolens.numerics.resampling import codes, resampled_counts
from cytolens.numerics.threads import limited_threads
from cytolens.records.separation import Similarity

MOST_COMPARED = 1000
"""Cells that layers are compared on: all pairs of these are needed, and no more in expectation."""

FEWEST = 10
"""Cells below which layers are not compared."""


def measure_similarity(
    features: Mapping[str, Any],
    *,
    untrained: Mapping[str, Any] | None = None,
    groups: NDArray[np.generic] | None = None,
    resamples: int = 200,
    permutations: int = 50,
    rng: Rng = None,
    threads: int | None = None,
) -> Similarity:
    """Linear CKA of every pair of layers ``features[layer]`` (N, F), at most 1,000 cells of them.

    1 where two layers are the same up to rotation and scale, about 0 where they share nothing.
    Debiased: with fewer cells than some ten times the features, plain CKA of unrelated layers is
    far from 0 and grows with their width, so that layers of different width cannot be compared.
    Values may fall a little below 0. Each has a 95 % interval over cells, in whose
    resamples a cell and its own copy make no pair, or over ``groups`` (N,), and the
    upper 95 % limit with the cells of one of the layers permuted. ``untrained``: features of the
    network before training, whose own alignments and whose alignment with each trained layer
    are given too. A layer that is the same for all cells has NaN.

    Raises InputError for lengths that differ, NaN or infinity. Sources: Kornblith et al. 2019,
    ICML (CKA); Song et al. 2012, JMLR 13, equation 5 (the unbiased estimate), in the form of
    Székely & Rizzo 2014, Ann. Statist. 42, section 2; Nguyen, Raghu & Kornblith 2021, ICLR.

    >>> features = np.random.default_rng(0).normal(size=(100, 8))
    >>> turned = features @ np.linalg.qr(features[:8])[0]
    >>> found = measure_similarity({"conv1": features, "conv2": turned}, rng=0)
    >>> round(found.between("conv1", "conv2").value, 3)
    1.0
    """
    names = tuple(features)
    cells = {len(np.asarray(array)) for array in (*features.values(), *(untrained or {}).values())}
    if groups is not None:
        cells.add(len(groups))
    if len(cells) != 1:
        raise InputError(f"layers of {sorted(cells)} cells: all need the same cells, in one order")
    n = cells.pop()
    draw = generator(rng)
    chosen = np.arange(n)
    if n > MOST_COMPARED:
        chosen = np.sort(draw.choice(n, MOST_COMPARED, replace=False))
    before = None if untrained is None else [untrained[name] for name in names]
    with limited_threads(threads, cells=len(chosen)):
        kernels = [_kernel(name, features[name], chosen) for name in names]
        controls = [_kernel(name, array, chosen) for name, array in zip(names, before or ())]
        group = codes(None if groups is None else np.asarray(groups)[chosen])
        counts = resampled_counts(
            np.arange(len(chosen)), len(chosen), groups=group, resamples=resamples, rng=draw
        ).astype(np.float32)
        pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
        weights = np.concatenate([np.ones((1, len(chosen)), np.float32), counts])
        pairs = np.concatenate([[len(chosen) * (len(chosen) - 1.0)], pairs])
        products = _Products(weights, np.maximum(pairs, 1), grouped=group is not None)
        value, low, high = _alignments(kernels, kernels, products)
        null, crossed_null = _null(kernels, controls, permutations, draw)
        size = len(names)
        empty = np.full((4, size), np.nan)
        crossed, control = empty, np.full((size, size), np.nan)
        if controls:
            matched = [_alignments([a], [b], products) for a, b in zip(kernels, controls)]
            crossed = np.array([*np.array(matched)[:, :, 0, 0].T, crossed_null])
            control = _alignments(controls, controls, products)[0]
    why = None if group is None else no_interval(np.zeros(len(counts)))
    return Similarity(names, value, low, high, null, crossed, control, len(chosen), why)


class _Products:
    """Inner products of kernels, for all cells and once they are drawn again: (1 + R,)."""

    def __init__(
        self, weights: NDArray[np.float32], pairs: NDArray[np.float64], *, grouped: bool
    ) -> None:
        self._weights, self._pairs, self.grouped = weights, pairs, grouped

    def __call__(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
        product = a * b  # its diagonal is 0: no pair of a cell and its copy
        summed = np.einsum("rn,rn->r", self._weights @ product, self._weights, dtype=np.float64)
        return summed / self._pairs


def _kernel(name: str, features: Any, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """The U-centred linear kernel (n, n) of the chosen cells, of mean square 1; or zeros.

    Sums of products of two such kernels are unbiased for the Hilbert-Schmidt criterion.
    """
    array = checked_features(np.asarray(features)[chosen], name=f"layer {name}")
    n = len(array)
    if n < FEWEST or is_constant(array):
        return np.zeros((n, n), np.float32)
    wide = array.astype(np.float64)
    wide -= wide.mean(axis=0)
    wide /= np.abs(wide).max()
    kernel = wide @ wide.T
    np.fill_diagonal(kernel, 0)
    rows = kernel.sum(axis=1)
    kernel += rows.sum() / ((n - 1) * (n - 2)) - (rows[:, None] + rows[None]) / (n - 2)
    np.fill_diagonal(kernel, 0)
    power = float((kernel**2).mean())
    return (kernel / np.sqrt(power) if power > 0 else kernel).astype(np.float32)


def _alignments(
    rows: list[NDArray[np.float32]], columns: list[NDArray[np.float32]], products: _Products
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """CKA, low and high, (row, column) each; where both are the same list, half is computed."""
    same = rows is columns
    own = [products(a, a) for a in rows]
    other = own if same else [products(b, b) for b in columns]
    found = np.full((3, len(rows), len(columns)), np.nan)
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            if same and j < i:
                found[:, i, j] = found[:, j, i]
                continue
            if own[i][0] <= 0 or other[j][0] <= 0:
                continue  # a layer that is the same for all cells
            if same and i == j:
                found[:, i, j] = 1
                continue
            scale = own[i] * other[j]
            usable = np.where(scale > 0, scale, np.nan)
            value, *drawn = products(a, b) / np.sqrt(usable)
            made = estimate_from(
                float(value), np.array(drawn), grouped=products.grouped, within=CORRELATION
            )
            found[:, i, j] = made.value, made.low, made.high
    return found[0], found[1], found[2]


def _null(
    kernels: list[NDArray[np.float32]],
    controls: list[NDArray[np.float32]],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % limits of CKA with the cells of one layer permuted: (layer, layer), and (layer,)."""
    size, n = len(kernels), len(kernels[0])
    flat = np.stack([*kernels, *controls]).reshape(-1, n * n)
    found = np.empty((permutations, len(flat), size))
    for draw in found:
        order = rng.permutation(n)
        shuffled = np.stack([kernel[np.ix_(order, order)].ravel() for kernel in kernels])
        draw[:] = flat @ shuffled.T / (n * n)  # kernels have mean square 1
    limits = np.percentile(found, 95, axis=0)
    varies = np.array([bool(kernel.any()) for kernel in (*kernels, *controls)])
    limits[~varies] = np.nan
    limits[:, ~varies[:size]] = np.nan
    crossed = np.array([limits[size + i, i] for i in range(size)]) if controls else np.empty(0)
    return (limits[:size] + limits[:size].T) / 2, crossed
