"""One pass over all crops: is each usable, how large and bright is it, was it seen before?"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import Crop, Crops, in_batches
from cytolens.images.preparation import LIMIT_PERCENTILES, border_background
from cytolens.records.cells import Progress, Skipped

SAMPLED_CELLS = 4096  # whose pixels set intensity limits and background
SAMPLED_PIXELS = 1024  # of each of these, evenly spaced
LARGEST_VALUE = 1e30  # of a pixel: its square, and sums of these, still fit into a float32's range
_REFERENCE_CELLS = 32  # the majority of these sets the number of channels and the dtype


@dataclass(frozen=True)
class Checked:
    """The usable crops and what preparation needs to know of them."""

    kept: NDArray[np.int64]  # (n,), positions among the reader's crops
    sizes: NDArray[np.int64]  # (n, 2), height and width
    digests: NDArray[np.uint64]  # (n,), equal for equal pictures
    low: NDArray[np.float64]  # (C,), robust limits of intensity
    high: NDArray[np.float64]
    background: NDArray[np.float64]  # (C,)
    flat_channels: tuple[int, ...]  # the same number everywhere
    alike_channels: bool  # every channel shows the same as the first
    dtype: np.dtype[Any]
    skipped: tuple[Skipped, ...]


def check_crops(
    crops: Crops,
    positions: NDArray[np.int64],
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Reads every crop once, a batch at a time, and keeps only numbers about it.

    The first crop that cannot be used raises InputError, named; with ``skip_bad`` it is listed
    instead. Limits are percentiles over an even sample of cells, chosen with a fixed seed; the
    background is the median over these of each crop's own.
    """
    sweep = _Sweep(*_reference(crops, positions))
    sampled = np.zeros(len(positions), dtype=bool)
    n_sampled = min(SAMPLED_CELLS, len(positions))
    sampled[np.random.default_rng(0).choice(len(positions), n_sampled, replace=False)] = True
    usable = np.zeros(len(positions), dtype=bool)
    sizes = np.zeros((len(positions), 2), dtype=np.int64)
    digests = np.zeros(len(positions), dtype=np.uint64)
    skipped: list[Skipped] = []
    for start, loaded in in_batches(crops, positions):
        batch = positions[start : start + len(loaded)]
        problems = sweep.see(loaded, sampled[start : start + len(batch)])
        for row, crop in enumerate(loaded):
            if row in problems:
                name = crops.name(int(batch[row]))
                if not skip_bad:
                    raise InputError(f"{name} {problems[row]}; --skip-bad leaves it out")
                skipped.append(Skipped(name, problems[row]))
                continue
            assert not isinstance(crop, InputError)
            usable[start + row] = True
            sizes[start + row] = crop.shape[1:]
            digest = hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=8).digest()
            digests[start + row] = int.from_bytes(digest, "little")
        if progress is not None:
            progress(start + len(batch), len(positions), "checking images")
    if not usable.any():
        first = skipped[0]
        raise InputError(
            f"none of {len(positions)} images can be used: {first.name} {first.reason}"
        )
    low, high, background, flat = sweep.summary()
    return Checked(
        kept=positions[usable],
        sizes=sizes[usable],
        digests=digests[usable],
        low=low,
        high=high,
        background=background,
        flat_channels=flat,
        alike_channels=sweep.alike,
        dtype=sweep.dtype,
        skipped=tuple(skipped),
    )


def _reference(crops: Crops, positions: NDArray[np.int64]) -> tuple[int, np.dtype[Any]]:
    """Number of channels and dtype that most of a few evenly spaced crops have."""
    spaced = np.linspace(0, len(positions) - 1, min(_REFERENCE_CELLS, len(positions)))
    chosen = positions[np.unique(spaced.astype(np.int64))]
    found = (crop for _, loaded in in_batches(crops, chosen) for crop in loaded)
    kinds = Counter((len(c), c.dtype) for c in found if not isinstance(c, InputError))
    return kinds.most_common(1)[0][0] if kinds else (1, np.dtype(np.uint8))


class _Sweep:
    """What has been seen so far: extremes of every channel, and samples for its percentiles."""

    def __init__(self, channels: int, dtype: np.dtype[Any]) -> None:
        self.channels, self.dtype = channels, dtype
        self.alike = channels > 1
        self._least = np.full(channels, np.inf)
        self._most = np.full(channels, -np.inf)
        self._pixels: list[NDArray[Any]] = []  # each (C, sampled pixels)
        self._backgrounds: list[NDArray[Any]] = []  # each (n, C)

    def see(self, crops: list[Crop | InputError], sampled: NDArray[np.bool_]) -> dict[int, str]:
        """Take in a batch. Gives what is wrong with its unusable crops, by row."""
        problems: dict[int, str] = {}
        by_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, crop in enumerate(crops):
            problem = str(crop) if isinstance(crop, InputError) else self._problem(crop)
            if problem:
                problems[row] = problem
            else:
                assert not isinstance(crop, InputError)
                by_shape[crop.shape].append(row)
        for rows in by_shape.values():
            same = [np.asarray(crops[row]) for row in rows]
            block = same[0][None] if len(same) == 1 else np.stack(same)  # (n, C, h, w)
            good = self._see_block(block, rows, problems)
            chosen = good & sampled[rows]
            if chosen.any():
                self._sample(block if chosen.all() else block[chosen])
        return problems

    def _problem(self, crop: Crop) -> str:
        if 0 in crop.shape:
            return f"has no pixels ({crop.shape[1]} × {crop.shape[2]})"
        if crop.dtype.kind not in "uif" or crop.dtype.itemsize > 8:
            return f"has values of type {crop.dtype}; whole or real numbers are allowed"
        if len(crop) != self.channels:
            return f"has {_counted(len(crop))} where the others have {self.channels}"
        if crop.dtype != self.dtype:
            return f"has values of type {crop.dtype} where the others have {self.dtype}"
        return ""

    def _see_block(
        self, block: NDArray[Any], rows: list[int], problems: dict[int, str]
    ) -> NDArray[np.bool_]:
        """Which crops (n,) of one shape are usable; updates the extremes."""
        flat = block.reshape(*block.shape[:2], -1)
        least, most = flat.min(axis=2), flat.max(axis=2)  # (n, C); NaN if any pixel is
        finite = (np.isfinite(least) & np.isfinite(most)).all(axis=1)
        constant = finite & (least == most).all(axis=1)
        for i in np.flatnonzero(~finite):
            problems[rows[i]] = "has NaN or infinite pixels"
        top, bottom = most.max(axis=1).astype(np.float64), least.min(axis=1).astype(np.float64)
        vast = finite & (np.maximum(top, -bottom) > LARGEST_VALUE)
        for i in np.flatnonzero(vast):
            worst = max(float(most[i].max()), -float(least[i].min()))
            problems[rows[i]] = f"has pixels as large as {worst:.3g}; {LARGEST_VALUE:g} is allowed"
        for i in np.flatnonzero(constant & ~vast):
            problems[rows[i]] = f"is constant (every pixel is {least[i, 0]})"
        good = finite & ~constant & ~vast
        if good.any():
            self._least = np.minimum(self._least, least[good].min(axis=0))
            self._most = np.maximum(self._most, most[good].max(axis=0))
            if self.alike:
                seen = block if good.all() else block[good]
                self.alike = all(
                    bool((seen[:, i] == seen[:, 0]).all()) for i in range(1, len(least[0]))
                )
        return good

    def _sample(self, block: NDArray[Any]) -> None:
        flat = block.reshape(*block.shape[:2], -1)
        step = -(-flat.shape[2] // SAMPLED_PIXELS)
        few = flat[:, :, ::step].copy()  # a view would keep the whole block
        self._pixels.append(np.moveaxis(few, 1, 0).reshape(self.channels, -1))
        self._backgrounds.append(border_background(block))

    def summary(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
        """Low, high and background of every channel (C,), and the channels without contrast."""
        if not self._pixels:  # every sampled crop was bad; the extremes are still known
            low, high, background = self._least, self._most, self._least
        else:
            pixels = np.concatenate(self._pixels, axis=1)
            low, high = np.percentile(pixels, LIMIT_PERCENTILES, axis=1)
            background = np.median(np.concatenate(self._backgrounds), axis=0)
        narrow = high <= low  # nearly all pixels are equal: only the extremes are left
        low, high = np.where(narrow, self._least, low), np.where(narrow, self._most, high)
        flat = tuple(np.flatnonzero(high <= low).tolist())
        high = np.where(high > low, high, low + 1)
        return low, high, background.astype(np.float64), flat


def _counted(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"
