"""What can be measured of how a crop was taken, away from the cell: border, noise, grid, marks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytolens.properties.regions import (
    BLUR,
    Floats,
    Mosaic,
    eroded,
    find_channel,
    largest_parts,
    medians,
    moments,
    otsu,
)
from cytolens.records.cells import Cells, Progress

ACQUISITION: Mapping[str, str] = {
    "outside": "mean, spread and peak in eight parts of the crop's border, as a whole",
    "frame": "steps from the outermost pixels of each side and corner to the next",
    "border_spread": "s.d. of the outermost pixels",
    "border_peak": "the brightest of them above their median",
    "corners": "how far the corner that differs most is from the rest outside of the cell",
    "noise": "s.d. from pixel to pixel outside of the cell",
    "spikes": "the largest step between neighbours outside of the cell, over the noise",
    "stripes": "log of the steps from row to row over those from column to column, outside",
    "grid": "steps across every eighth pixel over those elsewhere, as compression leaves them",
    "fine_detail": "log of the power of the finest over that of coarser detail, off the cell",
    "darkest": "the percent of pixels that is darkest",
    "levels": "different intensities over those possible",
}
"""Every measure by name, with its meaning: per image channel, so (n,) or (n, C)."""

_FAR = 3  # px around the cell that are left out: its halo
LEAST_SEPARABILITY = 0.7  # Otsu's η; below it there is no cell to leave out
_FEWEST = 24  # pixels that a number rests on
_CORNER = 4  # px
_PERIOD = 8  # px, of the blocks of JPEG


def measure_acquisition(
    cells: Cells, *, batch: int = 256, progress: Progress | None = None
) -> dict[str, Floats]:
    """Each of ``ACQUISITION`` for every cell, (N,), or (N, d) where it is several.

    The cell is the largest part above Otsu's threshold (`measurement.measure_cells`), with 3 px
    around it, so that its halo does not count. Only measured pixels count, with the intensities of
    the files, and each image channel on its own. NaN where fewer than 24 pixels are left. "frame",
    "grid", "levels" and "darkest" are of the whole crop, and "fine_detail" leaves only the cell
    itself out, not its halo. Noise rests on mixed second differences, which planes do not move
    (Immerkaer 1996, Computer Vision and Image Understanding 64, in its smallest form).
    """
    index, sign = find_channel(cells, None)
    parts: list[list[dict[str, Floats]]] = []
    for start in range(0, len(cells), batch):
        rows = slice(start, min(start + batch, len(cells)))
        crops = cells.images.read_raw(rows).astype(np.float64)
        masks = np.asarray(cells.images.masks(rows))
        near = cell_regions(sign * crops[:, index], masks)
        regions = [masks & ~one for one in near]
        parts.append([_measure(channel, masks, *regions) for channel in crops.swapaxes(0, 1)])
        if progress is not None:
            progress(rows.stop, len(cells), "measuring what lies outside of the cells")
    found: dict[str, Floats] = {}
    for name in ACQUISITION:
        columns = [
            np.concatenate([part[channel][name] for part in parts])
            for channel in range(len(parts[0]))
        ]
        joined = np.stack(columns, axis=1).reshape(len(cells), -1)
        found[name] = joined[:, 0] if joined.shape[1] == 1 else joined
    return found


def cell_regions(
    crops: Floats, masks: NDArray[np.bool_], *, least: float = LEAST_SEPARABILITY
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The cell (n, H, W), and with 3 px around it; nothing where Otsu's η lies below ``least``."""
    smooth = np.asarray(ndimage.gaussian_filter(crops, (0, BLUR, BLUR)))
    threshold, separability = otsu(smooth, masks)
    there = (separability >= least)[:, None, None]
    bright = (smooth > threshold[:, None, None]) & masks & there
    inside = largest_parts(Mosaic(*crops.shape), bright)[0]  # a bright mark is no cell
    wide = ndimage.maximum_filter(inside.astype(np.uint8), (0, 2 * _FAR + 1, 2 * _FAR + 1))
    return inside, np.asarray(wide, dtype=bool)


def _measure(
    crops: Floats,
    masks: NDArray[np.bool_],
    off_cell: NDArray[np.bool_],
    outside: NDArray[np.bool_],
) -> dict[str, Floats]:
    """All measures of one channel (n, H, W) but those of several channels together."""
    border = outside & ~eroded(eroded(masks))
    ground = medians(crops, outside)
    spread = moments(crops, border)[1]
    peak = np.where(border, crops, -np.inf).max((1, 2)) - medians(crops, border)
    few = border.sum((1, 2)) < _FEWEST
    found = {
        "border_spread": np.where(few, np.nan, spread),
        "border_peak": np.where(few, np.nan, peak),
        "outside": _parts_of_border(crops, masks, border, ground),
        "corners": _corners(crops, masks, outside, ground),
        "grid": _grid(crops, masks),
        "frame": _frame(crops, masks),
        "fine_detail": _fine_detail(crops, off_cell),
        "darkest": _darkest(crops, masks),
        "levels": _levels(crops, masks),
    }
    return found | _residue(crops, outside)


def _residue(crops: Floats, outside: NDArray[np.bool_]) -> dict[str, Floats]:
    """Noise, spikes and stripes from differences of neighbours that all lie outside."""
    right, down = np.diff(crops, axis=2), np.diff(crops, axis=1)
    beside = outside[:, :, 1:] & outside[:, :, :-1]
    below = outside[:, 1:] & outside[:, :-1]
    noise = noise_of(crops, outside)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.maximum(
            np.where(beside, np.abs(right), 0).max((1, 2)),
            np.where(below, np.abs(down), 0).max((1, 2)),
        )
        spikes = steps / np.maximum(noise, 0.3)
        stripes = np.log((_mean(down**2, below) + 0.1) / (_mean(right**2, beside) + 0.1))
    found = {"noise": noise, "spikes": spikes, "stripes": stripes}
    return {name: np.where(np.isfinite(noise), values, np.nan) for name, values in found.items()}


def noise_of(crops: Floats, outside: NDArray[np.bool_]) -> Floats:
    """S.d. from pixel to pixel of crops (n, H, W) where they are ``outside`` of the cell (n,).

    NaN where fewer than 24 squares of four pixels lie there.
    """
    mixed = np.abs(np.diff(np.diff(crops, axis=2), axis=1)) / 2
    beside = outside[:, :, 1:] & outside[:, :, :-1]
    square = beside[:, 1:] & beside[:, :-1]
    spread = _mean(mixed, square) * np.sqrt(np.pi / 2)
    return np.where(square.sum((1, 2)) < _FEWEST, np.nan, spread)


def _parts_of_border(
    crops: Floats, masks: NDArray[np.bool_], border: NDArray[np.bool_], ground: Floats
) -> Floats:
    """Mean, spread and peak (n, 24) over the ground in four corners and four sides of the border.

    A part in which nothing lies outside of the cell counts as the ground.
    """
    down, across = _places(masks)
    rows, columns = np.digitize(down, (0.25, 0.75)), np.digitize(across, (0.25, 0.75))
    over = crops - np.nan_to_num(ground)[:, None, None]
    found: list[Floats] = []
    for row in range(3):
        for column in range(3):
            if row == column == 1:
                continue
            part = border & (rows == row)[:, :, None] & (columns == column)[:, None, :]
            mean, spread = moments(over, part)
            peak = np.where(part, over, -np.inf).max((1, 2))
            found += [mean, spread, np.where(np.isfinite(peak), peak, 0)]
    unknown = border.sum((1, 2)) < _FEWEST
    return np.where(unknown[:, None], np.nan, np.stack(found, axis=1))


def _corners(
    crops: Floats, masks: NDArray[np.bool_], outside: NDArray[np.bool_], ground: Floats
) -> Floats:
    """The largest difference (n,) of a corner's mean from the ground; NaN where none is free."""
    top, left, height, width = _windows(masks)
    y, x = np.arange(crops.shape[1]), np.arange(crops.shape[2])
    rows = [y - top[:, None] < _CORNER, y - top[:, None] >= height[:, None] - _CORNER]
    columns = [x - left[:, None] < _CORNER, x - left[:, None] >= width[:, None] - _CORNER]
    largest = np.full(len(crops), -np.inf)
    for row in rows:
        for column in columns:
            part = outside & row[:, :, None] & column[:, None, :]
            enough = part.sum((1, 2)) >= _CORNER**2 / 2
            far = np.abs(moments(crops, part)[0] - ground)
            largest = np.where(enough, np.maximum(largest, far), largest)
    return np.where(np.isfinite(largest), largest, np.nan)


def _frame(crops: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Steps at the four sides and the four corners of each crop (n, 8), wherever the cell is."""
    top, left, height, width = _windows(masks)
    y = np.arange(crops.shape[1]) - top[:, None]
    x = np.arange(crops.shape[2]) - left[:, None]
    far = height[:, None] - 1 - y, width[:, None] - 1 - x
    found: list[Floats] = []
    for axis, places in ((1, (y, far[0])), (2, (x, far[1]))):
        for place in places:
            spread = np.expand_dims(place, 3 - axis)
            line, next_to_it = masks & (spread == 0), masks & ((spread == 1) | (spread == 2))
            found.append(_mean(crops, line) - _mean(crops, next_to_it))
    for down in (y, far[0]):
        for across in (x, far[1]):
            deep = np.maximum(down[:, :, None], across[:, None, :])
            corner, next_to_it = masks & (deep < 3), masks & (deep >= 3) & (deep < 6)
            found.append(_mean(crops, corner) - _mean(crops, next_to_it))
    return np.stack(found, axis=1)


def _grid(crops: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Log of the second differences across the edges of blocks over those elsewhere (n,).

    The phase of the grid is the strongest of eight; both directions together (in the spirit of
    Wang, Sheikh & Bovik 2002).
    """
    total = np.zeros(len(crops))
    for axis in (1, 2):
        turned, there = crops, masks
        if axis == 1:
            turned, there = crops.swapaxes(1, 2), masks.swapaxes(1, 2)
        bend = np.abs(np.diff(turned, n=3, axis=2))  # of the edge between its two middle pixels
        whole = there[:, :, 3:] & there[:, :, :-3]
        sums, counts = np.where(whole, bend, 0).sum(1), whole.sum(1)  # (n, W - 3)
        start = there.any(1).argmax(1)
        place = (np.arange(bend.shape[2])[None] - start[:, None]) % _PERIOD
        by_phase = np.stack(
            [
                np.where(place == k, sums, 0).sum(1)
                / np.maximum(np.where(place == k, counts, 0).sum(1), 1)
                for k in range(_PERIOD)
            ],
            axis=1,
        )
        by_phase = np.where(counts.sum(1)[:, None] >= _FEWEST * _PERIOD, by_phase, np.nan)
        order = np.sort(by_phase, axis=1)
        total += np.log((order[:, -1] + 0.1) / (order[:, :-1].mean(1) + 0.1))
    return total


def _fine_detail(crops: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Log of the power in mixed differences of neighbours over that of the next scale (n,)."""
    fine = np.diff(np.diff(crops, axis=1), axis=2)
    inner = masks[:, 1:, 1:] & masks[:, :-1, :-1]
    half = (crops[:, 1:, 1:] + crops[:, 1:, :-1] + crops[:, :-1, 1:] + crops[:, :-1, :-1]) / 4
    coarse = half[:, 2:, 2:] - half[:, 2:, :-2] - half[:, :-2, 2:] + half[:, :-2, :-2]
    whole = inner[:, 2:, 2:] & inner[:, :-2, :-2]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log((_mean(fine**2, inner) + 0.01) / (_mean(coarse**2, whole) + 0.01))
    return np.where(whole.sum((1, 2)) < _FEWEST, np.nan, ratio)


def _darkest(crops: Floats, masks: NDArray[np.bool_]) -> Floats:
    """The first percentile of the measured pixels (n,)."""
    values = np.sort(np.where(masks, crops, np.inf).reshape(len(crops), -1), axis=1)
    return values[np.arange(len(crops)), masks.sum((1, 2)) // 100]


def _levels(crops: Floats, masks: NDArray[np.bool_]) -> Floats:
    """Different intensities among the darker half of the measured pixels, over those possible."""
    values = np.sort(np.where(masks, crops, np.inf).reshape(len(crops), -1), axis=1)
    half = np.maximum(masks.sum((1, 2)) // 2, 1)
    kept = np.arange(values.shape[1] - 1) < half[:, None] - 1
    finite = np.where(np.isfinite(values), values, 0)
    new = (np.diff(finite, axis=1) > 0) & kept
    span = finite[np.arange(len(crops)), half - 1] - finite[:, 0]
    return (new.sum(1) + 1) / (np.minimum(span, half - 1) + 1)


def _mean(values: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.where(where, values, 0).sum((1, 2)) / np.maximum(where.sum((1, 2)), 1)


def _windows(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Top, left, height and width (n,) of the measured part of each crop."""
    rows, columns = masks.any(2), masks.any(1)
    return rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)


def _places(masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Where rows (n, H) and columns (n, W) lie in the measured part, from 0 to 1."""
    top, left, height, width = _windows(masks)
    down = (np.arange(masks.shape[1]) - top[:, None] + 0.5) / height[:, None]
    across = (np.arange(masks.shape[2]) - left[:, None] + 0.5) / width[:, None]
    return down, across
