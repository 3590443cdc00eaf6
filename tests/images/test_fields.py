"""Cells cut from field images: the pixels are the field's, and the tables are what tools write."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from made_fields import (
    Field,
    image_rows,
    make_fields,
    object_rows,
    write_csv,
    write_images,
    write_sqlite,
)

from cytolens.errors import InputError, SettingError
from cytolens.images import field_crops
from cytolens.images.content import content_of, data_files
from cytolens.images.isolation import isolated
from cytolens.images.reading import read_cells
from cytolens.records.cells import Cells

FIELDS = make_fields()
N = sum(len(one.rows) for one in FIELDS)


def expected(one: Field, number: int, window: int, *, labels: bool = False) -> np.ndarray:
    """A window around a cell's box (2, w, w), NaN beyond the border of the field."""
    row = next(row for row in one.rows if row["number"] == number)
    x, y = row["x"], row["y"]
    left, top = int(np.floor(x + 0.5)) - window // 2, int(np.floor(y + 0.5)) - window // 2
    padded = np.pad(one.image.astype(float), ((0, 0), (99, 99), (99, 99)), constant_values=np.nan)
    return padded[:, top + 99 : top + 99 + window, left + 99 : left + 99 + window]


def check_pixels(cells: Cells, window: int) -> None:
    """Every crop is bit by bit a part of its field, and its field's median beyond the border."""
    raw = cells.images.read_raw(slice(None))
    at_border = 0
    for name, crop in zip(cells.names.tolist(), raw):
        place, number = name.rstrip("]").split("[")
        one = next(one for one in FIELDS if f"/{one.name}_" in f"/{place}" or one.name in place)
        wanted = expected(one, int(number), window)
        measured = ~np.isnan(wanted)
        np.testing.assert_array_equal(crop[measured], wanted[measured])
        for plane, channel, inside in zip(crop, one.image, measured):
            assert (plane[~inside] == np.median(channel).astype(np.uint16)).all()
        at_border += not measured.all()
    assert at_border > 5


@pytest.fixture
def profiler(tmp_path: Path) -> Path:
    """CellProfiler's ExportToSpreadsheet, with images in a folder beside it."""
    write_images(tmp_path, FIELDS)
    write_csv(tmp_path / "MyExpt_Image.csv", image_rows(FIELDS))
    return write_csv(tmp_path / "MyExpt_Nuclei.csv", object_rows(FIELDS))


def test_spreadsheets_of_cellprofiler_are_joined_and_cut(profiler: Path):
    cells = read_cells(profiler, labels="Treatment", window=24, size=24)
    assert len(cells) == N
    assert cells.class_names == ("DMSO", "drug")
    assert cells.channel_names == ("DNA", "ER")
    assert cells.group_name == "field"  # of the wells, each class has two only
    assert read_cells(profiler, labels="Treatment", group="Well").group_name == "Metadata_Well"
    assert {"x in field", "y in field", "Metadata_Well"} <= set(cells.covariates)
    assert not any("Intensity" in name or "Count" in name for name in cells.covariates)
    assert any("2 measured columns" in remark for remark in cells.remarks)
    check_pixels(cells, 24)


def test_a_box_is_cut_with_four_pixels_around_it(profiler: Path):
    cells = read_cells(profiler, labels="Treatment", size=32)
    boxes = [np.array(row["box"]) for one in FIELDS for row in one.rows]
    sizes = [(b[3] - b[1] + 8, b[2] - b[0] + 8) for b in boxes]
    assert cells.original_sizes.tolist() == [list(map(int, size)) for size in sizes]


@pytest.mark.parametrize("prefix", ["", "MyExpt_"])
def test_databases_of_cellprofiler_are_read(tmp_path: Path, prefix: str):
    write_images(tmp_path, FIELDS)
    tables = {
        f"{prefix}Per_Image": image_rows(FIELDS, prefix="Image_"),
        f"{prefix}Per_Object": object_rows(FIELDS, prefix="Nuclei_"),
        "Experiment": [{"key": 1}],
    }
    path = write_sqlite(tmp_path / "experiment.sqlite", tables)
    cells = read_cells(path, labels="Metadata_Treatment", window=24, size=24)
    assert len(cells) == N
    check_pixels(cells, 24)


def test_tables_of_cell_painting_take_the_cells_and_not_their_nuclei(tmp_path: Path):
    write_images(tmp_path, FIELDS)
    shifted = [
        {"ImageNumber": r["ImageNumber"], "ObjectNumber": r["ObjectNumber"]}
        | {k: v for k, v in r.items() if k.startswith("Nuclei_")}
        for r in object_rows(FIELDS, prefix="Nuclei_")
    ]
    tables = {
        "Image": image_rows(FIELDS, prefix="Image_"),
        "Cytoplasm": object_rows(FIELDS, prefix="Cytoplasm_"),
        "Nuclei": shifted,
        "Cells": object_rows(FIELDS, prefix="Cells_"),
    }
    path = write_sqlite(tmp_path / "plate1.sqlite", tables)
    cells = read_cells(path, labels="Treatment", window=24, size=24)
    check_pixels(cells, 24)
    merged = [
        {f"Metadata_{k}" if k == "ImageNumber" else k: v for k, v in (image | row).items()}
        for row in object_rows(FIELDS, prefix="Cells_")
        for image in [image_rows(FIELDS, prefix="Image_")[row["ImageNumber"] - 1]]
    ]
    pq.write_table(pa.Table.from_pylist(merged), tmp_path / "merged.parquet")
    again = read_cells(tmp_path / "merged.parquet", labels="Treatment", window=24, size=24)
    np.testing.assert_array_equal(
        cells.images.read_raw(slice(None)), again.images.read_raw(slice(None))
    )


@pytest.mark.parametrize("ending", ["_cp_masks.png", "_labels.tif", ".labels.tif", "_Objects.tif"])
def test_label_images_beside_fields_are_cut(tmp_path: Path, ending: str):
    from imagecodecs import png_encode

    for one in FIELDS:
        folder = tmp_path / one.treatment
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(
            folder / f"{one.name}.ome.tif", one.image, metadata={"axes": "CYX"}, ome=True
        )
        if ending.endswith("png"):
            (folder / f"{one.name}{ending}").write_bytes(png_encode(one.labels))
        else:
            tifffile.imwrite(folder / f"{one.name}{ending}", one.labels)
    cells = read_cells(tmp_path, size=32)
    assert len(cells) == N
    assert cells.class_names == ("DMSO", "drug")
    assert cells.group_name == "field"
    first = FIELDS[0].rows[0]
    left, top, right, bottom = first["box"]
    crop = cells.images.crops.load(np.array([0]))[0]
    inner = FIELDS[0].image[:, top:bottom, left:right]
    np.testing.assert_array_equal(crop[:, 4:-4, 4:-4], inner)


def test_neighbours_and_surroundings_are_blanked(tmp_path: Path):
    image = np.full((2, 40, 60), 100, np.uint16)
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 10:20], labels[10:20, 21:31] = 1, 2
    image[:, labels == 1], image[:, labels == 2] = 500, 900
    image[:, 5, 5] = 777  # outside of both
    for treatment in ("a", "b"):
        for i in range(6):
            (tmp_path / treatment).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / treatment / f"{i}.tif", image, photometric="minisblack")
            tifffile.imwrite(tmp_path / treatment / f"{i}_masks.tif", labels)

    def first(blank: str) -> np.ndarray:
        cells = read_cells(tmp_path, window=32, size=32, blank=blank)
        return cells.images.read_raw(slice(0, 1))[0, 0]

    everything = first("nothing")
    assert {500, 900, 777} <= set(np.unique(everything).tolist())
    assert set(np.unique(first("neighbours")).tolist()) == {100, 500, 777}
    assert set(np.unique(first("surroundings")).tolist()) == {100, 500}
    assert (first("surroundings") == 500).sum() == 100


def test_plain_tables_name_images_boxes_and_label_images(tmp_path: Path):
    rows = []
    for one in FIELDS:
        tifffile.imwrite(tmp_path / f"{one.name}.tif", one.image, photometric="minisblack")
        tifffile.imwrite(tmp_path / f"{one.name}_mask.tif", one.labels)
        rows += [
            {"image": f"{one.name}.tif", "mask": f"{one.name}_mask.tif", "object": row["number"],
             "label": one.treatment, "x": row["x"], "y": row["y"], "donor": one.name}
            for row in one.rows
        ]  # fmt: skip
    cells = read_cells(
        write_csv(tmp_path / "t.csv", rows), window=24, size=24, blank="surroundings"
    )
    assert cells.group_name == "field"
    for name, crop in zip(cells.names.tolist(), cells.images.read_raw(slice(None))):
        place, number = name.rstrip("]").split(".tif[")
        one = next(one for one in FIELDS if one.name == place)
        inside = one.image[:, one.labels == int(number)]
        assert np.isin(inside[0], crop[0]).mean() > 0.5
    boxes = [
        {"image": r["image"], "label": r["label"], "bbox-0": b[1], "bbox-1": b[0], "bbox-2": b[3],
         "bbox-3": b[2]}
        for r, b in zip(rows, [row["box"] for one in FIELDS for row in one.rows])
    ]  # fmt: skip
    assert len(read_cells(write_csv(tmp_path / "regionprops.csv", boxes))) == N


def test_tables_of_ilastik_lie_beside_their_image(tmp_path: Path):
    one = make_fields(1, each=25)[0]
    tifffile.imwrite(tmp_path / "field.tif", one.image, photometric="minisblack")
    rows = [
        {"object_id": row["number"], "timestep": 0, "Predicted Class": "ab"[i % 2],
         "Center of the object_0": row["x"], "Center of the object_1": row["y"]}
        for i, row in enumerate(one.rows)
    ]  # fmt: skip
    cells = read_cells(write_csv(tmp_path / "field_table.csv", rows), window=16)
    assert len(cells) == 25
    assert cells.class_names == ("a", "b")


def test_boxes_are_those_of_every_label(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(field_crops, "_PIXELS", 500)  # so that cells lie in several parts
    for one in FIELDS:
        numbers, boxes = field_crops.boxes_of(one.labels)
        assert numbers.tolist() == [row["number"] for row in one.rows]
        assert boxes.tolist() == [list(row["box"]) for row in one.rows]
    assert len(field_crops.boxes_of(np.zeros((9, 9), np.uint8))[0]) == 0


def test_a_manifest_of_crops_with_places_stays_one(tmp_path: Path):
    from made_crops import make_crops, write_crop

    lines = ["path,label,x,y"]
    for i, crop in enumerate(make_crops(24, 20, 18)):
        write_crop(tmp_path / f"{i}.png", crop)
        lines.append(f"{i}.png,{'ab'[i % 2]},{i},{i * 2}")
    (tmp_path / "crops.csv").write_text("\n".join(lines))
    cells = read_cells(tmp_path / "crops.csv")
    assert set(cells.covariates) == {"x", "y"}
    assert cells.original_sizes[0].tolist() == [20, 18]


def test_a_field_that_cannot_be_read_is_named_or_its_cells_are_left_out(profiler: Path):
    (profiler.parent / "plate1" / "s2_ER.tif").write_bytes(b"II*\0broken")
    with pytest.raises(InputError, match=r"plate1/s2_DNA\.tif\[\d+\] cannot be cut: s2_ER\.tif is"):
        read_cells(profiler, labels="Treatment", window=24)
    cells = read_cells(profiler, labels="Treatment", window=24, skip_bad=True)
    assert len(cells) == N - len(FIELDS[1].rows)
    assert len(cells.skipped) == len(FIELDS[1].rows)


def test_what_is_missing_is_said(profiler: Path, tmp_path: Path):
    with pytest.raises(InputError, match="Metadata_Treatment"):
        read_cells(profiler)
    with pytest.raises(InputError, match="--blank surroundings needs label images"):
        read_cells(profiler, labels="Treatment", blank="surroundings")
    with pytest.raises(SettingError, match="blank 'all' is unknown"):
        read_cells(profiler, labels="Treatment", blank="all")
    rows = [{k: v for k, v in r.items() if "Bounding" not in k} for r in object_rows(FIELDS)]
    centres = write_csv(tmp_path / "MyExpt_Centres.csv", rows)
    with pytest.raises(InputError, match="--window 64"):
        read_cells(centres, labels="Treatment")
    assert len(read_cells(centres, labels="Treatment", window=16)) == N
    (tmp_path / "MyExpt_Image.csv").unlink()
    with pytest.raises(InputError, match="not in which images"):
        read_cells(centres, labels="Treatment", window=16)
    write_csv(tmp_path / "MyExpt_Image.csv", image_rows(FIELDS[:2]))
    with pytest.raises(InputError, match="no image with ImageNumber 3"):
        read_cells(centres, labels="Treatment", window=16)


def test_cells_without_place_or_label_are_left_out_and_said(profiler: Path):
    rows = object_rows(FIELDS)
    for row, value in zip(rows, ("", "nan", "1e300", "-5000")):
        row["Location_Center_X"] = value
    write_csv(profiler, rows)
    images = image_rows(FIELDS)
    images[3]["Metadata_Treatment"] = ""
    write_csv(profiler.with_name("MyExpt_Image.csv"), images)
    cells = read_cells(profiler, labels="Treatment", window=24, skip_bad=True)
    assert len(cells) == N - 4 - len(FIELDS[3].rows)
    assert any("3 cells without a place" in remark for remark in cells.remarks)
    assert any(f"{len(FIELDS[3].rows)} cells without a label" in r for r in cells.remarks)
    assert "lies outside of its field" in cells.skipped[0].reason


def test_a_changed_image_changes_the_content_and_fields_are_read_apart(profiler: Path):
    files = data_files(profiler)
    assert len(files) == 2 + 2 * len(FIELDS)
    before = content_of(files).digest
    here = read_cells(profiler, labels="Treatment", window=24)
    with isolated():
        apart = read_cells(profiler, labels="Treatment", window=24)
    np.testing.assert_array_equal(
        here.images.read_raw(slice(None)), apart.images.read_raw(slice(None))
    )
    tifffile.imwrite(profiler.parent / "plate1" / "s1_ER.tif", FIELDS[1].image[0])
    assert content_of(data_files(profiler)).digest != before


@pytest.mark.parametrize(
    "content",
    [b"", b"SQLite format 3\0" + bytes(99), b"no database", b"SQLite format 3\0" + b"\xff" * 9999],
)
def test_broken_databases_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.sqlite"):
        read_cells(tmp_path / "x.sqlite")
