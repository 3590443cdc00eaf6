"""Small Amnis image files, written from the format's facts: the reverse of the reader."""

import struct
from pathlib import Path

import numpy as np

BYTE, ASCII, SHORT, LONG, DOUBLE = 1, 2, 3, 4, 12
_ROOM = {BYTE: "<B", SHORT: "<H", LONG: "<I"}


def encode_picture(pixels: np.ndarray) -> bytes:
    """Compression 30817: differences in groups of four-bit parts."""
    image = np.pad(pixels.astype(np.int64), ((1, 0), (1, 0)))
    differences = np.diff(np.diff(image, axis=0), axis=1)
    parts: list[int] = []
    for value in differences.ravel().tolist():
        while not -4 <= value <= 3:
            parts.append((value & 7) | 8)
            value >>= 3
        parts.append(value & 7)
    if len(parts) % 2:
        parts.append(0)
    return bytes(a | b << 4 for a, b in zip(parts[::2], parts[1::2]))


def encode_masks(masks: np.ndarray) -> bytes:
    """Compression 30818: a value and how often it is repeated, less one."""
    flat, out = masks.astype(np.uint8).ravel(), bytearray()
    for run in np.split(flat, np.flatnonzero(np.diff(flat)) + 1):
        for start in range(0, len(run), 256):
            out += bytes([run[0], len(run[start : start + 256]) - 1])
    return bytes(out)


def description(channels: int, names: dict[int, str] | None = None, magnification: int = 40) -> str:
    used = " ".join("1" if i < channels else "0" for i in range(12))
    named = "".join(f"<Channel{i}Name>{name}</Channel{i}Name>" for i, name in (names or {}).items())
    return (
        f"<x><Imaging><ChannelInUseIndicators_0_11>{used} </ChannelInUseIndicators_0_11>"
        f"<Magnification>{magnification}</Magnification></Imaging><Display>{named}</Display></x>"
    )


class Writer:
    """Directories one after the other, each with its data behind it."""

    def __init__(self) -> None:
        self.content = bytearray(b"II*\0" + struct.pack("<I", 8))
        self.pointers: list[int] = [4]  # where the offset of the next directory stands

    def add(self, tags: dict[int, tuple[int, int | bytes]]) -> None:
        while len(self.content) % 2:
            self.content += b"\0"
        here = len(self.content)
        struct.pack_into("<I", self.content, self.pointers[-1], here)
        self.content += bytes(2 + 12 * len(tags) + 4)
        struct.pack_into("<H", self.content, here, len(tags))
        for i, (tag, (kind, value)) in enumerate(sorted(tags.items())):
            at = here + 2 + 12 * i
            if isinstance(value, bytes):
                count = len(value) // (8 if kind == DOUBLE else 1)
                struct.pack_into("<HHII", self.content, at, tag, kind, count, len(self.content))
                self.content += value
            else:
                struct.pack_into("<HHI", self.content, at, tag, kind, 1)
                struct.pack_into(_ROOM[kind], self.content, at + 8, value)
        self.pointers.append(here + 2 + 12 * len(tags))

    def strip(self, compression: int, shape: tuple[int, int], stream: bytes, **more: int) -> None:
        while len(self.content) % 2:
            self.content += b"\0"
        tags = {256, 257, 258, 259, 273, 279, 33002, *([33003] if "number" in more else [])}
        levels = bytes(8 * more.get("levels", 0))
        tags |= {33052} if levels else set()
        start = len(self.content) + 2 + 12 * len(tags) + 4 + len(levels)
        picture = compression == 30817
        known: dict[int, tuple[int, int | bytes]] = {
            256: (LONG, shape[1]),
            257: (LONG, shape[0]),
            258: (SHORT, more.get("bits", 16 if picture else 8)),
            259: (SHORT, compression),
            273: (LONG, start),
            279: (LONG, len(stream)),
            33002: (SHORT, 2 if picture else 3),
            33003: (LONG, more.get("number", 0)),
            33052: (DOUBLE, levels),
        }
        self.add({tag: known[tag] for tag in tags})
        self.content += stream


def write_cif(
    path: Path,
    crops: list[np.ndarray],
    masks: list[np.ndarray] | None = None,
    *,
    names: dict[int, str] | None = None,
    numbers: list[int] | None = None,
    bits: int = 16,
    levels: int = 0,
) -> Path:
    """Crops, each (C, h, w) of uint16, with masks of the same shape."""
    writer = Writer()
    about = description(len(crops[0]), names).encode() + b"\0"
    writer.add({256: (LONG, 1), 257: (LONG, 1), 259: (SHORT, 1), 33027: (ASCII, about)})
    for i, crop in enumerate(crops):
        flat = crop.transpose(1, 0, 2).reshape(crop.shape[1], -1)
        number = numbers[i] if numbers else i
        writer.strip(
            30817, flat.shape, encode_picture(flat), number=number, bits=bits, levels=levels
        )
        if masks is not None:
            mask = masks[i].transpose(1, 0, 2).reshape(crop.shape[1], -1)
            writer.strip(30818, mask.shape, encode_masks(mask))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(writer.content)
    return path
