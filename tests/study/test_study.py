"""Stages over a run folder: what is kept, what is made again, what an interruption costs."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cytolens.errors import SettingError
from cytolens.images import Optics, simulate
from cytolens.store import write_simulation
from cytolens.study import Study, StudySettings

SMALL = StudySettings(
    epochs=1, gallery=1, steps=2, map_cells=60, permutations=20, explain=1, methods=["pca"]
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(120, size=32, difficulty=0.0, optics=Optics(pixel_size_um=0.5), rng=0)
    return write_simulation(tmp_path_factory.mktemp("data") / "cells", made)


class Listener:
    """Notes which stages are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    @contextmanager
    def __call__(self, title: str):
        self.made.append(title)
        yield lambda done, total, note: None


def test_an_interrupted_study_goes_on_where_it_stopped(data: Path, tmp_path: Path):
    class Stop(Listener):
        @contextmanager
        def __call__(self, title: str):
            if title == "clustering":
                raise KeyboardInterrupt
            with super().__call__(title) as progress:
                yield progress

    first = Stop()
    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path / "run", data, SMALL, announce=first).clusters()
    second = Listener()
    again = Study(tmp_path / "run", announce=second)
    assert again.clusters()
    assert second.made == ["clustering"]
    assert again.settings == SMALL


def test_the_same_seed_gives_the_same_study_and_another_seed_another(data: Path, tmp_path: Path):
    maps = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = StudySettings(**{**SMALL.__dict__, "seed": seed})
        maps.append(Study(tmp_path / name, data, settings).maps()["pca"]["conv2"].coordinates)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_cells_on_maps_are_drawn_and_the_held_out_were_not_trained_on(data: Path, tmp_path: Path):
    study = Study(tmp_path / "run", data, SMALL)
    assert len(study.mapped) == 60
    assert not set(study.held_out) & set(study.split.train)


def test_a_draw_of_cells_is_even_and_said(data: Path, tmp_path: Path):
    settings = StudySettings(**{**SMALL.__dict__, "limit": 60})
    cells = Study(tmp_path / "run", data, settings).cells()
    assert np.bincount(cells.labels).tolist() == [30, 30]
    assert "60 of these 120 cells" in cells.remarks[-1]


def test_a_run_folder_inside_the_data_is_refused(data: Path):
    with pytest.raises(SettingError, match="inside the data"):
        Study(data.parent / "run", data.parent)


def test_quick_changes_only_what_was_not_chosen():
    quick = StudySettings(quick=True, epochs=3).effective()
    assert quick.epochs == 3
    assert quick.gallery < StudySettings().gallery
    assert not quick.quick


@pytest.mark.parametrize(
    "wrong", [{"gallery": -1}, {"methods": ["sammon"]}, {"steps": 0}, {"limit": 3}]
)
def test_settings_out_of_range_are_named(wrong: dict[str, object]):
    with pytest.raises(SettingError, match=next(iter(wrong)).replace("_", "-")):
        StudySettings(**wrong)
