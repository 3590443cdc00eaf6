"""One bad image gets one line that names it, or is skipped; it never loses the run."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from imagecodecs import png_encode
from made_crops import make_crops

from cytolens.errors import InputError
from cytolens.images.reading import read_cells

Folders = Callable[..., Path]
GOOD = make_crops(1, 20, 18)[0]


def _png_of_declared_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def _write_tiff(path: Path, image: np.ndarray, **options: object) -> None:
    tifffile.imwrite(path, image, **options)


def _cut(path: Path, image: np.ndarray, share: float, **options: object) -> None:
    _write_tiff(path, image, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero.png": (lambda p: p.write_bytes(b""), "is empty"),
    "zero.tif": (lambda p: p.write_bytes(b""), "is empty"),
    "text.png": (lambda p: p.write_text("not an image"), "is no PNG"),
    "cut.png": (lambda p: p.write_bytes(png_encode(GOOD)[:-60]), "truncated or damaged"),
    "tail.png": (lambda p: p.write_bytes(png_encode(GOOD)[:-14]), "truncated or damaged"),
    "head.png": (lambda p: p.write_bytes(png_encode(GOOD)[:12]), "truncated or damaged"),
    "cut.tif": (lambda p: _cut(p, GOOD, 0.7), "truncated or damaged"),
    "head.tif": (lambda p: _cut(p, GOOD, 0.02), "truncated or damaged"),
    "packed.tif": (lambda p: _cut(p, GOOD, 0.8, compression="zlib"), "truncated or damaged"),
    "bomb.png": (lambda p: p.write_bytes(_png_of_declared_size(50_000, 50_000)), "at most 4096"),
    "bomb.tif": (
        lambda p: _write_tiff(p, np.zeros((1, 5000), np.uint8), compression="zlib"),
        "at most 4096",
    ),
    "none.png": (lambda p: p.write_bytes(_png_of_declared_size(0, 5)), "no pixels"),
    "flat.png": (lambda p: p.write_bytes(png_encode(np.full_like(GOOD, 7))), "is constant"),
    "rgb.png": (
        lambda p: p.write_bytes(png_encode(np.stack([GOOD] * 3, -1))),
        "has 3 channels where the others have 1",
    ),
    "deep.png": (
        lambda p: p.write_bytes(png_encode(GOOD.astype(np.uint16))),
        "values of type uint16 where the others have uint8",
    ),
    "gone.png": (lambda p: p.symlink_to("nowhere.png"), "does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_image_is_named_or_skipped(class_folders: Folders, name: str) -> None:
    root = class_folders()
    write, message = BAD[name]
    write(root / "a" / name)
    with pytest.raises(InputError, match=f"^a/{name} .*{message}") as caught:
        read_cells(root)
    assert "\n" not in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    cells = read_cells(root, skip_bad=True)
    assert len(cells) == 24
    assert [entry.name for entry in cells.skipped] == [f"a/{name}"]
    assert message in cells.skipped[0].reason


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinite_pixels_are_named(class_folders: Folders, value: float) -> None:
    root = class_folders(dtype=np.float32, ending=".tif")
    image = GOOD.astype(np.float32)
    image[2, 2] = value
    _write_tiff(root / "a" / "cell_5.tif", image)
    with pytest.raises(InputError, match=r"a/cell_5\.tif has NaN or infinite"):
        read_cells(root)
    assert len(read_cells(root, skip_bad=True)) == 23


def test_what_most_images_are_is_the_rule_even_if_the_first_is_not(class_folders: Folders) -> None:
    root = class_folders()
    (root / "a" / "cell_0.png").write_bytes(png_encode(np.stack([GOOD] * 3, -1)))
    cells = read_cells(root, skip_bad=True)
    assert cells.shape[0] == 1
    assert [entry.name for entry in cells.skipped] == ["a/cell_0.png"]


def test_hidden_bombs_in_tiff_decode_nothing(tmp_path: Path) -> None:
    """Blank 9000 × 9000 pixels: a small file that would take 81 MB."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(10):
            path = tmp_path / name / f"{i}.tif"
            _write_tiff(path, np.zeros((9000, 9), np.uint8), compression="zlib")
    with pytest.raises(InputError, match=r"none of 20 images can be used: a/0\.tif is 9000 × 9"):
        read_cells(tmp_path, skip_bad=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "holds no images .* is empty"),
        (
            lambda root: ((root / "a").mkdir(parents=True), (root / "a" / "x.txt").touch()),
            "1 files of other",
        ),
    ],
)
def test_folders_without_images_are_named(
    tmp_path: Path, build: Callable[[Path], object], message: str
) -> None:
    root = tmp_path / "data"
    build(root)
    with pytest.raises(InputError, match=f"data.*{message}"):
        read_cells(root)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("a",), "one class only"),
        (("x/a", "b"), "different depths, such as in b and x/a"),
    ],
)
def test_folders_that_cannot_be_classes_are_explained(
    class_folders: Folders, folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_cells(class_folders(folders))


def test_classes_of_few_cells_say_how_to_go_on(class_folders: Folders) -> None:
    root = class_folders(("a", "b", "c"))
    for i in range(5):
        (root / "b" / f"cell_{i}.png").unlink()
    with pytest.raises(InputError, match="'b' has 7; go on with --classes a c"):
        read_cells(root)
    assert len(read_cells(root, classes=["a", "c"])) == 24


def test_files_of_other_kinds_say_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.lif").touch()
    with pytest.raises(InputError, match=r"not read; give a folder of images .*\.parquet"):
        read_cells(tmp_path / "x.lif")
    (tmp_path / "x.png").touch()
    with pytest.raises(InputError, match="is one image"):
        read_cells(tmp_path / "x.png")
