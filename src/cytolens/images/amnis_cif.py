"""Amnis image files (``.cif``), of ImageStream and FlowSight: where each cell is, and its pixels.

A CIF is a TIFF (little-endian) whose first directory describes the measurement. Then follow, in
turn, a directory for the picture of a cell and one for its masks. The image channels lie side by
side. Both use compressions of their own:

- 30817, pictures: differences, as groups of four-bit parts, the lower half of a byte first. Three
  bits of a part are data, the lowest first; the fourth says that the group goes on. The last part
  carries the sign. A pixel is the sum of the differences above and to the left of it, itself
  included.
- 30818, masks: pairs of bytes, a value and how often it is repeated, less one.

Worked out from the bytes of a file whose pixels were decoded independently. Nothing in a file is
believed: an offset, a size or a count is checked before anything is read or allocated.
"""

import os
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import BATCH_BYTES, Crop
from cytolens.images.image_files import check_extent
from cytolens.images.masks import Mask
from cytolens.images.opening import check_file

PICTURES, MASKS = 30817, 30818  # values of the tag Compression
_MOST_TAGS = 256  # in a directory; 38 have been seen
_MOST_PARTS = 7  # of four bits in a difference: 18 bits and the sign hold any of four pixels
_MOST_SPARE = 8  # parts after the last pixel, that fill up the last bytes
_MOST_CHANNELS = 12  # that an instrument has
_MOST_TEXT = 1 << 20  # bytes of the description of the measurement
_PAGE = 4096  # bytes read at once; a directory takes about 350

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _START, _BYTES = 256, 257, 258, 259, 273, 279
_KIND, _OBJECT, _DESCRIPTION = 33002, 33003, 33027
_BACKGROUNDS = 33052  # mean background of every image channel, DOUBLE
_KIND_PICTURE, _KIND_MASKS = 2, 3
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4}  # TIFF 6.0, section 2: BYTE, ASCII, SHORT, LONG; bytes of each
_MICROMETRES = {20: 1.0, 40: 0.5, 60: 0.33}  # by magnification; ImageStreamX user's manual


@dataclass(frozen=True)
class CifIndex:
    """Where the cells of a CIF are, and what it says of them."""

    pictures: NDArray[np.int64]  # (N, 4): first byte, number of bytes, height, width over all
    masks: NDArray[np.int64]  # (N, 2): first byte, number of bytes; -1 where there are none
    objects: NDArray[np.int64]  # (N,), object numbers, those of IDEAS
    channel_names: tuple[str, ...]
    pixel_size: float | None  # µm
    doubt: str = ""  # about what the file says of itself


def index_cif(path: Path) -> CifIndex:
    """Reads the directories of a CIF and no pixel.

    Raises InputError for a file that is none, is truncated, has directories that overlap or form a
    loop, or holds no cell; the message leaves the file's name to the caller.
    """
    size = check_file(path)
    with path.open("rb", buffering=0) as file:
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"II*\0":
            raise InputError("is no CIF (it does not begin like a little-endian TIFF)")
        walk = _Directories(file, size, struct.unpack_from("<I", header, 4)[0])
        description, levels = "", 0
        pictures, masks, objects = array("q"), array("q"), array("q")  # 7 numbers a cell
        for tags in walk:
            kind, compression = tags.get(_KIND), tags.get(_COMPRESSION)
            if compression == PICTURES and kind in (None, _KIND_PICTURE):
                objects.append(tags.get(_OBJECT, len(objects)))
                pictures.extend(_picture(tags, walk.offset, size, len(objects) - 1))
                masks.extend((-1, 0))
                if not levels and (place := walk.place_of(_BACKGROUNDS)) is not None:
                    levels = place[1]
            elif compression == MASKS and kind in (None, _KIND_MASKS):
                if objects and masks[-2] < 0:
                    shape = (pictures[-2], pictures[-1])
                    found = _masks(tags, walk.offset, size, shape, len(objects) - 1)
                    masks[-2], masks[-1] = found
            elif not description and (place := walk.place_of(_DESCRIPTION)) is not None:
                description = _text(file, size, *place)
    if not objects:
        raise InputError(
            f"holds no cell pictures that are read (compression {PICTURES}); in IDEAS, save the "
            "cells as a compensated image file (.cif)"
        )
    places = np.array(pictures, dtype=np.int64).reshape(-1, 4)
    channels = _channels(description, levels, places[:, 3])
    doubt = ""
    if levels and levels != len(channels):
        doubt = (
            f"the file says that {len(channels)} image channels are in use, but keeps {levels} "
            "background levels for each picture; look at the crops"
        )
    return CifIndex(
        pictures=places,
        masks=np.array(masks, dtype=np.int64).reshape(-1, 2),
        objects=np.array(objects, dtype=np.int64),
        channel_names=channels,
        pixel_size=_pixel_size(description),
        doubt=doubt,
    )


class _Directories:
    """The directories of a TIFF, each as a dict of tag to its value where that is one number."""

    def __init__(self, file: BinaryIO, size: int, first: int) -> None:
        self._file, self._size, self._first = file, size, first
        self.offset = 0  # of the directory that was given last
        self._entries: dict[int, tuple[int, int, int]] = {}

    def place_of(self, tag: int) -> tuple[int, int, int] | None:
        """Type, count, and offset (or value) of a tag of the directory that was given last."""
        return self._entries.get(tag)

    def __iter__(self) -> Iterator[dict[int, int]]:
        offset, taken = self._first, 0
        while offset:
            self.offset = offset
            if not 8 <= offset <= self._size - 6:
                raise InputError(
                    f"is truncated or damaged (a directory at byte {offset} of {self._size})"
                )
            self._file.seek(offset)
            page = self._file.read(_PAGE)
            count = struct.unpack_from("<H", page)[0]
            length = 2 + 12 * count + 4
            if count > _MOST_TAGS or offset + length > self._size or len(page) < length:
                raise InputError(f"is damaged (a directory of {count} entries at byte {offset})")
            # Directories that do not overlap cannot take more room than the file has: this ends
            # a loop, and anything else that would make the walk longer than the file.
            taken += length
            if taken > self._size:
                raise InputError("is damaged (its directories overlap or form a loop)")
            entries = struct.unpack_from("<" + "HHII" * count, page, 2)
            self._entries = {
                entries[i]: (entries[i + 1], entries[i + 2], entries[i + 3])
                for i in range(0, 4 * count, 4)
            }
            yield {
                tag: value & (0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF)[kind - 1]
                for tag, (kind, n, value) in self._entries.items()
                if n == 1 and kind in _TYPES
            }
            following = struct.unpack_from("<I", page, 2 + 12 * count)[0]
            offset = _beyond(following, offset, self._size) if following else 0


def _beyond(value: int, offset: int, size: int) -> int:
    """Where ``value`` points, seen from ``offset``.

    Offsets have 32 bits. A file of more than 4 GiB is written upwards, and they begin anew.
    """
    if size <= 1 << 32:
        return value
    value += offset >> 32 << 32
    return value if value > offset else value + (1 << 32)


def _picture(tags: dict[int, int], offset: int, size: int, n: int) -> tuple[int, int, int, int]:
    """First byte, number of bytes, height and width of a picture, all within what is possible."""
    start, length, height, width = _stream(tags, offset, size, f"cell {n}")
    bits = tags.get(_BITS, 16)
    if bits not in (12, 16):
        raise InputError(f"holds pixels of {bits} bits in cell {n}; 12 and 16 are read")
    if height * width > 2 * length or length > 4 * height * width + _MOST_SPARE:
        raise InputError(
            f"is damaged: cell {n} has {height} × {width} pixels in {length} bytes, which cannot be"
        )
    return start, length, height, width


def _masks(
    tags: dict[int, int], offset: int, size: int, shape: tuple[int, int], n: int
) -> tuple[int, int]:
    start, length, height, width = _stream(tags, offset, size, f"the mask of cell {n}")
    if (height, width) != shape:
        raise InputError(
            f"is damaged: the mask of cell {n} has {height} × {width} pixels, its picture "
            f"{shape[0]} × {shape[1]}"
        )
    if length > 2 * height * width:
        raise InputError(f"is damaged: the mask of cell {n} takes {length} bytes")
    return start, length


def _stream(tags: dict[int, int], offset: int, size: int, what: str) -> tuple[int, int, int, int]:
    try:
        start, length = tags[_START], tags[_BYTES]
        height, width = tags[_HEIGHT], tags[_WIDTH]
    except KeyError as error:
        raise InputError(f"is damaged: {what} lacks the tag {error}") from None
    start = _beyond(start, offset, size)
    if not 8 <= start <= start + length <= size:
        raise InputError(f"is truncated: {what} should end at byte {start + length} of {size}")
    check_extent((max(height, 0), max(width // _MOST_CHANNELS, 1)), 2)
    if width == 0 or height * width > 1 << 26:
        raise InputError(f"is damaged: {what} is {height} × {width} pixels large")
    return start, length, height, width


def _text(file: BinaryIO, size: int, kind: int, count: int, start: int) -> str:
    if kind not in (1, 2) or count > _MOST_TEXT or start + count > size:
        return ""
    file.seek(start)
    return file.read(count).decode("utf-8", "replace")


def _channels(description: str, levels: int, widths: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the image channels that lie side by side in every picture.

    Where the description does not say which are in use, they are as many as there are background
    levels.
    """
    used = re.search(r"<ChannelInUseIndicators_0_11>([01 ]+)</", description)
    places = [i for i, one in enumerate(used[1].split()) if one == "1"] if used else []
    places = places or list(range(min(levels, _MOST_CHANNELS)))
    if not places:
        raise InputError("does not say which image channels it holds (ChannelInUseIndicators)")
    bad = np.flatnonzero(widths % len(places))
    if len(places) > _MOST_CHANNELS or len(bad):
        raise InputError(
            f"is damaged: its pictures are not as wide as {len(places)} image channels side by side"
        )
    found = dict(re.findall(r"<Channel(\d+)Name>([^<]{1,200})</", description))
    names = [found.get(str(i + 1), "").strip() or f"Ch{i + 1}" for i in places]
    if len(set(names)) < len(names):
        names = [f"Ch{i + 1} {name}" for i, name in zip(places, names)]
    return tuple(names)


def _pixel_size(description: str) -> float | None:
    found = re.search(r"<Magnification>\s*(\d+)", description)
    return _MICROMETRES.get(int(found[1][:4])) if found else None


@dataclass(frozen=True)
class CifCrops:
    """The cells of a CIF, (C, h, w), uint16, decoded when they are asked for."""

    path: Path
    index: CifIndex

    def __len__(self) -> int:
        return len(self.index.pictures)

    @property
    def batch(self) -> int:
        """About 32 MiB of the largest crop."""
        largest = 2 * int(self.index.pictures[:, 2:].prod(axis=1).max())
        return int(np.clip(BATCH_BYTES // largest, 1, 1024))

    @property
    def has_masks(self) -> bool:
        """Whether any cell has masks."""
        return bool((self.index.masks[:, 0] >= 0).any())

    def name(self, position: int) -> str:
        """Such as "cells.cif[17]": the object number of IDEAS."""
        return f"{self.path.name}[{self.index.objects[position]}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops, or what is wrong with each."""
        channels = len(self.index.channel_names)
        found: list[Crop | InputError] = []
        with self.path.open("rb", buffering=0) as file:
            for start, length, height, width in self.index.pictures[positions].tolist():
                try:
                    pixels = decode_picture(_bytes(file, start, length), height, width)
                    found.append(_side_by_side(pixels, channels))
                except InputError as error:
                    found.append(error)
        return found

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """Where any channel's mask is set, (h, w); all of the crop where it has no mask."""
        channels = len(self.index.channel_names)
        found: list[Mask | InputError] = []
        with self.path.open("rb", buffering=0) as file:
            for place in positions.tolist():
                start, length = self.index.masks[place].tolist()
                height, width = self.index.pictures[place, 2:].tolist()
                if start < 0:
                    found.append(np.ones((height, width // channels), dtype=bool))
                    continue
                try:
                    masks = decode_masks(_bytes(file, start, length), height, width)
                    found.append(np.logical_or.reduce(_side_by_side(masks, channels), axis=0))
                except InputError as error:
                    found.append(error)
        return found


def _bytes(file: BinaryIO, start: int, length: int) -> NDArray[np.uint8]:
    read = os.pread(file.fileno(), length, start)
    if len(read) < length:
        raise InputError("is truncated")
    return np.frombuffer(read, np.uint8)


def _side_by_side(pixels: NDArray[Any], channels: int) -> NDArray[Any]:
    """(C, h, w) from pixels (h, C × w)."""
    return np.ascontiguousarray(pixels.reshape(len(pixels), channels, -1).transpose(1, 0, 2))


def decode_picture(stream: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint16]:
    """The pixels (height, width) in a stream of compression 30817.

    Raises InputError where the stream is not as long as the pixels need it, or gives a pixel that
    16 bits cannot hold.

    >>> decode_picture(np.array([0x12, 0x70], dtype=np.uint8), 2, 2)
    array([[2, 3],
           [2, 2]], dtype=uint16)
    """
    n = height * width
    parts = np.empty(2 * len(stream), dtype=np.int8)
    parts[0::2] = stream & 15
    parts[1::2] = stream >> 4
    ends = np.flatnonzero(parts < 8)  # the last part of every group
    if len(ends) < n:
        raise InputError(f"is damaged: its stream holds {len(ends)} of {n} pixels")
    spare, ends = len(parts) - 1 - int(ends[n - 1]) if n else len(parts), ends[:n]
    if spare > _MOST_SPARE:
        raise InputError(f"is damaged: its stream goes on for {spare} parts after the last pixel")
    further = np.diff(ends, prepend=-1) - 1  # parts before the last of each group
    most = int(further.max(initial=0))
    if most >= _MOST_PARTS:
        raise InputError(f"is damaged: a difference of {most + 1} parts")
    values = ((parts[ends] ^ 4) - 4).astype(np.int64)  # three bits with a sign
    longer = np.flatnonzero(further)
    values[longer] <<= 3 * further[longer]
    for k in range(1, most + 1):
        longer = longer[further[longer] >= k]
        values[longer] += (parts[ends[longer] - k] & 7).astype(np.int64) << (
            3 * (further[longer] - k)
        )
    pixels = values.reshape(height, width).cumsum(axis=0).cumsum(axis=1)
    if n and not 0 <= int(pixels.min()) <= int(pixels.max()) <= 0xFFFF:
        raise InputError(
            f"is damaged: its pixels run from {pixels.min()} to {pixels.max()}, which 16 bits "
            "cannot hold"
        )
    return pixels.astype(np.uint16)


def decode_masks(stream: NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    """The masks (height, width) in a stream of compression 30818.

    Raises InputError where the stream holds more or fewer pixels.

    >>> decode_masks(np.array([1, 1, 0, 3], dtype=np.uint8), 2, 3)
    array([[ True,  True, False],
           [False, False, False]])
    """
    if len(stream) % 2:
        raise InputError(f"is damaged: its mask takes an odd number of bytes ({len(stream)})")
    lengths = stream[1::2].astype(np.int64) + 1
    if int(lengths.sum()) != height * width:
        raise InputError(
            f"is damaged: its mask holds {int(lengths.sum())} of {height * width} pixels"
        )
    return np.repeat(stream[0::2] != 0, lengths).reshape(height, width)
