"""Files that are broken, or made to do harm: each one small, each one written by a function."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

GOOD = np.random.default_rng(1).integers(0, 200, (20, 18)).astype(np.uint8)
RGB = np.random.default_rng(2).integers(0, 200, (20, 18, 3)).astype(np.uint8)
Write = Callable[[Path], object]
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def png(width: int, height: int, *, bits: int = 8, kind: int = 0, data: bytes = b"\0") -> bytes:
    """A PNG file that says what it likes of its size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")


def jpeg(size: tuple[int, int] = (20, 18)) -> bytes:
    """A JPEG file whose header says ``size``."""
    target = io.BytesIO()
    Image.fromarray(RGB).save(target, "jpeg")
    data = bytearray(target.getvalue())
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", *size)
    return bytes(data)


def bmp(width: int = 18, height: int = 20) -> bytes:
    """A BMP file whose header says a size."""
    target = io.BytesIO()
    Image.fromarray(RGB).save(target, "bmp")
    data = bytearray(target.getvalue())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def patched(path: Path, tag: int, value: Any, image: np.ndarray = GOOD, **options: Any) -> None:
    """A TIFF file in which one tag says something else."""
    tifffile.imwrite(path, image, **options)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags[tag].overwrite(value)


def packed(path: Path, payload: bytes, compression: str, **options: Any) -> None:
    """A TIFF file of 20 × 18 pixels whose one strip holds ``payload``."""
    more = {"rowsperstrip": 20, "dtype": np.uint8, "shape": (20, 18), **options}
    tifffile.imwrite(path, iter([payload]), compression=compression, **more)


def ome(path: Path, inner: str = "", *, sizes: str = "", head: str = "", channels: int = 1) -> None:
    """An OME-TIFF with XML of one's own."""
    said = {"SizeX": "18", "SizeY": "20", "SizeC": str(channels), "SizeZ": "1", "SizeT": "1"}
    said |= dict(entry.split("=") for entry in sizes.split())
    attributes = " ".join(f'{key}="{value}"' for key, value in said.items())
    xml = (
        f'<?xml version="1.0"?>{head}<OME xmlns="{OME}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYCZT" Type="uint8" {attributes}>{inner}</Pixels></Image></OME>'
    )
    tifffile.imwrite(path, GOOD, description=xml.encode(), metadata=None)


def part(name: str, channel: int = 0) -> str:
    """A plane of an OME-TIFF that lies in another file."""
    identifier = f"urn:uuid:{channel:08}-0000-0000-0000-000000000000"
    uuid = f'<UUID FileName="{name}">{identifier}</UUID>'
    return f'<TiffData FirstC="{channel}" IFD="0" PlaneCount="1">{uuid}</TiffData>'


def sparse(path: Path, size: int) -> None:
    """A file that is mostly a hole."""
    with path.open("wb") as file:
        file.write(png(20, 18))
        file.truncate(size)


def cut(path: Path, share: float, **options: Any) -> None:
    tifffile.imwrite(path, GOOD, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def hollow(path: Path) -> None:
    """A tiled TIFF file one of whose tiles holds nothing: libraries read it as black."""
    image = np.random.default_rng(3).integers(1, 200, (32, 32)).astype(np.uint8)
    tifffile.imwrite(path, image, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = list(tiff.pages.first.databytecounts)
        counts[2] = 0
        tiff.pages.first.tags[325].overwrite(tuple(counts))


def noise(n: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(n)


def _encoded(image: np.ndarray, codec: str) -> bytes:
    return bytes(getattr(imagecodecs, f"{codec}_encode")(np.ascontiguousarray(image)))


SMALL = GOOD[:10, :9]
LARGE = np.tile(GOOD, (8, 8))
BIG = {"shape": (20, 18, 3), "photometric": "rgb", "rowsperstrip": 20}

IMAGES: dict[str, tuple[Write, str]] = {
    # what is no file
    "pipe.png": (os.mkfifo, "is a pipe"),
    "pipe.tif": (os.mkfifo, "is a pipe"),
    "zero.png": (lambda p: p.symlink_to("/dev/zero"), "is a device"),
    "zero.tif": (lambda p: p.symlink_to("/dev/zero"), "is a device"),
    "random.jpg": (lambda p: p.symlink_to("/dev/urandom"), "is a device"),
    "gone.png": (lambda p: p.symlink_to("nowhere"), "does not exist"),
    "circle.png": (lambda p: p.symlink_to(p), "cannot be read"),
    "huge.png": (lambda p: sparse(p, 3 << 30), "MiB"),
    # no image
    "empty.png": (lambda p: p.write_bytes(b""), "is empty"),
    "empty.tif": (lambda p: p.write_bytes(b""), "is empty"),
    "empty.jpg": (lambda p: p.write_bytes(b""), "is empty"),
    "one.tif": (lambda p: p.write_bytes(b"I"), "is no PNG"),
    "text.tif": (lambda p: p.write_text("hello"), "is no PNG"),
    "noise.png": (lambda p: p.write_bytes(noise(999)), "is no PNG"),
    "page.png": (lambda p: p.write_text("<html>404</html>"), "is no PNG"),
    "lfs.tif": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"), "is no PNG"),
    "svg.png": (lambda p: p.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "is no PNG"),
    "gif.png": (lambda p: p.write_bytes(b"GIF89a" + noise(99)), "is no PNG"),
    # PNG
    "vast.png": (lambda p: p.write_bytes(png(50_000, 50_000)), "at most 4096"),
    "most.png": (lambda p: p.write_bytes(png(2**31 - 1, 2**31 - 1)), "at most 4096"),
    "wide.png": (lambda p: p.write_bytes(png(2**31, 1)), "at most 4096"),
    "deep.png": (lambda p: p.write_bytes(png(4096, 4096, bits=16, kind=6)), "at most 4096"),
    "none.png": (lambda p: p.write_bytes(png(0, 0)), "no pixels"),
    "short.png": (lambda p: p.write_bytes(png(20, 18)), "damaged"),
    "head.png": (lambda p: p.write_bytes(png(20, 18)[:20]), "damaged"),
    "start.png": (lambda p: p.write_bytes(png(20, 18)[:8]), "damaged"),
    "crc.png": (lambda p: p.write_bytes(_encoded(GOOD, "png")[:-80] + noise(80)), "damaged"),
    "bits.png": (lambda p: p.write_bytes(png(20, 18, bits=7)), "damaged"),
    "kind.png": (lambda p: p.write_bytes(png(20, 18, kind=5)), "damaged"),
    "palette.png": (lambda p: p.write_bytes(png(20, 18, kind=3, data=bytes(420))), "damaged"),
    "flat.png": (
        lambda p: p.write_bytes(png(4096, 4096, data=bytes(4096 * 4097))), "is constant",
    ),
    # JPEG, BMP
    "vast.jpg": (lambda p: p.write_bytes(jpeg((65535, 65535))), "at most 4096"),
    "none.jpg": (lambda p: p.write_bytes(jpeg((0, 0))), "damaged|no pixels"),
    "short.jpg": (lambda p: p.write_bytes(jpeg()[:-300]), "damaged"),
    "head.jpg": (lambda p: p.write_bytes(jpeg()[:30]), "damaged"),
    "mark.jpg": (lambda p: p.write_bytes(b"\xff\xd8\xff" + b"\xff" * 999), "damaged"),
    "vast.bmp": (lambda p: p.write_bytes(bmp(100_000, 100_000)), "at most 4096"),
    "minus.bmp": (lambda p: p.write_bytes(bmp(-5, 20)), "at most 4096"),
    "short.bmp": (lambda p: p.write_bytes(bmp()[:200]), "damaged"),
    "more.bmp": (lambda p: p.write_bytes(bmp(900, 900)), "damaged"),
    "head.bmp": (lambda p: p.write_bytes(b"BM"), "damaged"),
    # TIFF: tags
    "cut.tif": (lambda p: cut(p, 0.7), "damaged"),
    "head.tif": (lambda p: cut(p, 0.02), "damaged"),
    "zip.tif": (lambda p: cut(p, 0.8, compression="zlib"), "damaged"),
    "noise.tif": (lambda p: p.write_bytes(b"II*\0" + noise(999)), "damaged"),
    "far.tif": (lambda p: p.write_bytes(b"II*\0\xff\xff\xff\x7f" + noise(99)), "damaged"),
    "bigtiff.tif": (lambda p: p.write_bytes(b"II+\0\x08\0\0\0" + b"\xff" * 8), "damaged"),
    "vast.tif": (lambda p: patched(p, 256, 2**31), "at most 4096"),
    "tall.tif": (lambda p: patched(p, 257, 2**31), "at most 4096"),
    "nil.tif": (lambda p: patched(p, 256, 0), "no pixels|damaged"),
    "samples.tif": (lambda p: patched(p, 277, 60_000), "damaged|at most|image"),
    "bits.tif": (lambda p: patched(p, 258, 77), "damaged"),
    "offset.tif": (lambda p: patched(p, 273, 2**31), "damaged"),
    "count.tif": (lambda p: patched(p, 279, 0), "hold nothing|damaged"),
    "tiles.tif": (
        lambda p: patched(p, 322, 20_000 * 16, np.tile(GOOD, (2, 2))[:32, :32], tile=(16, 16)),
        "has tiles of 16 × 320000|damaged",
    ),
    "tall_tiles.tif": (
        lambda p: patched(
            p, 323, 160_000_000, np.tile(GOOD, (2, 2))[:32, :32], tile=(16, 16), compression="zlib"
        ),
        "has tiles of 160000000",
    ),
    "hollow.tif": (hollow, "hold nothing"),
    "complex.tif": (
        lambda p: tifffile.imwrite(p, GOOD.astype(np.complex64)), "values of type complex64",
    ),
    "codec.tif": (lambda p: patched(p, 259, 34676), "not read .34676"),
    "unknown.tif": (lambda p: patched(p, 259, 65000), "not read .65000"),
    "old_jpeg.tif": (lambda p: patched(p, 259, 6), "not read .6"),
    "jxl.tif": (
        lambda p: packed(p, _encoded(GOOD, "jpegxl"), "jpegxl"), "not read .50002",
    ),
    "series.tif": (
        lambda p: [tifffile.imwrite(p, GOOD[: 20 - i], append=bool(i)) for i in range(2)],
        "images of different",
    ),
    "shaped.tif": (
        lambda p: tifffile.imwrite(
            p, GOOD, metadata=None, description='{"shape": [1000000000, 20, 18]}'
        ),
        "",
    ),
    # TIFF: what is packed into it
    "zlib_bomb.tif": (lambda p: packed(p, zlib.compress(bytes(50 << 20), 9), "zlib"), "damaged"),
    "zlib_less.tif": (lambda p: packed(p, zlib.compress(bytes(99)), "zlib"), "damaged"),
    "zstd_bomb.tif": (
        lambda p: packed(p, imagecodecs.zstd_encode(bytes(50 << 20)), "zstd"), "damaged",
    ),
    "packbits.tif": (
        lambda p: packed(p, imagecodecs.packbits_encode(bytes(9999)), "packbits"), "damaged",
    ),
    "lzw.tif": (lambda p: packed(p, noise(300), "lzw"), "damaged"),
    "lzma.tif": (lambda p: packed(p, noise(300), "lzma"), "damaged"),
    "png_more.tif": (lambda p: packed(p, _encoded(LARGE, "png"), "png"), "160 × 144 pixels"),
    "png_less.tif": (lambda p: packed(p, _encoded(SMALL, "png"), "png"), "10 × 9 pixels"),
    "png_vast.tif": (lambda p: packed(p, png(30_000, 30_000), "png"), "30000 × 30000 pixels"),
    "jpeg_more.tif": (lambda p: packed(p, _encoded(LARGE, "jpeg"), "jpeg"), "160 × 144 pixels"),
    "jpeg_less.tif": (lambda p: packed(p, _encoded(SMALL, "jpeg"), "jpeg"), "10 × 9 pixels"),
    "jpeg_vast.tif": (
        lambda p: packed(p, jpeg((60_000, 60_000)), "jpeg", **BIG), "60000 × 60000 pixels",
    ),
    "jpeg_none.tif": (lambda p: packed(p, noise(300), "jpeg"), "no picture at all"),
    "webp_more.tif": (
        lambda p: packed(p, _encoded(np.tile(RGB, (8, 8, 1)), "webp"), "webp", **BIG),
        "160 × 144 pixels",
    ),
    "webp_less.tif": (
        lambda p: packed(p, _encoded(RGB[:10, :9], "webp"), "webp", **BIG), "10 × 9 pixels",
    ),
    "webp_none.tif": (lambda p: packed(p, noise(300), "webp", **BIG), "no picture at all"),
    "j2k_more.tif": (
        lambda p: packed(p, _encoded(LARGE, "jpeg2k"), "jpeg2000"), "160 × 144 pixels",
    ),
    "j2k_less.tif": (
        lambda p: packed(p, _encoded(SMALL, "jpeg2k"), "jpeg2000"), "10 × 9 pixels",
    ),
    "j2k_none.tif": (lambda p: packed(p, noise(300), "jpeg2000"), "no picture at all"),
    # OME-TIFF
    "out.ome.tif": (lambda p: ome(p, part("../../secret.ome.tif")), "only files beside it"),
    "root.ome.tif": (lambda p: ome(p, part("/etc/passwd")), "only files beside it"),
    "drive.ome.tif": (lambda p: ome(p, part("C:\\\\secret.tif")), "only files beside it"),
    "lost.ome.tif": (
        lambda p: ome(p, '<TiffData IFD="0" PlaneCount="1"/>' + part("b.ome.tif", 1), channels=2),
        "names 'b.ome.tif' as one of its files, which does not exist",
    ),
    "device.ome.tif": (
        lambda p: ((p.parent / "b.ome.tiff_").symlink_to("/dev/zero"), ome(p, part("b.ome.tiff_"))),
        "which is a device",
    ),
    "fewer.ome.tif": (
        lambda p: ome(p, '<TiffData IFD="0" PlaneCount="1"/>', channels=3), "lacks 2 of the 3",
    ),
    "far.ome.tif": (
        lambda p: ome(p, '<TiffData FirstC="1" IFD="0" PlaneCount="1"/>', channels=2), "lacks 1",
    ),
    "endless.ome.tif": (lambda p: ome(p, sizes="SizeT=1000000000"), "1000000000 planes"),
    "minus.ome.tif": (lambda p: ome(p, sizes="SizeT=-1"), "no pixels"),
    "planes.ome.tif": (
        lambda p: ome(p, '<TiffData IFD="0" PlaneCount="4000000000"/>'), "PlaneCount = 4000000000",
    ),
    "first.ome.tif": (lambda p: ome(p, '<TiffData FirstT="-7"/>'), "FirstT = -7"),
    "word.ome.tif": (lambda p: ome(p, sizes="SizeC=many"), "'many' in its OME-XML"),
    "laughs.ome.tif": (
        lambda p: ome(p, head='<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>'), "defines entities",
    ),
}  # fmt: skip
"""Image files by name: how each is written, and what is said of it (a regular expression)."""


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An array file with a header of one's own."""
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def archive(path: Path, **members: Any) -> None:
    """An .npz of 24 cells in which members are replaced by arrays, or by bytes as they are."""
    content = {
        "images": np.stack([np.roll(GOOD, i) for i in range(24)]), "labels": np.arange(24) % 2,
    } | members  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, value in content.items():
            if value is None:
                continue
            if not isinstance(value, bytes):
                file = io.BytesIO()
                np.save(file, value, allow_pickle=True)
                value = file.getvalue()
            target.writestr(f"{name}.npy", value)


def bomb(path: Path, shape: tuple[int, ...], size: int, name: str = "images") -> None:
    """An .npz one of whose members unpacks to ``size`` zeros."""
    head = npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")
    archive(path, **{name: head + bytes(size)})


def bare(path: Path, content: bytes) -> None:
    """An array file with labels beside it."""
    path.write_bytes(content)
    np.save(path.with_name("labels.npy"), np.arange(24) % 2)


_HEAD = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"

ARRAYS: dict[str, tuple[Write, str]] = {
    "pipe.npz": (os.mkfifo, "is a pipe"),
    "pipe.npy": (os.mkfifo, "is a pipe"),
    "zero.npz": (lambda p: p.symlink_to("/dev/zero"), "is a device"),
    "empty.npz": (lambda p: p.write_bytes(b""), "damaged"),
    "noise.npz": (lambda p: p.write_bytes(noise(999)), "damaged"),
    "bare.npz": (lambda p: archive(p, images=None, labels=None), "no array 'images'"),
    "cut.npz": (lambda p: (archive(p), p.write_bytes(p.read_bytes()[:-99])), "damaged"),
    "bomb.npz": (lambda p: bomb(p, (24, 2048, 1440), 24 * 2048 * 1440), "unpacks from"),
    "large.npz": (lambda p: bomb(p, (24, 20_000, 20_000), 99), "truncated|at most 4096"),
    "says.npz": (lambda p: bomb(p, (10**12, 20, 18), 99), "truncated"),
    "labels.npz": (lambda p: bomb(p, (900 << 20,), 70 << 20, "labels"), "unpacks from|truncated"),
    "objects.npz": (lambda p: archive(p, labels=np.array(["a", None] * 12)), "Python objects"),
    "pickle.npz": (lambda p: archive(p, images=np.array([GOOD] * 24, dtype=object)), "objects"),
    "longdouble.npz": (
        lambda p: archive(p, images=np.stack([GOOD] * 24).astype(np.longdouble)), "float128|longd",
    ),
    "long_labels.npz": (
        lambda p: archive(p, labels=np.arange(24).astype(np.longdouble)), "float128|longdouble",
    ),
    "latin.npz": (
        lambda p: archive(p, labels=np.array([b"caf\xe9", b"the"] * 12)), "not UTF-8",
    ),
    "dates.npz": (
        lambda p: archive(p, labels=np.array(["2024-01-01"] * 24, "datetime64[D]")), "datetime64",
    ),
    "complex.npz": (
        lambda p: archive(p, images=np.stack([GOOD] * 24).astype(complex)), "complex128",
    ),
    "text.npz": (lambda p: archive(p, images=np.full((24, 5, 5), "x")), "<U1"),
    "fractions.npz": (lambda p: archive(p, labels=np.linspace(0, 1, 24)), "fractions"),
    "fewer.npz": (lambda p: archive(p, labels=np.arange(5)), "5 labels for 24"),
    "flat.npz": (lambda p: archive(p, images=np.zeros(24)), "no array 'images'|shape"),
    "none.npz": (lambda p: archive(p, images=np.zeros((0, 9, 9))), "no images|labels"),
    "thin.npz": (lambda p: archive(p, images=np.zeros((24, 0, 9))), "no pixels"),
    "vast_values.npz": (
        lambda p: archive(p, images=np.stack([GOOD] * 24) * 1e300), "as large as 1.99e.302",
    ),
    "nan.npz": (lambda p: archive(p, images=np.full((24, 9, 9), np.nan)), "NaN"),
    "names.npz": (
        lambda p: archive(p, class_names=np.array(["a"]), labels=np.arange(24)), "class names",
    ),
    "long_name.npz": (
        lambda p: archive(p, labels=np.array(["x" * 9999, "y"] * 12)), "9999 characters",
    ),
    "pixel.npz": (lambda p: archive(p, pixel_size=np.array([1.0, 2.0])), "must be one number"),
    "fortran.npz": (
        lambda p: archive(p, images=np.asfortranarray(np.stack([GOOD] * 24))), "Fortran",
    ),
    "code.npy": (
        lambda p: bare(p, npy("{'descr': '|u1', 'shape': __import__('os').system('x')}")),
        "damaged",
    ),
    "long.npy": (lambda p: bare(p, npy("(" * 9999)), "damaged"),
    "nested.npy": (lambda p: bare(p, npy("{'descr': " + "[" * 5000 + "]" * 5000 + "}")), "damaged"),
    "minus.npy": (lambda p: bare(p, npy(_HEAD.format("|u1", (-24, 20, 18)))), "damaged"),
    "vast.npy": (lambda p: bare(p, npy(_HEAD.format("<f8", (24, 10**9, 10**9)))), "damaged"),
    "object.npy": (lambda p: bare(p, npy(_HEAD.format("|O", (24, 20, 18)))), "damaged"),
    "version.npy": (lambda p: bare(p, b"\x93NUMPY\x09\x00" + noise(99)), "damaged"),
    "alone.npy": (lambda p: np.save(p, np.zeros((24, 9, 9))), "no labels"),
}  # fmt: skip
"""Arrays in files, each of which cannot be used as a whole."""
