"""What can be measured on a cell without any network: its size, shape, brightness and texture.

A name for what a channel answers to suggests itself from these; and they are what a network may
have learnt besides its classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import graycomatrix
from skimage.measure import label, regionprops

from cytolens.errors import choose
from cytolens.records.cells import Cells, Progress

Floats = NDArray[np.float64]

PROPERTIES: Mapping[str, str] = {
    "area": "px, holes filled",
    "eccentricity": "0 a circle, 1 a line, of the ellipse with the same second moments",
    "solidity": "share of the convex hull that is filled",
    "lobes": "parts that narrow necks divide it into",
    "mean_brightness": "intensity over background",
    "total_brightness": "sum of the intensity over background, whole crop",
    "unevenness": "s.d. of the intensity within, over its mean above background",
    "texture_contrast": "of neighbouring pixels, in 16 levels",
    "texture_entropy": "bits, of the levels of neighbouring pixels",
    "focus": "power of fine over that of coarse detail, noise taken off",
    "off_centre": "px, centre of mass to centre of crop",
    "offset_x": "px, the same to the right",
    "offset_y": "px, the same downwards",
    "background": "median intensity around the cell",
    "crop_height": "px, before padding",
    "crop_width": "px, before padding",
    "crop_size": "px², height times width before padding",
    "padding_share": "of the prepared crop, filled up",
}
"""Every property by name, with its unit or meaning. But for the offsets, none depends on how a
cell is turned. Intensities are those of the files, areas in pixels: times its square for µm².
"""

OF_THE_CROP = ("total_brightness", "background", "focus", *list(PROPERTIES)[-4:])
"""Properties that a crop has in which no cell was found: these, its size and padding."""

CHECKS: Mapping[str, str] = {
    "separability": "Otsu's η: 0.64 for noise alone, 1 for two levels",
    "cut": "share of the crop's frame that the cell touches",
    "second": "area of the second largest part over that of the largest",
    "peak": "highest intensity",
    "plateau": "share of the cell's pixels that have it",
}
"""What tells whether a crop shows one whole cell at all; known for every crop."""

_BLUR = 1.0  # px, s.d. of the Gaussian before thresholding: takes the noise, leaves the outline
_GAP = 4  # px between crops laid side by side, so that none touches the next
_LEVELS = 16  # of grey, as is usual for texture (Haralick 1979)
_BINS = 128  # of the histogram that is cut in two
_LEAST_PIXELS = 20  # below, area and shape are those of the Gaussian and of the grid
_LEAST_SEPARABILITY = 0.7  # Otsu's η; a cut through pure noise has 2/π, through a ramp 3/4
_MOST_CUT = 0.25  # of the crop's frame that a cell may touch before most of it may be missing
_NECKS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of the largest thickness


def measure_properties(
    cells: Cells,
    *,
    channel: int | str | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> dict[str, Floats]:
    """Each of ``PROPERTIES`` for every cell, (N,) float64: the first part of `measure_cells`."""
    return measure_cells(cells, channel=channel, batch=batch, progress=progress)[0]


def measure_cells(
    cells: Cells,
    *,
    channel: int | str | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Each of ``PROPERTIES`` for every cell, (N,) float64; NaN where the cell was not found.

    The cell is the largest region above Otsu's threshold (Otsu 1979) in image ``channel`` (a
    number or a name; by default the one whose crops the threshold divides best), after a Gaussian
    of 1 px, with its holes filled; where most crops are darker in the middle than at their border,
    as in stained smears, the region below, and brightness is darkness. Of other channels
    "brightness_<name>" is given: their mean in that region over their background, negative where
    darker. A cell counts as
    not found where no threshold divides the crop (Otsu's separability η below 0.7: noise alone
    gives 2/π), where the region is smaller than 20 px, or where it touches more than a quarter of
    the crop's frame. Then every property but those `OF_THE_CROP` is NaN. The second mapping holds
    each of ``CHECKS``, for every crop.

    Intensities and pixels are those of the files, measured part only, whatever the preparation.
    Eccentricity and solidity as in scikit-image. Lobes: the most parts that the region's smoothed
    distance map falls into above 40, 50 … 80 % of its maximum, i.e. that necks at most 80 % as
    thick as the thickest part divide it into. Texture: co-occurrence of neighbours in all four
    directions, in 16 levels from two s.d. below to two above the cell's mean, so that it does not
    depend on brightness (Haralick et al. 1973). Focus: power between 0.12 and
    0.2 cycles/px over that between 0.05 and 0.12, less the noise above 0.4. Whatever their shape,
    sharp outlines have spectra that fall with the third power of the frequency (Porod's law in
    the plane), so that the ratio tells of the optics rather than of lobes and texture, as the
    usual variance of the Laplacian does.

    Memory: one ``batch`` of crops. Raises SettingError for a channel that the cells do not have.
    """
    names = cells.channel_names
    index, sign = _channel(cells, channel)
    others = {f"brightness_{name}": k for k, name in enumerate(names) if k != index}
    measured = {name: np.full(len(cells), np.nan) for name in (*PROPERTIES, *others, *CHECKS)}
    for start in range(0, len(cells), batch):
        rows = slice(start, min(start + batch, len(cells)))
        crops = cells.images.read_raw(rows).astype(np.float64)
        masks = np.asarray(cells.images.masks(rows))
        found, checks, regions = _measure(crops[:, index], masks, sign)
        for name, k in others.items():
            over = _moments(crops[:, k], regions)[0] - _median(crops[:, k], masks & ~regions)
            found[name] = np.where(np.isnan(found["area"]), np.nan, over)
        found["padding_share"] = 1 - masks.mean((1, 2))
        for name, values in (found | checks).items():
            measured[name][rows] = values
        if progress is not None:
            progress(rows.stop, len(cells), "measuring the cells")
    height, width = cells.original_sizes.astype(np.float64).T
    measured |= {"crop_height": height, "crop_width": width, "crop_size": height * width}
    checked = {name: measured.pop(name) for name in CHECKS}
    return measured, checked


def _channel(cells: Cells, channel: int | str | None) -> tuple[int, float]:
    """The image channel to look for cells in, and 1, or -1 where they are darker than around.

    Told by 64 crops, evenly spread: the channel by the median of Otsu's separability.
    """
    names = cells.channel_names
    chosen = np.unique(np.linspace(0, len(cells) - 1, min(64, len(cells))).astype(np.int64))
    crops = cells.images.read_raw(chosen).astype(np.float64)
    masks = np.asarray(cells.images.masks(chosen))
    if channel is None:
        smooth = np.asarray(ndimage.gaussian_filter(crops, (0, 0, _BLUR, _BLUR)))
        index = int(
            np.argmax([np.median(_otsu(smooth[:, k], masks)[1]) for k in range(len(names))])
        )
    elif isinstance(channel, int) and 0 <= channel < len(names):
        index = channel
    else:
        index = names.index(choose("channel", str(channel), names))
    return index, -1.0 if _is_dark(crops[:, index], masks) else 1.0


def _is_dark(crops: Floats, masks: NDArray[np.bool_]) -> bool:
    """Whether most crops (n, H, W) are darker in the middle than at their border."""
    frames = masks & ~_eroded(masks)
    votes = 0
    for crop, mask, frame in zip(crops, masks, frames, strict=True):
        ys, xs = np.nonzero(mask)
        top, left, height, width = ys.min(), xs.min(), np.ptp(ys) + 1, np.ptp(xs) + 1
        middle = crop[
            top + height // 4 : top + height - height // 4,
            left + width // 4 : left + width - width // 4,
        ]
        votes += int(np.sign(middle.mean() - np.median(crop[frame])))
    return votes < 0


@dataclass(frozen=True)
class _Mosaic:
    """Crops (n, H, W) side by side with a gap, so that one call measures them all."""

    n: int
    height: int
    width: int

    def lay(self, crops: NDArray[Any]) -> NDArray[Any]:
        """(H + gap, n · (W + gap)); the gap is zero."""
        padded = np.pad(crops, ((0, 0), (0, _GAP), (0, _GAP)))
        return padded.transpose(1, 0, 2).reshape(self.height + _GAP, -1)

    def cut(self, mosaic: NDArray[Any]) -> NDArray[Any]:
        """The crops (n, H, W) again."""
        step = self.width + _GAP
        apart = mosaic.reshape(self.height + _GAP, self.n, step).transpose(1, 0, 2)
        return apart[:, : self.height, : self.width]

    @property
    def owner(self) -> NDArray[np.int64]:
        """The crop that each column belongs to."""
        return np.repeat(np.arange(self.n), self.width + _GAP)


def _measure(
    crops: Floats, masks: NDArray[np.bool_], sign: float
) -> tuple[dict[str, Floats], dict[str, Floats], NDArray[np.bool_]]:
    """Properties of a batch of crops (n, H, W) but for their size, checks, and the regions."""
    mosaic = _Mosaic(*crops.shape)
    smooth = np.asarray(ndimage.gaussian_filter(crops, (0, _BLUR, _BLUR)))
    inner = _eroded(masks)
    threshold, separability = _otsu(sign * smooth, masks)
    regions, second = _largest(mosaic, (sign * smooth > threshold[:, None, None]) & masks)
    area = regions.sum((1, 2)).astype(np.float64)
    frame = masks & ~inner
    cut = (regions & frame).sum((1, 2)) / np.maximum(frame.sum((1, 2)), 1)
    ok = (separability >= _LEAST_SEPARABILITY) & (area >= _LEAST_PIXELS) & (cut <= _MOST_CUT)
    peak = np.where(regions, sign * crops, -np.inf).max((1, 2))
    checks = {
        "separability": separability,
        "cut": cut,
        "second": second / np.maximum(area, 1),
        "peak": sign * np.where(np.isfinite(peak), peak, np.nan),
        "plateau": (regions & (sign * crops == peak[:, None, None])).sum((1, 2))
        / np.maximum(area, 1),
    }
    ground = _median(crops, masks & ~regions)
    regions &= ok[:, None, None]
    mean, deviation = _moments(crops, regions)
    over = sign * (mean - ground)
    light = np.where(masks, crops - np.nan_to_num(ground)[:, None, None], 0) * sign
    with np.errstate(invalid="ignore", divide="ignore"):
        unevenness = deviation / over
    shape = _shape(mosaic, regions, masks)
    contrast, entropy, solidity = _texture_and_hull(mosaic, crops, regions, mean, deviation)
    values = {
        "area": area,
        "eccentricity": shape["eccentricity"],
        "solidity": solidity,
        "lobes": _lobes(mosaic, regions),
        "mean_brightness": over,
        "total_brightness": light.sum((1, 2)),
        "unevenness": unevenness,
        "texture_contrast": contrast,
        "texture_entropy": entropy,
        "focus": _focus(light * ndimage.gaussian_filter(inner.astype(float), (0, _BLUR, _BLUR))),
        "off_centre": np.hypot(shape["offset_x"], shape["offset_y"]),
        "offset_x": shape["offset_x"],
        "offset_y": shape["offset_y"],
        "background": ground,
    }
    whole = ok[:, None] | np.isin(list(values), OF_THE_CROP)
    return dict(zip(values, np.where(whole.T, list(values.values()), np.nan))), checks, regions


def _focus(crops: Floats) -> Floats:
    """Power of fine over that of coarse detail (n,), NaN where there is no detail."""
    height, width = crops.shape[1:]
    power = np.abs(np.fft.rfft2(crops)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))

    def between(low: float, high: float) -> Floats:
        band = (frequency > low) & (frequency <= high)
        return power[:, band].mean(axis=1) if band.any() else np.full(len(crops), np.nan)

    noise = between(0.4, 1)
    coarse, fine = between(0.05, 0.12) - noise, between(0.12, 0.2) - noise
    return np.divide(fine, coarse, out=np.full(len(crops), np.nan), where=coarse > 0)


def _eroded(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is left (n, H, W) without the outermost pixels; those beyond the crop count as none."""
    wide = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    across = wide[:, 1:-1, :-2] & wide[:, 1:-1, 2:]
    return masks & across & wide[:, :-2, 1:-1] & wide[:, 2:, 1:-1]


def _otsu(crops: Floats, masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Otsu's threshold (n,) over the measured pixels of each crop, and its separability η (n,).

    η is the variance between the two parts over the whole variance (Otsu 1979, equation 16).
    """
    n = len(crops)
    low = np.where(masks, crops, np.inf).min((1, 2))
    high = np.where(masks, crops, -np.inf).max((1, 2))
    width = np.where(high > low, high - low, 1.0)[:, None, None]
    levels = np.clip((crops - low[:, None, None]) / width * _BINS, 0, _BINS - 1).astype(np.int64)
    flat = (np.arange(n)[:, None, None] * _BINS + levels)[masks]
    counts = np.bincount(flat, minlength=n * _BINS).reshape(n, _BINS).astype(np.float64)
    place = np.arange(_BINS) + 0.5
    below, moment = counts.cumsum(1), (counts * place).cumsum(1)
    total, mean = below[:, -1:], moment[:, -1:] / np.maximum(below[:, -1:], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mean * below - moment) ** 2 / (below * (total - below))
    between = np.nan_to_num(between, nan=0.0, posinf=0.0)
    variance = (counts * (place - mean) ** 2).sum(1) / np.maximum(total[:, 0], 1)
    best = between.argmax(1)
    eta = between[np.arange(n), best] / np.where(variance > 0, variance, 1.0)
    return low + (best + 1) / _BINS * np.where(high > low, high - low, 0.0), eta


def _largest(
    mosaic: _Mosaic, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The largest connected part (8 neighbours) of each crop, its holes filled (n, H, W).

    And the pixels of the second largest (n,).
    """
    labels, owner_of = _parts(mosaic, mosaic.lay(inside))
    sizes = np.bincount(labels.ravel(), minlength=len(owner_of))
    order = np.argsort(sizes[1:], kind="stable") + 1
    best = np.zeros(mosaic.n, dtype=np.int64)
    best[owner_of[order]] = order  # the last, i.e. largest, of a crop stays
    second = np.zeros(mosaic.n, dtype=np.int64)
    others = order[order != best[owner_of[order]]]
    second[owner_of[others]] = sizes[others]
    largest = (labels == best[mosaic.owner]) & (labels > 0)
    return mosaic.cut(np.asarray(ndimage.binary_fill_holes(largest))).copy(), second


def _median(crops: Floats, where: NDArray[np.bool_]) -> Floats:
    """Median (n,) over the chosen pixels of each crop; NaN where there are none."""
    values = np.sort(np.where(where, crops, np.inf).reshape(len(crops), -1), axis=1)
    count = where.sum((1, 2))
    rows = np.arange(len(crops))
    middle = (values[rows, np.maximum(count - 1, 0) // 2] + values[rows, count // 2]) / 2
    return np.where(count > 0, middle, np.nan)


def _moments(crops: Floats, where: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and standard deviation (n,) over the chosen pixels of each crop."""
    count = np.maximum(where.sum((1, 2)), 1)
    mean = np.where(where, crops, 0).sum((1, 2)) / count
    squares = np.where(where, (crops - mean[:, None, None]) ** 2, 0).sum((1, 2)) / count
    return mean, np.sqrt(squares)


def _shape(
    mosaic: _Mosaic, regions: NDArray[np.bool_], masks: NDArray[np.bool_]
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


def _lobes(mosaic: _Mosaic, regions: NDArray[np.bool_]) -> Floats:
    """Number of parts (n,), see `measure_properties`."""
    distance = np.asarray(ndimage.distance_transform_edt(mosaic.lay(regions)))
    smooth = np.asarray(ndimage.gaussian_filter(distance, _BLUR))
    thickest = mosaic.cut(smooth).max((1, 2))[mosaic.owner]
    parts = np.zeros(mosaic.n)
    for neck in _NECKS:
        _, owner_of = _parts(mosaic, (smooth > neck * thickest) & (thickest > 0))
        parts = np.maximum(parts, np.bincount(owner_of[1:], minlength=mosaic.n))
    return parts


def _parts(
    mosaic: _Mosaic, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connected parts (8 neighbours) of a mosaic, numbered from 1, and the crop of each number."""
    labels = np.asarray(label(inside, connectivity=2), dtype=np.int64)
    owner_of = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    owner_of[labels] = np.broadcast_to(mosaic.owner, labels.shape)
    return labels, owner_of


def _texture_and_hull(
    mosaic: _Mosaic, crops: Floats, regions: NDArray[np.bool_], mean: Floats, deviation: Floats
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
