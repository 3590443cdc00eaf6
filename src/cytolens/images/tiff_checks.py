"""What is looked at in a TIFF file before any of it is decoded.

A TIFF file says three times how large it is: in its tags, in its tiles, and in the pictures that
are packed into these. Whoever wrote it may have made the three differ.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cytolens.errors import InputError
from cytolens.images.opening import check_file

MOST_BYTES = 64 << 20  # of one decoded crop, and of one tile
MOST_PLANES = 1_000_000  # that one file may speak of

CODECS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34925: "LZMA",
    34933: "PNG",
    50000: "Zstandard",
    50001: "WebP",
}
"""The compressions that are read, by TIFF tag 259."""

_LONGEST_XML = 32 << 20  # bytes
_SIZES = ("SizeX", "SizeY", "SizeC", "SizeZ", "SizeT")
_COUNTS = ("IFD", "FirstC", "FirstZ", "FirstT", "PlaneCount", "NumPlanes")


def check_header(tiff: Any, path: Path | None) -> None:
    """Refuses an OME-TIFF whose XML asks for other folders, missing files or endless planes.

    To be called before the series are read: with these, files are opened and pages counted. Without
    a ``path``, as for a file in memory, it may name no further files at all.
    """
    text = tiff.ome_metadata if tiff.is_ome else None
    if text:
        check_ome(text, path)


def check_ome(text: str, path: Path | None) -> None:
    """The same for the OME-XML of the file at ``path``. Raises InputError."""
    root = parse_ome(text)
    for node in root.iter():
        kind = node.tag.rsplit("}", 1)[-1]
        if kind == "Pixels":
            sizes = {name: _whole(node, name) for name in _SIZES if name in node.attrib}
            if any(size < 1 for size in sizes.values()):
                raise InputError("says in its OME-XML that it has no pixels")
            planes = int(np.prod([sizes.get(name, 1) for name in _SIZES[2:]], dtype=object))
            if planes > MOST_PLANES:
                raise InputError(f"says in its OME-XML that it has {planes} planes")
        elif kind == "TiffData":
            for name in _COUNTS:
                if not 0 <= _whole(node, name, 0) <= MOST_PLANES:
                    raise InputError(f"has {name} = {node.attrib[name][:20]} in its OME-XML")
        elif kind.startswith("ModuloAlong"):
            _check_modulo(node)
    for name in companions(root, path):
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise InputError(
                f"names '{name[:80]}' as one of its files; only files beside it are read"
            )
        if path is None:
            raise InputError(f"names '{name[:80]}' as one of its files, which cannot be beside it")
        try:
            check_file(path.with_name(name))
        except InputError as error:
            raise InputError(
                f"names '{name[:80]}' as one of its files, which {error}; put all its files into "
                "one folder"
            ) from None


def parse_ome(text: str) -> ElementTree.Element:
    """The root of some OME-XML. Raises InputError where it is none, or defines entities."""
    if len(text) > _LONGEST_XML or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("has OME-XML that is not read: it is too long or defines entities")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"has damaged OME-XML ({str(error)[:60]})") from None


def companions(root: ElementTree.Element, path: Path | None) -> list[str]:
    """The further files that an OME-TIFF names as parts of it, each once.

    A part with the identifier of the file itself is that file, under whatever name; the first part
    is where neither that nor a ``path`` is known.
    """
    own = root.get("UUID")
    names: dict[str, None] = {}
    for node in root.iter():
        if not node.tag.endswith("}UUID"):
            continue
        if path is None and own is None:
            own = node.text
        if own is not None and node.text == own:
            continue
        name = node.get("FileName")
        if name is not None and (path is None or name.lower() != path.name.lower()):
            names[name] = None
    return list(names)


def _whole(node: ElementTree.Element, name: str, default: int = 1) -> int:
    text = node.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"\s*-?\d{1,18}\s*", text):
        raise InputError(f"has {name} = '{text[:20]}' in its OME-XML, which is no whole number")
    return int(text)


def _check_modulo(node: ElementTree.Element) -> None:
    if "Start" not in node.attrib:
        return
    try:
        start, end, step = (float(node.get(n) or 1) for n in ("Start", "End", "Step"))
        steps = abs((end - start) / step)
    except (ValueError, ZeroDivisionError):
        steps = np.inf
    if not steps <= MOST_PLANES:
        raise InputError(f"has an endless {node.tag.rsplit('}', 1)[-1]} in its OME-XML")


def check_series(series: Any) -> None:
    """Refuses a series that lacks planes: they would be read as black ones."""
    if series.kind != "ome":
        return
    missing = sum(page is None for page in series)
    if missing:
        raise InputError(f"lacks {missing} of the {len(series)} planes that its OME-XML speaks of")


def check_pages(pages: Iterable[Any], most: int = MOST_BYTES) -> None:
    """Refuses pages whose compression is not read, or whose tiles are not what the tags say."""
    for page in pages:
        if page is not None:
            _check_page(page, most)


def _check_page(page: Any, most: int) -> None:
    keyframe = page.keyframe
    codec = int(keyframe.compression)
    if codec not in CODECS:
        read = ", ".join(dict.fromkeys(CODECS.values()))
        raise InputError(f"is compressed in a way that is not read ({codec}); allowed: {read}")
    rows, columns = _segment(keyframe)
    samples = keyframe.samplesperpixel if int(keyframe.planarconfig) == 1 else 1
    size = rows * columns * samples * max(keyframe.bitspersample // 8, 1)
    if size > most:
        raise InputError(
            f"has tiles of {rows} × {columns} pixels ({size >> 20} MiB); at most "
            f"{most >> 20} MiB are read"
        )
    counts = page.databytecounts
    if len(counts) == 0 or 0 in counts:
        raise InputError(f"is truncated or damaged: {max(counts.count(0), 1)} tiles hold nothing")
    if CODECS[codec] in _EXTENTS:
        _check_payloads(page, codec, rows, columns)


def _segment(page: Any) -> tuple[int, int]:
    """Rows and columns of a tile or strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _check_payloads(page: Any, codec: int, rows: int, columns: int) -> None:
    """Every packed picture must have the size of its tile; a strip or tile at the edge may be cut.

    Libraries cut or fill what has another size, without a word.
    """
    keyframe, name = page.keyframe, CODECS[codec]
    across = -(-int(keyframe.imagewidth) // columns)
    down = -(-int(keyframe.imagelength) // rows)
    for index, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts)):
        handle = page.parent.filehandle
        handle.seek(start)
        found = _EXTENTS[name](handle.read(min(count, 1 << 16)))
        place = index % (across * down)
        bottom = min(rows, int(keyframe.imagelength) - place // across * rows)
        right = min(columns, int(keyframe.imagewidth) - place % across * columns)
        if found not in ((rows, columns), (bottom, right), (rows, right), (bottom, columns)):
            said = "no picture at all" if found is None else f"{found[0]} × {found[1]} pixels"
            raise InputError(
                f"is damaged: a {name} tile holds {said} where its tags say {bottom} × {right}"
            )


def _extent_of_jpeg(data: bytes) -> tuple[int, int] | None:
    """Height and width from the frame header (ISO 10918-1, section B.2.2)."""
    for kind, start in _jpeg_segments(data):
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and start + 7 <= len(data):
            height, width = struct.unpack(">HH", data[start + 3 : start + 7])
            return height, width
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind of each marker segment, and where its length field stands."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # filling
            at += 1
            continue
        if kind == 0xDA:
            return
        yield kind, at + 2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _extent_of_png(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _extent_of_jpeg2000(data: bytes) -> tuple[int, int] | None:
    """From the SIZ segment of the code stream (ISO 15444-1, section A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 24 > len(data):
        return None
    width, height, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return height - top, width - left


def _extent_of_webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: VP8X, VP8L or VP8, whichever chunk comes first."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return height, width
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ((bits >> 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return height & 0x3FFF, width & 0x3FFF


_EXTENTS = {
    "JPEG": _extent_of_jpeg,
    "PNG": _extent_of_png,
    "JPEG 2000": _extent_of_jpeg2000,
    "WebP": _extent_of_webp,
}
