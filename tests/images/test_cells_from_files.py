"""Folders, stacks and manifests of image files become Cells."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from made_crops import make_crops, write_crop
from PIL import Image

from cytolens.errors import InputError, SettingError
from cytolens.images.reading import read_cells

Folders = Callable[..., Path]


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(20, 18), (20, 18, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_bit_depth_and_pixels_survive(
    class_folders: Folders, ending: str, shape: tuple[int, ...], dtype: Any
) -> None:
    if ending == ".png" and dtype == np.float32:
        pytest.skip("PNG holds whole numbers")
    factor = 300 if dtype == np.uint16 else 1
    root = class_folders(shape=shape, ending=ending)
    written = make_crops(12, *shape).astype(dtype) * factor
    for i, crop in enumerate(written):
        write_crop(root / "a" / f"cell_{i}{ending}", crop)
    for i, crop in enumerate(make_crops(12, *shape, seed=1).astype(dtype) * factor):
        write_crop(root / "b" / f"cell_{i}{ending}", crop)
    cells = read_cells(root, intensity="none", size=(20, 18))
    expected = written[:, None] if len(shape) == 2 else np.moveaxis(written, -1, 1)
    raw = cells.images.read_raw(slice(0, 12))
    assert raw.dtype == dtype
    np.testing.assert_array_equal(raw, expected)
    read = cells.read(slice(0, 12))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected.astype(np.float32))
    assert cells.channel_names == (("red", "green", "blue") if len(shape) == 3 else ("intensity",))


@pytest.mark.parametrize(("form", "tolerance"), [("JPEG", 40), ("BMP", 0)])
def test_jpeg_and_bmp_are_read_whatever_they_are_called(
    class_folders: Folders, form: str, tolerance: int
) -> None:
    root = class_folders()
    smooth = np.add.outer(np.arange(20), np.arange(18)).astype(np.uint8) * 4
    Image.fromarray(smooth).save(root / "a" / "cell_0.png", form)
    raw = read_cells(root, size=(20, 18)).images.read_raw(slice(0, 1))[0, 0]
    assert np.abs(raw.astype(int) - smooth).max() <= tolerance


def test_innermost_folder_is_the_class_and_the_outer_the_group(class_folders: Folders) -> None:
    cells = read_cells(
        class_folders(("donor_1/act", "donor_1/quiet", "donor_10/act", "donor_2/quiet"))
    )
    assert cells.class_names == ("act", "quiet")
    assert cells.group_name == "donor"
    assert cells.groups is not None
    assert cells.groups[[0, 12, 24, 47]].tolist() == ["donor_1", "donor_1", "donor_2", "donor_10"]
    assert cells.names[0] == "donor_1/act/cell_0.png"
    assert any("donor" in remark for remark in cells.remarks)
    assert read_cells(cells.source, group="none").groups is None
    with pytest.raises(SettingError, match="group 'plate'"):
        read_cells(cells.source, group="plate")


def test_of_several_outer_levels_the_outermost_is_the_group(class_folders: Folders) -> None:
    root = class_folders(
        ("run_1/donor_1/a", "run_1/donor_2/b", "run_2/donor_1/b", "run_2/donor_2/a")
    )
    cells = read_cells(root)
    assert cells.group_name == "run"
    assert set(cells.covariates["donor"]) == {"donor_1", "donor_2"}
    assert read_cells(root, group="donor").group_name == "donor"


def test_folders_called_train_and_test_are_no_groups(class_folders: Folders) -> None:
    cells = read_cells(class_folders(("train/a", "train/b", "test/a", "test/b")))
    assert cells.groups is None
    assert set(cells.covariates["split"]) == {"train", "test"}


def test_group_that_tells_the_class_is_warned_of(class_folders: Folders) -> None:
    cells = read_cells(class_folders(("donor_1/a", "donor_2/b")))
    assert any("class and group cannot be distinguished" in remark for remark in cells.remarks)


def test_classes_keep_the_order_given_and_others_are_left_out(class_folders: Folders) -> None:
    root = class_folders(("G10", "G2", "Prophase"))
    assert read_cells(root).class_names == ("G2", "G10", "Prophase")
    cells = read_cells(root, classes=["pro", "G2"])
    assert cells.class_names == ("Prophase", "G2")
    assert len(cells) == 24
    assert cells.names[cells.labels == 0][0].startswith("Prophase/")
    with pytest.raises(SettingError, match="class 'Z' is unknown"):
        read_cells(root, classes=["Z", "G2"])
    with pytest.raises(SettingError, match="twice"):
        read_cells(root, classes=["G2", "g2"])


def test_flat_folder_says_how_to_name_the_class_and_reads_it_so(tmp_path: Path) -> None:
    for i, crop in enumerate(make_crops(24, 20, 20)):
        write_crop(tmp_path / f"{'G1' if i % 2 else 'S'}_d{i % 3}_{i}.png", crop)
    with pytest.raises(InputError, match=r"--labels '\^\(\?P<label>\[\^_\]\+\)'"):
        read_cells(tmp_path)
    assert read_cells(tmp_path, labels="^(?P<label>[^_]+)").class_names == ("G1", "S")
    cells = read_cells(tmp_path, labels=r"^(?P<label>[^_]+)_(?P<group>d\d)_(?P<time>\d+)")
    assert cells.group_name == "group"
    assert set(cells.groups) == {"d0", "d1", "d2"}
    assert len(cells.covariates["time"]) == 24


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("(?P<label>", SettingError, "no regular expression"),
        ("(?P<kind>.)", SettingError, "named group"),
        ("(?P<label>zzz)", InputError, "does not match"),
        ("plate", SettingError, "unknown for a folder"),
    ],
)
def test_bad_patterns_are_explained(
    class_folders: Folders, pattern: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_cells(class_folders(), labels=pattern)


def test_ome_tiff_gives_channel_names_and_pixel_size(tmp_path: Path) -> None:
    about = {"axes": "CYX", "Channel": {"Name": ["bright", "DNA"]}, "PhysicalSizeX": 500.0}
    about["PhysicalSizeXUnit"] = "nm"
    for i, crop in enumerate(make_crops(24, 2, 20, 20, dtype=np.uint16)):
        path = tmp_path / "ab"[i % 2] / f"{i}.ome.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, crop, metadata=about)
    cells = read_cells(tmp_path)
    assert cells.channel_names == ("bright", "DNA")
    assert cells.pixel_size == pytest.approx(0.5)
    assert read_cells(tmp_path, pixel_size=0.3).pixel_size == 0.3
    one = read_cells(tmp_path, channels="dna")
    assert one.channel_names == ("DNA",)
    np.testing.assert_array_equal(
        one.images.read_raw(slice(0, 24))[:, 0], cells.images.read_raw(slice(0, 24))[:, 1]
    )
    about["Channel"]["Name"] = ["DNA", "bright"]
    tifffile.imwrite(tmp_path / "b" / "1.ome.tif", make_crops(2, 20, 20), metadata=about)
    with pytest.raises(
        InputError, match=r"b/1\.ome\.tif has channels DNA, bright where the others"
    ):
        read_cells(tmp_path)


def test_imagej_tiff_gives_channel_labels_and_pixel_size(tmp_path: Path) -> None:
    about = {"axes": "CYX", "Labels": ["bright", "DNA"], "unit": "um"}
    for i, crop in enumerate(make_crops(24, 2, 20, 20)):
        path = tmp_path / "ab"[i % 2] / f"{i}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, crop, imagej=True, metadata=about, resolution=(4, 4))
    cells = read_cells(tmp_path)
    assert cells.channel_names == ("bright", "DNA")
    assert cells.pixel_size == pytest.approx(0.25)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_stack_per_class_has_a_cell_per_page(
    tmp_path: Path, compression: str | None, byteorder: Any
) -> None:
    stacks = {
        name: make_crops(15, 20, 18, dtype=np.uint16, seed=i) for i, name in enumerate(("G1", "G2"))
    }
    for name, stack in stacks.items():
        tifffile.imwrite(
            tmp_path / f"{name}.tif", stack.astype(f"{byteorder}u2"), compression=compression
        )
    cells = read_cells(tmp_path, size=(20, 18))
    assert cells.class_names == ("G1", "G2")
    assert cells.names[17] == "G2.tif[2]"
    np.testing.assert_array_equal(cells.images.read_raw(np.array([17, 3]))[0, 0], stacks["G2"][2])
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 15))[:, 0], stacks["G1"])


def test_pages_of_channels_and_cells_are_told_apart(tmp_path: Path) -> None:
    crops = make_crops(13, 3, 20, 18, dtype=np.uint16)
    names = {"axes": "TCYX", "Channel": {"Name": ["A", "B", "C"]}}
    for name in ("x", "y"):
        (tmp_path / "unnamed" / name).mkdir(parents=True)
        (tmp_path / "stacks").mkdir(exist_ok=True)
        for i, crop in enumerate(crops):
            tifffile.imwrite(
                tmp_path / "unnamed" / name / f"{i}.tif", crop, photometric="minisblack"
            )
        tifffile.imwrite(tmp_path / "stacks" / f"{name}.ome.tif", crops, metadata=names)
    assert read_cells(tmp_path / "unnamed").shape == (3, 24, 24)
    cells = read_cells(tmp_path / "stacks", size=(20, 18))
    assert (len(cells), cells.channel_names) == (26, ("A", "B", "C"))
    np.testing.assert_array_equal(cells.images.read_raw(slice(0, 13)), crops)


def test_one_stack_takes_its_labels_from_a_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, make_crops(24, 20, 20))
    with pytest.raises(InputError, match=r"cells_labels\.npy"):
        read_cells(path)
    table = pd.DataFrame({"label": ["G1", "G2"] * 12, "donor": np.arange(24) % 3})
    table.to_csv(tmp_path / "cells_labels.csv", index=False)
    cells = read_cells(path, group="donor")
    assert cells.class_names == ("G1", "G2")
    assert set(cells.groups) == {"0", "1", "2"}


def test_bad_page_of_a_stack_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    for seed, name in enumerate(("G1", "G2")):
        stack = make_crops(15, 20, 20, seed=seed)
        stack[7] = 9 if name == "G2" else stack[7]
        tifffile.imwrite(tmp_path / f"{name}.tif", stack)
    with pytest.raises(InputError, match=r"G2\.tif\[7\] is constant"):
        read_cells(tmp_path)
    cells = read_cells(tmp_path, skip_bad=True)
    assert len(cells) == 29
    assert [entry.name for entry in cells.skipped] == ["G2.tif[7]"]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_manifest_gives_labels_groups_and_covariates(class_folders: Folders, ending: str) -> None:
    root = class_folders()
    files = [f"{name}/cell_{i}.png" for name in "ab" for i in range(12)]
    table = pd.DataFrame(
        {
            "path": files,
            "label": ["late" if i % 2 else "early" for i in range(24)],
            "group": [f"plate {i % 3}" for i in range(24)],
            "time": np.arange(24) / 2,
            "dye": ["x", "y"] * 12,
        }
    )
    path = root / f"manifest{ending}"
    if ending == ".parquet":
        table.to_parquet(path, engine="pyarrow")
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    cells = read_cells(path)
    assert cells.class_names == ("early", "late")
    assert cells.names.tolist() == files
    assert cells.groups.tolist() == table["group"].tolist()
    np.testing.assert_array_equal(cells.covariates["time"], table["time"])
    assert cells.covariates["dye"].tolist() == table["dye"].tolist()
    assert read_cells(path, labels="dye", group="none").class_names == ("x", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,label\n", "no rows"),
        ("label\nx\n", "no column 'path'"),
        ("path,kind\na/cell_0.png,x\n", "name one with --labels: kind"),
        ("path,label\na/cell_0.png,\n" + "a/cell_1.png,x\n", "labels are missing"),
        ("path,label\n,x\n", "no path in row 1"),
        (
            "path,label\n" + "".join(f"no/{i}.png,{'xy'[i % 2]}\n" for i in range(20)),
            "does not exist",
        ),
    ],
)
def test_bad_manifests_are_explained(class_folders: Folders, text: str, message: str) -> None:
    path = class_folders() / "manifest.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_cells(path)
    assert "\n" not in str(caught.value)


def test_colour_files_that_are_grey_become_one_channel(class_folders: Folders) -> None:
    root = class_folders()
    for file in root.rglob("*.png"):
        Image.open(file).convert("RGB").save(file)
    cells = read_cells(root)
    assert cells.channel_names == ("grey",)
    assert cells.shape[0] == 1
    assert read_cells(root, channels=["red", "blue"]).channel_names == ("red", "blue")


def test_alpha_is_dropped_and_palettes_are_converted(class_folders: Folders) -> None:
    root = class_folders(shape=(20, 18, 3))
    for file in (root / "a").iterdir():
        Image.open(file).convert("RGBA").save(file)
    for file in (root / "b").iterdir():
        Image.open(file).convert("P").save(file)
    cells = read_cells(root)
    assert cells.channel_names == ("red", "green", "blue")
    assert "alpha dropped" in cells.remarks
    assert "palette colours converted to RGB" in cells.remarks


def test_duplicates_across_classes_are_listed(class_folders: Folders) -> None:
    root = class_folders()
    (root / "b" / "cell_3.png").write_bytes((root / "a" / "cell_5.png").read_bytes())
    remarks = " ".join(read_cells(root).remarks)
    assert "a/cell_5.png (a) = b/cell_3.png (b)" in remarks


def test_links_are_followed_once_and_hidden_files_passed_over(class_folders: Folders) -> None:
    root = class_folders()
    (root / "a" / "._cell_0.png").write_bytes(b"junk")
    (root / "a" / "notes.txt").write_text("x")
    (root / "b" / "again").symlink_to(root)
    cells = read_cells(root)
    assert len(cells) == 24
    assert "1 files of other kinds left out" in cells.remarks


def test_simulated_folder_is_read_as_its_npz(tmp_path: Path, npz: Callable[..., Path]) -> None:
    npz(depth=np.arange(24.0)).rename(tmp_path / "cells.npz")
    assert read_cells(tmp_path).names[3] == "cells.npz[3]"


def test_progress_is_reported_to_the_end(class_folders: Folders) -> None:
    calls: list[tuple[int, int, str]] = []
    read_cells(class_folders(), progress=lambda *call: calls.append(call))
    assert calls[-1] == (24, 24, "checking images")


def test_changed_file_is_named_when_it_is_read(class_folders: Folders) -> None:
    root = class_folders()
    cells = read_cells(root)
    (root / "a" / "cell_3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a/cell_3\.png .* changed since"):
        cells.read(slice(0, 5))


def test_jpeg_cut_short_is_an_error(class_folders: Folders) -> None:
    root, stored = class_folders(), io.BytesIO()
    Image.fromarray(make_crops(1, 20, 18)[0]).save(stored, "JPEG")
    (root / "a" / "cell_3.jpg").write_bytes(stored.getvalue()[:-80])
    with pytest.raises(InputError, match=r"a/cell_3\.jpg cannot be decoded"):
        read_cells(root)
