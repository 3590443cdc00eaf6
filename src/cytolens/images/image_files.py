"""One image file decoded with care: its size is checked first, and any fault is one clear line.

The decoders are slow to load, so they are loaded when the first file is read.
"""

import io
import logging
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.allowance import PostponedError
from cytolens.images.crops import Crop
from cytolens.images.opening import check_file
from cytolens.images.preparation import LARGEST_SIDE
from cytolens.images.tiff_checks import (
    MOST_BYTES,
    check_header,
    check_pages,
    check_series,
    companions,
    parse_ome,
)

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

TIFF_ENDINGS = (".tif", ".tiff")
ENDINGS = (".png", *TIFF_ENDINGS, ".jpg", ".jpeg", ".bmp")
COLOURS = ("red", "green", "blue")
_NAMED_CHANNELS = 8  # ImageJ calls any stack's pages channels; more than these are cells
_RGB, _PALETTE = 2, 3  # PhotometricInterpretation, TIFF 6.0, section 8
_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}

# What tifffile logs about a damaged file it also raises, and that becomes one line of ours.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


Take = Callable[[int], None]
"""Claims room for so many bytes before they are decoded; see `allowance`."""


@dataclass(frozen=True)
class Limits:
    """How large a picture may be; ``take`` claims room for it before it is decoded."""

    side: int = LARGEST_SIDE  # pixels
    size: int = MOST_BYTES  # bytes when decoded
    what: str = "a crop of one cell"
    take: Take | None = None


CROP = Limits()
FIELD = Limits(65_536, 512 << 20, "a field of view")


@dataclass(frozen=True)
class Picture:
    """A decoded crop (C, h, w) and what its file says about it."""

    crop: Crop
    channel_names: tuple[str, ...] = ()
    pixel_size: float | None = None  # µm
    note: str = ""  # how it was converted


def read_picture(path: Path, limits: Limits = CROP) -> Picture:
    """The crop that a file holds; pages of a TIFF are its channels. A folder is OME-Zarr.

    The format is recognised by the content, not by the name. Raises InputError if the file is
    empty, damaged, far too large or no image; the message leaves the file's name to the caller.
    ``limits.take`` is asked for room before anything is decoded, and may raise PostponedError.
    """
    try:
        if os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises for a name that is too long
            from cytolens.images.zarr_fields import read_zarr_picture  # which takes from here
            from cytolens.images.zarr_files import is_zarr

            if is_zarr(path):
                return read_zarr_picture(path, limits)
        size = check_file(path)
        with path.open("rb") as file:
            start = file.read(26)
            if not start:
                raise InputError("is empty (zero bytes)")
            if start.startswith(_TIFF):
                return _read_tiff(path, limits)
            if not start.startswith(_OTHERS):
                raise InputError("is no PNG, TIFF, JPEG or BMP image")
            if size > limits.size:
                check_file(path, most=limits.size)
            content = start + file.read(limits.size)
        return read_content(content, limits)
    except (InputError, PostponedError):
        raise
    except Exception as error:  # on damaged files decoders raise errors of many kinds
        raise unreadable(error) from None


_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
_OTHERS = (_PNG, _JPEG, _BMP)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_content(content: bytes, limits: Limits = CROP) -> Picture:
    """The crop in the bytes of a PNG, JPEG or BMP file; errors as in `read_picture`."""
    try:
        if content.startswith(_PNG):
            return _read_png(content, limits)
        from PIL.BmpImagePlugin import BmpImageFile
        from PIL.JpegImagePlugin import JpegImageFile

        if content.startswith(_JPEG):
            return _read_with_pillow(JpegImageFile(io.BytesIO(content)), limits)
        if content.startswith(_BMP):
            return _read_with_pillow(BmpImageFile(io.BytesIO(content)), limits)
    except (InputError, PostponedError):
        raise
    except Exception as error:
        raise unreadable(error) from None
    raise InputError("is no PNG, JPEG or BMP image")


def read_picture_bytes(content: bytes, limits: Limits = CROP) -> Picture:
    """The crop in the bytes of any file that `read_picture` reads, such as a table holds them.

    A TIFF may name no further files as its parts: beside it, there are none.
    """
    if not content.startswith((*_TIFF, *_OTHERS)):
        raise InputError("is no PNG, TIFF, JPEG or BMP image" if content else "is empty")
    if len(content) > limits.size:
        raise InputError(
            f"is a file of {len(content) >> 20} MiB; at most {limits.size >> 20} are read"
        )
    if not content.startswith(_TIFF):
        return read_content(content, limits)
    try:
        return _read_tiff(io.BytesIO(content), limits)
    except (InputError, PostponedError):
        raise
    except Exception as error:
        raise unreadable(error) from None


def unreadable(error: Exception) -> InputError:
    """A decoder's complaint, on one line."""
    if isinstance(error, FileNotFoundError):
        return InputError("does not exist")
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"is no UTF-8 text (byte {error.start}); save it as UTF-8")
    if isinstance(error, MemoryError):
        return InputError("asks for more memory than there is")
    reason = re.sub(r"\s+", " ", str(error)).strip()[:120] or type(error).__name__
    return InputError(f"cannot be decoded, it is truncated or damaged ({reason})")


def check_extent(shape: tuple[int, ...], itemsize: int, limits: Limits = CROP) -> None:
    """Refuses a crop (…, h, w) that is empty, or too large to be one cell, before decoding.

    Asks ``limits.take`` for room for one that is neither.
    """
    height, width = shape[-2:]
    if 0 in shape:
        raise InputError(f"has no pixels ({height} × {width})")
    size = int(np.prod(shape, dtype=object)) * itemsize
    if max(height, width) > limits.side or size > limits.size:
        raise InputError(
            f"is {' × '.join(map(str, shape))} pixels large; {limits.what} has at most "
            f"{limits.side} × {limits.side} pixels and {limits.size >> 20} MiB"
        )
    if limits.take is not None:
        limits.take(size)


def _read_png(content: bytes, limits: Limits) -> Picture:
    width, height, bits, kind = struct.unpack(">IIBB", content[16:26])  # IHDR, PNG spec. 11.2.2
    samples = {0: 1, 2: 3, 4: 2}.get(kind, 4)  # a palette may have an alpha of its own
    check_extent((samples, height, width), 1 + bits // 16, limits)
    _check_chunks(content)
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


def _check_chunks(content: bytes) -> None:
    """Refuses a PNG file whose checksums do not hold (PNG specification, section 5.3).

    The library warns of them only, and goes on.
    """
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise InputError("is truncated or damaged: the checksum of a part is wrong")
        at = end + 4


def _read_with_pillow(file: "ImageFile", limits: Limits) -> Picture:
    check_extent((4 if len(file.getbands()) > 1 else 1, file.height, file.width), 1, limits)
    wanted = "L" if file.mode in ("1", "L") else "RGB"
    image = np.asarray(file if file.mode == wanted else file.convert(wanted))
    if image.ndim == 2:
        return Picture(image[None])
    note = f"{file.mode} colours converted to RGB" if file.mode not in ("RGB", "RGBA") else ""
    return Picture(np.moveaxis(image, -1, 0), COLOURS, note=note)


def _open_tiff(path: Path | io.BytesIO) -> Any:
    import tifffile

    place = path if isinstance(path, Path) else None
    if place is not None:
        check_file(place)
    tiff = tifffile.TiffFile(path)
    try:
        check_header(tiff, place)
    except BaseException:
        tiff.close()
        raise
    return tiff


def _read_tiff(path: Path | io.BytesIO, limits: Limits) -> Picture:
    with _open_tiff(path) as tiff:
        if len(tiff.series) == 0:
            raise InputError("is truncated or damaged: it holds no image")
        if len(tiff.series) != 1:
            raise InputError(f"holds {len(tiff.series)} images of different kinds or sizes")
        series = tiff.series[0]
        page = tiff.pages.first
        _check_series(series, series.axes, series.shape, limits)
        check_series(series)
        check_pages(series, limits.size)
        crop = _channels_first(series.asarray(), series.axes)
        names, pixel_size = _described(tiff, series.axes)
        return _as_picture(crop, page, names, pixel_size)


def _check_series(series: Any, axes: str, shape: tuple[int, ...], limits: Limits = CROP) -> None:
    if "Y" not in axes or "X" not in axes or series.dtype is None:
        raise InputError(f"is no image of rows and columns (its axes are {axes})")
    further = tuple(length for axis, length in zip(axes, shape) if axis not in "YX")
    size = series.dtype.itemsize
    check_extent((*further, shape[axes.index("Y")], shape[axes.index("X")]), size, limits)


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
    root = parse_ome(text)
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
            named = companions(parse_ome(text), path) if text else []
    except Exception:  # a damaged file is reported when it is read
        return []
    return [path.with_name(name) for name in named]


@dataclass(frozen=True)
class Pages:
    """How many cells a TIFF would hold if its pages were cells, and whether they are channels."""

    n: int
    named_channels: bool  # the file itself says that its pages are channels


def count_pages(path: Path) -> Pages:
    """What a TIFF's header says of its pages. Raises InputError when it cannot be read."""
    try:
        if check_file(path) == 0:
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


def read_pages(path: Path, pages: list[int], limits: Limits = CROP) -> list[Picture | InputError]:
    """The chosen cells of a stack, in the order given, or what is wrong with each.

    ``limits.take`` is asked for room for each; those from the first on that has none are left
    out.
    """
    read: list[Picture | InputError] = []
    try:
        with _open_tiff(path) as tiff:
            read.extend(_pages_of(tiff, path, pages, limits))
    except PostponedError:
        return read
    except InputError as error:
        return [error] * len(pages)
    except Exception as error:
        return [unreadable(error)] * len(pages)
    return read


def _pages_of(
    tiff: Any, path: Path, pages: list[int], limits: Limits
) -> Iterator[Picture | InputError]:
    for series in tiff.series:
        check_series(series)
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
            _check_series(series, axes, shape, limits)
            crop = _channels_first(_row_of(series, path, row, tiff.byteorder), axes)
            names, pixel_size = _described(tiff, axes)
            yield _as_picture(crop, series.keyframe, names, pixel_size)
        except PostponedError:
            raise
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
    check_pages(chosen)
    return np.stack([page.asarray() for page in chosen]).reshape(shape)
