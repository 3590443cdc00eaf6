"""One image file decoded with care: its size is checked first, and any fault is one clear line.

The decoders are slow to load, so they are loaded when the first file is read.
"""

import io
import logging
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import Crop
from cytolens.images.preparation import LARGEST_SIDE

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

TIFF_ENDINGS = (".tif", ".tiff")
ENDINGS = (".png", *TIFF_ENDINGS, ".jpg", ".jpeg", ".bmp")
MOST_BYTES = 256 << 20  # of one decoded crop
COLOURS = ("red", "green", "blue")
_NAMED_CHANNELS = 8  # ImageJ calls any stack's pages channels; more than these are cells
_RGB, _PALETTE = 2, 3  # PhotometricInterpretation, TIFF 6.0, section 8
_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}

# What tifffile logs about a damaged file it also raises, and that becomes one line of ours.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Picture:
    """A decoded crop (C, h, w) and what its file says about it."""

    crop: Crop
    channel_names: tuple[str, ...] = ()
    pixel_size: float | None = None  # µm
    note: str = ""  # how it was converted


def read_picture(path: Path) -> Picture:
    """The crop that a file holds; pages of a TIFF are its channels.

    The format is recognised by the content, not by the name. Raises InputError if the file is
    empty, damaged, far too large or no image; the message leaves the file's name to the caller.
    """
    try:
        with path.open("rb") as file:
            start = file.read(26)
            if not start:
                raise InputError("is empty (zero bytes)")
            if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return _read_tiff(path)
            content = start + file.read(MOST_BYTES)
        return _read_plain(content)
    except InputError:
        raise
    except Exception as error:  # on damaged files decoders raise errors of many kinds
        raise unreadable(error) from None


def read_picture_bytes(content: bytes) -> Picture:
    """The same of a file's content, such as a table holds it."""
    try:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _read_tiff(io.BytesIO(content))
        return _read_plain(content)
    except InputError:
        raise
    except Exception as error:
        raise unreadable(error) from None


def _read_plain(content: bytes) -> Picture:
    """A PNG, JPEG or BMP image, recognised by its first bytes."""
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _read_png(content)
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile

    if content[:3] == b"\xff\xd8\xff":
        return _read_with_pillow(JpegImageFile(io.BytesIO(content)))
    if content[:2] == b"BM":
        return _read_with_pillow(BmpImageFile(io.BytesIO(content)))
    raise InputError("is no PNG, TIFF, JPEG or BMP image")


def unreadable(error: Exception) -> InputError:
    """A decoder's complaint, on one line."""
    if isinstance(error, FileNotFoundError):
        return InputError("does not exist")
    reason = re.sub(r"\s+", " ", str(error)).strip()[:120] or type(error).__name__
    return InputError(f"cannot be decoded, it is truncated or damaged ({reason})")


def check_extent(shape: tuple[int, ...], itemsize: int) -> None:
    """Refuses a crop (…, h, w) that is empty, or too large to be one cell, before decoding."""
    height, width = shape[-2:]
    if 0 in shape:
        raise InputError(f"has no pixels ({height} × {width})")
    if max(height, width) > LARGEST_SIDE or int(np.prod(shape)) * itemsize > MOST_BYTES:
        raise InputError(
            f"is {' × '.join(map(str, shape))} pixels large; a crop of one cell has at most "
            f"{LARGEST_SIDE} × {LARGEST_SIDE} pixels and {MOST_BYTES >> 20} MiB"
        )


def _read_png(content: bytes) -> Picture:
    width, height, bits, kind = struct.unpack(">IIBB", content[16:26])  # IHDR, PNG spec. 11.2.2
    check_extent((4, height, width), 1 + bits // 16)
    from imagecodecs import png_decode

    image = png_decode(content)
    if image.ndim == 2:
        return Picture(image[None])
    notes = ["palette colours converted to RGB"] if kind == 3 else []
    if image.shape[-1] % 2 == 0:
        image = image[..., :-1]
        notes.append("alpha dropped")
    names = COLOURS if image.shape[-1] == 3 else ()
    return Picture(np.moveaxis(image, -1, 0), names, note=", ".join(notes))


def _read_with_pillow(file: "ImageFile") -> Picture:
    check_extent((4, file.height, file.width), 1)
    wanted = "L" if file.mode in ("1", "L") else "RGB"
    image = np.asarray(file if file.mode == wanted else file.convert(wanted))
    if image.ndim == 2:
        return Picture(image[None])
    note = f"{file.mode} colours converted to RGB" if file.mode not in ("RGB", "RGBA") else ""
    return Picture(np.moveaxis(image, -1, 0), COLOURS, note=note)


def _open_tiff(path: Path | io.BytesIO) -> Any:
    import tifffile

    return tifffile.TiffFile(path)


def _read_tiff(path: Path | io.BytesIO) -> Picture:
    with _open_tiff(path) as tiff:
        if len(tiff.series) != 1:
            raise InputError(f"holds {len(tiff.series)} images of different kinds or sizes")
        series = tiff.series[0]
        page = tiff.pages.first
        _check_series(series.axes, series.shape, series.dtype.itemsize)
        crop = _channels_first(series.asarray(), series.axes)
        names, pixel_size = _described(tiff, series.axes)
        return _as_picture(crop, page, names, pixel_size)


def _check_series(axes: str, shape: tuple[int, ...], itemsize: int) -> None:
    further = tuple(length for axis, length in zip(axes, shape) if axis not in "YX")
    check_extent((*further, shape[axes.index("Y")], shape[axes.index("X")]), itemsize)


def _channels_first(image: NDArray[Any], axes: str) -> Crop:
    """(C, h, w) from an image with TIFF axes; every axis except Y and X counts as channels."""
    image = np.moveaxis(image, (axes.index("Y"), axes.index("X")), (-2, -1))
    return image.reshape(-1, *image.shape[-2:])


def _as_picture(crop: Crop, page: Any, names: tuple[str, ...], pixel_size: float | None) -> Picture:
    """Colour maps applied and alpha dropped, as the page's tags say."""
    note = ""
    if page.photometric == _PALETTE and len(crop) == 1:
        crop = (page.colormap[:, crop[0]] >> 8).astype(np.uint8)
        note = "palette colours converted to RGB"
    colours = page.photometric in (_RGB, _PALETTE)
    if colours and len(crop) == 4:
        crop, note = crop[:3], "alpha dropped"
    if colours and len(crop) == 3 and not names:
        names = COLOURS
    return Picture(crop, names if len(names) == len(crop) else (), pixel_size, note)


def _described(tiff: Any, axes: str) -> tuple[tuple[str, ...], float | None]:
    """Channel names and pixel size (µm) from OME-XML or ImageJ's metadata."""
    if tiff.is_ome and tiff.ome_metadata:
        return read_ome(tiff.ome_metadata)
    about = tiff.imagej_metadata or {}
    labels: Any = about.get("Labels") if "C" in axes else None
    names = tuple(str(label) for label in labels) if isinstance(labels, list) else ()
    factor = _MICROMETRES.get(str(about.get("unit", "")).replace("\\u00B5", "µ"))
    tag = tiff.pages.first.tags.get("XResolution")
    if factor is None or tag is None or not tag.value[0]:
        return names, None
    return names, factor * tag.value[1] / tag.value[0]


def read_ome(text: str) -> tuple[tuple[str, ...], float | None]:
    """Channel names and pixel size (µm) from OME-XML; none unless all are given."""
    root = ElementTree.fromstring(text)
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return (), None
    names = tuple(n.get("Name") or "" for n in pixels.iter() if n.tag.endswith("}Channel"))
    size, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit") or "µm"
    factor = _MICROMETRES.get(unit)
    known = size is not None and factor is not None and float(size) > 0
    return names if all(names) else (), float(cast(str, size)) * cast(
        float, factor
    ) if known else None


def files_of_ome(path: Path) -> list[Path]:
    """The further files that an OME-TIFF names as parts of it; none for another TIFF file."""
    try:
        with _open_tiff(path) as tiff:
            text = (tiff.ome_metadata or "") if tiff.is_ome else ""
    except Exception:  # a damaged file is reported when it is read
        return []
    named = dict.fromkeys(re.findall(r'\bFileName="([^"]+)"', text))
    return [path.with_name(name) for name in named if name != path.name]


@dataclass(frozen=True)
class Pages:
    """How many cells a TIFF would hold if its pages were cells, and whether they are channels."""

    n: int
    named_channels: bool  # the file itself says that its pages are channels


def count_pages(path: Path) -> Pages:
    """What a TIFF's header says of its pages. Raises InputError when it cannot be read."""
    try:
        if path.stat().st_size == 0:
            raise InputError("is empty (zero bytes)")
        with _open_tiff(path) as tiff:
            counts = [_cells_in(series) for series in tiff.series]
            return Pages(sum(counts), any(_has_channels(series) for series in tiff.series))
    except InputError:
        raise
    except Exception as error:
        raise unreadable(error) from None


def _has_channels(series: Any) -> bool:
    if "C" not in series.axes:
        return False
    return series.kind != "imagej" or series.shape[series.axes.index("C")] <= _NAMED_CHANNELS


def _cell_axes(series: Any) -> int:
    """How many of the leading axes count cells when pages are cells."""
    kept = "CSYX" if _has_channels(series) else "SYX"
    return next((i for i, axis in enumerate(series.axes) if axis in kept), 0)


def _cells_in(series: Any) -> int:
    return int(np.prod(series.shape[: _cell_axes(series)], dtype=np.int64))


def read_pages(path: Path, pages: list[int]) -> list[Picture | InputError]:
    """The chosen cells of a stack, in the order given, or what is wrong with each."""
    try:
        with _open_tiff(path) as tiff:
            return list(_pages_of(tiff, path, pages))
    except InputError as error:
        return [error] * len(pages)
    except Exception as error:
        return [unreadable(error)] * len(pages)


def _pages_of(tiff: Any, path: Path, pages: list[int]) -> Iterator[Picture | InputError]:
    ends = list(accumulate(_cells_in(series) for series in tiff.series))
    for page in pages:
        place = next((i for i, end in enumerate(ends) if page < end), None)
        if place is None:
            yield InputError("is missing from its stack")
            continue
        series = tiff.series[place]
        row = page - (ends[place - 1] if place else 0)
        try:
            first = _cell_axes(series)
            axes, shape = series.axes[first:], series.shape[first:]
            _check_series(axes, shape, series.dtype.itemsize)
            crop = _channels_first(_row_of(series, path, row, tiff.byteorder), axes)
            names, pixel_size = _described(tiff, axes)
            yield _as_picture(crop, series.keyframe, names, pixel_size)
        except InputError as error:
            yield error
        except Exception as error:
            yield unreadable(error)


def _row_of(series: Any, path: Path, row: int, byteorder: str) -> NDArray[Any]:
    """One cell of a series, without decoding the others where the file allows that."""
    first = _cell_axes(series)
    shape = series.shape[first:]
    if series.dataoffset is not None:  # the pages lie in one piece, uncompressed
        dtype = series.dtype.newbyteorder(byteorder)
        size = int(np.prod(shape)) * dtype.itemsize
        stored = np.fromfile(
            path, dtype, count=int(np.prod(shape)), offset=series.dataoffset + row * size
        )
        return stored.reshape(shape)
    each = len(series.pages) // _cells_in(series)  # pages per cell: its channels
    chosen = [series.pages[row * each + i] for i in range(each)]
    return np.stack([page.asarray() for page in chosen]).reshape(shape)
