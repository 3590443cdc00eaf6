"""Where thumbnails of cells go on a map, so that none hides another."""

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError

Window = tuple[float, float, float, float]
"""Left, right, bottom and top of a part of a map."""


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
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    squares = int(size.prod())
    if squares > 2500:
        raise SettingError(f"a grid of {squares} squares is too large to fill; use at most 2500")
    low, high = places[cells].min(axis=0), places[cells].max(axis=0)
    extent = np.where(high > low, high - low, 1)
    scaled = (places - low) / extent * size  # squares from the lower left
    walk = _walk(scaled, cells, int(size[0]))
    count = min(squares, len(walk))
    chosen = walk[np.floor(np.arange(count) * len(walk) / count).astype(np.int64)]
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    which, where = linear_sum_assignment(cdist(scaled[chosen], centres + 0.5, "sqeuclidean"))
    return chosen[which], centres[where].astype(np.int64)


def layout_of_part(
    coordinates: NDArray[np.floating], window: Window, *, grid: int = 12
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Cells in a part of a map, each in a square of its own near its place; none hides another.

    The part is cut into grid × grid squares. Those that hold cells, or touch one that does, take
    one cell each, at the least total squared distance (Jonker & Volgenant 1987): gaps of the map
    stay gaps. Where there are more cells than such squares, as many are shown, drawn evenly over
    the part. Gives the cells (M,), their (column, row) pairs (M, 2), row 0 at the bottom, and how
    far a cell was moved from its place, on average, in squares.
    """
    from scipy.ndimage import binary_dilation  # slow to load, and figures load this file
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    places = np.asarray(coordinates, dtype=np.float64)
    low, size = np.array(window[::2]), np.array([window[1] - window[0], window[3] - window[2]])
    at = (places - low) / size * grid  # squares from the lower left
    with np.errstate(invalid="ignore"):
        cells = np.flatnonzero(((at >= 0) & (at < grid)).all(axis=1))
    if not len(cells):
        return cells, np.empty((0, 2), dtype=np.int64), float("nan")
    held = np.zeros((grid, grid), dtype=bool)
    held[tuple(at[cells].astype(np.int64).T)] = True
    squares = np.argwhere(binary_dilation(held, np.ones((3, 3))))
    walk = _walk(at, cells, grid)
    count = min(len(squares), len(walk))
    chosen = walk[np.floor(np.arange(count) * len(walk) / count).astype(np.int64)]
    which, where = linear_sum_assignment(cdist(at[chosen], squares + 0.5, "sqeuclidean"))
    shown, taken = chosen[which], squares[where].astype(np.int64)
    moved = np.linalg.norm(at[shown] - taken - 0.5, axis=1)
    return shown, taken, float(moved.mean())


def most_mixed_part(
    coordinates: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    share: float = 0.25,
    neighbours: int = 15,
) -> Window | None:
    """The square part of a map where classes mix most, ``share`` of the map's width wide.

    The one with the most cells whose ``neighbours`` nearest on the map are of other classes, each
    cell counting by the share that are. Where classes mix nowhere, the part with the most cells.
    None for a map without cells.
    """
    from scipy.spatial import KDTree

    places = np.asarray(coordinates, dtype=np.float64)
    known = np.isfinite(places).all(axis=1)
    xy, classes = places[known], np.asarray(labels)[known]
    if not len(xy):
        return None
    low, high = xy.min(axis=0), xy.max(axis=0)
    side = max(float((high - low).max()), 1e-6) * share
    mixed = np.ones(len(xy))
    k = min(neighbours, len(xy) - 1)
    if k >= 1:
        near = np.asarray(KDTree(xy).query(xy, k=k + 1)[1])[:, 1:]
        foreign = (classes[near] != classes[:, None]).mean(axis=1)
        mixed = foreign if foreign.any() else mixed
    lefts, bottoms = (_starts(float(low[i]), float(high[i]), side) for i in range(2))
    best: tuple[float, Window] | None = None
    for left in lefts:
        column = (xy[:, 0] >= left) & (xy[:, 0] < left + side)
        rows, weights = xy[column, 1], mixed[column]
        order = np.argsort(rows, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(weights[order])])
        first = np.searchsorted(rows[order], bottoms)
        last = np.searchsorted(rows[order], bottoms + side)
        held = total[last] - total[first]
        row = int(held.argmax())
        if best is None or held[row] > best[0]:
            bottom = float(bottoms[row])
            best = (float(held[row]), (float(left), float(left) + side, bottom, bottom + side))
    return None if best is None else best[1]


def _starts(low: float, high: float, side: float) -> NDArray[np.float64]:
    """Where a window ``side`` wide may begin between two ends: an eighth of it at a time."""
    if high - low <= side:
        return np.array([(low + high - side) / 2])
    count = int(np.ceil((high - low - side) / side * 8)) + 1
    return np.linspace(low, high - 0.999 * side, count)  # the last holds the cell at the end


def _walk(at: NDArray[np.float64], cells: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """``cells`` along a walk over the map, up one column and down the next: every nth is even."""
    strip = np.clip(at[cells, 0].astype(np.int64), 0, columns - 1)
    height = np.where(strip % 2 == 0, at[cells, 1], -at[cells, 1])
    return cells[np.lexsort((height, strip))]
