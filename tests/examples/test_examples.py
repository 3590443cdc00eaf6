"""The examples as a reader would run them, on fewer cells."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from made_bsccm import write_bsccm
from made_cif import write_cif

from cytolens import open_run

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


def test_own_resnet_up_to_its_separation(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The later cells make the report of the same study, as in the example before."""
    text = (EXAMPLES / "own_resnet.py").read_text().split("# %% [markdown]\n# ## 4.")[0]
    text = text.replace("N_CELLS, EPOCHS = 800, 12", "N_CELLS, EPOCHS = 120, 1")
    (tmp_path / "own_resnet.py").write_text(text)
    path = list(sys.path)
    try:
        names = runpy.run_path(str(tmp_path / "own_resnet.py"))
    finally:
        sys.path[:] = path
        sys.modules.pop("my_resnet", None)
    said = capsys.readouterr().out
    assert "2 layer1.0 block (12, " in said
    assert "not looked at: ()" in said
    assert (names["FOLDER"] / "separation.png").stat().st_size > 5000


def test_cellprofiler(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = runpy.run_path(str(EXAMPLES / "cellprofiler.py"))["main"](
        260, tmp_path, upto="classifier", quick=True, epochs=2
    )
    said = capsys.readouterr().out
    assert "control" in said
    assert "Metadata_Well" in said
    assert open_run(run).cells.channel_names == ("DNA",)


def test_paper_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """On a collection laid out like the one that is fetched."""
    rng = np.random.default_rng(0)
    parts: dict[str, np.ndarray] = {}
    for part, n in (("train", 240), ("val", 40), ("test", 40)):
        kinds = np.arange(n) % 8
        images = rng.normal(120, 9, (n, 28, 28, 3)) + 20 * (kinds == 4)[:, None, None, None]
        parts |= {f"{part}_images": images.astype(np.uint8), f"{part}_labels": kinds[:, None]}
    np.savez(tmp_path / "bloodmnist.npz", **parts)
    run = runpy.run_path(str(EXAMPLES / "paper_setting.py"))["main"](
        tmp_path / "bloodmnist.npz", tmp_path, upto="classifier", quick=True, epochs=2
    )
    assert "lymphocyte" in capsys.readouterr().out
    cells = open_run(run).cells
    assert cells.class_names == ("granulocyte", "lymphocyte")
    assert cells.shape == (1, 28, 28)


def test_paper_setting_without_a_stain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a folder laid out like BSCCMNIST, as it is fetched."""
    write_bsccm(tmp_path / "bsccmnist" / "BSCCMNIST", 150)
    run = runpy.run_path(str(EXAMPLES / "paper_setting.py"))["main"](
        tmp_path / "bsccmnist", tmp_path, upto="classifier", quick=True, epochs=2
    )
    assert "lymphocyte" in capsys.readouterr().out
    cells = open_run(run).cells
    assert (cells.class_names, cells.shape) == (("granulocyte", "lymphocyte"), (1, 28, 28))


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
    known = {"ten_lines", "own_model", "own_resnet", "cellprofiler", "paper_setting", "from_cif"}
    assert names == known
