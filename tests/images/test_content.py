import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from made_crops import make_crops, write_crop

from cytolens.errors import InputError
from cytolens.images.content import Content, content_of, data_files

Folders = Callable[..., Path]


def digest_of(data: Path, **options: Any) -> str:
    return content_of(data_files(data, **options)).digest


def edit(path: Path) -> None:
    """Change one byte, and leave size and time of change as they were."""
    seen, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_touching_files_or_hidden_and_other_files_change_nothing(class_folders: Folders):
    data = class_folders()
    before = digest_of(data)
    for file in data.rglob("*.png"):
        os.utime(file, (1, 1))
    (data / ".DS_Store").write_bytes(b"finder")
    (data / "a" / "notes.txt").write_text("seen under the microscope")
    assert digest_of(data) == before


def test_the_same_data_elsewhere_have_the_same_digest(class_folders: Folders, tmp_path: Path):
    data = class_folders()
    before = digest_of(data)
    assert digest_of(data.rename(tmp_path / "moved")) == before


@pytest.mark.parametrize("change", ["edit", "remove", "rename", "add"])
def test_any_change_of_an_image_is_seen(class_folders: Folders, change: str):
    data = class_folders()
    before, file = digest_of(data), data / "b" / "cell_3.png"
    if change == "edit":
        edit(file)
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(file.with_name("cell_99.png"))
    else:
        write_crop(data / "b" / "cell_98.png", make_crops(1, 20, 18)[0])
    assert digest_of(data) != before


def test_an_image_behind_a_linked_class_folder_counts(class_folders: Folders, tmp_path: Path):
    data = class_folders()
    elsewhere = (data / "b").rename(tmp_path / "elsewhere")
    (data / "b").symlink_to(elsewhere, target_is_directory=True)
    before = digest_of(data)
    edit(elsewhere / "cell_0.png")
    assert digest_of(data) != before


def test_images_that_a_manifest_names_count_wherever_they_are(class_folders: Folders):
    data = class_folders()
    table = data.parent / "tables" / "cells.csv"
    table.parent.mkdir()
    rows = [f"../data/{file.relative_to(data)},x" for file in sorted(data.rglob("*.png"))]
    table.write_text("\n".join(["path,label", *rows]))
    before = digest_of(table)
    edit(data / "a" / "cell_5.png")
    after = digest_of(table)
    assert after != before
    table.write_text(table.read_text().replace(",x", ",y"))
    assert digest_of(table) != after


def test_the_table_of_labels_next_to_an_array_counts_where_it_is_read(tmp_path: Path):
    np.save(tmp_path / "cells.npy", make_crops(8, 20, 20))
    labels = tmp_path / "cells_labels.npy"
    np.save(labels, np.arange(8) % 2)
    before, without = (
        digest_of(tmp_path / "cells.npy"),
        digest_of(tmp_path / "cells.npy", labels="none"),
    )
    np.save(labels, np.arange(8) // 4)
    assert digest_of(tmp_path / "cells.npy") != before
    assert digest_of(tmp_path / "cells.npy", labels="none") == without


def test_a_known_stamp_saves_reading_the_bytes(
    class_folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    data = class_folders()
    monkeypatch.setattr("cytolens.images.content._TICK", 0)
    known = content_of(data_files(data))
    pretended = Content("pretended", known.stamp)
    assert content_of(data_files(data), pretended) == pretended
    edit(data / "a" / "cell_0.png")  # its time of change is as before, that of its inode is not
    assert content_of(data_files(data), pretended).digest not in ("pretended", known.digest)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_was_set_hides_no_change(
    class_folders: Folders, monkeypatch: pytest.MonkeyPatch, hours: int
):
    data, now = class_folders(), time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now + hours * 3_600_000_000_000)
    known = content_of(data_files(data))
    pretended = Content("pretended", known.stamp)
    assert content_of(data_files(data), pretended) == pretended
    edit(data / "a" / "cell_0.png")
    assert content_of(data_files(data), pretended).digest not in ("pretended", known.digest)


def test_data_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        data_files(tmp_path / "nothing")


def test_every_file_of_an_ome_tiff_counts(tmp_path: Path):
    stack = tmp_path / "cells.ome.tif"
    blocks = "".join(
        f'<TiffData FirstC="0" FirstT="0" FirstZ="{z}"><UUID FileName="{name}">urn:uuid:{z}</UUID>'
        "</TiffData>"
        for z, name in enumerate(("cells.ome.tif", "rest.ome.tif"))
    )
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" SizeX="20" SizeY="20" SizeZ="2" '
        f'SizeC="1" SizeT="1" DimensionOrder="XYZCT">{blocks}</Pixels></Image></OME>'
    )
    tifffile.imwrite(stack, make_crops(1, 20, 20), description=text, metadata=None)
    np.save(tmp_path / "labels.npy", np.arange(2))
    without = digest_of(stack)
    tifffile.imwrite(tmp_path / "rest.ome.tif", make_crops(1, 20, 20, seed=1))
    assert {file.name for file in data_files(stack)} == {
        "cells.ome.tif",
        "rest.ome.tif",
        "labels.npy",
    }
    assert digest_of(stack) != without


def test_of_two_links_to_one_folder_the_same_is_read_whatever_the_order_on_disk(tmp_path: Path):
    names: set[tuple[str, ...]] = set()
    for order in ("ab", "ba"):
        write_crop(tmp_path / order / "real" / "x.png", make_crops(1, 20, 18)[0])
        data = tmp_path / order / "data"
        data.mkdir()
        for link in order:
            (data / link).symlink_to(tmp_path / order / "real", target_is_directory=True)
        names.add(tuple(str(file.relative_to(data)) for file in data_files(data)))
    assert names == {("a/x.png",)}


def test_progress_of_the_check_is_reported_to_the_end(class_folders: Folders):
    seen: list[tuple[int, int]] = []
    content_of(data_files(class_folders()), progress=lambda done, n, _: seen.append((done, n)))
    assert seen[-1] == (24, 24)
