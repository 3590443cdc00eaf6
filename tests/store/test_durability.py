import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_records import make_pairs

from cytolens.errors import RunError, SettingError
from cytolens.records.contrast import Contrasts
from cytolens.records.features import FeatureImages, ModulatedImages
from cytolens.store import files
from cytolens.store.csv_text import safe_csv_cell
from cytolens.store.files import replacing_folder, standing, write_bytes
from cytolens.store.image_stacks import write_image_stacks
from cytolens.store.run_folder import RunFolder


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_and_folders_follow_the_umask(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "new" / "a.bin", b"x")
        with replacing_folder(tmp_path / "made") as partial:
            (partial / "b").write_text("y")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "a.bin").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_to_is_one_line_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
):
    folder = RunFolder(tmp_path / "run")
    folder.write_result("maps", {"a": 1})
    folder.finish("maps", "h", 1.0)

    def full(handle: int) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(RunError, match="cannot be written") as raised:
            folder.write_result("maps", {"a": 2})
    assert "\n" not in str(raised.value)
    assert folder.read_result("maps") == {"a": 1}
    folder.write_result("maps", {"a": 3})  # it goes on once there is room
    assert folder.read_result("maps") == {"a": 3}
    assert not [f for f in folder.path.rglob("*") if f.name.startswith(".partial")]


def test_what_a_killed_process_left_of_an_export_is_removed_by_the_next(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, other = (
        files.temporary_of(tmp_path / name, ended.pid) for name in ("a[1].h5ad", "b.h5ad")
    )
    elsewhere = tmp_path / f".partial-{ended.pid}-00000000-a[1].h5ad"  # of another machine
    for file in (left, other, elsewhere):
        file.touch()
    write_bytes(tmp_path / "a[1].h5ad", b"x")
    assert not left.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].h5ad", other.name, elsewhere.name}


def test_a_crash_between_two_renames_loses_neither_the_old_nor_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "result"
    with replacing_folder(target) as partial:
        (partial / "n").write_text("1")
    renames: list[Path] = []
    rename = Path.replace

    class Killed(BaseException):
        pass

    def stopped(self: Path, other: Path) -> None:
        renames.append(other)
        if len(renames) == 2:  # the old one is aside, the new one not yet in place
            raise Killed
        rename(self, other)

    with monkeypatch.context() as patched:
        patched.setattr(files.Path, "replace", stopped)
        patched.setattr(files.shutil, "rmtree", lambda *a, **k: None)
        with pytest.raises(Killed), replacing_folder(target) as partial:
            (partial / "n").write_text("2")
    assert (standing(target) / "n").read_text() == "1"
    with replacing_folder(target) as partial:
        (partial / "n").write_text("3")
    assert (target / "n").read_text() == "3"


def test_a_folder_of_someone_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(SettingError, match="other things"),
        replacing_folder(tmp_path, knows=("stacks.txt",)),
    ):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("text", ["=1+1", "+x", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_run_is_neutralised(text: str):
    assert safe_csv_cell(text) == "'" + text


@pytest.mark.parametrize("value", [-1.5, "-1.5", "+2e-3", "cell 1", 7, None, ""])
def test_numbers_and_plain_text_stay_as_they_are(value: object):
    assert safe_csv_cell(value) == value


def test_image_stacks_come_back_bit_exact_with_names_and_pixel_size(tmp_path: Path):
    import tifffile

    draw = np.random.default_rng(0)
    images = draw.normal(size=(3, 2, 8, 9)).astype(np.float32)
    targets = ("channel 0", "channel 4", "channel 7")
    blank = np.zeros((3, 1), np.float32)
    made = FeatureImages(
        "block/1", targets, np.array([0, 4, 7]), images, blank[:, 0], np.zeros((3, 3), np.float32),
        np.zeros((3, 4, 4), np.float32), blank, np.zeros(3, bool), {},
    )  # fmt: skip
    gain = draw.random((3, 8, 9)).astype(np.float32)
    dimmed = ModulatedImages(
        "block/1", targets, images * gain[:, None], gain, "self", {}, salient=gain[:, ::-1].copy()
    )
    out = write_image_stacks(
        tmp_path / "out", [made], [dimmed], channel_names=("DNA", "SSC"), pixel_size=0.5
    )
    found = {file.name.split("-")[-1]: file for file in out.glob("*.tif")}
    assert set(found) == {"feature_images.tif", "modulated_images.tif", "gain.tif", "salient.tif"}
    with tifffile.TiffFile(found["feature_images.tif"]) as file:
        assert file.is_imagej
        np.testing.assert_array_equal(file.asarray(), images)
        assert file.imagej_metadata["Labels"][:3] == [
            "channel 0 DNA",
            "channel 0 SSC",
            "channel 4 DNA",
        ]
        per_micrometre = file.pages[0].tags["XResolution"].value
        assert per_micrometre[0] / per_micrometre[1] == pytest.approx(2)
    np.testing.assert_array_equal(tifffile.imread(found["gain.tif"]), gain)
    np.testing.assert_array_equal(tifffile.imread(found["salient.tif"]), gain[:, ::-1])


def test_image_stacks_of_contrast_pairs_go_from_less_to_more(tmp_path: Path):
    import tifffile

    pairs = make_pairs("planted", cells=2)
    out = write_image_stacks(
        tmp_path / "out", [], [], Contrasts((pairs,)), channel_names=("DNA",), pixel_size=None
    )
    assert pairs.series is not None
    with tifffile.TiffFile(out / "planted-series.tif") as file:
        assert file.imagej_metadata["Labels"][4:6] == ["series 1 step 5", "series 2 step 1"]
        np.testing.assert_array_equal(file.asarray().reshape(3, 5, 1, 20, 20), pairs.series.images)
    shown = tifffile.imread(out / "planted-pairs.tif")
    np.testing.assert_array_equal(shown[1], pairs.more[0, 0])
    assert len(tifffile.imread(out / "planted-edits.tif")) == 6
