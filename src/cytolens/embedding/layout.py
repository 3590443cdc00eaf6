"""Where thumbnails of cells go on a map, so that none hides another."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cytolens.errors import SettingError


def thumbnail_layout(
    coordinates: NDArray[np.floating], *, grid: tuple[int, int] = (22, 22), fill: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells to show and their places on a grid: indices (M,) and (column, row) pairs (M, 2).

    Column 0 is at the left, row 0 at the bottom of the map. ``grid`` is (rows, columns); squares
    are equally wide and high on the map, which is centred in the grid, so that a map longer than
    wide leaves columns empty. Each square that holds cells shows the one nearest to its centre:
    the picture is true to the map, gaps included.

    With ``fill`` the whole grid is filled instead: a spread-out sample of rows × columns cells
    is assigned to the squares at the least total squared distance (Jonker & Volgenant 1987), on
    coordinates stretched to the grid. Neighbours stay near, gaps close. Up to 2,500 squares.

    Cells without a finite place are not shown. Raises SettingError for a grid without squares,
    or for too many to fill.
    """
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise SettingError(f"a grid of {rows} rows and {columns} columns has no squares; use ≥ 1")
    places = np.asarray(coordinates, dtype=np.float64)
    cells = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not cells.size:
        return np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.int64)
    size = np.array([columns, rows])
    if fill:
        return _filled(places, cells, size)
    low, high = places[cells].min(axis=0), places[cells].max(axis=0)
    side = float(((high - low) / size).max()) or 1.0  # of a square, in the map's units
    at = (places[cells] - (low + high) / 2) / side + size / 2  # squares from the lower left
    squares = np.clip(np.floor(at), 0, size - 1).astype(np.int64)
    off = ((at - squares - 0.5) ** 2).sum(axis=1)
    number = squares[:, 1] * columns + squares[:, 0]
    order = np.lexsort((off, number))
    _, first = np.unique(number[order], return_index=True)
    shown = order[first]
    return cells[shown], squares[shown]


def _filled(
    places: NDArray[np.float64], cells: NDArray[np.int64], size: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A sample of ``cells`` assigned to every square of a grid of ``size`` (columns, rows)."""
    squares = int(size.prod())
    if squares > 2500:
        raise SettingError(f"a grid of {squares} squares is too large to fill; use at most 2500")
    low, high = places[cells].min(axis=0), places[cells].max(axis=0)
    extent = np.where(high > low, high - low, 1)
    scaled = (places - low) / extent * size  # squares from the lower left
    # Every nth cell along a walk over the map, boustrophedon by column: an even sample, no dice.
    strip = np.clip(scaled[cells, 0].astype(np.int64), 0, size[0] - 1)
    height = np.where(strip % 2 == 0, scaled[cells, 1], -scaled[cells, 1])
    walk = cells[np.lexsort((height, strip))]
    count = min(squares, len(walk))
    chosen = walk[np.floor(np.arange(count) * len(walk) / count).astype(np.int64)]
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    which, where = linear_sum_assignment(cdist(scaled[chosen], centres + 0.5, "sqeuclidean"))
    return chosen[which], centres[where].astype(np.int64)
