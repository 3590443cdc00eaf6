"""suspects.csv goes out, is edited by a person, and goes back in."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.finished_run import open_run

CYTOLENS = [sys.executable, "-m", "cytolens"]
SMALL = [
    "--quick", "--epochs", "1", "--gallery", "1", "--cards", "1", "--atlas", "0", "--steps", "2",
    "--explain", "0", "--pairs", "0", "--method", "pca", "--map-cells", "60",
    "--layers", "conv1", "pre_softmax", "logits",
]  # fmt: skip
TRAINED = ["--quick", "--epochs", "1"]
Rows = list[dict[str, str]]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CYTOLENS, *map(str, words)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(60, size=32, difficulty=0.5, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("data") / "cells", made)


def edit(file: Path, change: Callable[[Rows], None]) -> None:
    """As a German spreadsheet saves it: semicolons, a byte order mark, upper case."""
    text = file.read_text("utf-8-sig")
    delimiter = ";" if ";" in text.splitlines()[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    for row in rows:
        row["use"] = {"yes": "TRUE", "no": "FALSE"}.get(row["use"], row["use"])
    change(rows)
    with file.open("w", newline="", encoding="utf-8-sig") as opened:
        table = csv.DictWriter(opened, list(rows[0]), delimiter=";")
        table.writeheader()
        table.writerows(rows)


def test_suspects_are_decided_on_and_handed_back(data: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "run", tmp_path / "run" / "suspects.csv"
    first = run("run", data, *SMALL, "--out", out)
    assert first.returncode == 0, first.stderr
    names: list[str] = []

    def decide(rows: Rows) -> None:
        moved, dropped = rows[:2]
        moved["label"] = next(n for n in ("lymphocyte", "neutrophil") if n != moved["given"])
        dropped["use"] = "FALSE"
        names.extend([moved["name"], dropped["name"]])

    edit(table, decide)
    handed = Path(shutil.copy(table, tmp_path / "handed.csv"))
    again = run("train", out, "--relabel", table)
    assert again.returncode == 0, again.stderr
    assert [made.name for made in open_run(out).cells.decisions] == sorted(
        names, key=lambda name: int(name[10:-1])
    )
    same = run("train", data, *TRAINED, "--out", out, "--relabel", handed)
    assert same.returncode == 0, same.stderr
    assert "reading the cells" not in same.stderr

    def decide_more(rows: Rows) -> None:
        rows[2]["use"] = "FALSE"

    def take_back(rows: Rows) -> None:
        for row in rows:
            row["use"], row["label"] = "", row["given"]

    edit(table, decide_more)
    kept = out / "suspects.edited.csv"
    redrawn = run("report", out)
    assert redrawn.returncode == 0, redrawn.stderr
    assert "hand them back with" in redrawn.stderr
    assert "1 relabelled, 1 left out" in redrawn.stderr
    assert "FALSE" in kept.read_text()
    summary = json.loads((out / "summary.json").read_text())["cells"]
    assert (summary["n"], summary["relabelled"], summary["left_out"]) == (59, 1, 1)
    page = (out / "report.html").read_text()
    assert "Decisions on single cells" in page
    assert "left out" in page
    rows = {row["name"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert rows[names[0]]["label"] != rows[names[0]]["given"]  # the new table repeats them
    assert rows[names[1]]["use"] == "no"
    once_more = run("train", out, "--relabel", kept)
    assert once_more.returncode == 0, once_more.stderr
    assert len(open_run(out).cells) == 58
    edit(table, take_back)
    back = run("train", out, "--relabel", table)
    assert back.returncode == 0, back.stderr
    assert len(open_run(out).cells) == 60
    assert "none, all cells stay as they are" in " ".join(open_run(out).cells.remarks)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no file"),
        ("name,label\n", "has no column use"),
        ("name,use,label\ncells.npz[0],maybe,\n", "row 2: use is 'maybe'; allowed are yes"),
        ("name,use,label\ncells.npz[0],yes,monocyte\n", "choose one of: lymphocyte, neutrophil"),
        ("name,use,label\nother.png,yes,\n", "'other.png'"),
    ],
)
def test_a_table_that_cannot_be_followed_is_one_line(
    data: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    table = tmp_path / "suspects.csv"
    if text is not None:
        table.write_text(text)
    refused = run("train", data, "--out", tmp_path / "run", "--relabel", table)
    assert refused.returncode == 2
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("cytolens: --relabel")
    assert said in last
