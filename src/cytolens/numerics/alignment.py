"""How alike two pictures are when one may be shifted, turned by 90° and mirrored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]

ORIENTATIONS = tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True))
FREQUENCIES = 12  # periods along a side, at most; a crop of 48 px is then resolved to 2 px
NOISE = 0.04  # of the range of a picture: differences that may be noise
MARGIN = 8  # pixels around a picture that keep a shifted one from coming in at the other side
_TAPER = 4  # pixels over which a picture fades out at its border: a shift changes what is there
_DESCRIBED = 8  # periods along a side up to which a picture is described
_SIDE = 64  # pixels; detail of larger pictures is looked for at a coarser scale


def spectra(pictures: Floats) -> Spectra:
    """Low frequencies (n, C, 2K+1, 2K+1) of square pictures (n, C, S, S) about their centre.

    The background is to be 0. Turning a picture turns its spectrum.
    """
    side = pictures.shape[-1]
    fade = np.ones(side, dtype=np.float32)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_TAPER) + 0.5) / _TAPER)
    fade[:_TAPER], fade[-_TAPER:] = ramp, ramp[::-1]
    place = np.arange(side) - (side - 1) / 2
    wave = np.exp(-2j * np.pi * np.outer(frequencies(side), place)).astype(np.complex64)
    wave = wave * fade
    return (wave @ pictures.astype(np.complex64) @ wave.T).astype(np.complex64, copy=False)


def frequencies(side: int) -> NDArray[np.float64]:
    """The frequencies (2K+1,) that pictures of this side are compared at, in periods per pixel."""
    most = min(FREQUENCIES, (side + MARGIN) // 4)
    return np.arange(-most, most + 1) / (side + MARGIN)


def frequency_weights(found: Spectra, pictures: Floats) -> Floats:
    """Weights (C, 2K+1, 2K+1): each frequency counts by how much the pictures differ there.

    Where pictures hold no more than noise of 4 % of their range, a frequency does not count.
    This is the matched filter for one picture of these among the others (Turin 1960).
    """
    power = (np.abs(found) ** 2).mean(axis=0)
    power = np.stack([turned(power, *way) for way in ORIENTATIONS]).mean(axis=0)
    contrast = np.median(np.ptp(pictures, axis=(2, 3)), axis=0)  # (C,)
    noise = (NOISE * contrast) ** 2 * pictures.shape[-1] ** 2
    signal = np.maximum(power - noise[:, None, None], 0)
    weights = np.sqrt(signal) / np.maximum(power, np.finfo(np.float32).tiny)
    middle = weights.shape[-1] // 2
    weights[:, middle, middle] = 0  # brightness alone makes no two cells the same
    return weights.astype(np.float32)


def turned(pictures: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    """Pictures or spectra (…, S, S) turned by 90° so many times, then mirrored or not."""
    rotated = np.rot90(pictures, turns, axes=(-2, -1))
    return rotated[..., ::-1] if mirrored else rotated


def descriptors(weighted: Spectra) -> Floats:
    """Rows (n, F) that a shift, a turn by 90° and a mirror image leave as they are.

    A shift changes no amplitude. Turns and mirror images exchange the amplitudes at
    (±u, ±v) and (±v, ±u), which are sorted here.
    """
    amplitudes = np.abs(weighted)
    middle = amplitudes.shape[-1] // 2
    most = min(middle, _DESCRIBED)
    rows: list[Floats] = []
    for u in range(1, most + 1):
        for v in range(u + 1):
            if u * u + v * v > most * most:
                continue
            places = ((u, v), (u, -v), (v, u), (-v, u))
            orbit = [amplitudes[:, :, middle + y, middle + x] for y, x in places]
            rows.append(np.sort(np.stack(orbit, axis=-1), axis=-1))
    table = np.concatenate(rows, axis=-1).reshape(len(weighted), -1)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    return (table / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)


def align(
    first: Spectra, second: Spectra, side: int, *, farthest: int
) -> tuple[Floats, NDArray[np.int64]]:
    """How to lay ``second`` onto ``first`` (n, C, 2K+1, 2K+1), for each orientation.

    Gives likeness (n, 8), the normalised cross-correlation at the best shift of up to
    ``farthest`` pixels each way, and these shifts (n, 8, 2) as (y, x).
    """
    shifts = np.arange(-farthest, farthest + 1)
    wave = np.exp(2j * np.pi * np.outer(shifts, frequencies(side))).astype(np.complex64)
    lengths = [np.sqrt((np.abs(one) ** 2).sum(axis=(1, 2, 3))) for one in (first, second)]
    scale = np.maximum(lengths[0] * lengths[1], np.finfo(np.float32).tiny)
    likeness = np.empty((len(first), len(ORIENTATIONS)), dtype=np.float32)
    best = np.empty((len(first), len(ORIENTATIONS), 2), dtype=np.int64)
    for place, way in enumerate(ORIENTATIONS):
        product = (first * np.conj(turned(second, *way))).sum(axis=1)
        found = (wave @ product @ wave.T).real.reshape(len(first), -1)
        at = found.argmax(axis=1)
        likeness[:, place] = found[np.arange(len(first)), at] / scale
        best[:, place] = shifts[np.stack(np.unravel_index(at, (len(shifts), len(shifts))), axis=1)]
    return likeness, best


@dataclass(frozen=True)
class Detail:
    """Detail of pictures (n, C, S, S), and what finer detail, which may be noise, they have."""

    detail: Floats
    finest: Floats
    noise: float  # variance of the detail per variance of the finest, of white noise


def detail_of(pictures: Floats) -> Detail:
    """What is between 1 and 4 px in size (more in crops of more than 64 px), and what is below."""
    scale = max(1.0, pictures.shape[-1] / _SIDE)
    gains = [float((one**2).sum()) for one in _bands(_IMPULSE, scale)]
    return Detail(*_bands(pictures, scale), gains[0] / gains[1])


_IMPULSE = np.zeros((81, 81), dtype=np.float32)
_IMPULSE[40, 40] = 1


def _bands(pictures: Floats, scale: float) -> tuple[Floats, Floats]:
    def smooth(width: float) -> Floats:
        widths = (0,) * (pictures.ndim - 2) + (width, width)
        return np.asarray(ndimage.gaussian_filter(pictures, widths, truncate=3), dtype=np.float32)

    return smooth(scale) - smooth(4 * scale), pictures - smooth(0.8)


def difference(
    one: Detail, a: int, b: int, way: tuple[int, bool], shift: tuple[int, int]
) -> tuple[float, float]:
    """How far the detail of picture ``a`` is from that of ``b`` laid onto it, where they overlap.

    The square of the difference, as a share of both pictures' own, 0 where they are equal and
    about 1 where they have nothing in common; and the part of it that white noise explains, by
    how far they are apart in the finest detail.
    """
    ours, theirs = _overlapping(one.detail[a], turned(one.detail[b], *way), shift)
    ours = ours - ours.mean(axis=(1, 2), keepdims=True)
    theirs = theirs - theirs.mean(axis=(1, 2), keepdims=True)
    whole = float(np.square(ours).sum() + np.square(theirs).sum())
    if whole <= 0:
        return 1.0, 0.0
    fine, other = _overlapping(one.finest[a], turned(one.finest[b], *way), shift)
    apart = float(np.square(ours - theirs).sum()) / whole
    return apart, one.noise * float(np.square(fine - other).sum()) / whole


def _overlapping(a: Floats, b: Floats, shift: tuple[int, int]) -> tuple[Floats, Floats]:
    """The parts of pictures (C, S, S) that overlap once ``b`` is shifted, without their border."""
    side, border = a.shape[-1], 2
    to: list[slice] = []
    source: list[slice] = []
    for step in shift:
        to.append(slice(max(0, step) + border, side + min(0, step) - border))
        source.append(slice(max(0, -step) + border, side + min(0, -step) - border))
    return a[:, to[0], to[1]], b[:, source[0], source[1]]
