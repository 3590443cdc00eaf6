"""How complex images are, in five numbers that disagree usefully, and how that goes with depth.

All are of the deviation from the background or from the image's own mean, so that an image's
brightness says nothing. Constant images have no structure to describe: their compressed size and
used receptive field are 0, the rest is NaN and left out of means.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate, Rng, generator, mean_of, spearman

NYQUIST = 0.5  # cycles per pixel, the finest grating that pixels can carry
_ORIENTATIONS = 18  # bins of 10 degrees
_ENERGY = 0.9  # share of the energy that counts as "used" (the tail is optimisation noise)
_FLAT = 1e-6  # deviation, in units of the image's largest number, below which it is constant


def complexity_of(
    images: NDArray[np.float32],
    *,
    receptive_field: int | None = None,
    background: float | Sequence[float] = 0.0,
) -> dict[str, NDArray[np.float64]]:
    """Complexity of each image (K, C, H, W), by measure, (K,) each.

    ``spectral_centroid``: mean frequency of the power spectrum, cycles per pixel (at most 0.71,
    the diagonal; a horizontal or vertical grating at most 0.5, Nyquist).
    ``spectral_entropy``: evenness of the power over frequencies, 0 (one grating) to 1 (noise).
    ``compressed_bytes``: size as 8-bit PNG, stretched to its own range, above that of a constant
    image, summed over image channels.
    ``orientation_entropy``: evenness of edge orientations, 0 (parallel stripes) to 1 (all alike).
    ``receptive_field_used``: smallest share of a receptive-field window that holds 90 % of the
    energy of the deviation from ``background``; mean over the windows that tile the image,
    weighted by their energy, as a channel's image may repeat its motif everywhere. With
    ``receptive_field`` (pixels) None the window is the image.
    """
    if images.ndim != 4 or not np.isfinite(images).all():
        raise InputError(
            f"images of shape {images.shape} came; give finite numbers, (image, channel, y, x)"
        )
    levels = np.broadcast_to(np.asarray(background, np.float64), (images.shape[1],))
    window = min(receptive_field or max(images.shape[2:]), max(images.shape[2:]))
    measures: dict[str, Callable[[NDArray[np.float64]], float]] = {
        "spectral_centroid": _spectral_centroid,
        "spectral_entropy": _spectral_entropy,
        "compressed_bytes": _compressed_bytes,
        "orientation_entropy": _orientation_entropy,
        "receptive_field_used": lambda im: _used(im - levels[:, None, None], window),
    }
    doubles = [np.asarray(image, dtype=np.float64) for image in images]
    return {
        name: np.array([measure(image) for image in doubles], dtype=np.float64)
        for name, measure in measures.items()
    }


def measure_complexity(
    images: NDArray[np.float32],
    *,
    receptive_field: int | None = None,
    background: float | Sequence[float] = 0.0,
    untrained: NDArray[np.float32] | None = None,
    resamples: int = 1000,
    rng: Rng = None,
) -> dict[str, Estimate]:
    """Mean complexity of the images of one layer, by measure, with 95 % intervals over images.

    ``untrained``: images (K, C, H, W) of the same layer before training, as control. With fewer
    than two images the interval is NaN. The measures are those of ``complexity_of``.

    >>> stripes = np.tile(np.float32([0, 0, 1, 1]), (3, 1, 16, 4))  # one period is 4 pixels
    >>> round(measure_complexity(stripes, rng=0)["spectral_centroid"].value, 2)
    0.25
    """
    draw = generator(rng)

    def measured(of: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        return complexity_of(of, receptive_field=receptive_field, background=background)

    control = {} if untrained is None else measured(untrained)
    estimates: dict[str, Estimate] = {}
    for name, values in measured(images).items():
        found = mean_of(values, resamples=resamples, rng=draw)
        before = control.get(name)
        if before is not None and np.isfinite(before).any():
            mean = float(np.nanmean(before))
            found = Estimate(found.value, found.low, found.high, untrained=mean)
        estimates[name] = found
    return estimates


def rank_correlation(
    depths: NDArray[np.float64] | Sequence[float],
    values: NDArray[np.float64] | Sequence[float],
    *,
    resamples: int = 1000,
    permutations: int = 1000,
    rng: Rng = None,
) -> Estimate:
    """Spearman's rank correlation of a measure with depth, both (n,); NaN values are left out.

    The interval is over images: they are resampled within their layer (or pairs, where every
    layer has one value). The null is the upper 95 % limit when whole layers trade places, as the
    images of a layer are no independent witnesses of a trend with depth; with n layers it cannot
    be undercut by chance more often than 1 / n!, so three layers prove nothing.
    """
    x, y = np.asarray(depths, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"depths of shape {x.shape} and values of shape {y.shape} do not match")
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    levels, layer = np.unique(x, return_inverse=True)
    if len(levels) < 2:
        return Estimate(np.nan, np.nan, np.nan)
    draw = generator(rng)
    members = [np.flatnonzero(layer == k) for k in range(len(levels))]
    if all(len(one) == 1 for one in members):
        members = [np.arange(len(x))]
    drawn = [draw.choice(one, size=(resamples, len(one))) for one in members]
    index = np.concatenate(drawn, axis=1)  # (resample, n)
    around = spearman(x[index], y[index])
    shuffled = draw.permuted(np.tile(levels, (permutations, 1)), axis=1)[:, layer]
    null = spearman(shuffled, np.broadcast_to(y, shuffled.shape))
    around, null = around[np.isfinite(around)], null[np.isfinite(null)]
    low, high = np.percentile(around, [2.5, 97.5]) if around.size else (np.nan, np.nan)
    limit = float(np.percentile(null, 95)) if null.size else None
    return Estimate(float(spearman(x[None], y[None])[0]), float(low), float(high), null=limit)


def _is_flat(image: NDArray[np.float64]) -> bool:
    contrast = (image.max(axis=(1, 2)) - image.min(axis=(1, 2))).max()
    return bool(contrast <= _FLAT * max(np.abs(image).max(), 1e-12))


def _power(image: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Frequencies in cycles per pixel and the share of the power in each; None if constant.

    The Hann window keeps the edges of the crop from passing for structure (Harris 1978); the
    windowed mean is taken out, so that nothing leaks from frequency zero.
    """
    if _is_flat(image):
        return None
    height, width = image.shape[1:]
    taper = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    mean = (image * taper).sum(axis=(1, 2), keepdims=True) / taper.sum()
    power = (np.abs(np.fft.fft2((image - mean) * taper)) ** 2).sum(axis=0)
    power[0, 0] = 0
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return frequency, power / power.sum()


def _spectral_centroid(image: NDArray[np.float64]) -> float:
    spectrum = _power(image)
    return float("nan") if spectrum is None else float((spectrum[0] * spectrum[1]).sum())


def _spectral_entropy(image: NDArray[np.float64]) -> float:
    spectrum = _power(image)
    return float("nan") if spectrum is None else _evenness(spectrum[1].ravel()[1:])


def _evenness(shares: NDArray[np.float64]) -> float:
    """Shannon entropy of shares, relative to that of equal ones, 0…1."""
    if shares.sum() <= 0:
        return float("nan")
    shares = shares / shares.sum()
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum() / np.log(len(shares)))


def _compressed_bytes(image: NDArray[np.float64]) -> float:
    blank = _png_bytes(np.zeros(image.shape[1:], np.uint8))
    if _is_flat(image):
        return 0.0
    total = 0
    for plane in image:
        low, high = plane.min(), plane.max()
        levels = np.round(255 * (plane - low) / (high - low)) if high > low else 0 * plane
        total += _png_bytes(levels.astype(np.uint8)) - blank
    return float(total)


def _png_bytes(plane: NDArray[np.uint8]) -> int:
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, format="PNG", compress_level=9)
    return buffer.tell()


def _orientation_entropy(image: NDArray[np.float64]) -> float:
    """Orientations of the gradient modulo 180 degrees, weighted by its squared length.

    Derivatives of a Gaussian of 1 pixel, the smallest that is nearly isotropic. Each gradient is
    shared between the two bins around it, so that no angle falls on an edge.
    """
    if _is_flat(image):
        return float("nan")
    down = _smooth_derivative(image, axis=1)
    across = _smooth_derivative(image, axis=2)
    place = np.arctan2(down, across).ravel() % np.pi / np.pi * _ORIENTATIONS
    energy = (down**2 + across**2).ravel()
    lower = np.floor(place).astype(int)
    upper_share = place - lower
    bins = np.zeros(_ORIENTATIONS)
    np.add.at(bins, lower % _ORIENTATIONS, energy * (1 - upper_share))
    np.add.at(bins, (lower + 1) % _ORIENTATIONS, energy * upper_share)
    return _evenness(bins)


def _smooth_derivative(image: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    smooth = ndimage.gaussian_filter1d(image, 1.0, axis=3 - axis)
    return ndimage.gaussian_filter1d(smooth, 1.0, axis=axis, order=1)


def _used(deviation: NDArray[np.float64], window: int) -> float:
    """Share of a window's pixels that hold 90 % of its energy; see ``complexity_of``."""
    energy = (deviation**2).sum(axis=0)
    if energy.sum() <= 0 or _is_flat(deviation):
        return 0.0
    shares: list[float] = []
    weights: list[float] = []
    for rows in _tiles(energy.shape[0], window):
        for columns in _tiles(energy.shape[1], window):
            tile = np.sort(energy[rows, columns].ravel())[::-1]
            if tile.sum() > 0:
                needed = np.searchsorted(np.cumsum(tile), _ENERGY * tile.sum()) + 1
                shares.append(min(float(needed) / tile.size, 1.0))
                weights.append(float(tile.sum()))
    return float(np.average(shares, weights=weights))


def _tiles(length: int, window: int) -> list[slice]:
    """Whole windows side by side, centred; one of them, where it fits, about the middle."""
    window = min(window, length)
    count = length // window
    count -= 1 - count % 2  # odd, so that the middle of the image is the middle of a window
    start = (length - count * window) // 2
    return [slice(start + k * window, start + (k + 1) * window) for k in range(count)]
