"""What the page is made of: a JSON manifest, typed arrays and pictures, each under a name.

The server answers with these bytes and the export holds the same ones, so both show the same.
Coordinates are uint16: the whole of a map on a square of 65,536 steps, first all x, then all y.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.explorer.pictures import Tiles, tiles_for
from cytolens.figures.style import colours

FORMAT = 1
_STEPS = 65_535
_MOST_CATEGORIES = 250  # of a column that is shown by categories; more are names, not classes


@dataclass(frozen=True)
class Part:
    """One named piece of content, made when it is asked for."""

    make: Callable[[], bytes]
    exported: bool = True  # whether a single-file export holds it


@dataclass
class Content:
    """Everything that the page of one run can ask for; built by the ``add_`` methods.

    N is the number of cells on the maps; every array is in their order.
    """

    title: str
    n: int
    manifest: dict[str, Any] = field(default_factory=dict[str, Any])
    parts: dict[str, Part] = field(default_factory=dict[str, Part])

    def __post_init__(self) -> None:
        self.manifest = {
            "format": FORMAT, "title": self.title, "n": self.n,
            "maps": {}, "columns": [], "layers": [], "sheets": None, "galleries": [],
            **self.manifest,
        }  # fmt: skip

    def add(self, name: str, make: Callable[[], NDArray[Any]], *, exported: bool = True) -> None:
        """An array under a name, little-endian."""
        self.parts[name] = Part(lambda: little(make()), exported)

    def add_map(
        self, method: str, layer: str, coordinates: NDArray[np.floating], **about: Any
    ) -> None:
        """A map (N, 2); ``about`` goes into the manifest, e.g. its quality."""
        name = f"map/{method}/{layer}"
        self.manifest["maps"].setdefault(method, {})[layer] = {"array": name, **about}
        self.add(name, cache(lambda: quantised(coordinates)))  # of a million cells: 4 MB, .1 s

    def first_maps(self) -> list[str]:
        """Names of the maps of the method that the page shows first."""
        maps = self.manifest["maps"]
        shown = maps.get("tsne") or next(iter(maps.values()), {})
        return [entry["array"] for entry in shown.values()]

    def add_category(
        self,
        key: str,
        codes: NDArray[np.integer],
        categories: Sequence[str],
        *,
        title: str,
        role: str,
        tints: Sequence[str] | None = None,
    ) -> None:
        """A column of categories, ``codes`` (N,) as index into ``categories``.

        More than 250 categories are not offered as colours; the column is left out.
        """
        if len(categories) > _MOST_CATEGORIES:
            return
        name = f"column/{key}"
        self.manifest["columns"].append(
            {
                "key": key, "title": title, "role": role, "kind": "category", "array": name,
                "categories": [str(entry) for entry in categories],
                "colours": list(tints or colours(len(categories))),
            }
        )  # fmt: skip
        self.add(name, lambda: np.asarray(codes, dtype=np.uint8))

    def add_number(self, key: str, values: NDArray[np.floating], *, title: str, role: str) -> None:
        """A column of numbers (N,), float32; NaN where there is none.

        One that is the same for all cells is left out.
        """
        name = f"column/{key}"
        finite = values[np.isfinite(values)]
        if not len(finite) or finite.min() == finite.max():
            return
        limits = [float(np.float32(finite.min())), float(np.float32(finite.max()))]
        self.manifest["columns"].append(
            {
                "key": key, "title": title, "role": role, "kind": "number", "array": name,
                "limits": limits,
            }
        )  # fmt: skip
        self.add(name, lambda: np.asarray(values, dtype=np.float32))

    def add_sheets(
        self,
        read: Callable[[slice], NDArray[np.uint8]],
        shape: tuple[int, int, int],
        *,
        channel_names: Sequence[str],
        colour: bool,
    ) -> None:
        """Crops as sheets of tiles, a file per sheet and image channel.

        read: crops (n, C, H, W) of a slice of the cells, uint8, C being 3 where ``colour``.
        shape: (C, H, W) of one crop.
        """
        tiles = tiles_for(self.n, shape)
        self.manifest["sheets"] = {
            "width": tiles.width, "height": tiles.height, "across": tiles.across,
            "per": tiles.per, "count": tiles.count(self.n), "colour": colour,
            "channels": list(channel_names), "crop": [shape[1], shape[2]],
        }  # fmt: skip
        for k in range(tiles.count(self.n)):
            rows = slice(k * tiles.per, min((k + 1) * tiles.per, self.n))
            for channel in range(1 if colour else shape[0]):
                self.parts[f"sheet/{k}/{channel}"] = Part(
                    lambda rows=rows, channel=channel: tiles.sheet(
                        read(rows) if colour else read(rows)[:, channel : channel + 1]
                    )
                )

    def add_gallery(
        self, name: str, images: NDArray[np.uint8], *, colour: bool, **about: Any
    ) -> None:
        """Pictures (K, C, H, W), uint8, that are shown as crops are; ``about`` says what they are.

        ``colour``: the three image channels are red, green and blue. With ``frames`` in ``about``,
        names such as ["less", "the cell", "more"], each target has so many pictures, one after
        another: ``contrast/<layer>`` with ``indices`` (channels) is shown on the page of each
        channel, ``contrast/<cell>`` in the panel of that cell.
        """
        count, channels, height, width = images.shape
        across = min(count, max(1, 2048 // width))
        tiles = Tiles(width, height, across, count, lossless=count * height * width < 600_000)
        self.manifest["galleries"].append(
            {
                "name": name, "count": count, "width": width, "height": height, "across": across,
                "channels": 1 if colour else channels, "colour": colour, **about,
            }
        )  # fmt: skip
        for channel in range(1 if colour else channels):
            chosen = images if colour else images[:, channel : channel + 1]
            self.parts[f"gallery/{name}/{channel}"] = Part(
                lambda chosen=chosen: tiles.sheet(chosen)
            )


def little(array: NDArray[Any]) -> bytes:
    """The numbers of an array, little-endian, in C order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def quantised(coordinates: NDArray[np.floating]) -> NDArray[np.uint16]:
    """A map (N, 2) as (2, N) uint16: centred on a square, one scale for both axes.

    >>> quantised(np.array([[0.0, 0.0], [2.0, 1.0]])).tolist()
    [[0, 65535], [16384, 49151]]
    """
    planes = np.nan_to_num(np.asarray(coordinates).T.astype(np.float64, order="C"), copy=False)
    if not planes.size:
        return planes.astype(np.uint16)
    low, high = planes.min(axis=1), planes.max(axis=1)
    side = float((high - low).max()) or 1.0
    planes -= ((low + high) / 2)[:, None]  # in place: a ninth of the time for a million cells
    planes *= _STEPS / side
    planes += _STEPS / 2
    return np.rint(planes, out=planes).astype(np.uint16)


def on_square(places: NDArray[np.floating], known: NDArray[np.floating]) -> NDArray[np.float64]:
    """``places`` (n, 2) on the square 0…1 that the map of the ``known`` (N, 2) fills."""
    if not len(known):
        return np.zeros((len(places), 2))
    low, high = known.min(axis=0), known.max(axis=0)
    side = float((high - low).max()) or 1.0
    return (np.asarray(places, dtype=np.float64) - (low + high) / 2) / side + 0.5
