"""The cells: crops with what is known of them, and how they were prepared."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from cytolens.records.shown import listing, notebook, record

Index = slice | NDArray[np.int64] | NDArray[np.bool_]
Settings = dict[str, Any]

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is being done); every stage that can take long accepts one."""


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


@record
class Preparation:
    """How crops of any size and bit depth become (C, H, W) float32. Recorded with every run.

    A crop is padded with ``background`` or cut around its centre to ``size``, never rescaled.
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
    masks: str = "ignore"  # what the masks of the files did: "ignore", "blank" or "crop"


@record
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@record
class Decision:
    """What a person decided on a cell: another class, or to leave it out."""

    name: str
    given: str  # the class in the data
    label: str | None  # the class now; None: left out


@record
class Cell:
    """One cell: its crop and what is known of it."""

    image: NDArray[np.float32]  # (C, H, W), prepared
    name: str
    label: int  # index into the class names of the cells it came from; -1 where unknown
    class_name: str
    group: str | None
    covariates: Mapping[str, Any]  # numbers and texts, by name

    def _repr_html_(self) -> str:
        return notebook(self, self.image[None])


@record
class Cells:
    """Single-cell crops with what is known of them; images are read in batches, on demand.

    ``cells[0]`` is a `Cell`; ``cells[:10]``, ``cells[mask]`` and ``cells[indices]`` are Cells
    again, and ``np.asarray(cells)`` reads all their prepared crops (N, C, H, W), float32.

    >>> from cytolens.images.arrays import cells_from_arrays
    >>> crops = np.random.default_rng(0).integers(0, 99, (40, 24, 24), dtype=np.uint8)
    >>> cells = cells_from_arrays(crops, ["G1", "G2"] * 20, intensity="none")
    >>> cells[-1].class_name, cells[-1].image.shape
    ('G2', (1, 24, 24))
    >>> second = cells[cells.labels == 1]
    >>> len(second), np.asarray(second[:3]).shape
    (20, (3, 1, 24, 24))
    """

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
    remarks: tuple[str, ...] = ()  # how the data were understood; warnings
    decisions: tuple[Decision, ...] = ()  # of a person, on single cells of the data

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

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Cell: ...

    @overload
    def __getitem__(self, index: Index | Sequence[int] | Sequence[bool]) -> "Cells": ...

    def __getitem__(self, index: Any) -> "Cell | Cells":
        if isinstance(index, tuple):
            raise TypeError("cells have one index; choose pixels with cells[0].image[…]")
        if isinstance(index, slice):
            return self.subset(index)
        if np.ndim(index):
            return self.subset(np.asarray(index) if len(index) else np.empty(0, dtype=np.int64))
        place = range(len(self))[operator.index(index)]  # raises IndexError, as a list does
        return self._cell(place, self.read(np.array([place]))[0])

    def __iter__(self) -> Iterator[Cell]:
        for rows, images in self.batches():
            yield from map(self._cell, range(rows.start, rows.stop), images)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images are read from their files, which needs a copy")
        return self.read(slice(None)).astype(dtype or np.float32, copy=False)

    def _cell(self, place: int, image: NDArray[np.float32]) -> Cell:
        label = int(self.labels[place])
        return Cell(
            image=image,
            name=str(self.names[place]),
            label=label,
            class_name=self.class_names[label] if label >= 0 else "unknown",
            group=None if self.groups is None else str(self.groups[place]),
            covariates={name: column[place].item() for name, column in self.covariates.items()},
        )

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.shape))
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))
        groups = None if self.groups is None else sorted(set(self.groups.tolist()))
        values = {
            "classes": dict(zip(self.class_names, counts.tolist())),
            "image channels": self.channel_names,
            "intensity": self.preparation.intensity,
            "pixel size": None if self.pixel_size is None else f"{self.pixel_size:g} µm",
            self.group_name or "groups": groups,
            "covariates": tuple(self.covariates),
            "source": self.source,
            "left out": len(self.skipped),
            "warnings": [text for text in self.remarks if text.startswith("warning: ")],
        }
        return listing(f"Cells: {len(self)} crops of {size} px (channel, height, width)", values)

    def _repr_html_(self) -> str:
        spread = np.unique(np.linspace(0, len(self) - 1, min(12, len(self))).astype(np.int64))
        return notebook(self, self.read(spread))

    def subset(self, index: Index) -> "Cells":
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


@record
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


@record
class Split:
    """Which cells train, validate and test; no group is in two parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@record
class Duplicates:
    """Pairs of crops that show the same cell: shifted, turned, mirrored, or all but equal."""

    pairs: NDArray[np.int64]  # (P, 2), cells, the smaller first
    differences: NDArray[np.float64]  # (P,), share of the detail that the two differ in
    looked_at: NDArray[np.int64]  # (n,), the cells that were compared, in order

    def across(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pairs (p, 2) of a cell among ``first`` and one among ``second``, in this order."""
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        return both[np.isin(both[:, 0], first) & np.isin(both[:, 1], second)]


@record
class Simulation:
    """Simulated cells and the truth about them."""

    images: NDArray[np.uint16]  # (N, 1, H, W), camera counts
    labels: NDArray[np.int64]  # (N,)
    class_names: tuple[str, ...]
    masks: Mapping[str, NDArray[Any]]  # (N, H, W): nucleus, lobes (their number), cytoplasm, plant
    properties: Mapping[str, NDArray[Any]]  # per cell (N,)
    pixel_size: float  # µm
    settings: Settings

    def _repr_html_(self) -> str:
        return notebook(self, self.images)
