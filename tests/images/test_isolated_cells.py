"""Files of many cells decoded in a process of their own, and what is no file among them."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import tifffile
import zarr
from imagecodecs import png_encode
from made_cif import write_cif
from made_crops import make_crops
from pyarrow import parquet

from cytolens.errors import InputError
from cytolens.images import isolation
from cytolens.images.image_files import read_picture_bytes
from cytolens.images.isolated_cells import IsolatedCrops
from cytolens.images.isolation import isolated
from cytolens.images.reading import read_cells

N = 24
KINDS = np.arange(N) % 2


def _masks() -> np.ndarray:
    masks = np.zeros((N, 20, 18), np.uint8)
    masks[:, 4:15, 3:12] = 1
    return masks


def _cif(path: Path) -> None:
    crops = [crop[None].repeat(2, axis=0) for crop in make_crops(N, 20, 18, dtype=np.uint16)]
    write_cif(path, crops, [m[None].repeat(2, axis=0) for m in _masks()], names={1: "BF", 2: "DNA"})
    path.with_name(f"{path.stem}_labels.csv").write_text(
        "label,donor\n" + "".join(f"{'ab'[k]},{i % 3}\n" for i, k in enumerate(KINDS))
    )


def _h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = make_crops(N, 20, 18, dtype=np.uint16)
        file["masks"] = _masks()
        file["label"] = KINDS
        file["class_names"] = ["cat", "dog"]
        file.attrs["pixel_size"] = 0.5


def _zarr(path: Path) -> None:
    group = zarr.open_group(str(path), mode="w")
    for name, values in (("images", make_crops(N, 20, 18)), ("masks", _masks()), ("labels", KINDS)):
        group.create_array(name, data=values)


def _parquet(path: Path) -> None:
    pictures = [{"bytes": png_encode(crop), "path": None} for crop in make_crops(N, 20, 18)]
    pictures[3]["bytes"] = b"no picture"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({"image": pa.array(pictures, kind), "label": KINDS}), path)


MADE: dict[str, tuple[Callable[[Path], None], str]] = {
    "x.cif": (_cif, "blank"),
    "x.h5": (_h5, "crop"),
    "x.zarr": (_zarr, "blank"),
    "x.parquet": (_parquet, "ignore"),
}


@pytest.mark.parametrize("name", MADE)
def test_cells_are_the_same_when_they_are_decoded_apart(name: str, tmp_path: Path) -> None:
    write, masks = MADE[name]
    write(tmp_path / name)
    here = read_cells(tmp_path / name, masks=masks, skip_bad=True)
    with isolated():
        apart = read_cells(tmp_path / name, masks=masks, skip_bad=True)
        np.testing.assert_array_equal(
            here.images.read_raw(slice(None)), apart.images.read_raw(slice(None))
        )
    assert apart.names.tolist() == here.names.tolist()
    assert apart.skipped == here.skipped
    assert apart.remarks == here.remarks
    assert (apart.class_names, apart.channel_names) == (here.class_names, here.channel_names)
    assert apart.pixel_size == here.pixel_size
    assert apart.covariates.keys() == here.covariates.keys()


def test_a_folder_of_files_is_decoded_apart(tmp_path: Path) -> None:
    for kind in "ab":
        (tmp_path / "cells" / kind).mkdir(parents=True)
        _h5(tmp_path / "cells" / kind / "x.h5")
    (tmp_path / "cells" / "a" / "text.h5").write_text("no HDF5")
    with isolated():
        cells = read_cells(tmp_path / "cells", skip_bad=True)
        assert len(cells) == 2 * N
    assert [bad.name for bad in cells.skipped] == ["a/text.h5"]


def test_a_crop_that_ends_its_process_costs_that_crop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _h5(tmp_path / "x.h5")
    ask = isolation.Decoder.ask

    def die_at(self: isolation.Decoder, question: dict[str, Any], seconds: float | None) -> Any:
        if 5 in question.get("positions", ()):
            self._process.kill()
            self._process.wait()
        return ask(self, question, seconds)

    monkeypatch.setattr(isolation.Decoder, "ask", die_at)
    with isolated():
        cells = read_cells(tmp_path / "x.h5", skip_bad=True)
    assert len(cells) == N - 1
    (bad,) = cells.skipped
    assert bad.name == "x.h5[5]"
    assert "ends the process that decodes it (signal 9)" in bad.reason


def test_a_library_that_is_busy_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoding process that spins over the crops, as HDF5 has over a damaged file."""
    fake = tmp_path / "fake" / "h5py"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("while True: pass\n")
    path = f"{tmp_path / 'fake'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr("cytolens.images.isolated_cells._OPENING", 0.5)
    _h5(tmp_path / "x.h5")
    start = time.monotonic()
    with isolated(), pytest.raises(InputError, match=r"x\.h5 is not decoded within 0\.5 seconds"):
        read_cells(tmp_path / "x.h5")
    assert time.monotonic() - start < 30


def test_crops_that_are_asked_for_again_come_from_a_changed_file(tmp_path: Path) -> None:
    _h5(tmp_path / "x.h5")
    names = np.array([f"x.h5[{i}]" for i in range(N)])
    crops = IsolatedCrops(tmp_path / "x.h5", ".h5", names, 8, has_masks=True)
    with isolated():
        before = crops.load(np.array([7, 2]))
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            file["images"][2] = 9  # type: ignore[index]
        os.utime(tmp_path / "x.h5", ns=(1, 1))
        after = crops.load(np.array([7, 2]))
    np.testing.assert_array_equal(before[0], after[0])
    assert (np.asarray(after[1]) == 9).all()
    assert not (np.asarray(before[1]) == 9).all()


@pytest.mark.parametrize("ending", ["cif", "h5", "h5ad", "parquet", "jsonl"])
def test_a_pipe_is_not_opened(ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"x.{ending}")
    with pytest.raises(InputError, match=r"is a pipe|of a kind that is not read"):
        read_cells(tmp_path / f"x.{ending}")
    if ending != "jsonl":
        with pytest.raises(InputError, match="is a pipe"):
            read_cells(tmp_path)


def test_a_pipe_within_zarr_is_not_opened(tmp_path: Path) -> None:
    _zarr(tmp_path / "x.zarr")
    chunk = next(p for p in (tmp_path / "x.zarr" / "images" / "c").rglob("*") if p.is_file())
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(InputError, match=r"x\.zarr has 'images/c/.*', which is a pipe"):
        read_cells(tmp_path / "x.zarr")


def test_a_tiff_in_memory_goes_through_the_checks_of_a_file() -> None:
    def written(**options: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, crop, **options)
        return buffer.getvalue()

    crop = make_crops(2, 20, 18, dtype=np.uint16)
    own = written(ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["BF", "DNA"]}})
    picture = read_picture_bytes(own)
    np.testing.assert_array_equal(picture.crop, crop)
    assert picture.channel_names == ("BF", "DNA")
    text = tifffile.TiffFile(io.BytesIO(own)).ome_metadata
    assert text is not None
    part = '<TiffData FirstC="0"><UUID FileName="{}">urn:uuid:{}</UUID></TiffData></Pixels>'
    for name, said in (("beside.tif", "cannot be beside it"), ("/etc/x.tif", "only files beside")):
        other = text.replace("</Pixels>", part.format(name, 2))
        with pytest.raises(InputError, match=said):
            read_picture_bytes(written(description=other.encode(), metadata=None))
    with pytest.raises(InputError, match="no PNG, TIFF, JPEG or BMP"):
        read_picture_bytes(b"GIF89a")
    with pytest.raises(InputError, match="is empty"):
        read_picture_bytes(b"")
    with pytest.raises(InputError, match=r"has tiles of|compressed in a way|truncated or damaged"):
        read_picture_bytes(own[:400])
