"""Crops in which nothing but the cell is left to tell how, where and when they were taken."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytolens.numerics.estimates import Rng, generator
from cytolens.properties.acquisition import cell_regions, noise_of
from cytolens.properties.regions import Floats, evenly, find_channel, medians
from cytolens.records.cells import Cells, Progress

BLUR = 2.0  # px, s.d. of the Gaussian that every crop is blurred by
NOISIEST = 95  # percentile of the crops' noise that every crop gets
LEAST_BRIGHT = 0.1  # of the common brightness: a darker cell is not made brighter than tenfold
FEWEST_GROUND = 60  # pixels that a surface is laid through
LEAST_GROUND = 0.25  # of the measured pixels, likewise
DARKEST = 0.05  # of the measured pixels, the ground of a crop that is filled by its cell
_EDGE = 1.0  # px, s.d. of the soft edge of what is kept
_MARGIN = 8  # px of nothing around a crop while it is moved
_MOST_MEASURED = 1000  # crops that the common values are measured on


def equalise(
    cells: Cells,
    *,
    batch: int = 256,
    rng: Rng = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Crops (N, C, H, W) of the same cells that are alike in ground, place, sharpness and noise.

    What is kept of a crop is the cell, the largest part above Otsu's threshold, with 3 px around
    it. A quadratic surface through what lies outside of that is taken off, and a common even ground
    put in its place, under the cell and around it. The cells become equally bright, image channel
    by channel; each is moved so that its centre of intensity is the middle of the crop; every crop
    is blurred by 2 px (s.d.) and then gets the noise of the noisiest (95th percentile), so that
    how sharp and how noisy it was can hardly be seen.

    Brightness, size below the blur and texture finer than it go with the rest, also where they are
    biology: what can still be told afterwards is told by the cell, but not all that the cell tells.

    They lie in memory, in the files' intensities (`images.sources.with_crops` makes cells of them).
    A seeded ``rng`` gives the same noise again.
    """
    draw = generator(rng)
    index, sign = find_channel(cells, None)
    some = evenly(len(cells), _MOST_MEASURED)
    ground, noise, brightness = _common(cells.subset(some), index, sign)
    out = np.empty((len(cells), *cells.shape), dtype=np.float32)
    for rows, content, _, _ in _contents(cells, index, sign, batch):
        own = _brightness(content)
        content *= (brightness / np.maximum(own, LEAST_BRIGHT * brightness))[:, :, None, None]
        moved = _centred(content, index, sign)
        blurred = ndimage.gaussian_filter(moved, (0, 0, BLUR, BLUR))
        added = draw.standard_normal(blurred.shape) * noise[:, None, None]
        out[rows] = ground[:, None, None] + blurred + added
        if progress is not None:
            progress(rows.stop, len(cells), "making crops alike in all but the cell")
    return out


def halve(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crops (N, C, H, W) at half their size, the mean of four pixels each; a last odd one goes.

    What `equalise` gives holds next to nothing finer than that: 0.7 % of what would be folded.
    """
    n, c, height, width = crops.shape
    even = crops[:, :, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, c, height // 2, 2, width // 2, 2).mean((3, 5))


def _contents(
    cells: Cells, index: int, sign: float, batch: int
) -> Iterator[tuple[slice, Floats, Floats, Floats]]:
    """By batch: its rows, the cells over their ground (n, C, H, W), ground and noise (n, C)."""
    for start in range(0, len(cells), batch):
        rows = slice(start, min(start + batch, len(cells)))
        crops = cells.images.read_raw(rows).astype(np.float64)
        masks = np.asarray(cells.images.masks(rows))
        near = cell_regions(sign * crops[:, index], masks, least=0)[1]
        outside = masks & ~near
        kept = np.where(np.any(near, axis=(1, 2))[:, None, None], near, masks) & masks
        soft = np.asarray(ndimage.gaussian_filter(kept.astype(np.float64), (0, _EDGE, _EDGE)))
        noise = np.stack([noise_of(one, outside) for one in crops.swapaxes(0, 1)], axis=1)
        ground = np.stack(
            [_ground(one, masks, outside, sign) for one in crops.swapaxes(0, 1)], axis=1
        )
        content = (crops - ground) * (soft * kept)[:, None]
        yield rows, content, np.median(ground, axis=(2, 3)), noise


def _ground(
    crops: Floats, masks: NDArray[np.bool_], outside: NDArray[np.bool_], sign: float
) -> Floats:
    """A quadratic surface (n, H, W) through what lies ``outside`` of the cells (n, H, W).

    Pixels further from their median than three robust standard deviations have no part in it.
    Where a quarter of the crop is not left, it is the twentieth part of it that is darkest, or
    brightest where cells are dark.
    """
    middle = medians(crops, outside)
    off = np.abs(crops - np.nan_to_num(middle)[:, None, None])
    near = outside & (off <= 3 * 1.4826 * np.nan_to_num(medians(off, outside))[:, None, None] + 1)
    y, x = np.meshgrid(*(np.linspace(-1, 1, k) for k in crops.shape[1:]), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # (H, W, 6)
    weight = near.astype(np.float64)
    grams = np.einsum("nhw,hwi,hwj->nij", weight, terms, terms, optimize=True)
    sums = np.einsum("nhw,hwi->ni", weight * crops, terms, optimize=True)
    grams += 1e-3 * np.maximum(weight.sum((1, 2)), 1)[:, None, None] * np.diag([0, 1, 1, 1, 1, 1])
    few = near.sum((1, 2)) < np.maximum(LEAST_GROUND * masks.sum((1, 2)), FEWEST_GROUND)
    grams[few] = np.eye(6)
    surface = np.einsum("ni,hwi->nhw", np.linalg.solve(grams, sums[:, :, None])[:, :, 0], terms)
    flat = _percentile(sign * crops, masks, DARKEST) * sign
    return np.where(few[:, None, None], flat[:, None, None], surface)


def _brightness(content: Floats) -> Floats:
    """The mean distance (n, C) from the ground where something is kept."""
    kept = np.maximum(np.count_nonzero(np.abs(content).max(axis=1), axis=(1, 2)), 1)
    return np.abs(content).sum(axis=(2, 3)) / kept[:, None]


def _percentile(crops: Floats, masks: NDArray[np.bool_], share: float) -> Floats:
    """The intensity (n,) that so large a share of the measured pixels does not exceed."""
    values = np.sort(np.where(masks, crops, np.inf).reshape(len(crops), -1), axis=1)
    return values[np.arange(len(crops)), (share * masks.sum((1, 2))).astype(np.int64)]


def _common(cells: Cells, index: int, sign: float) -> tuple[Floats, Floats, Floats]:
    """Ground, noise and brightness of the cells (C,), that all crops get."""
    found = [(g, n, _brightness(c)) for _, c, g, n in _contents(cells, index, sign, 256)]
    grounds, noises, bright = (np.concatenate(column) for column in zip(*found))
    known = np.isfinite(noises).all(axis=1)
    noise = (
        np.percentile(noises[known], NOISIEST, axis=0) if known.any() else np.zeros(noises.shape[1])
    )
    return np.median(grounds, axis=0), np.asarray(noise), np.median(bright, axis=0)


def _centred(content: Floats, index: int, sign: float) -> Floats:
    """Crops (n, C, H, W) moved so that the centre of intensity lies in the middle."""
    height, width = content.shape[2:]
    weight = np.maximum(sign * content[:, index], 0)
    mass = np.maximum(weight.sum((1, 2)), 1e-12)
    down = (weight.sum(2) @ np.arange(height)) / mass
    across = (weight.sum(1) @ np.arange(width)) / mass
    there = weight.any((1, 2))
    dy = np.where(there, (height - 1) / 2 - down, 0)[:, None]
    dx = np.where(there, (width - 1) / 2 - across, 0)[:, None]
    wide = np.pad(content, ((0, 0), (0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    fy, fx = np.fft.fftfreq(wide.shape[2]), np.fft.rfftfreq(wide.shape[3])
    ramp = np.exp(-2j * np.pi * (dy * fy)[:, :, None]) * np.exp(-2j * np.pi * (dx * fx))[:, None]
    turned: NDArray[np.complex128] = np.fft.rfft2(wide) * ramp[:, None]
    moved = np.fft.irfft2(turned, s=wide.shape[2:])
    return np.ascontiguousarray(moved[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
