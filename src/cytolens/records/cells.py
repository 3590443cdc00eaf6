"""The cells: crops with what is known of them, and how they were prepared."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Index = slice | NDArray[np.int64] | NDArray[np.bool_]


Settings = dict[str, Any]


Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is going on); every stage that can take long accepts one."""


class ImageSource(Protocol):
    """Crops that are read in batches: a file folder, a memory map, a Zarr array."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        ...

    def read(self, index: Index) -> NDArray[np.float32]:
        """The chosen crops, float32 (n, C, H, W), prepared (one size, scaled intensity)."""
        ...

    def read_raw(self, index: Index) -> NDArray[Any]:
        """The same crops at one size but in the file's own dtype and intensities."""
        ...

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W): True where a pixel was measured, False where it was padded."""
        ...


@dataclass(frozen=True)
class Preparation:
    """How crops of any size and bit depth become (C, H, W) float32. Recorded with every run.

    A crop is padded with ``background`` or cropped about its centre to ``size``, never rescaled.
    With ``intensity="dataset"`` each channel is mapped by (x - low) / (high - low) with the
    data set's own limits; ``"image"`` takes the limits of each crop's measured pixels;
    ``"none"`` keeps the file's numbers. Values are not clipped.
    """

    size: tuple[int, int]  # pixels
    intensity: str  # "dataset", "image" or "none"
    low: tuple[float, ...]  # per channel, in the file's units
    high: tuple[float, ...]
    background: tuple[float, ...]  # per channel, in the file's units
    dtype: str  # of the files


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Cells:
    """Single-cell crops with what is known of them; images are read in batches, on demand."""

    images: ImageSource
    labels: NDArray[np.int64]  # (N,), index into class_names
    class_names: tuple[str, ...]
    channel_names: tuple[str, ...]
    names: NDArray[np.str_]  # (N,), file name, or "file.npz[17]"
    preparation: Preparation
    original_sizes: NDArray[np.int64]  # (N, 2), height and width in pixels before padding
    groups: NDArray[np.str_] | None = None  # (N,), donor, plate, run …
    group_name: str | None = None
    covariates: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    pixel_size: float | None = None  # µm per pixel
    source: str = ""  # path, as given
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()  # what was taken for what; warnings

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of one prepared crop."""
        return self.images.shape[1:]

    def read(self, index: Index) -> NDArray[np.float32]:
        """Prepared crops (n, C, H, W), float32."""
        return self.images.read(index)

    def batches(self, size: int = 256) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All cells in order, a batch at a time: (slice of the cells, (n, C, H, W) float32)."""
        for start in range(0, len(self), size):
            chosen = slice(start, min(start + size, len(self)))
            yield chosen, self.images.read(chosen)

    def subset(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Cells":
        """The chosen cells, in the order given; images are still read on demand."""
        chosen = np.arange(len(self), dtype=np.int64)[index]
        return replace(
            self,
            images=SubsetImages(self.images, chosen),
            labels=self.labels[chosen],
            names=self.names[chosen],
            original_sizes=self.original_sizes[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            covariates={name: column[chosen] for name, column in self.covariates.items()},
        )


@dataclass(frozen=True)
class SubsetImages:
    """Some rows of another image source."""

    parent: ImageSource
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        return (len(self.index), *self.parent.shape[1:])

    def read(self, index: Index) -> NDArray[np.float32]:
        """Prepared crops, float32 (n, C, H, W)."""
        return self.parent.read(self.index[index])

    def read_raw(self, index: Index) -> NDArray[Any]:
        """Crops in the file's own dtype."""
        return self.parent.read_raw(self.index[index])

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W), True where measured."""
        return self.parent.masks(self.index[index])


@dataclass(frozen=True)
class Split:
    """Which cells train, validate and test; no group is in two parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Simulation:
    """Simulated cells and the truth about them."""

    images: NDArray[np.uint16]  # (N, 1, H, W), camera counts
    labels: NDArray[np.int64]  # (N,)
    class_names: tuple[str, ...]
    masks: Mapping[str, NDArray[Any]]  # (N, H, W): nucleus, lobes (their number), cytoplasm, plant
    properties: Mapping[str, NDArray[Any]]  # per cell (N,)
    pixel_size: float  # µm
    settings: Settings
