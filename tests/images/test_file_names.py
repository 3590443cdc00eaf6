"""Groups and parts that are read from file names."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_crops import make_crops, write_crop

from cytolens.errors import InputError, SettingError
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.file_names import name_parts, pattern_of_part
from cytolens.images.reading import read_cells


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """Class folders a/ and b/ of files plate1_0.png … plate3_11.png."""
    for seed, folder in enumerate("ab"):
        for i, crop in enumerate(make_crops(12, 20, 18, seed=seed)):
            write_crop(tmp_path / "data" / folder / f"plate{i % 3 + 1}_{i}.png", crop)
    return tmp_path / "data"


def test_groups_come_from_file_names_beside_class_folders(plates: Path) -> None:
    cells = read_cells(plates, group="(?P<group>[^_/]+)_")
    assert cells.groups is not None
    assert cells.groups.tolist() == [str(n).split("/")[1].split("_")[0] for n in cells.names]
    assert cells.group_name == "group"
    said = "groups from file names: 3 values of '(?P<group>[^_/]+)_', e.g. plate1"
    assert said in cells.remarks


def test_groups_come_from_paths_too(plates: Path) -> None:
    cells = read_cells(plates, group="^(?P<group>[ab])/")
    assert cells.groups is not None
    assert set(cells.groups) == {"a", "b"}


def test_a_file_name_without_the_group_is_named_with_their_number(plates: Path) -> None:
    with pytest.raises(InputError, match=r"not found in 16 of 24 file names, such as a/plate2_1"):
        read_cells(plates, group="(?P<group>plate1)")


@pytest.mark.parametrize(
    ("group", "said"),
    [("(?P<donor>.)_", "has no named group"), ("(?P<group>[", "is no regular expression")],
)
def test_a_pattern_that_cannot_name_a_group_is_refused(plates: Path, group: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        read_cells(plates, group=group)


def test_groups_come_from_the_names_of_an_array_and_of_a_manifest(
    npz: Callable[..., Path], plates: Path
) -> None:
    names = [f"day{i // 6}/cell.png" for i in range(24)]
    cells = read_cells(npz(filenames=names), group=r"day(?P<group>\d)")
    assert cells.groups is not None
    assert cells.groups.tolist() == [str(i // 6) for i in range(24)]
    rows = [f"data/{p.relative_to(plates)},{p.parent.name}" for p in sorted(plates.rglob("*.png"))]
    table = plates.parent / "cells.csv"
    table.write_text("\n".join(["path,label", *rows]))
    cells = read_cells(table, group=r"plate(?P<group>\d)_")
    assert cells.groups is not None
    assert set(cells.groups) == {"1", "2", "3"}


def test_cells_of_classes_that_are_left_out_need_no_group(plates: Path) -> None:
    for i, crop in enumerate(make_crops(12, 20, 18, seed=3)):
        write_crop(plates / "c" / f"{i}.png", crop)
    cells = read_cells(plates, group="(?P<group>[^_/]+)_", classes=["a", "b"])
    assert cells.groups is not None


def test_the_pattern_of_a_part_finds_that_part_in_every_name() -> None:
    names = np.array(
        [
            f"donor_{k % 5}/on-{k % 2}/CD{3 + 5 * (k % 2)}_{k % 4}_{('act', 'no')[k % 2]}-{k}.png"
            for k in range(60)
        ]
    )
    parts = name_parts(names)
    found = {part: pattern_of_part(names, part) for part in parts}
    assert found.pop("file name part 5") is None  # a running number
    assert set(found) == {"file name part 2", "file name part 3", "file name part 4"}
    for part, pattern in found.items():
        assert pattern is not None
        values = [re.search(pattern, name)["group"] for name in names]  # type: ignore[index]
        assert values == parts[part].tolist(), part


def test_names_that_are_not_built_alike_have_no_pattern() -> None:
    assert pattern_of_part(np.array(["a1", "b", "a1", "b"]), "file name pattern") is None
    assert pattern_of_part(np.array(["a1", "b", "a1", "b"]), "file name part 1") is None


def test_a_group_of_arrays_is_what_was_given() -> None:
    cells = cells_from_arrays(
        make_crops(24, 20, 20), np.arange(24) % 2, groups=np.arange(24) % 3, group_name="day (1?)"
    )
    assert cells.group_name == "day (1?)"
