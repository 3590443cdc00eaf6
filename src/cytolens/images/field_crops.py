"""Crops cut from field images, one field in the memory at a time."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError
from cytolens.images.crops import BATCH_BYTES, Crop, native
from cytolens.images.decoded import read_picture
from cytolens.images.image_files import FIELD
from cytolens.images.isolation import is_isolated
from cytolens.images.opening import shown

MARGIN = 4  # pixels around a cell's own box
BLANKS = ("nothing", "neighbours", "surroundings")
_PIXELS = 1 << 22  # of a label image, looked at together
MOST_OBJECTS = 1_000_000  # in one label image


@dataclass(frozen=True)
class Cutting:
    """How cells are cut from field images.

    ``window``: pixels along a side, centred on the cell and filled up with the field's median
    where it reaches beyond the border; None for each cell's own box and a margin of 4 px.
    ``blank``: what becomes background: "nothing", other cells ("neighbours"), or everything that
    is not the cell ("surroundings"); the last two need label images.
    """

    window: int | None = None
    blank: str = "nothing"

    def __post_init__(self) -> None:
        if self.blank not in BLANKS:
            raise SettingError(
                f"blank '{self.blank}' is unknown; choose one of {', '.join(BLANKS)}"
            )
        if self.window is not None and not 4 <= self.window <= 1024:
            raise SettingError(f"window {self.window} is not allowed; give 4 to 1024 pixels")


@dataclass(frozen=True)
class FieldFiles:
    """The files of one field: one per image channel or one with all, and its label image."""

    name: str
    files: tuple[Path, ...]
    mask: Path | None = None


@dataclass(frozen=True)
class FieldCrops:
    """Windows in fields, (N,) of them; cells of one field should follow one another."""

    fields: Sequence[FieldFiles]
    places: NDArray[np.int64]  # (N,), the field of each cell
    boxes: NDArray[np.int64]  # (N, 4): left, top, right, bottom, which may lie outside of the field
    objects: NDArray[np.int64]  # (N,), the number in the label image, or the row of the table
    blank: str = "nothing"
    channels: int = 1
    isolated: bool = field(default_factory=is_isolated)
    _held: "_Held" = field(default_factory=lambda: _Held(), compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def batch(self) -> int:
        """About 32 MiB worth of crops."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        largest = int(sides.prod(axis=1).max(initial=1)) * self.channels * 2
        return int(np.clip(BATCH_BYTES // max(largest, 1), 1, 1024))

    def name(self, position: int) -> str:
        """The field, and the number of the cell in it: "plate/a.tif[17]"."""
        return f"{self.fields[self.places[position]].name}[{self.objects[position]}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each."""
        crops: list[Crop | InputError | None] = [None] * len(positions)
        for place in np.unique(self.places[positions]).tolist():
            rows = np.flatnonzero(self.places[positions] == place)
            try:
                opened = self._held.get(self, place)
            except InputError as error:
                for row in rows.tolist():
                    crops[row] = error
                continue
            for row in rows.tolist():
                position = int(positions[row])
                crops[row] = opened.cut(
                    self.boxes[position], int(self.objects[position]), self.blank
                )
        return [crop for crop in crops if crop is not None]


class _Held:
    """The field that was read last: cells are asked for field by field."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place = -1
        self._field: Field | None = None

    def get(self, crops: FieldCrops, place: int) -> "Field":
        with self._lock:
            if self._field is None or self._place != place:
                self._field = None  # two fields at once would be twice the memory
                self._field = read_field(
                    crops.fields[place], isolated=crops.isolated, masked=crops.blank != "nothing"
                )
                self._place = place
            return self._field


@dataclass(frozen=True)
class Field:
    """A field image (C, H, W), its label image (H, W) where it is needed, and its background."""

    image: NDArray[Any]
    labels: NDArray[np.integer[Any]] | None
    background: NDArray[Any]  # (C,)
    names: tuple[str, ...] = ()
    pixel_size: float | None = None

    def cut(self, box: NDArray[np.int64], number: int, blank: str) -> Crop | InputError:
        """The window ``box`` (left, top, right, bottom), with what is blanked and filled up."""
        left, top, right, bottom = box.tolist()
        height, width = self.image.shape[1:]
        inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            return InputError(f"lies outside of its field of {width} × {height} pixels")
        out = np.empty((len(self.image), bottom - top, right - left), self.image.dtype)
        out[:] = self.background[:, None, None]
        there = (slice(inside[1] - top, inside[3] - top), slice(inside[0] - left, inside[2] - left))
        here = (slice(inside[1], inside[3]), slice(inside[0], inside[2]))
        part = self.image[:, here[0], here[1]]
        if self.labels is not None and blank != "nothing":
            labels = self.labels[here]
            if not (labels == number).any():
                return InputError(f"is no object of its label image ({number})")
            away = (
                labels != number if blank == "surroundings" else (labels != number) & (labels > 0)
            )
            part = np.where(away, self.background[:, None, None], part)
        out[:, there[0], there[1]] = part
        return out


def read_field(files: FieldFiles, *, isolated: bool, masked: bool) -> Field:
    """A field's image channels, of the same size and dtype; its label image if ``masked``.

    The background is the median of each channel, outside of all cells where these are known.
    Raises InputError, which names the file where it is not the field's only one.
    """
    parts: list[NDArray[Any]] = []
    names: tuple[str, ...] = ()
    pixel_size: float | None = None
    for path in files.files:
        try:
            picture = read_picture(path, FIELD, isolated=isolated)
        except InputError as error:
            raise InputError(f"cannot be cut: {shown(path.name)} {error}") from None
        parts.append(native(picture.crop))
        names, pixel_size = picture.channel_names, picture.pixel_size
    kinds = {(part.shape[1:], part.dtype) for part in parts}
    if len(kinds) > 1:
        said = ", ".join(f"{p.shape[1]} × {p.shape[2]} {p.dtype}" for p in parts)
        raise InputError(f"cannot be cut: its image channels differ ({said})")
    image = parts[0] if len(parts) == 1 else np.concatenate(parts)
    labels = None
    if masked and files.mask is not None:
        labels = read_labels(files.mask, isolated=isolated)
        if labels.shape != image.shape[1:]:
            raise InputError(f"cannot be cut: {_sizes(labels, image)}")
    empty = image if labels is None or (labels > 0).all() else image[:, labels == 0]
    flat = empty.reshape(len(image), -1)
    step = max(flat.shape[1] // 1_000_000, 1)
    background = np.median(flat[:, ::step], axis=1).astype(image.dtype)
    return Field(image, labels, background, names if len(parts) == 1 else (), pixel_size)


def _sizes(labels: NDArray[Any], image: NDArray[Any]) -> str:
    (a, b), (c, d) = labels.shape, image.shape[1:]
    return f"its label image has {a} × {b} pixels, its image {c} × {d}"


def read_labels(path: Path, *, isolated: bool) -> NDArray[np.integer[Any]]:
    """A label image (H, W): 0 for background, a whole number for each cell. Raises InputError."""
    try:
        picture = read_picture(path, FIELD, isolated=isolated)
    except InputError as error:
        raise InputError(f"has a label image, {shown(path.name)}, that {error}") from None
    labels = picture.crop
    whole = labels.dtype.kind in "iu" or bool((labels == np.rint(labels)).all())
    if len(labels) != 1 or not whole:
        raise InputError(
            f"has a label image, {shown(path.name)}, of {len(labels)} channels of {labels.dtype}; "
            "one channel of whole numbers is needed, 0 for the background"
        )
    return labels[0] if labels.dtype.kind in "iu" else labels[0].astype(np.int64)


def boxes_of(labels: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers (n,) in a label image, and their boxes (n, 4): left, top, right, bottom.

    >>> numbers, boxes = boxes_of(np.array([[0, 7, 7], [0, 0, 7], [9, 0, 0]]))
    >>> numbers.tolist(), boxes.tolist()
    ([7, 9], [[1, 0, 3, 2], [0, 2, 1, 3]])
    """
    numbers, boxes = np.empty(0, dtype=np.int64), np.empty((0, 4), dtype=np.int64)
    step = max(_PIXELS // max(labels.shape[1], 1), 1)
    for top in range(0, len(labels), step):  # a few rows at a time: positions take much memory
        rows, columns = np.nonzero(labels[top : top + step] > 0)
        found = labels[top + rows, columns].astype(np.int64)
        places = np.stack([columns, rows + top, columns + 1, rows + top + 1], axis=1)
        numbers, boxes = _united(np.concatenate([numbers, found]), np.concatenate([boxes, places]))
        if len(numbers) > MOST_OBJECTS:
            raise InputError(f"has a label image of more than {MOST_OBJECTS} cells")
    return numbers, boxes


def _united(
    numbers: NDArray[np.int64], boxes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each number once, with the box around all of its boxes."""
    order = np.argsort(numbers, kind="stable")
    known, firsts = np.unique(numbers[order], return_index=True)
    if len(known) == 0:
        return known, boxes
    least = np.minimum.reduceat(boxes[order, :2], firsts, axis=0)
    most = np.maximum.reduceat(boxes[order, 2:], firsts, axis=0)
    return known, np.concatenate([least, most], axis=1)


def windows(boxes: NDArray[np.float64], cutting: Cutting, centres: Any = None) -> NDArray[np.int64]:
    """What is cut (N, 4) for cells with these boxes, or of these centres (N, 2) where given."""
    if cutting.window is None:
        grown = boxes + np.array([-MARGIN, -MARGIN, MARGIN, MARGIN])
        return np.stack([*np.floor(grown[:, :2]).T, *np.ceil(grown[:, 2:]).T], axis=1).astype(
            np.int64
        )
    middle = (boxes[:, :2] + boxes[:, 2:] - 1) / 2 if centres is None else centres
    start = np.floor(middle + 0.5).astype(np.int64) - cutting.window // 2
    return np.concatenate([start, start + cutting.window], axis=1)
