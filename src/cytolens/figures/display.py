"""How crops of one or many image channels are shown; nothing here loads Matplotlib."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolens.records.cells import Cells

Limits = Sequence[float] | NDArray[np.floating]
_RED_GREEN_BLUE = (("red", "green", "blue"), ("r", "g", "b"))
_known: dict[tuple[int, int], "Display"] = {}  # of cells that are in use, by id and sample


@dataclass(frozen=True)
class Display:
    """How crops are drawn: one grey picture per image channel, or one in colour."""

    channel_names: tuple[str, ...]
    limits: NDArray[np.float64]  # (C, 2), the intensities drawn black and white
    colour: bool  # the channels are red, green and blue

    @property
    def views(self) -> tuple[str, ...]:
        """Name of each picture a crop is shown as."""
        return ("RGB",) if self.colour else self.channel_names

    def show(self, image: NDArray[np.floating], view: int = 0) -> NDArray[np.float64]:
        """One picture (H, W, 3), 0…1, of a crop (C, H, W); what is not finite is drawn black."""
        low, high = self.limits[:, 0, None, None], self.limits[:, 1, None, None]
        width = np.where(high > low, high - low, 1.0)
        scaled = np.clip(np.nan_to_num((np.asarray(image, dtype=float) - low) / width), 0, 1)
        if self.colour:
            return np.moveaxis(scaled, 0, -1)
        return np.repeat(scaled[view][..., None], 3, axis=-1)


def display_of_channels(
    channels: int, *, channel_names: Sequence[str] = (), value_range: Limits = (0.0, 1.0)
) -> Display:
    """How images of so many channels are drawn, between ``value_range``: (2,) or per channel."""
    names = tuple(channel_names) or tuple(
        ["image"] if channels == 1 else [f"channel {i}" for i in range(channels)]
    )
    limits = np.broadcast_to(np.asarray(value_range, dtype=float), (channels, 2)).copy()
    colour = tuple(name.lower() for name in names) in _RED_GREEN_BLUE
    return Display(names, limits, colour)


def display_of_cells(cells: Cells, *, sample: int = 256) -> Display:
    """How these cells are drawn: one scale for all, from the 0.5 to the 99.8 percentile.

    Percentiles are over up to ``sample`` crops spread evenly over the data set, so that few
    hot pixels do not darken all the others. Colour images use one scale for their three channels.
    The same cells are looked at once.
    """
    key = id(cells), sample
    if key not in _known:
        _known[key] = _looked_at(cells, sample)
        weakref.finalize(cells, _known.pop, key, None)
    return _known[key]


def _looked_at(cells: Cells, sample: int) -> Display:
    index = np.unique(np.linspace(0, len(cells) - 1, min(sample, len(cells))).astype(np.int64))
    pixels = np.moveaxis(cells.read(index), 1, 0).reshape(cells.shape[0], -1)
    limits = np.nanpercentile(pixels, [0.5, 99.8], axis=1).T
    drawn = display_of_channels(
        cells.shape[0], channel_names=cells.channel_names, value_range=limits
    )
    if drawn.colour:
        limits = [float(limits[:, 0].min()), float(limits[:, 1].max())]
        return display_of_channels(
            cells.shape[0], channel_names=cells.channel_names, value_range=limits
        )
    return drawn
