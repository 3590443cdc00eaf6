"""A table of a person's decisions: cells left out, cells of another class, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.images.decisions import apply_decisions, read_decisions
from cytolens.images.reading import read_cells
from cytolens.records.cells import Decision

NAMES = np.array(["a.png", "b.png", "=c.png", "twice.png", "twice.png", "d.png"])
LABELS = np.array([0, 0, 1, 1, 1, 2])
CLASSES = ("G1", "G2", "+M", "none of these")


def written(tmp_path: Path, text: str, **how: Any) -> Path:
    file = tmp_path / "suspects.csv"
    file.write_text(text, **how)
    return file


def changes(file: Path) -> list[tuple[str, str, str | None]]:
    made = apply_decisions(file, NAMES, LABELS, CLASSES)[2]
    return [(one.name, one.given, one.label) for one in made]


def test_cells_are_left_out_and_relabelled_and_all_others_stay(tmp_path: Path) -> None:
    file = written(tmp_path, "name,use,label\na.png,no,G1\nb.png,yes,G2\n'=c.png,,'+M\nd.png,1,\n")
    file.write_text(file.read_text() + "a.png,,\n")  # a row that decides nothing
    with pytest.raises(InputError, match="no cell of class G1"):
        changes(file)
    file.write_text(file.read_text().replace("b.png,yes,G2", "b.png,yes,G1"))
    labels, used, made = apply_decisions(file, NAMES, LABELS, CLASSES)
    assert labels.tolist() == [0, 0, 2, 1, 1, 2]
    assert used.tolist() == [False, True, True, True, True, True]
    assert made == (Decision("a.png", "G1", None), Decision("=c.png", "G2", "+M"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_do_to_a_table_does_not_matter(
    tmp_path: Path, separator: str, encoding: str, end: str
) -> None:
    rows = [
        ["Name", "list", "use ", "label"],
        ["a.png", "odd, far", " FALSE", ""],
        ["", "", "", ""],
        ["b.png", "", "TRUE"],
        ["=c.png", "", "True", "G1"],
        [],
    ]
    quoted = [[f'"{entry}"' if "," in entry else entry for entry in row] for row in rows]
    text = end.join(separator.join(row) for row in quoted)
    file = written(tmp_path, text, encoding=encoding, newline="")
    assert changes(file) == [("a.png", "G1", None), ("=c.png", "G2", "G1")]


def test_a_label_as_given_is_no_decision(tmp_path: Path) -> None:
    file = written(tmp_path, "name,use,label,given\na.png,yes,G2,G2\nb.png,yes,G2,G1\n")
    assert [row.decides for row in read_decisions(file)] == [False, True]
    assert changes(file) == [("b.png", "G1", "G2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column name, use, label; .* has: none"),
        ("name,use\na.png,no\n", "no column label"),
        ("name,use,label\nz.png,yes,\n", r"1 of 1 names are no cells .* row 2, 'z\.png'"),
        ("name,use,label\na.png,yes,\na.png,perhaps,\n", "row 3: use is 'perhaps'; allowed are"),
        ("name,use,label\na.png,yes,S\n", "row 2: 'S' is no class .* choose one of: G1, G2, \\+M"),
        ("name,use,label\na.png,yes,none of these\n", "is no class"),
        ("name,use,label\na.png,no,\na.png,yes,G2\n", "rows 2 and 3 disagree on 'a.png'"),
        ("name,use,label\ntwice.png,no,\n", "2 cells are called 'twice.png'"),
        ("name,use,label\nd.png,no,\n", r"leaves no cell of class \+M"),
        ("name,use,label\nd.png,,G1\n", r"leaves no cell of class \+M"),
    ],
)
def test_what_cannot_be_followed_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as raised:
        changes(file)
    assert "--relabel" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        read_decisions(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="is no file"):
        read_decisions(tmp_path)
    file = tmp_path / "book.xlsx"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match="CSV UTF-8"):
        read_decisions(file)


def test_cells_are_read_as_if_the_data_were_like_that(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    data = class_folders(("a", "b", "c"))
    (data / "a" / "cell_0.png").write_bytes(b"no picture")  # left out, it is not even opened
    text = "name,use,label\na/cell_0.png,no,\nb/cell_1.png,yes,a\nc/cell_2.png,yes,b\n"
    file = written(tmp_path, text)
    cells = read_cells(data, relabel=file)
    assert np.bincount(cells.labels).tolist() == [12, 12, 11]
    assert "a/cell_0.png" not in cells.names
    assert cells[cells.names.tolist().index("b/cell_1.png")].class_name == "a"
    assert f"decisions in '{file}': 2 relabelled, 1 left out" in cells.remarks
    of_two = read_cells(data, relabel=file, classes=["a", "b"])  # classes are chosen afterwards
    assert np.bincount(of_two.labels).tolist() == [12, 12]
    assert of_two.names.tolist().index("c/cell_2.png") >= 0


def test_too_few_cells_after_decisions_say_so(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    rows = "".join(f"a/cell_{k}.png,no,\n" for k in range(5))
    file = written(tmp_path, f"name,use,label\n{rows}")
    with pytest.raises(InputError, match="'a' has 7 after 5 decisions of --relabel"):
        read_cells(class_folders(), relabel=file)


def test_a_table_that_changes_nothing_is_said(
    class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    file = written(tmp_path, "name,use,label\na/cell_1.png,yes,a\n")
    cells = read_cells(class_folders(), relabel=str(file))
    assert cells.decisions == ()
    assert f"decisions in '{file}': none, all cells stay as they are" in cells.remarks
