"""Simple descriptions of a crop, which know nothing of a network; and random filters, a control.

Each description holds those before it, so that what it explains can only be more.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from cytolens.features.scattering import scatter

Floats = NDArray[np.float64]

DESCRIPTIONS = ("intensity", "profile", "first_order", "second_order")
"""Brightness and size; where the brightness lies; edges, spots and grain; their arrangement."""

FILTERS = 8  # random ones of each field
_LEVELS = 16  # of the histogram
_RINGS = 8
_SMALL = 1e-3  # of a coefficient's mean, below which its logarithm falls no further
_LEVEL_BY = 64  # cells by whose answers the median of a random filter is known
_AT_ONCE = 2**18  # answers held at a time: hardly any memory, and as fast


def describe_simply(
    crops: NDArray[np.float32], train: NDArray[np.bool_], *, background: Sequence[float]
) -> dict[str, Floats]:
    """The descriptions of crops (N, C, H, W), (N, F) each, by their name in `DESCRIPTIONS`.

    ``intensity``: mean, standard deviation, extremes and a histogram of each image channel: a mean
    over pixels of any function of the intensity, and with it the area above every level.
    ``profile``: mean and standard deviation in rings about the cell's centre, its extent, how
    elongated it is, and where it lies. ``first_order``, ``second_order``: wavelet `scatter`
    coefficients and their logarithms. Levels and scales are those of the ``train`` cells (N,).
    """
    scattering = scatter(crops)
    parts: dict[str, Floats] = {
        "intensity": _histograms(crops, train, background),
        "profile": _profiles(crops, background),
        "first_order": _with_logarithm(scattering.first, train),
        "second_order": _with_logarithm(scattering.second, train),
    }
    names = list(parts)
    return {
        name: np.concatenate([parts[one] for one in names[: place + 1]], axis=1)
        for place, name in enumerate(names)
    }


def random_answers(
    crops: NDArray[np.float32], field: int, *, background: Sequence[float], seed: int = 0
) -> NDArray[np.float32]:
    """Answers (N, `FILTERS`) to crops (N, C, H, W) of random filters that see ``field`` pixels.

    One linear filter of independent normal weights, then what is above its median response, as
    a channel with the field of a deep layer would answer had it no depth; the mean over
    positions and over two orientations.
    """
    levels = np.asarray(background, np.float32)[:, None, None]
    channels, height, width = crops.shape[1:]
    side = min(field, height, width)
    draw = np.random.default_rng([seed, side])
    weights = draw.normal(size=(FILTERS, channels, side, side)).astype(np.float32)
    shape = tuple(next_fast_len(length + side // 2, real=True) for length in (height, width))
    first = side // 2  # where the filter lies about the pixel; beyond the crop is nothing
    batch = max(1, _AT_ONCE // (2 * FILTERS * height * width))
    with torch.inference_mode():
        turned = [torch.from_numpy(np.rot90(weights, turn, (2, 3)).copy()) for turn in (0, 1)]
        filters = torch.cat([torch.fft.rfft2(one, s=shape) for one in turned])

        def answers(some: NDArray[np.float32]) -> Iterator[torch.Tensor]:
            for start in range(0, len(some), batch):
                images = torch.from_numpy(some[start : start + batch] - levels)
                spectra = torch.einsum("nchw,kchw->nkhw", torch.fft.rfft2(images, s=shape), filters)
                maps = torch.fft.irfft2(spectra, s=shape)
                yield maps[..., first : first + height, first : first + width]

        known = torch.cat(list(answers(crops[:_LEVEL_BY])))
        limit = known.transpose(0, 1).flatten(1).median(1).values[:, None, None]
        responses = [(maps - limit).relu().mean((2, 3)) for maps in answers(crops)]
    return torch.cat(responses).reshape(len(crops), 2, FILTERS).mean(1).numpy()


def _histograms(
    crops: NDArray[np.float32], train: NDArray[np.bool_], background: Sequence[float]
) -> Floats:
    """Shares of pixels around each level, (N, …): each pixel is shared by the two levels next."""
    columns: list[Floats] = []
    for channel, level in enumerate(background):
        values = crops[:, channel].reshape(len(crops), -1).astype(np.float64)
        known = values[train]
        known = known[np.abs(known - level) > 1e-6]
        if known.size == 0:
            known = values[train].ravel()
        knots = np.unique(np.append(np.quantile(known, np.linspace(0, 1, _LEVELS + 1)), level))
        place = np.interp(values, knots, np.arange(len(knots)))
        below = np.floor(place).astype(np.int64)
        share = place - below
        rows = np.arange(len(crops))[:, None] * (len(knots) + 1)
        size = len(crops) * (len(knots) + 1)
        counts = np.bincount((rows + below).ravel(), (1 - share).ravel(), size)
        counts += np.bincount((rows + below + 1).ravel(), share.ravel(), size)
        moments = [values.mean(1), values.std(1), values.min(1), values.max(1)]
        table = counts.reshape(len(crops), -1)[:, : len(knots)] / values.shape[1]
        columns += [table, np.stack(moments, axis=1)]
    return np.concatenate(columns, axis=1)


def _profiles(crops: NDArray[np.float32], background: Sequence[float]) -> Floats:
    """Rings about the centre of what differs from the background, and its extent, (N, …)."""
    n, channels, height, width = crops.shape
    levels = np.asarray(background, np.float64)[:, None, None]
    mass = np.abs(crops - levels).sum(1) + 1e-9  # (N, H, W)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    total = mass.sum((1, 2))
    centre_y, centre_x = (np.einsum("nhw,hw->n", mass, axis) / total for axis in (y, x))
    down, across = y - centre_y[:, None, None], x - centre_x[:, None, None]
    tall, wide, slant = (
        (mass * product).sum((1, 2)) / total for product in (down**2, across**2, down * across)
    )
    elongation = np.hypot(tall - wide, 2 * slant) / (tall + wide)
    off_centre = np.hypot(centre_y - (height - 1) / 2, centre_x - (width - 1) / 2)
    distance = np.hypot(down, across) / (min(height, width) / 2) * _RINGS
    ring = np.minimum(distance.astype(np.int64), _RINGS)  # the last: beyond
    cells = np.arange(n)[:, None, None] * (_RINGS + 1) + ring
    size = n * (_RINGS + 1)
    count = np.maximum(np.bincount(cells.ravel(), minlength=size), 1)
    columns = [np.stack([np.sqrt(tall + wide), elongation, off_centre], axis=1)]
    for channel in range(channels):
        values = crops[:, channel].astype(np.float64)
        means = np.bincount(cells.ravel(), values.ravel(), size) / count
        squares = np.bincount(cells.ravel(), (values**2).ravel(), size) / count
        deviation = np.sqrt(np.maximum(squares - means**2, 0))
        columns += [means.reshape(n, -1), deviation.reshape(n, -1)]
    return np.concatenate(columns, axis=1)


def _with_logarithm(values: NDArray[np.float32], train: NDArray[np.bool_]) -> Floats:
    doubles = values.astype(np.float64)
    floor = _SMALL * doubles[train].mean(axis=0) + 1e-12
    return np.concatenate([doubles, np.log(doubles + floor)], axis=1)
