"""New cells on an old map: each cell's place rests on the reference alone, never on the others.

Exactly so: a cell has the same place, to the last bit, alone and among ten thousand, since all is
computed by cell, element by element, with sums along its own row.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.affinities import neighbour_affinities
from cytolens.embedding.reference import Reference, in_blocks
from cytolens.errors import InputError
from cytolens.numerics.features import in_metric, unit_rows
from cytolens.records.maps import Embedding

Array = NDArray[np.float64]

PERPLEXITY = 20
"""Of a new cell. Half of the cells placed on the map of the other half (digits, and four layers of
a network on T cells): the share of the ten nearest on the map that are among the ten nearest in
the features is .59, .79, .73, .39 with 20; .56, .76, .69, .35 with 5, and as much with openTSNE's
transform, which takes 5; 30 gives little more."""

MEAN_PERPLEXITY = 5  # where a place is the mean of its neighbours'; more would shrink the map
STEPS = 20
LARGEST_STEP = 2.0  # in the units of the map, in which the kernel is 1 wide
STARTS = 15  # nearest neighbours at whose places it is tried to start
_BLOCK = 4_000_000  # numbers held at once
_GRID_STEP = 0.25
_MOST_NODES = 1000  # along a side


@dataclass(frozen=True)
class Placer:
    """Where new cells go on a map of reference cells; made by `placer`."""

    reference: Reference
    coordinates: Array  # (M, 2)
    scheme: str  # "t-SNE", "projection" or "mean of neighbours"
    axes: Array | None = None  # (2, F), of a projection
    metric: str = "euclidean"  # in which the reference's features are, and new ones are taken

    def place(
        self, features: NDArray[np.float32], *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Places (n, 2) of new cells with ``features`` (n, F), the same for any ``threads``."""
        features = self.seen(features)
        _ = self.field  # made once, before threads ask for it
        return np.concatenate(in_blocks(self._place, features, threads=threads))

    def seen(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """New features (n, F), checked, as they are compared with those of the reference."""
        return in_metric(self.reference.checked(features), self.metric)

    @cached_property
    def field(self) -> "Field | None":
        """What pushes on a t-SNE map; None for other schemes."""
        return Field.of(self.coordinates) if self.scheme == "t-SNE" else None

    def _place(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.axes is not None:
            centred = features.astype(np.float64) - self.reference.mean
            along = [(centred * axis).sum(axis=1) for axis in self.axes]
            return np.stack(along, axis=1).astype(np.float32)
        perplexity = PERPLEXITY if self.field else MEAN_PERPLEXITY
        indices, distances = self.reference.nearest(features, 3 * perplexity)
        weights = neighbour_affinities(distances, perplexity)
        places = self.coordinates[indices]  # (n, k, 2)
        made = self.field.settle(places, weights) if self.field else _mean(places, weights)
        return made.astype(np.float32)


def placer(reference: Reference, embedding: Embedding) -> Placer:
    """How new cells are placed on ``embedding``, a map of the ``reference`` cells.

    A t-SNE map: `Field.settle`. Principal components: the same projection. Any other map, one
    without extent among them: the mean of the nearest reference cells' places, weighted by
    affinity. Neighbours are those in all features, also where the map was made of fewer
    components. Raises InputError where the map is of other cells.
    """
    coordinates = embedding.coordinates.astype(np.float64)
    if coordinates.shape != (len(reference), 2):
        raise InputError(
            f"the map of {embedding.layer} has {len(coordinates)} cells where the reference has "
            f"{len(reference)}; take the features of the cells on the map"
        )
    metric = str(embedding.settings.get("metric", "euclidean"))
    if metric == "cosine":
        reference = Reference(unit_rows(reference.features))
    if embedding.method == "tsne" and np.ptp(coordinates, axis=0).any():
        return Placer(reference, coordinates, "t-SNE", metric=metric)
    if embedding.method == "pca":
        axes = _axes(reference, coordinates)
        if axes is not None:
            return Placer(reference, coordinates, "projection", axes, metric)
    return Placer(reference, coordinates, "mean of neighbours", metric=metric)


def _axes(reference: Reference, coordinates: Array) -> Array | None:
    """The axes (2, F) of which ``coordinates`` are the projection; None if they are of none.

    Scores T of principal components are uncorrelated, so that the axes are T'X / T'T.
    """
    lengths = (coordinates**2).sum(axis=0)
    axes = np.zeros((2, reference.features.shape[1]))
    step = max(1, _BLOCK // reference.features.shape[1])
    for start in range(0, len(reference), step):
        rows = slice(start, start + step)
        axes += coordinates[rows].T @ (reference.features[rows] - reference.mean)
    axes = np.divide(axes, lengths[:, None], out=np.zeros_like(axes), where=lengths[:, None] > 0)
    some = np.unique(np.linspace(0, len(reference) - 1, 1000).astype(np.int64))
    again = (reference.features[some] - reference.mean) @ axes.T
    near = np.allclose(again, coordinates[some], atol=1e-3 * np.abs(coordinates).max(), rtol=0)
    return axes if near else None


def placed_recall(
    place: Placer, features: NDArray[np.float32], places: NDArray[np.float32], *, k: int = 10
) -> NDArray[np.float64]:
    """How well each new cell lies (n,): share of its k nearest reference cells on the map that
    are among its k nearest in the features; to be compared with recall@k of the map itself.
    """
    on_map = Reference(place.coordinates.astype(np.float32))
    near = place.reference.nearest(place.seen(features), k)[0]
    here = on_map.nearest(places, k)[0]
    return (near[:, :, None] == here[:, None, :]).any(axis=2).mean(axis=1)


def _mean(places: Array, weights: Array) -> Array:
    """Weighted means (n, 2) of places (n, k, 2)."""
    return np.stack([(places[:, :, axis] * weights).sum(axis=1) for axis in (0, 1)], axis=1)


@dataclass(frozen=True)
class Field:
    """What pushes a cell away from a t-SNE map: log of the summed kernel, on a grid."""

    corner: Array  # (2,), x and y of the first node
    step: float
    table: Array  # (columns, rows), log sum over reference cells of 1 / (1 + distance²)

    @classmethod
    def of(cls, coordinates: Array) -> "Field":
        """The field of reference cells at ``coordinates`` (M, 2), made once.

        Cells are spread onto the nodes around them and the sum over all is one convolution, as in
        FIt-SNE (Linderman et al. 2019, Nature Methods 16); a cubic takes it back to any place.
        """
        from scipy.signal import fftconvolve  # slow to load

        low, high = coordinates.min(axis=0), coordinates.max(axis=0)
        extent = float((high - low).max())
        margin = 2.0 + 0.05 * extent
        step = max(_GRID_STEP, (extent + 2 * margin) / _MOST_NODES)
        corner = low - margin
        nodes = np.ceil((high + margin - corner) / step).astype(np.int64) + 4
        first, fractions = _located(coordinates, corner, step, nodes)
        mass = np.zeros(int(nodes.prod()))
        across, along = (_cubic(fractions[:, axis])[0] for axis in (0, 1))
        for i in range(4):
            for j in range(4):
                node = (first[:, 0] + i) * nodes[1] + first[:, 1] + j
                mass += np.bincount(node, across[:, i] * along[:, j], len(mass))
        dx, dy = (np.arange(1 - n, n) * step for n in nodes.tolist())
        kernel = 1 / (1 + dx[:, None] ** 2 + dy[None] ** 2)
        total = fftconvolve(mass.reshape(nodes), kernel, mode="same")
        return cls(corner, step, np.log(np.maximum(total, 1e-12)))

    def settle(self, places: Array, weights: Array) -> Array:
        """Places (n, 2) that minimise the divergence of each cell from its neighbours alone.

        ``places`` (n, k, 2) and ``weights`` (n, k) are those of the neighbours, which stay where
        they are, as all of the map does. A cell's own part of the objective of t-SNE is
        ``sum p log(1 + d²) + log sum 1 / (1 + d²)``, neighbours in the first sum, all reference
        cells in the second. Each step is a gradient divided by the curvature of the first sum's
        quadratic majoriser, so that there is no learning rate; a fixed number of them is made.
        Sources: Poličar, Stražar & Zupan 2023, Machine Learning 112 (placing on a fixed map);
        Yang, Peltonen & Kaski 2015, AISTATS (majorisation).
        """
        x, y = self._start(places, weights)
        px, py = places[:, :, 0], places[:, :, 1]
        for _ in range(STEPS):
            dx, dy = x[:, None] - px, y[:, None] - py
            pull = weights / (1 + dx**2 + dy**2)
            _, push_x, push_y = self._look(x, y)
            curvature = 2 * pull.sum(axis=1)
            step_x = (2 * (pull * dx).sum(axis=1) + push_x) / curvature
            step_y = (2 * (pull * dy).sum(axis=1) + push_y) / curvature
            shorter = np.minimum(1, LARGEST_STEP / np.maximum(np.hypot(step_x, step_y), 1e-12))
            x, y = x - shorter * step_x, y - shorter * step_y
        return np.stack([x, y], axis=1)

    def objective(self, x: Array, y: Array, places: Array, weights: Array) -> Array:
        """A cell's part of the objective (n,) at x and y (n,)."""
        apart = np.log1p((x[:, None] - places[:, :, 0]) ** 2 + (y[:, None] - places[:, :, 1]) ** 2)
        return (weights * apart).sum(axis=1) + self._look(x, y)[0]

    def _start(self, places: Array, weights: Array) -> tuple[Array, Array]:
        """Of the nearest neighbours' places that where the objective is least, the nearest first.

        The mean of neighbours that lie apart would be a place far from all.
        """
        tried = [
            self.objective(places[:, j, 0], places[:, j, 1], places, weights)
            for j in range(min(STARTS, places.shape[1]))
        ]
        start = places[np.arange(len(places)), np.stack(tried, axis=1).argmin(axis=1)]
        return start[:, 0], start[:, 1]

    def _look(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """The field (n,) at x and y, and its slope along each."""
        nodes = np.array(self.table.shape)
        first, fractions = _located(np.stack([x, y], axis=1), self.corner, self.step, nodes)
        offsets = np.arange(4)
        columns = (first[:, :1] + offsets)[:, :, None]
        rows = (first[:, 1:] + offsets)[:, None, :]
        around = self.table[columns, rows]  # (n, 4, 4)
        across, across_slope = _cubic(fractions[:, 0])
        along, along_slope = _cubic(fractions[:, 1])
        by_column = (around * along[:, None, :]).sum(axis=2)  # (n, 4)
        slope = (around * along_slope[:, None, :]).sum(axis=2)
        return (
            (by_column * across).sum(axis=1),
            (by_column * across_slope).sum(axis=1) / self.step,
            (slope * across).sum(axis=1) / self.step,
        )


def _located(
    places: Array, corner: Array, step: float, nodes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array]:
    """The first of the four nodes around each place along x and y (n, 2), and the fractions.

    Places outside of the grid are taken to its edge.
    """
    at = np.clip((places - corner) / step, 1, nodes - 3)
    floor = np.minimum(np.floor(at), nodes - 4)
    return floor.astype(np.int64) - 1, at - floor


def _cubic(fraction: Array) -> tuple[Array, Array]:
    """Weights (n, 4) of the four nodes around a place, and their slopes (Keys 1981, a = -1/2)."""
    t, t2, t3 = fraction, fraction**2, fraction**3
    values = [-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2]
    slopes = [-3 * t2 + 4 * t - 1, 9 * t2 - 10 * t, -9 * t2 + 8 * t + 1, 3 * t2 - 2 * t]
    return 0.5 * np.stack(values, axis=1), 0.5 * np.stack(slopes, axis=1)
