"""Whether a crop shows one whole cell: what is checked on it, and what was taken for the cell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytolens.properties.regions import (
    BLUR,
    Floats,
    Mosaic,
    eroded,
    evenly,
    find_channel,
    label_parts,
    largest_parts,
    moments,
    otsu,
)
from cytolens.records.cells import Cells

Masks = NDArray[np.bool_]

CHECKS: Mapping[str, str] = {
    "separability": "Otsu's η: 0.64 for noise alone, 1 for two levels",
    "cut": "share of the crop's frame that the cell touches",
    "contact": "pixels of the frame that it touches, over the diameter of a disc of its area",
    "radius": "px, from the cell's outline to its innermost point",
    "second_radius": "px, the same of a second part that a neck or a gap divides from it",
    "all_parts": "px, area of everything above the threshold",
    "faint_area": "px, largest part above a twentieth of the usual cell's brightness and the noise",
    "speck": "px, largest part above the noise alone",
    "strength": "mean of the cell over the ground, over that of the usual cell",
    "height": "the brightest place of the crop over the ground, over the usual cell's mean",
    "fine": "power of fine detail, see focus",
    "coarse": "power of coarse detail",
    "noise": "power of the finest detail there is",
    "peak": "highest intensity; its negative where cells are darker than around",
    "plateau": "share of the cell's pixels that have it",
}
"""Checks of whether a crop shows one whole cell; known for every crop."""

_FAINT = 0.05  # of the usual cell's brightness over its ground: fainter is no cell like the others
_OVER_NOISE = 5.0  # standard deviations of the smoothed noise
_SMOOTHED = 1 / (2 * np.sqrt(np.pi) * BLUR)  # s.d. of white noise after the Gaussian of `BLUR`
_LEAST_NOISE = 0.3  # counts: rounding alone
_LEVELS = (0.02, *np.arange(0.2, 0.85, 0.1).tolist())  # of the thickest part
_NECK = 0.65  # of the thinner part that a neck divides


@dataclass(frozen=True)
class Look:
    """How cells are found in all crops of a data set."""

    channel: int
    sign: float  # -1 where cells are darker than around
    contrast: float  # of the usual cell over its ground


def find_look(cells: Cells, channel: int | str | None = None) -> Look:
    """Channel, sign and the usual contrast, by 64 crops, evenly spread.

    The contrast is the median over crops of the mean above Otsu's threshold over the ground.
    Raises SettingError for a channel that the cells do not have.
    """
    index, sign = find_channel(cells, channel)
    chosen = evenly(len(cells))
    crops = sign * cells.images.read_raw(chosen).astype(np.float64)[:, index]
    masks = np.asarray(cells.images.masks(chosen))
    smooth = smoothed(crops)
    bright = (smooth > otsu(smooth, masks)[0][:, None, None]) & masks
    mean = np.where(bright, crops, 0).sum((1, 2)) / np.maximum(bright.sum((1, 2)), 1)
    return Look(index, sign, max(float(np.median(mean - ground_of(smooth, masks))), 0.0))


def smoothed(crops: Floats) -> Floats:
    """Crops (n, H, W) after a Gaussian of 1 px."""
    return np.asarray(ndimage.gaussian_filter(crops, (0, BLUR, BLUR)))


def ground_of(smooth: Floats, masks: Masks) -> Floats:
    """Ground (n,) of crops (n, H, W) in which cells are bright: the darker part of their border.

    The 40 % quantile of the outer two pixels: a cell that lies on less than half of the border
    does not move it far.
    """
    frame = masks & ~eroded(eroded(masks))
    values = np.sort(np.where(frame, smooth, np.inf).reshape(len(smooth), -1), axis=1)
    place = (0.4 * (frame.sum((1, 2)) - 1)).astype(np.int64)
    return values[np.arange(len(smooth)), np.maximum(place, 0)]


def noise_of(crops: Floats, masks: Masks) -> Floats:
    """S.d. (n,) from pixel to pixel: the median of mixed second differences, which planes leave.

    Immerkaer 1996, Computer Vision and Image Understanding 64, in its smallest form, and robust.
    """
    mixed = np.abs(np.diff(np.diff(crops, axis=1), axis=2)) / 2
    whole = masks[:, 1:, 1:] & masks[:, :-1, :-1] & masks[:, 1:, :-1] & masks[:, :-1, 1:]
    values = np.sort(np.where(whole, mixed, np.inf).reshape(len(crops), -1), axis=1)
    middle = values[np.arange(len(crops)), whole.sum((1, 2)) // 2]
    return np.maximum(1.4826 * np.where(np.isfinite(middle), middle, 0), _LEAST_NOISE)


def check_crops(
    mosaic: Mosaic,
    crops: Floats,
    masks: Masks,
    bright: Masks,
    separability: Floats,
    contrast: float,
) -> tuple[dict[str, Floats], Masks]:
    """Each of ``CHECKS`` but the powers (n,), and the cell (n, H, W), of a batch of crops.

    ``crops`` (n, H, W) in which cells are bright, ``bright`` (n, H, W) what is above Otsu's
    threshold; the cell is its largest part, its holes filled. ``contrast``: of the usual cell.
    """
    regions, _ = largest_parts(mosaic, bright)
    area = regions.sum((1, 2)).astype(np.float64)
    frame = masks & ~eroded(masks)
    touching = (regions & frame).sum((1, 2))
    peak = np.where(regions, crops, -np.inf).max((1, 2))
    radius, second = _radii(mosaic, bright)
    smooth = smoothed(crops)
    ground, usual = ground_of(smooth, masks), max(contrast, _LEAST_NOISE)
    over = smooth - ground[:, None, None]
    noise = _OVER_NOISE * _SMOOTHED * noise_of(crops, masks)
    faint = np.maximum(noise, _FAINT * contrast)[:, None, None]
    checks = {
        "separability": separability,
        "cut": touching / np.maximum(frame.sum((1, 2)), 1),
        "contact": touching / np.maximum(np.sqrt(4 * area / np.pi), 1),
        "radius": radius,
        "second_radius": second,
        "all_parts": bright.sum((1, 2)).astype(np.float64),
        "faint_area": largest_parts(mosaic, (over > faint) & masks)[0].sum((1, 2)) * 1.0,
        "speck": largest_parts(mosaic, (over > noise[:, None, None]) & masks)[0].sum((1, 2)) * 1.0,
        "strength": (moments(smooth, regions)[0] - ground) / usual,
        "height": np.where(masks, over, -np.inf).max((1, 2)) / usual,
        "peak": np.where(np.isfinite(peak), peak, np.nan),
        "plateau": (regions & (crops == peak[:, None, None])).sum((1, 2)) / np.maximum(area, 1),
    }
    return checks, regions


def _radii(mosaic: Mosaic, bright: Masks) -> tuple[Floats, Floats]:
    """Largest inscribed radius (n,), and that of the next part divided from it (n,), px.

    Parts are cut apart where the distance to the outline falls to a level; a part counts if the
    level is at most 0.65 of its own radius, so that a bulge is none.
    """
    distance = np.asarray(ndimage.distance_transform_edt(mosaic.lay(bright)))
    smooth = np.asarray(ndimage.gaussian_filter(distance, BLUR))
    radius = mosaic.cut(smooth).max((1, 2))
    second = np.zeros(mosaic.n)
    for level in _LEVELS:
        limit = level * radius
        named, owner_of = label_parts(mosaic, smooth > np.maximum(limit, 1e-6)[mosaic.owner])
        count = len(owner_of) - 1
        if not count:
            continue
        inside = named > 0
        depth = np.zeros(count + 1)
        np.maximum.at(depth, named[inside], smooth[inside])
        depth, owner = depth[1:], owner_of[1:]
        order = np.argsort(depth, kind="stable")
        first = np.full(mosaic.n, -1)
        first[owner[order]] = order  # the deepest of a crop stays
        others = order[order != first[owner[order]]]
        others = others[_NECK * depth[others] >= limit[owner[others]]]
        found = np.zeros(mosaic.n)
        found[owner[others]] = depth[others]  # in rising order
        second = np.maximum(second, found)
    return radius, second


def find_regions(cells: Cells, chosen: NDArray[np.int64], *, like: NDArray[np.int64]) -> Masks:
    """What was taken for the cell in each ``chosen`` crop (n, H, W): every part of a fifth or more.

    Parts above Otsu's threshold, their holes filled, that have at least 20 px and a fifth of the
    largest one's area. Of a crop with nothing brighter than a twentieth of the usual cell there is
    none. Channel and contrast are those of the cells ``like`` (m,), as when they were measured.
    """
    if not len(chosen):
        return np.zeros((0, *cells.shape[1:]), dtype=bool)
    look = find_look(cells.subset(like))
    crops = look.sign * cells.images.read_raw(chosen).astype(np.float64)[:, look.channel]
    masks = np.asarray(cells.images.masks(chosen))
    smooth = smoothed(crops)
    threshold, _ = otsu(smooth, masks)
    over = smooth - ground_of(smooth, masks)[:, None, None]
    faint = np.maximum(_FAINT * look.contrast, _OVER_NOISE * _SMOOTHED * noise_of(crops, masks))
    bright = (smooth > threshold[:, None, None]) & (over > faint[:, None, None]) & masks
    mosaic = Mosaic(*crops.shape)
    named, owner_of = label_parts(mosaic, mosaic.lay(bright))
    sizes = np.bincount(named.ravel(), minlength=len(owner_of))
    largest = np.zeros(mosaic.n, dtype=np.int64)
    np.maximum.at(largest, owner_of[1:], sizes[1:])
    kept = (sizes >= 20) & (sizes >= 0.2 * largest[owner_of])
    kept[0] = False
    return mosaic.cut(np.asarray(ndimage.binary_fill_holes(kept[named])))
