"""The examples as a reader would run them, on fewer cells."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from made_cif import write_cif

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_ten_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(EXAMPLES / "ten_lines.py"))["main"](200, tmp_path)
    assert "on logits" in capsys.readouterr().out
    assert (tmp_path / "map.png").stat().st_size > 5000
    assert (tmp_path / "feature_images.png").stat().st_size > 5000


def test_own_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = runpy.run_path(str(EXAMPLES / "own_model.py"))["main"](
        200, tmp_path, quick=True, gallery=2, steps=4
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 input")
    assert report.is_file()


def test_from_cif(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    crops = [rng.poisson(30 + 20 * (i % 2), (2, 24, 22)).astype(np.uint16) for i in range(60)]
    masks = [np.pad(np.ones((2, 12, 12), np.uint8), ((0, 0), (6, 6), (5, 5))) for _ in crops]
    path = write_cif(tmp_path / "cells.cif", crops, masks, names={1: "SSC", 2: "BF"})
    run = runpy.run_path(str(EXAMPLES / "from_cif.py"))["main"]
    run(path, last="maps", quick=True, epochs=1, methods=["pca"])
    said = capsys.readouterr().out
    assert "little_scatter (30), much_scatter (30)" in said
    assert (tmp_path / "cells-run" / "run.json").is_file()


def test_every_example_is_run_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"ten_lines", "own_model", "from_cif"}
