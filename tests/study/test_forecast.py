"""What a large study will take, said before it starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytolens.errors import RunError
from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells
from cytolens.study.forecast import DISK, Forecast, check_room, forecast
from cytolens.study.settings import StudySettings
from cytolens.study.study import Study


def made_cells(n: int) -> Cells:
    images = np.random.default_rng(0).integers(0, 255, size=(n, 1, 16, 16), dtype=np.uint8)
    return cells_from_arrays(images, ["G1", "M"] * (n // 2))


def interrupted(title: str) -> Any:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def foreseen() -> Forecast:
    return forecast(made_cells(4000), StudySettings(epochs=4))


def test_it_says_what_takes_how_long_and_what_halves_it(foreseen: Forecast) -> None:
    assert set(foreseen.seconds) == {
        "training",
        "activations and predictions",
        "duplicates",
        "properties",
        "all that does not grow with the cells",
    }
    assert min(foreseen.seconds.values()) > 0
    assert foreseen.stored > 0
    assert "4,000 cells: about" in foreseen.text
    assert "GB to be stored" in foreseen.text
    assert "--limit 2000" in foreseen.text
    assert "--epochs 2 (training)" in foreseen.text


def test_twice_the_cells_store_twice_as_much(foreseen: Forecast) -> None:
    more = forecast(made_cells(8000), StudySettings(epochs=4))
    beyond = [found.stored - DISK for found in (foreseen, more)]
    assert beyond[1] == pytest.approx(2 * beyond[0], rel=0.02)


def test_no_room_on_the_disk_is_said_before_anything_is_made(
    foreseen: Forecast, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"GB are free there; make room.*--limit 2000"):
        check_room(tmp_path / "run", replace(foreseen, stored=1e18))
    assert check_room(tmp_path / "run", replace(foreseen, held=1.0)) is None
    warning = check_room(tmp_path / "run", replace(foreseen, held=1e18))
    assert warning is not None
    assert "--map-cells" in warning


def test_small_studies_are_not_foreseen(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=made_cells(60).images.read_raw(slice(None)),
             labels=["G1", "M"] * 30)  # fmt: skip
    assert Study(tmp_path / "run", tmp_path / "cells.npz").foresee() is None


def test_what_was_done_and_what_stopped_it_is_in_the_log(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", images=made_cells(60).images.read_raw(slice(None)),
             labels=["G1", "M"] * 30)  # fmt: skip
    study = Study(tmp_path / "run", tmp_path / "cells.npz", StudySettings(epochs=1))
    study.make("evaluation")
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "to make: evaluation; cytolens" in text
    assert "'epochs': 1" in text
    assert "classifier, training the classifier:" in text
    assert "made: evaluation" in text
    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path / "run", announce=interrupted).make("maps")
    assert "stopped: KeyboardInterrupt" in (tmp_path / "run" / "log.txt").read_text()
