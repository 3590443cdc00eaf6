"""The suite as a user runs it, small: settings, answers, the page."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from cytolens.cli import main
from cytolens.errors import ModelError, SettingError
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import KnownAnswer
from cytolens.simulation.simulate import Plant
from cytolens.validation.baselines import NETWORK_FREE
from cytolens.validation.known_answers import Case, find_known_answer
from cytolens.validation.page import PLAIN, RIVALS, standing, summary_of, verdict
from cytolens.validation.suite import ValidationSettings, settings_for, write_page

OWN = """
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(4),
        nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )
"""


@pytest.fixture(scope="module")
def easy() -> KnownAnswer:
    """A granule that cannot be overlooked, found by a small architecture."""
    made: dict[str, object] = {}
    exec(OWN, made)  # what --model loads from a file
    plant = Plant(kind="granule", contrast=8)
    return find_known_answer(
        Case("default", plant), cells=160, epochs=30, most=16, architecture=made["small"](), rng=0
    )


def test_explanations_find_what_the_classifier_demonstrably_uses(easy: KnownAnswer):
    assert easy.n >= 10
    assert easy.measures["accuracy"].value > 0.8
    assert easy.measures["drop"].value > 0.4
    pointing = easy.measures["pointing"]
    assert pointing.low <= pointing.value <= pointing.high
    assert pointing.value > 0.9
    assert pointing.value > easy.measures["random_pointing"].high
    assert pointing.value > easy.measures["chance"].high
    assert easy.measures["insertion"].value > easy.measures["random_insertion"].high
    assert easy.measures["deletion"].value < easy.measures["random_deletion"].low


def test_every_method_has_every_measure_and_examples(easy: KnownAnswer):
    others = ("gradcam", "gradcam_early", "integrated_gradients", "untrained", "random")
    others += tuple(NETWORK_FREE)
    for quantity in ("pointing", "iou", "insertion", "deletion"):
        for other in others:
            key = f"{other}_{quantity}"
            estimate, ours = easy.measures[key], easy.measures[quantity]
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert easy.ahead[key].value == pytest.approx(ours.value - estimate.value)
    assert set(easy.saliency) == {"ours", *others}
    for saliency in easy.saliency.values():
        assert saliency.shape == easy.masks.shape
        assert saliency.min() >= 0
        assert saliency.max() <= 1


def test_a_classifier_that_does_not_use_the_plant_is_not_judged():
    unseen = Plant(kind="granule", contrast=1e-6)
    found = find_known_answer(Case("default", unseen), cells=100, epochs=1, twins=True, rng=0)
    assert found.n < 10
    assert {"pointing", "pairs_cosine"}.isdisjoint(found.measures)
    assert found.measures["pairs_named_first"].value in (0, 1)
    assert verdict(found) == {}
    entry = summary_of([found], {})["validation"]["granule"]
    assert set(entry) == {"grid"}
    assert entry["grid"][0]["verdict"] == {}


def test_a_network_without_positions_is_refused():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 2))
    with pytest.raises(ModelError, match="convolution"):
        find_known_answer(Case("default", Plant()), cells=100, epochs=1, architecture=flat, rng=0)


def test_level_means_that_the_interval_of_the_difference_holds_zero():
    assert standing(Estimate(0.1, 0.02, 0.2)) == "ahead"
    assert standing(Estimate(0.1, -0.02, 0.2)) == "level"
    assert standing(Estimate(0.0, 0.0, 0.0)) == "level"
    assert standing(Estimate(-0.1, -0.2, -0.02)) == "behind"


def test_settings_say_what_is_planted():
    cases = ValidationSettings(kinds=("bar", "gran")).cases
    assert [(c.plant.kind, c.setting) for c in cases] == [
        (kind, setting)
        for kind in ("bar", "granule")
        for setting in ("default", "low contrast", "small")
    ]
    assert cases[1].plant.peak == 0.5 * cases[0].plant.peak
    assert cases[2].plant.extent == 0.6 * cases[0].plant.extent
    assert len(settings_for(quick=True).cases) == 4
    assert settings_for(quick=True).cells < settings_for().cells
    with pytest.raises(SettingError, match="cells 20"):
        ValidationSettings(cells=20)
    with pytest.raises(SettingError, match="plant 'nose'"):
        ValidationSettings(kinds=("nose",))


def test_the_page_and_the_summary_hold_what_was_found(easy: KnownAnswer, tmp_path: Path):
    edited = {
        "pairs_cosine": Estimate(0.83, 0.8, 0.9),
        "pairs_named_first": Estimate(1.0, 1.0, 1.0),
    }
    easy = replace(easy, measures={**easy.measures, **edited})
    page = write_page(tmp_path, [easy], asdict(ValidationSettings(kinds=("granule",))))
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    granule = summary["validation"]["granule"]
    wanted = ("pointing", "iou", "gradcam_pointing", "integrated_gradients_pointing")
    for key in (*wanted, "untrained_pointing"):
        assert granule[key] == easy.measures[key].as_dict()
        assert granule["grid"][0][key] == granule[key]
    assert granule["grid"][0]["setting"] == "default"
    assert set(granule["grid"][0]["verdict"]) == {*RIVALS, *PLAIN}
    assert "difference of Gaussians" in page.read_text()
    assert "Edits against the truth" in page.read_text()
    assert 'src="http' not in page.read_text()
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("pointing", "granule-default") for kind in ("png", "svg")
    }


def test_validate_takes_the_users_own_architecture_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cytolens.validation.suite.QUICK", {"epochs": 2, "grid": False})
    (tmp_path / "own.py").write_text(OWN)
    out = tmp_path / "checked"
    words = ["validate", "--quick", "--kinds", "granule", "rim", "--cells", "100"]
    words += ["--model", f"{tmp_path / 'own.py'}:small", "--out", str(out)]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert capsys.readouterr().out.split()[-1] == str(out / "validation.html")
    assert "own.py:small" in (out / "validation.html").read_text()
    found = json.loads((out / "summary.json").read_text())["validation"]
    assert set(found) == {"granule", "rim"}
    assert found["granule"]["grid"][0]["layer"] == "4"
    before = {file: file.stat().st_mtime_ns for file in (out / "stages").iterdir()}
    with pytest.raises(SystemExit):
        main(words)
    assert {file: file.stat().st_mtime_ns for file in (out / "stages").iterdir()} == before
    (tmp_path / "own.py").write_text(OWN.replace("6", "5"))
    with pytest.raises(SystemExit):
        main(words)
    assert {file: file.stat().st_mtime_ns for file in (out / "stages").iterdir()} != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kinds", "nose"], "granule, rim, bar, texture"),
        (["--cells", "3"], "at least 100"),
        (["--model", "nowhere.py:net"], "does not exist"),
    ],
)
def test_bad_input_ends_with_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["validate", "--out", str(tmp_path / "out"), *words])
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_examples_are_the_first_cells_and_their_masks_are_shown(easy: KnownAnswer):
    assert easy.images.shape[0] == len(easy.masks) <= 4
    assert easy.masks.any(axis=(1, 2)).all()
    assert np.isfinite(easy.images).all()
