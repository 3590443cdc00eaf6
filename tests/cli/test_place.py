"""``cytolens place`` as a user types it: what it prints, its exit code."""

from pathlib import Path

import numpy as np
import pytest

from cytolens.cli import main
from cytolens.simulation.optics import Optics
from cytolens.simulation.simulate import simulate
from cytolens.store.files import write_simulation
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study


def exit_code(*words: str | Path) -> object:
    with pytest.raises(SystemExit) as left:
        main([*map(str, words)])
    return left.value.code


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    cells = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    data = write_simulation(root / "cells", cells)
    Study(root / "run", data, StudySettings(epochs=1, map_cells=60, methods=["pca"])).make("maps")
    return root / "run"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    images = simulate(9, size=32, optics=Optics(pixel_size_um=0.5), rng=3).images
    np.savez(tmp_path / "tuesday.npz", images=images)
    return tmp_path / "tuesday.npz"


def test_new_cells_are_placed_in_the_run(
    finished: Path, new: Path, capsys: pytest.CaptureFixture[str]
):
    assert exit_code("place", new, "--on", finished) == 0
    out = finished / "placed" / "tuesday"
    said = capsys.readouterr().out
    assert str(out / "placed.html") in said
    assert "% of test cells" in said
    assert len((out / "placed.csv").read_text().splitlines()) == 10


@pytest.mark.parametrize("case", ["no run", "no images", "wrong channels", "other folder"])
def test_what_is_wrong_is_one_line_and_exit_code_2(
    finished: Path, new: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
):
    on, out = finished, tmp_path / "out"
    if case == "wrong channels":
        with np.load(new) as archive:
            images = np.repeat(archive["images"], 2, axis=1)
        np.savez(new, images=images)
    elif case == "no run":
        on = tmp_path
    elif case == "no images":
        new = tmp_path / "nothing"
        new.mkdir()
    else:
        out = tmp_path
    assert exit_code("place", new, "--on", on, "--out", out) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cytolens: ")]
    assert len(said) == 1
    assert not (tmp_path / "out").exists()
