"""The shape, texture and sharpness of cells whose region in the crop is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import graycomatrix
from skimage.measure import regionprops

from cytolens.properties.regions import BLUR, Floats, Mosaic, label_parts

_LEVELS = 16  # of grey, as is usual for texture (Haralick 1979)
_NECKS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of the largest thickness


def measure_shape(
    mosaic: Mosaic, regions: NDArray[np.bool_], masks: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Eccentricity and offset of the centroid from the middle of the measured part, (n,).

    Eccentricity as scikit-image's ``regionprops`` gives it, from second moments in which a pixel
    is a square (1/12); all regions at once, which takes a tenth of the time.
    """
    y = np.arange(mosaic.height)[:, None]
    x = np.arange(mosaic.width)[None, :]
    count = np.maximum(regions.sum((1, 2)), 1)

    def mean(of: NDArray[Any]) -> Floats:
        return (regions * of).sum((1, 2)) / count

    cy, cx = mean(y), mean(x)
    yy, xx = mean(y * y) - cy**2 + 1 / 12, mean(x * x) - cx**2 + 1 / 12
    half, twist = (yy + xx) / 2, np.hypot((yy - xx) / 2, mean(y * x) - cy * cx)
    measured = np.maximum(masks.sum((1, 2)), 1)
    middle_y, middle_x = (masks * y).sum((1, 2)) / measured, (masks * x).sum((1, 2)) / measured
    return {
        "eccentricity": np.sqrt(np.clip(1 - (half - twist) / (half + twist), 0, 1)),
        "offset_x": cx - middle_x,
        "offset_y": cy - middle_y,
    }


def count_lobes(mosaic: Mosaic, regions: NDArray[np.bool_]) -> Floats:
    """Number of parts (n,), see `measurement.measure_cells`."""
    distance = np.asarray(ndimage.distance_transform_edt(mosaic.lay(regions)))
    smooth = np.asarray(ndimage.gaussian_filter(distance, BLUR))
    thickest = mosaic.cut(smooth).max((1, 2))[mosaic.owner]
    parts = np.zeros(mosaic.n)
    for neck in _NECKS:
        _, owner_of = label_parts(mosaic, (smooth > neck * thickest) & (thickest > 0))
        parts = np.maximum(parts, np.bincount(owner_of[1:], minlength=mosaic.n))
    return parts


def measure_texture_and_hull(
    mosaic: Mosaic, crops: Floats, regions: NDArray[np.bool_], mean: Floats, deviation: Floats
) -> tuple[Floats, Floats, Floats]:
    """Contrast and entropy of the co-occurrence matrix, and solidity, (n,) each."""
    low = (mean - 2 * deviation)[:, None, None]
    width = np.where(deviation > 0, 4 * deviation, 1.0)[:, None, None]
    levels = np.clip((crops - low) / width * _LEVELS, 0, _LEVELS - 1).astype(np.uint8) + 1
    laid = mosaic.lay(np.where(regions, levels, 0).astype(np.uint8))
    numbered = mosaic.lay(regions * np.arange(1, mosaic.n + 1, dtype=np.int32)[:, None, None])
    contrast, entropy, solidity = np.full((3, mosaic.n), np.nan)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    far = np.subtract.outer(np.arange(_LEVELS), np.arange(_LEVELS)) ** 2
    for region in regionprops(numbered):
        k = region.label - 1
        solidity[k] = region.solidity
        pairs = graycomatrix(laid[region.slice], [1], angles, _LEVELS + 1, symmetric=True)
        table = pairs[1:, 1:, 0].sum(-1).astype(np.float64)  # level 0 is what lies outside
        share = table / max(table.sum(), 1)
        contrast[k] = (share * far).sum()
        entropy[k] = -(share[share > 0] * np.log2(share[share > 0])).sum()
    return contrast, entropy, solidity


def measure_focus(crops: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Power of fine over that of coarse detail (n,), NaN where there is no detail.

    And each of the three powers (n,) that it rests on: "fine", "coarse" and "noise"; the noise is
    taken off the first two.
    """
    height, width = crops.shape[1:]
    power = np.abs(np.fft.rfft2(crops)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))

    def between(low: float, high: float) -> Floats:
        band = (frequency > low) & (frequency <= high)
        return power[:, band].mean(axis=1) if band.any() else np.full(len(crops), np.nan)

    noise = between(0.4, 1)
    coarse, fine = between(0.05, 0.12) - noise, between(0.12, 0.2) - noise
    focus = np.divide(fine, coarse, out=np.full(len(crops), np.nan), where=coarse > 0)
    return focus, {"fine": fine, "coarse": coarse, "noise": noise}
