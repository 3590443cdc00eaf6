"""What the user says of which cells a network was trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cells import make_cells

from cytolens.classifier.statement import (
    cells_named,
    remarks_on_statement,
    seen_as_stated,
    stated_split,
)
from cytolens.errors import SettingError
from cytolens.records.cells import Cells


@pytest.fixture
def cells() -> Cells:
    donors = np.repeat(["A", "B", "C", "D"], 15)
    made = make_cells(np.zeros((60, 1, 8, 8)), np.arange(60) % 2, groups=donors)
    part = np.where(np.arange(60) % 3 == 0, "test", "train")
    return replace(made, covariates={"part": part, "plate": np.arange(60) % 2})


def test_cells_are_named_by_column_group_or_file(cells: Cells, tmp_path: Path) -> None:
    names, table = tmp_path / "seen.txt", tmp_path / "seen.csv"
    names.write_text("cell 3\ncell 5\n")
    table.write_text("label,name\n0,cell 3\n1,cell 5\n")
    expected = {
        "all": range(60),
        "none": [],
        "part=test": range(0, 60, 3),
        "plate=1": range(1, 60, 2),
        "group=A,C": [*range(15), *range(30, 45)],
        "donor=B": range(15, 30),
        "A,D": [*range(15), *range(45, 60)],
        str(names): [3, 5],
        str(table): [3, 5],
    }
    for text, rows in expected.items():
        found = np.flatnonzero(cells_named(cells, text, flag="--trained-on"))
        assert found.tolist() == list(rows), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dose=3", r"'dose' is no column of the cells \(group, donor, part, plate\)"),
        ("part=validation", "'part' has the values test, train"),
        ("E", "it is no file, no column=value, and no donor of the cells"),
    ],
)
def test_what_names_no_cell_is_one_clear_line(cells: Cells, text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        cells_named(cells, text, flag="--held-out")


def test_a_file_of_other_names_shows_what_names_look_like(cells: Cells, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a.png\n")
    with pytest.raises(SettingError, match="none of these cells, such as 'cell 0'"):
        cells_named(cells, str(tmp_path / "names"), flag="--held-out")


def test_nothing_is_known_where_nothing_is_said(cells: Cells) -> None:
    assert seen_as_stated(cells, trained_on=None, held_out=None, untrained=False) == "unknown"


def test_the_split_is_the_one_that_is_said(cells: Cells) -> None:
    split = stated_split(cells, trained_on="A,B", held_out=None, untrained=False, rng=0)
    assert seen_as_stated(cells, trained_on="A,B", held_out=None, untrained=False) == "no"
    assert split.train.tolist() == list(range(30))
    groups = np.asarray(cells.groups)
    assert {*groups[split.validation]}.isdisjoint(groups[split.test])
    assert sorted([*split.validation, *split.test]) == list(range(30, 60))
    same = stated_split(cells, trained_on=None, held_out="C,D", untrained=False, rng=0)
    assert same.train.tolist() == split.train.tolist()


def test_a_network_that_has_seen_all_cells_or_none_is_one(cells: Cells) -> None:
    assert seen_as_stated(cells, trained_on="all", held_out=None, untrained=False) == "yes"
    assert seen_as_stated(cells, trained_on="none", held_out=None, untrained=False) == "no"
    assert seen_as_stated(cells, trained_on=None, held_out="all", untrained=False) == "no"
    assert seen_as_stated(cells, trained_on=None, held_out=None, untrained=True) == "no"


def test_a_statement_from_two_sides_and_one_without_a_class_are_refused(cells: Cells) -> None:
    for held_out, untrained in (("B", False), (None, True)):
        with pytest.raises(SettingError, match="give one of them"):
            stated_split(cells, trained_on="A", held_out=held_out, untrained=untrained, rng=0)
    with pytest.raises(SettingError, match="0 held-out cells are class 0"):
        stated_split(cells, trained_on="plate=0", held_out=None, untrained=False, rng=0)


def test_names_that_are_no_cells_and_groups_that_are_cut_are_said(
    cells: Cells, tmp_path: Path
) -> None:
    file = tmp_path / "seen.txt"
    file.write_text("\n".join([f"cell {i}" for i in range(40)] + ["a.png", "b.png"]))
    split = stated_split(cells, trained_on=str(file), held_out=None, untrained=False, rng=0)
    first, second = remarks_on_statement(cells, split, str(file), None)
    assert first.startswith("2 of the 42 names")
    assert "some cells of donor C and" in second
    whole = stated_split(cells, trained_on="A,B", held_out=None, untrained=False, rng=0)
    assert remarks_on_statement(cells, whole, "A,B", None) == ()
