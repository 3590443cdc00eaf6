"""Where the cell is in a crop: its image channel, the threshold, and the largest part above it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from cytolens.errors import choose
from cytolens.records.cells import Cells

Floats = NDArray[np.float64]
BLUR = 1.0  # px, s.d. of the Gaussian before thresholding: removes noise, keeps the outline
_GAP = 4  # px between crops laid side by side, so that none touches the next
_BINS = 128  # of the histogram that is cut in two


def find_channel(cells: Cells, channel: int | str | None) -> tuple[int, float]:
    """The image channel to look for cells in, and 1, or -1 where cells are darker than around.

    Decided on 64 crops, evenly spread; the channel by the median of Otsu's separability.
    """
    names = cells.channel_names
    chosen = evenly(len(cells))
    crops = cells.images.read_raw(chosen).astype(np.float64)
    masks = np.asarray(cells.images.masks(chosen))
    if channel is None:
        smooth = np.asarray(ndimage.gaussian_filter(crops, (0, 0, BLUR, BLUR)))
        index = int(np.argmax([np.median(otsu(smooth[:, k], masks)[1]) for k in range(len(names))]))
    elif isinstance(channel, int) and 0 <= channel < len(names):
        index = channel
    else:
        index = names.index(choose("channel", str(channel), names))
    return index, -1.0 if _is_dark(crops[:, index], masks) else 1.0


def evenly(n: int, most: int = 64) -> NDArray[np.int64]:
    """At most so many of ``n`` places, evenly spread, in order."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))


def _is_dark(crops: Floats, masks: NDArray[np.bool_]) -> bool:
    """Whether most crops (n, H, W) are darker in the middle than at their border."""
    frames = masks & ~eroded(masks)
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
class Mosaic:
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


def eroded(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is left (n, H, W) without the outermost pixels; those beyond the crop count as none."""
    wide = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    across = wide[:, 1:-1, :-2] & wide[:, 1:-1, 2:]
    return masks & across & wide[:, :-2, 1:-1] & wide[:, 2:, 1:-1]


def otsu(crops: Floats, masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
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


def largest_parts(
    mosaic: Mosaic, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The largest connected part (8 neighbours) of each crop, its holes filled (n, H, W).

    And the pixels of the second largest (n,).
    """
    labels, owner_of = label_parts(mosaic, mosaic.lay(inside))
    sizes = np.bincount(labels.ravel(), minlength=len(owner_of))
    order = np.argsort(sizes[1:], kind="stable") + 1
    best = np.zeros(mosaic.n, dtype=np.int64)
    best[owner_of[order]] = order  # the last, i.e. largest, of a crop stays
    second = np.zeros(mosaic.n, dtype=np.int64)
    others = order[order != best[owner_of[order]]]
    second[owner_of[others]] = sizes[others]
    largest = (labels == best[mosaic.owner]) & (labels > 0)
    return mosaic.cut(np.asarray(ndimage.binary_fill_holes(largest))).copy(), second


def label_parts(
    mosaic: Mosaic, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connected parts (8 neighbours) of a mosaic, numbered from 1, and the crop of each number."""
    labels = np.asarray(label(inside, connectivity=2), dtype=np.int64)
    owner_of = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    owner_of[labels] = np.broadcast_to(mosaic.owner, labels.shape)
    return labels, owner_of


def medians(crops: Floats, where: NDArray[np.bool_]) -> Floats:
    """Median (n,) over the chosen pixels of each crop; NaN where there are none."""
    values = np.sort(np.where(where, crops, np.inf).reshape(len(crops), -1), axis=1)
    count = where.sum((1, 2))
    rows = np.arange(len(crops))
    middle = (values[rows, np.maximum(count - 1, 0) // 2] + values[rows, count // 2]) / 2
    return np.where(count > 0, middle, np.nan)


def moments(crops: Floats, where: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and standard deviation (n,) over the chosen pixels of each crop."""
    count = np.maximum(where.sum((1, 2)), 1)
    mean = np.where(where, crops, 0).sum((1, 2)) / count
    squares = np.where(where, (crops - mean[:, None, None]) ** 2, 0).sum((1, 2)) / count
    return mean, np.sqrt(squares)
