"""Does a saliency point at a known place? Pointing game and overlap, cell by cell."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytolens.features.gain import descending

TOLERANCE = 1  # pixels that the peak may lie outside the mask

Saliency = NDArray[np.floating]


def points_at(
    saliency: Saliency, masks: NDArray[np.bool_], *, tolerance: int = TOLERANCE
) -> NDArray[np.bool_]:
    """Pointing game: whether each saliency (N, H, W) peaks in its mask (N, H, W), (N,).

    Or within ``tolerance`` pixels of it. A map without any positive value points at nothing.
    Source: Zhang et al. 2018 (excitation backprop), section 4.2, who allow 15 px on photographs.
    """
    window = 2 * tolerance + 1
    near = ndimage.maximum_filter(masks, size=(1, window, window))
    flat = saliency.reshape(len(saliency), -1)
    peak = flat.argmax(axis=1)
    return near.reshape(flat.shape)[np.arange(len(flat)), peak] & (flat.max(axis=1) > 0)


def overlap(saliency: Saliency, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of each mask with as many of the most salient pixels, (N,).

    So no threshold is chosen. NaN where a mask is empty.
    """
    order = descending(saliency)
    inside = masks.reshape(len(masks), -1)
    found = np.full(len(masks), np.nan)
    for i, area in enumerate(inside.sum(axis=1)):
        if area:
            common = inside[i, order[i, :area]].sum()
            found[i] = common / (2 * area - common)
    return found


def chance_of(masks: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often a random pixel of the cell would be in its mask: area over area, (N,)."""
    return (masks & within).sum(axis=(1, 2)) / within.sum(axis=(1, 2))
