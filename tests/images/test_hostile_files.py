"""Broken and hostile files: each is named in one line, in no time, and the rest is unharmed."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hostile_files import ARRAYS, GOOD, IMAGES, png
from hostile_tables import TABLES, parquet

from cytolens.errors import CytolensError, InputError
from cytolens.images.crops import in_batches
from cytolens.images.file_crops import FileCrops
from cytolens.images.image_files import read_picture
from cytolens.images.reading import read_cells

Folders = Callable[..., Path]
SECONDS, MEGABYTES = 1.0, 200


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The decoders are loaded, which counts for no file."""
    folder = tmp_path_factory.mktemp("loaded")
    for name in ("short.jpg", "codec.tif", "fewer.ome.tif"):
        IMAGES[name][0](folder / name)
        with pytest.raises(InputError):
            read_picture(folder / name)


@contextmanager
def refused(message: str, named: str) -> Iterator[None]:
    """What is in the block is refused in one line, within a second and 200 MB."""
    before, start = peak(), time.process_time()
    with pytest.raises(CytolensError, match=message) as caught:
        yield
    assert time.process_time() - start < SECONDS
    assert peak() - before < MEGABYTES
    assert "\n" not in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_named_and_the_rest_is_read(class_folders: Folders, name: str):
    root = class_folders()
    write, message = IMAGES[name]
    write(root / "a" / name)
    with refused(f"(?s)^a/{name} .*({message})", name):
        read_cells(root)
    cells = read_cells(root, skip_bad=True)
    assert len(cells) == 24
    assert [entry.name for entry in cells.skipped] == [f"a/{name}"]
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 1)).dtype, np.uint8)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_hostile_array_is_refused(tmp_path: Path, name: str):
    write, message = ARRAYS[name]
    write(tmp_path / name)
    with refused(f"(?s)({message})", name.split(".")[0]):
        read_cells(tmp_path / name)


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_refused(tmp_path: Path, name: str):
    write, message = TABLES[name]
    write(tmp_path / name)
    with refused(f"(?s)({message})", ""):
        read_cells(tmp_path / name)


def test_a_column_of_lists_is_left_out_and_said(tmp_path: Path):
    parquet(tmp_path / "t.parquet", embedding=[[0.5, 1.5]] * 24, area=list(range(24)))
    cells = read_cells(tmp_path / "t.parquet")
    assert list(cells.covariates) == ["area"]
    assert any("columns left out" in remark and "embedding" in remark for remark in cells.remarks)


def test_a_batch_holds_as_many_pictures_as_the_memory_allows(tmp_path: Path):
    """24 files of 51 KB, each 64 MiB when decoded, took 3.9 GB; here they are smaller."""
    rows = np.zeros((512, 1 + 4096 * 4), np.uint8)
    rows[7, 9] = 1
    (tmp_path / "0.png").write_bytes(png(4096, 512, kind=6, data=rows.tobytes()))
    files = [f"{i}.png" for i in range(24)]
    for name in files[1:]:
        (tmp_path / name).hardlink_to(tmp_path / "0.png")
    crops, before = FileCrops(tmp_path, np.array(files)), peak()
    batches = [(start, len(loaded)) for start, loaded in in_batches(crops, np.arange(24))]
    assert batches[:2] == [(0, 4), (4, 4)]
    assert sum(n for _, n in batches) == 24
    assert peak() - before < 100


def test_names_that_are_not_utf8_are_read_and_written_out(class_folders: Folders):
    root = class_folders(n=12)
    folder = bytes(root) + b"/gr\xfcn"
    (root / "a").rename(folder.decode("utf-8", "surrogateescape"))
    (root / "b" / "cell_0.png").rename(
        root / "b" / b"caf\xe9.png".decode("utf-8", "surrogateescape")
    )
    cells = read_cells(root)
    assert cells.class_names == ("b", "gr\\xfcn")
    assert "b/caf\\xe9.png" in cells.names.tolist()
    assert cells.images.read_raw(slice(None)).shape[0] == 24
    cells.names.tolist()[0].encode("utf-8")


@pytest.mark.parametrize("target", ["/", "/proc", "/sys", "..", "../.."])
def test_links_that_lead_outward_are_not_followed(class_folders: Folders, target: str):
    root = class_folders()
    (root / "a" / "link").symlink_to(target)
    start = time.process_time()
    assert len(read_cells(root)) == 24
    assert time.process_time() - start < SECONDS


def test_parts_of_an_ome_tiff_beside_it_are_read(tmp_path: Path):
    import tifffile
    from hostile_files import ome, part

    ome(tmp_path / "a.ome.tif", '<TiffData IFD="0"/>' + part("b.ome.tif", 1), channels=2)
    tifffile.imwrite(tmp_path / "b.ome.tif", 255 - GOOD, metadata=None)
    picture = read_picture(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(picture.crop, np.stack([GOOD, 255 - GOOD]))


@pytest.mark.parametrize("codec", ["jpeg", "png", "webp", "jpeg2000", "lzw", "zlib", "zstd"])
def test_honest_tiles_of_every_codec_are_read(tmp_path: Path, codec: str):
    import tifffile

    image = np.random.default_rng(0).integers(0, 99, (40, 50, 3)).astype(np.uint8)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, image, photometric="rgb", compression=codec, tile=(16, 16))
    assert read_picture(path).crop.shape == (3, 40, 50)
    tifffile.imwrite(path, image, photometric="rgb", compression=codec, rowsperstrip=16)
    assert read_picture(path).crop.shape == (3, 40, 50)
