"""Parquet with pictures, image folders with metadata, Hugging Face's objects, MedMNIST, Ch1.tif."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tifffile
from imagecodecs import png_encode
from made_crops import make_crops, write_crop
from PIL import Image
from pyarrow import parquet

from cytolens.errors import InputError
from cytolens.images import array_files
from cytolens.images.content import data_files
from cytolens.images.new_cells import read_alike
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells

N = 24


def pixels(cells: Cells) -> np.ndarray:
    return cells.images.read_raw(slice(0, len(cells)))


def as_tiff(crop: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, crop, photometric="minisblack")
    return buffer.getvalue()


def write_parquet(
    path: Path, contents: list[bytes | None], paths: list[str] | None = None, **columns: Any
) -> Path:
    """As Hugging Face writes it: pictures as structs, names of classes in the schema's metadata."""
    pictures = [{"bytes": b, "path": p} for b, p in zip(contents, paths or [None] * len(contents))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(pictures, kind), **columns})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    note = json.dumps({"info": {"features": features}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": note}), path, row_group_size=5
    )
    return path


def test_pictures_in_parquet_come_back_bit_for_bit(tmp_path: Path) -> None:
    crops = make_crops(N, 20, 20, dtype=np.uint16)
    contents = [png_encode(c) if i % 2 else as_tiff(c) for i, c in enumerate(crops)]
    label = np.arange(N) % 2
    path = write_parquet(
        tmp_path / "train-00000-of-00001.parquet", contents, label=label, age=np.arange(N) / 2,
        tags=[["a"]] * N,
    )  # fmt: skip
    cells = read_cells(path, size=20)
    np.testing.assert_array_equal(pixels(cells)[:, 0], crops)
    assert cells.class_names == ("cat", "dog")
    assert cells.covariates["age"][3] == 1.5
    assert any("columns left out: tags" in remark for remark in cells.remarks)
    shuffled = np.array([23, 0, 12])
    np.testing.assert_array_equal(cells.images.read_raw(shuffled)[:, 0], crops[shuffled])


def test_shards_and_splits_of_a_folder(tmp_path: Path) -> None:
    crops = make_crops(N, 20, 20, 3)
    contents = [png_encode(crop) for crop in crops]
    for name, rows in (("train-0-of-2", slice(0, 10)), ("test-0-of-1", slice(10, N))):
        label = np.arange(N)[rows] % 2
        write_parquet(tmp_path / f"data/{name}.parquet", contents[rows], label=label)
    cells = read_cells(tmp_path, size=20)
    assert (len(cells), cells.class_names) == (N, ("cat", "dog"))
    assert cells.channel_names == ("red", "green", "blue")
    assert np.bincount(cells.covariates["split"] == "test").tolist() == [10, 14]
    assert len(data_files(tmp_path)) == 2
    order = [*range(10, N), *range(10)]  # test comes before train
    np.testing.assert_array_equal(pixels(cells), np.moveaxis(crops, -1, 1)[order])


def test_a_path_in_parquet_stays_in_its_folder(tmp_path: Path) -> None:
    crops = make_crops(N, 20, 20)
    for i, crop in enumerate(crops):
        write_crop(tmp_path / f"in/{i}.png", crop)
    write_crop(tmp_path / "secret.png", crops[0])
    names = [f"{i}.png" for i in range(N)]
    path = write_parquet(tmp_path / "in/x.parquet", [None] * N, names, label=np.arange(N) % 2)
    np.testing.assert_array_equal(pixels(read_cells(path, size=20))[:, 0], crops)
    names[4] = "../secret.png"
    path = write_parquet(tmp_path / "in/x.parquet", [None] * N, names, label=np.arange(N) % 2)
    with pytest.raises(
        InputError, match=r"x\.parquet\[4\] names '\.\./secret\.png', which lies out"
    ):
        read_cells(path)


def test_damaged_pictures_in_parquet_are_named(tmp_path: Path) -> None:
    contents: list[Any] = [png_encode(crop) for crop in make_crops(30, 20, 20)]
    contents[3], contents[7], contents[9] = contents[3][:60], b"", b"no picture"
    path = write_parquet(tmp_path / "x.parquet", contents, label=np.arange(30) % 2)
    cells = read_cells(path, skip_bad=True)
    assert [bad.name for bad in cells.skipped] == ["x.parquet[3]", "x.parquet[7]", "x.parquet[9]"]
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(InputError, match=r"x\.parquet cannot be decoded"):
        read_cells(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_image_folder_with_metadata(kind: str, tmp_path: Path) -> None:
    crops = make_crops(N, 20, 20)
    for i, crop in enumerate(crops):
        write_crop(tmp_path / ("train" if i < 14 else "test") / f"images/{i:02}.png", crop)
    for split, rows in (("train", range(14)), ("test", range(14, N))):
        frame = pd.DataFrame(
            {
                "file_name": [f"images/{i:02}.png" for i in rows],
                "label": ["ab"[i % 2] for i in rows],
                "group": [f"g{i % 3}" for i in rows],
            }
        )
        place = tmp_path / split / f"metadata.{kind}"
        if kind == "csv":
            frame.to_csv(place, index=False)
        else:
            frame.to_json(place, orient="records", lines=True)
    cells = read_cells(tmp_path, size=20)
    assert (cells.class_names, cells.group_name) == (("a", "b"), "group")
    order = [*range(14, N), *range(14)]
    np.testing.assert_array_equal(pixels(cells)[:, 0], crops[order])
    assert cells.covariates["split"][0] == "test"
    assert tmp_path / "train" / f"metadata.{kind}" in data_files(tmp_path)
    place = tmp_path / "train" / f"metadata.{kind}"
    text = place.read_text().replace("images/03.png", "../../03.png")
    place.write_text(text.replace("images\\/03", "../../03"))
    with pytest.raises(InputError, match="lies outside"):
        read_cells(tmp_path)


class ClassLabel:
    names = ("cat", "dog")


class Value:
    pass


Picture = type("Image", (), {})


class Dataset:
    """What read_cells uses of a dataset of Hugging Face."""

    def __init__(self, crops: np.ndarray, mode: str | None = None) -> None:
        self.crops = crops
        self.features = {"image": Picture(), "label": ClassLabel(), "age": Value(), "box": object()}

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return [i % 2 for i in range(len(self))] if key == "label" else list(range(len(self)))
        return {"image": Image.fromarray(self.crops[key])}


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 3)])
def test_objects_of_hugging_face(shape: tuple[int, ...]) -> None:
    crops = make_crops(N, *shape, dtype=np.uint8 if len(shape) == 3 else np.uint16)
    wanted = crops[:, None] if len(shape) == 2 else np.moveaxis(crops, -1, 1)
    cells = read_cells(Dataset(crops), size=20)
    np.testing.assert_array_equal(pixels(cells), wanted)
    assert (cells.class_names, cells.names[3]) == (("cat", "dog"), "dataset[3]")
    assert cells.covariates["age"].tolist() == list(range(N))
    both = read_cells({"train": Dataset(crops[:10]), "test": Dataset(crops[10:])}, size=20)
    np.testing.assert_array_equal(pixels(both), wanted)
    assert both.covariates["split"].tolist() == ["train"] * 10 + ["test"] * 14


def test_a_real_dataset_object() -> None:
    datasets = pytest.importorskip("datasets")
    crops = make_crops(N, 20, 20)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    columns = {"image": [Image.fromarray(c) for c in crops], "label": [i % 2 for i in range(N)]}
    cells = read_cells(datasets.Dataset.from_dict(columns, features=features), size=20)
    np.testing.assert_array_equal(pixels(cells)[:, 0], crops)
    assert cells.class_names == ("cat", "dog")


@pytest.mark.parametrize("side", [28, 64, 128, 224])
@pytest.mark.parametrize("colour", [False, True])
def test_medmnist_at_every_size(
    side: int, colour: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "LARGEST_IN_MEMORY", 1 << 20)  # larger ones are mapped
    shape = (side, side, 3) if colour else (side, side)
    parts = {f"{s}_images": make_crops(n, *shape, seed=n) for s, n in zip(SPLITS, (16, 4, 8))}
    labels = {f"{s}_labels": (np.arange(n) % 2)[:, None] for s, n in zip(SPLITS, (16, 4, 8))}
    np.savez_compressed(tmp_path / f"x_{side}.npz", **parts, **labels)
    cells = read_cells(tmp_path / f"x_{side}.npz", size=side)
    crops = np.concatenate(list(parts.values()))
    wanted = np.moveaxis(crops, -1, 1) if colour else crops[:, None]
    np.testing.assert_array_equal(pixels(cells), wanted)
    assert cells.covariates["split"].tolist() == ["train"] * 16 + ["val"] * 4 + ["test"] * 8


SPLITS = ("train", "val", "test")


@pytest.mark.parametrize("form", ["{}_Ch{}.tif", "{}_Ch{}.ome.tif", "cell {} channel-{:02}.png"])
def test_a_file_for_each_channel(form: str, tmp_path: Path) -> None:
    crops = make_crops(N, 3, 20, 20, dtype=np.uint16)
    for i, crop in enumerate(crops):
        for channel, picture in zip((1, 2, 11), crop):
            name = form.format(f"{i:02}", channel)
            write_crop(tmp_path / f"donor_{i % 3}/{'ab'[i % 2]}/{name}", picture)
    cells = read_cells(tmp_path, size=20, channels=["Ch11", "Ch2"])
    assert (len(cells), cells.class_names, cells.group_name) == (N, ("a", "b"), "donor")
    assert cells.channel_names == ("Ch11", "Ch2")
    places = [int(name[-2:]) for name in cells.names.tolist()]
    np.testing.assert_array_equal(pixels(cells), crops[places][:, [2, 1]])
    placed = read_alike(tmp_path / "donor_1", cells)
    assert (len(placed), placed.names[0]) == (8, "a/" + cells.names[8].rsplit("/", 1)[1])
    missing = sorted(tmp_path.glob("donor_0/a/*"))[1]
    missing.unlink()
    with pytest.raises(InputError, match="which has no file of channel"):
        read_cells(tmp_path)
