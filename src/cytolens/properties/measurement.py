"""What can be measured on a cell without any network: its size, shape, brightness and texture.

These properties help to name what a channel responds to, and a network may have learnt them
besides its classes.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytolens.properties.regions import (
    BLUR,
    Floats,
    Mosaic,
    eroded,
    medians,
    moments,
    otsu,
)
from cytolens.properties.shape import (
    count_lobes,
    measure_focus,
    measure_shape,
    measure_texture_and_hull,
)
from cytolens.properties.wholeness import CHECKS, Look, check_crops, find_look, smoothed
from cytolens.records.cells import Cells, Progress

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
"""Every property by name, with its unit or meaning. Except for the offsets, none depends on how a
cell is turned. Intensities are those of the files. Areas are in pixels; multiply by the square of
the pixel size for µm².
"""

OF_THE_CROP = ("total_brightness", "background", "focus", *list(PROPERTIES)[-4:])
"""Properties that are known even of a crop in which no cell was found."""

_LEAST_PIXELS = 20  # smaller regions show the Gaussian and the grid more than the cell
_LEAST_SEPARABILITY = 0.7  # Otsu's η; a cut through pure noise has 2/π, through a ramp 3/4
_MOST_CUT = 0.25  # of the crop's frame that a cell may touch before most of it may be missing


def measure_cells(
    cells: Cells,
    *,
    channel: int | str | None = None,
    look: Look | None = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Each of ``PROPERTIES`` for every cell, (N,) float64; NaN where the cell was not found.

    The second mapping holds each of ``CHECKS``, for every crop.

    The cell is the largest region above Otsu's threshold (Otsu 1979) in image ``channel`` (a
    number or a name; by default the one whose crops the threshold divides best), after a Gaussian
    of 1 px, with its holes filled. Where most crops are darker in the middle than at their border,
    as in stained smears, it is the region below the threshold, and brightness means darkness.
    ``look``: what `find_look` found in other crops, for cells that are to be measured as these.
    "brightness_<name>" is the mean of another channel in that region minus its background,
    negative where the region is darker. A cell counts as not found where no threshold divides the
    crop (Otsu's separability η below 0.7; noise alone gives 2/π), where the region is smaller than
    20 px, or where it touches more than a quarter of the crop's frame. Then every property except
    those `OF_THE_CROP` is NaN.

    Only measured pixels count, with the intensities of the files, whatever the preparation.
    Eccentricity and solidity are those of scikit-image. Lobes: the region's smoothed distance map
    is cut at 40, 50 … 80 % of its maximum, and the largest number of parts is taken; these are
    divided by necks at most 80 % as thick as the thickest part. Texture: co-occurrence of
    neighbours in all four directions, in 16 levels from two s.d. below to two above the cell's
    mean, so that it does not depend on brightness (Haralick et al. 1973). Focus: power between
    0.12 and 0.2 cycles/px over that between 0.05 and 0.12, minus the noise above 0.4. The spectrum
    of sharp outlines of any shape falls with the third power of the frequency (Porod's law in the
    plane). So the ratio depends on the optics, unlike the usual variance of the Laplacian, which
    depends on lobes and texture.

    Memory: one ``batch`` of crops. Raises SettingError for a channel that the cells do not have.
    """
    names = cells.channel_names
    look = look or find_look(cells, channel)
    index = look.channel
    others = {f"brightness_{name}": k for k, name in enumerate(names) if k != index}
    measured = {name: np.full(len(cells), np.nan) for name in (*PROPERTIES, *others, *CHECKS)}
    for start in range(0, len(cells), batch):
        rows = slice(start, min(start + batch, len(cells)))
        crops = cells.images.read_raw(rows).astype(np.float64)
        masks = np.asarray(cells.images.masks(rows))
        found, checks, regions = _measure(crops[:, index], masks, look)
        for name, k in others.items():
            over = moments(crops[:, k], regions)[0] - medians(crops[:, k], masks & ~regions)
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


def _measure(
    crops: Floats, masks: NDArray[np.bool_], look: Look
) -> tuple[dict[str, Floats], dict[str, Floats], NDArray[np.bool_]]:
    """Properties of a batch of crops (n, H, W) but for their size, checks, and the regions."""
    mosaic = Mosaic(*crops.shape)
    sign = look.sign
    smooth = sign * smoothed(crops)
    threshold, separability = otsu(smooth, masks)
    bright = (smooth > threshold[:, None, None]) & masks
    checks, regions = check_crops(mosaic, sign * crops, masks, bright, separability, look.contrast)
    area = regions.sum((1, 2)).astype(np.float64)
    ok = (separability >= _LEAST_SEPARABILITY) & (area >= _LEAST_PIXELS)
    ok &= checks["cut"] <= _MOST_CUT
    ground = medians(crops, masks & ~regions)
    regions &= ok[:, None, None]
    mean, deviation = moments(crops, regions)
    over = sign * (mean - ground)
    light = np.where(masks, crops - np.nan_to_num(ground)[:, None, None], 0) * sign
    with np.errstate(invalid="ignore", divide="ignore"):
        unevenness = deviation / over
    shape = measure_shape(mosaic, regions, masks)
    inner = ndimage.gaussian_filter(eroded(masks).astype(float), (0, BLUR, BLUR))
    focus, powers = measure_focus(light * inner)
    checks |= powers
    contrast, entropy, solidity = measure_texture_and_hull(mosaic, crops, regions, mean, deviation)
    values = {
        "area": area,
        "eccentricity": shape["eccentricity"],
        "solidity": solidity,
        "lobes": count_lobes(mosaic, regions),
        "mean_brightness": over,
        "total_brightness": light.sum((1, 2)),
        "unevenness": unevenness,
        "texture_contrast": contrast,
        "texture_entropy": entropy,
        "focus": focus,
        "off_centre": np.hypot(shape["offset_x"], shape["offset_y"]),
        "offset_x": shape["offset_x"],
        "offset_y": shape["offset_y"],
        "background": ground,
    }
    whole = ok[:, None] | np.isin(list(values), OF_THE_CROP)
    return dict(zip(values, np.where(whole.T, list(values.values()), np.nan))), checks, regions
