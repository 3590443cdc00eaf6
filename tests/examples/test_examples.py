"""The examples as a reader would run them, on fewer cells."""

import runpy
import sys
from pathlib import Path

import pytest

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


def test_every_example_is_run_here():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"ten_lines", "own_model", "own_resnet"}
