"""Density on a map: shading for very many cells, and lines around where most of a kind lie."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top of a square part of a map."""

_GRID = 160  # pixels along a side, on which densities are smoothed
_BANDWIDTH = 0.025  # of the map's width, for a thousand cells


def extent_of(xy: NDArray[np.floating]) -> Extent:
    """A square around all cells (N, 2), but for a few far ones.

    Up to one cell in two hundred is left outside where the square would else be a third wider;
    t-SNE has no such cells, PCA does. Cells without a finite place do not count.
    """
    known = np.asarray(xy, dtype=np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        return (-1.0, 1.0, -1.0, 1.0)
    low, high = known.min(axis=0), known.max(axis=0)
    inner_low, inner_high = np.percentile(known, [0.25, 99.75], axis=0)
    if (high - low).max() > 1.35 * (inner_high - inner_low).max() > 0:
        low, high = inner_low, inner_high
    x, y = ((low + high) / 2).tolist()
    half = max(float((high - low).max()) * 0.54, 1e-6)
    return (x - half, x + half, y - half, y + half)


def pixel_of(
    xy: NDArray[np.floating], extent: Extent, pixels: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which cells (N,) lie inside ``extent``, and the pixel number of those, row by row from below.

    Cells without a finite place lie outside.
    """
    left, right, bottom, top = extent
    with np.errstate(invalid="ignore"):
        column = np.floor((xy[:, 0] - left) / (right - left) * pixels)
        row = np.floor((xy[:, 1] - bottom) / (top - bottom) * pixels)
        inside = (column >= 0) & (column < pixels) & (row >= 0) & (row < pixels)
    return inside, row[inside].astype(np.int64) * pixels + column[inside].astype(np.int64)


def shade(
    xy: NDArray[np.floating], rgb: NDArray[np.float64], extent: Extent, pixels: int
) -> NDArray[np.float64]:
    """(pixels, pixels, 4): the mean colour of the cells in a pixel, denser where there are more.

    Opacity goes with the logarithm of the count, from 0.35 for one cell to 1 at the 99th
    percentile. Source: the idea of datashader (Bednar et al. 2016).
    """
    inside, place = pixel_of(xy, extent, pixels)
    count = np.bincount(place, minlength=pixels**2).astype(np.float64)
    picture = np.zeros((pixels**2, 4))
    for part in range(3):
        total = np.bincount(place, weights=rgb[inside, part], minlength=pixels**2)
        picture[:, part] = total / np.maximum(count, 1)
    dense = max(float(np.percentile(count[count > 0], 99)), 2.0) if count.any() else 2.0
    picture[:, 3] = np.where(count > 0, 0.35 + 0.65 * np.log1p(count) / np.log1p(dense), 0)
    return np.clip(picture, 0, 1).reshape(pixels, pixels, 4)


def smooth_density(xy: NDArray[np.floating], extent: Extent) -> NDArray[np.float64]:
    """Kernel density of cells (n, 2) on a grid over ``extent``, row 0 at the bottom.

    The kernel is Gaussian; its width shrinks as n^(-1/6) (Scott 1992, equation 6.42), from 2.5 %
    of the map's width at a thousand cells, between 1.2 and 4 %.
    """
    _, place = pixel_of(xy, extent, _GRID)
    counts = np.bincount(place, minlength=_GRID**2).astype(np.float64).reshape(_GRID, _GRID)
    width = _BANDWIDTH * (1000 / max(len(place), 1)) ** (1 / 6)
    return gaussian_filter(counts, float(np.clip(width, 0.012, 0.04)) * _GRID, mode="constant")


def level_holding(
    density: NDArray[np.float64], xy: NDArray[np.floating], extent: Extent, share: float
) -> float:
    """The density that ``share`` of the cells (n, 2) exceed where they lie.

    The line at that level bounds the smallest region that holds them: their highest-density
    region (Hyndman 1996, The American Statistician 50, section 3.2).
    """
    _, place = pixel_of(xy, extent, len(density))
    return float(np.quantile(density.ravel()[place], 1 - share))


def draw_contours(
    axes: Axes,
    xy: NDArray[np.floating],
    extent: Extent,
    *,
    colour: str,
    shares: Sequence[float] = (0.5, 0.9),
    linewidth: float = 0.9,
) -> NDArray[np.float64] | None:
    """Lines around the regions that hold these shares of the cells (n, 2), the inner ones thicker.

    Gives the place (2,) where they are densest, or None where fewer than five lie in ``extent``
    (then nothing is drawn: lines around them would be those of the kernel).
    """
    inside, _ = pixel_of(xy, extent, _GRID)
    if inside.sum() < 5:
        return None
    density = smooth_density(xy, extent)
    left, right, bottom, top = extent
    x = left + (np.arange(_GRID) + 0.5) / _GRID * (right - left)
    y = bottom + (np.arange(_GRID) + 0.5) / _GRID * (top - bottom)
    levels = {level_holding(density, xy, extent, share): share for share in shares}
    ordered = sorted(level for level in levels if level > 0)
    if ordered:
        widths = [linewidth * (1.4 if levels[level] < 0.7 else 0.8) for level in ordered]
        axes.contour(x, y, density, levels=ordered, colors=colour, linewidths=widths, zorder=4)
    row, column = np.unravel_index(int(density.argmax()), density.shape)
    return np.array([x[column], y[row]])
