"""The same cell in two parts of a study: named, counted, and kept together where asked."""

from pathlib import Path

import numpy as np
import pytest

from cytolens.report.findings import answer, facts, warnings
from cytolens.report.results import Results
from cytolens.simulation.simulate import simulate
from cytolens.study.settings import StudySettings
from cytolens.study.stages.classifier import worth_folds
from cytolens.study.study import Study

SMALL = {"epochs": 1, "seed": 0}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 cells and the same again, turned."""
    made = simulate(80, size=48, difficulty=0.0, rng=0)
    crops = np.concatenate([made.images, np.rot90(made.images, axes=(2, 3))])
    path = tmp_path_factory.mktemp("twice") / "cells.npz"
    names = [f"frame{k}.png" for k in range(160)]
    np.savez(path, images=crops, labels=np.tile(made.labels, 2), filenames=names)
    return path


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate(120, size=48, difficulty=0.0, rng=1)
    path = tmp_path_factory.mktemp("donors") / "cells.npz"
    donor = [f"d{k // 2 % 4}" for k in range(120)]
    np.savez(path, images=made.images, labels=made.labels, donor=donor)
    return path


def test_duplicates_across_the_split_are_counted_named_and_warned_of(
    twice: Path, tmp_path: Path
) -> None:
    study = Study(tmp_path / "run", twice, StudySettings(**SMALL))
    found, split = study["duplicates"], study["split"]
    crossing = found.across(split.test, split.train)
    assert len(crossing) > 10
    text = warnings(Results({name: study[name] for name in ("cells", "split", "duplicates")}))[0]
    named = " ~ ".join(str(study["cells"].names[cell]) for cell in crossing[0])
    assert f"{len(crossing)} of the {len(split.test)} test cells are near-duplicates" in text
    assert named in text
    assert "--keep-together" in text
    assert study["together"] is None


def test_duplicates_that_are_kept_together_are_in_one_part(twice: Path, tmp_path: Path) -> None:
    study = Study(tmp_path / "run", twice, StudySettings(**SMALL, keep_together=True))
    found, split = study["duplicates"], study["split"]
    assert len(found.pairs) >= 76
    assert len(found.across(split.test, split.train)) == 0
    assert len(found.across(split.validation, split.train)) == 0
    assert not any(
        "--keep-together" in text
        for text in warnings(
            Results({name: study[name] for name in ("cells", "split", "duplicates")})
        )
    )


def test_the_first_number_is_over_held_out_groups(donors: Path, tmp_path: Path) -> None:
    study = Study(tmp_path / "run", donors, StudySettings(**SMALL, group="donor"))
    assert study["folds"].names == ("d0", "d1", "d2", "d3")
    names = ("cells", "split", "evaluation", "folds")
    shown = Results({name: study[name] for name in names})
    assert answer(shown)[0].startswith("On held-out groups (donor) a network reaches")
    assert (
        "of one test donor only, the balanced accuracy of the one network explained below is"
        in answer(shown)[1]
    )
    assert "held-out donors" in facts(shown)[0].label
    alone = Results({name: study[name] for name in names[:3]})
    assert (
        "held-out cells of one test donor only, the balanced accuracy of the network is"
        in answer(alone)[0]
    )
    assert "of one test donor only" in facts(alone)[0].note


def test_folds_are_trained_unasked_only_where_it_is_worth_it(donors: Path, tmp_path: Path) -> None:
    cells = Study(tmp_path / "run", donors, StudySettings(**SMALL, group="donor"))["cells"]
    assert worth_folds(cells)
    assert not worth_folds(cells[cells.groups != "d3"][:2])
    assert not worth_folds(cells[np.isin(cells.groups, ["d0", "d1"])])
    assert not worth_folds(cells[(cells.groups != "d0") | (cells.labels == 0)])
    assert StudySettings(quick=True).folds == "none"
    assert StudySettings(quick=True, folds="group").folds == "group"
    none = StudySettings(**SMALL, group="donor", folds="none")
    assert Study(tmp_path / "none", donors, none)["folds"] is None
