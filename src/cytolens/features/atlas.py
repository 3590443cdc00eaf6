"""The activation atlas: a map of cells whose places are shown as what the network sees there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.capture import network_and_shape
from cytolens.activations.layers import resolve_layer
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError, SettingError
from cytolens.features.directions import whitened_directions
from cytolens.features.objectives import direction
from cytolens.features.optimisation import feature_images
from cytolens.records.features import Atlas
from cytolens.records.layers import Layer
from cytolens.records.maps import Embedding


def make_atlas(
    model: nn.Module | Classifier,
    embedding: Embedding,
    features: NDArray[np.floating],
    *,
    layer: Layer | str,
    grid: int = 8,
    minimum: int = 5,
    labels: NDArray[np.int64] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    **options: Any,
) -> Atlas:
    """A feature image for each of ``grid`` × ``grid`` tiles of a map, of the mean activation there.

    ``features`` (N, F): those of the map's cells at ``layer``, a number per channel. Tiles with
    fewer than ``minimum`` cells are left out. What is maximised on a tile is the whitened
    direction from the mean of all cells to the mean of its own (see `whitened_directions`), by
    ``feature_images`` with its ``options``; targets are named "tile row,column". ``labels`` (N,)
    give the share of each class on a tile.

    Source: Carter et al. 2019, Activation Atlas, Distill, doi:10.23915/distill.00015.

    Raises SettingError where no tile has enough cells, InputError for features of other shape.

    >>> from cytolens.features.ascent import Ascent
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    >>> draw = np.random.default_rng(0)
    >>> plane = draw.random((40, 2), dtype=np.float32)
    >>> atlas = make_atlas(
    ...     network, Embedding("0", "pca", plane, {}, {}), draw.random((40, 4)), layer="0", grid=2,
    ...     input_shape=(1, 12, 12), ascent=Ascent(steps=2), rng=0,
    ... )
    >>> atlas.images.targets, int(atlas.counts.sum()) + atlas.left_out
    (('tile 0,0', 'tile 0,1', 'tile 1,0', 'tile 1,1'), 40)
    """
    plane = np.asarray(embedding.coordinates, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(plane):
        raise InputError(
            f"features of shape {features.shape} came for a map of {len(plane)} cells; give a row "
            "for each"
        )
    if grid < 1 or minimum < 1:
        raise SettingError(f"grid={grid}, minimum={minimum} cannot be used; give at least 1")
    positions, members, limits = _tiles(plane, grid, minimum)
    if not members:
        raise SettingError(
            f"no tile of {grid} × {grid} has {minimum} cells; take a smaller grid or minimum"
        )
    directions = whitened_directions(features, members)
    somewhere = np.linalg.norm(directions, axis=1) > 0
    if not somewhere.any():
        raise SettingError(f"no tile of {grid} × {grid} differs from the others in {layer}")
    positions, directions = positions[somewhere], directions[somewhere]
    members = [tile for tile, kept in zip(members, somewhere, strict=True) if kept]
    names = [f"tile {row},{column}" for row, column in positions.tolist()]
    network, shape = network_and_shape(model, input_shape)
    name = resolve_layer(network, shape, layer).name
    toward = direction(name, directions, names=names)
    images = feature_images(network, objective=toward, input_shape=shape, **options)
    classes = np.zeros(len(plane), dtype=np.int64) if labels is None else labels
    counts = np.array([len(tile) for tile in members], dtype=np.int64)
    shares = [np.bincount(classes[tile], minlength=classes.max() + 1) for tile in members]
    return Atlas(
        layer=images.layer,
        method=embedding.method,
        grid=grid,
        limits=limits,
        positions=positions,
        counts=counts,
        shares=np.stack(shares) / counts[:, None],
        typical=np.array([_nearest_to_mean(features, tile) for tile in members], dtype=np.int64),
        images=images,
        left_out=len(plane) - int(counts.sum()),
    )


def _tiles(
    plane: NDArray[np.float64], grid: int, minimum: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]], tuple[float, float, float, float]]:
    """Positions (K, 2) and cells of the tiles with enough cells, and the limits of the grid.

    The grid is square on the map: both directions have the length of the longer one.
    """
    low, high = plane.min(0), plane.max(0)
    side = max(float((high - low).max()), 1e-12) * (1 + 1e-9)
    corner = (low + high) / 2 - side / 2
    steps = np.clip(((plane - corner) / side * grid).astype(np.int64), 0, grid - 1)
    row, column = grid - 1 - steps[:, 1], steps[:, 0]
    tile = row * grid + column
    found = [k for k in range(grid * grid) if (tile == k).sum() >= minimum]
    positions = np.array([divmod(k, grid) for k in found], dtype=np.int64).reshape(-1, 2)
    left, bottom = float(corner[0]), float(corner[1])
    return (
        positions,
        [np.flatnonzero(tile == k) for k in found],
        (left, left + side, bottom, bottom + side),
    )


def _nearest_to_mean(features: NDArray[np.floating], members: NDArray[np.int64]) -> int:
    own = features[members]
    return int(members[((own - own.mean(0)) ** 2).sum(1).argmin()])
