"""Crops that show the same cell again: shifted, turned, mirrored, or the next frame of a film."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.alignment import (
    ORIENTATIONS,
    Detail,
    align,
    descriptors,
    detail_of,
    difference,
    frequency_weights,
    spectra,
)
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.neighbours import find_neighbours
from cytolens.records.cells import Cells, Duplicates, Progress

MOST = 20_000  # cells that are compared; a draw of more
NEIGHBOURS = 6  # cells that each is compared with, those with the most similar spectrum
SHARE = 0.06  # of what most similar crops differ by: what crops of the same cell differ by at most
LEAST, LARGEST = 0.003, 0.03  # share of the detail that crops of the same cell may differ in
MOST_NOISE = 0.03  # of the detail; where noise explains more, two crops cannot be compared
_FEWEST = 4  # cells that are worth comparing
_FARTHEST = 5  # pixels that a crop is shifted by at most, or an eighth of its side
_HOPEFUL = 0.4  # likeness of spectra below which two crops are not compared pixel by pixel
_NEAR = 0.2  # difference up to which the shift is tried one pixel further each way
_TRIED = 3  # orientations that are compared pixel by pixel
_CHANNELS = 3  # image channels that are compared at most: those with the most detail
_SAMPLE = 512  # cells that show how much cells differ at each frequency
_BATCH = 256
_HELD = 256 << 20  # bytes of crops that are kept in memory rather than read again

Pairs = NDArray[np.int64]


def find_duplicates(
    cells: Cells, *, most: int = MOST, rng: Rng = None, progress: Progress | None = None
) -> Duplicates:
    """Pairs of crops of the same cell: equal but for a shift, a turn by 90°, a mirror image, noise.

    Each crop is compared with the six whose spectrum is most similar in what neither shift nor
    turn changes. Laid onto each other, two differ in a share of their detail of 1 to 4 px; what
    white noise explains of it is taken off. They are the same cell where that is at most 6 % of
    what it is for the middle one of all pairs compared, and 0.3 to 3 % in any case. So little
    is rare between distinct cells: docs/duplicates.md has the figures.

    At most ``most`` cells are compared, drawn at random. Crops are read in batches.
    """
    draw = generator(rng)
    looked = np.arange(len(cells), dtype=np.int64)
    if len(cells) > most:
        looked = np.sort(draw.choice(looked, most, replace=False))
    if len(looked) < _FEWEST:
        return Duplicates(np.empty((0, 2), dtype=np.int64), np.empty(0), looked)
    crops = _Crops(cells.subset(looked), draw)
    found: list[NDArray[np.complex64]] = []
    for start in range(0, len(looked), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(looked)))
        found.append(_half(crops.weighted(rows)))
        _tell(progress, 0.5 * len(found) * _BATCH / len(looked))
    halves = np.concatenate(found)
    described = np.concatenate([descriptors(_whole(half)) for half in found])
    near = find_neighbours(described, NEIGHBOURS).indices
    asked = np.repeat(np.arange(len(looked)), near.shape[1])
    candidates = np.unique(np.sort(np.stack([asked, near.ravel()], axis=1), axis=1), axis=0)
    compared: list[NDArray[np.float64]] = []
    for start in range(0, len(candidates), _BATCH):
        compared.append(_compare(crops, halves, candidates[start : start + _BATCH]))
        _tell(progress, 0.5 + 0.5 * start / len(candidates))
    apart, noise = np.concatenate(compared).T
    same = _are_same(apart, noise)
    return Duplicates(looked[candidates[same]], (apart - noise)[same], looked)


class _Crops:
    """Square crops above their background, of the image channels that are compared."""

    def __init__(self, cells: Cells, draw: np.random.Generator) -> None:
        self._cells = cells
        self._background = np.array(cells.preparation.background, dtype=np.float32)[:, None, None]
        self._channels: NDArray[np.int64] | slice = slice(None)
        self._held: NDArray[np.float32] | None = None
        some = np.sort(draw.permutation(len(cells))[:_SAMPLE])
        pictures = self.read(some)
        weights = frequency_weights(spectra(pictures), pictures)
        if len(weights) > _CHANNELS:
            strength = (np.abs(spectra(pictures)) ** 2).mean(axis=0) * weights**2
            self._channels = np.sort(np.argsort(-strength.sum(axis=(1, 2)))[:_CHANNELS])
        self._weights = weights[self._channels]
        self.side = pictures.shape[-1]
        if len(cells) * pictures[0].nbytes <= _HELD:
            every = np.arange(len(cells))
            self._held = np.concatenate(
                [self.read(every[start : start + _BATCH]) for start in range(0, len(every), _BATCH)]
            )

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, C, S, S) float32, 0 where there is background."""
        if self._held is not None:
            return self._held[rows]
        raw = self._cells.images.read_raw(rows).astype(np.float32) - self._background
        raw = raw[:, self._channels]
        short = max(raw.shape[2:]) - np.array(raw.shape[2:])
        return np.pad(raw, ((0, 0), (0, 0), *((int(s) // 2, int(s - s // 2)) for s in short)))

    def weighted(self, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Their weighted spectra (n, C, 2K+1, 2K+1)."""
        return spectra(self.read(rows)) * self._weights


def _compare(crops: _Crops, halves: NDArray[np.complex64], pairs: Pairs) -> NDArray[np.float64]:
    """How far apart the cells of each pair (n, 2) are, and what is noise of it (n, 2)."""
    farthest = max(_FARTHEST, crops.side // 8)
    first, second = (_whole(halves[pairs[:, k]]) for k in (0, 1))
    likeness, shifts = align(first, second, crops.side, farthest=farthest)
    hopeful = np.flatnonzero(likeness.max(axis=1) >= _HOPEFUL)
    used, where = np.unique(pairs[hopeful], return_inverse=True)
    found = np.tile((1.0, 0.0), (len(pairs), 1))
    if len(used):
        detail = detail_of(crops.read(used))
        for pair, (a, b) in zip(hopeful.tolist(), where.reshape(-1, 2).tolist()):
            found[pair] = _difference(detail, a, b, likeness[pair], shifts[pair])
    return found


def _difference(
    detail: Detail, a: int, b: int, likeness: NDArray[np.float32], shifts: NDArray[np.int64]
) -> tuple[float, float]:
    """The least `difference` over the likeliest orientations and shifts around the best."""

    def tried(place: int, y: int, x: int) -> tuple[tuple[float, float], int, int, int]:
        return difference(detail, a, b, ORIENTATIONS[place], (y, x)), place, y, x

    likeliest = np.argsort(-likeness)[:_TRIED].tolist()
    best, place, y, x = min(tried(way, *shifts[way].tolist()) for way in likeliest)
    if best[0] > _NEAR:
        return best
    return min(best, *(tried(place, y + dy, x + dx)[0] for dy, dx in _AROUND))


_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def _are_same(apart: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs (n,) are of one cell, by how far the others are apart."""
    beyond, comparable = apart - noise, noise <= MOST_NOISE
    others = beyond[(beyond > LEAST) & (apart < 1)]  # 1: not laid onto each other
    limit = SHARE * float(np.median(others)) if len(others) else LARGEST
    return comparable & (beyond <= np.clip(limit, LEAST, LARGEST))


def _half(whole: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The half of a spectrum that the other half follows from."""
    return whole[..., whole.shape[-2] // 2 :, :].copy()


def _whole(half: NDArray[np.complex64]) -> NDArray[np.complex64]:
    return np.concatenate([np.conj(half[..., :0:-1, ::-1]), half], axis=-2)


def _tell(progress: Progress | None, share: float) -> None:
    if progress is not None:
        progress(min(int(100 * share), 100), 100, "comparing crops")
