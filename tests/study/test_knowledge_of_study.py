"""From images to nuisances, alarms, suspects and their table."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cytolens.classifier.training import TrainingSettings, train
from cytolens.images.arrays import cells_from_arrays
from cytolens.images.file_names import name_parts
from cytolens.images.reading import read_cells
from cytolens.knowledge.confounds import label_from_nuisance
from cytolens.knowledge.oddness import find_odd
from cytolens.numerics.auc import area_under_curve
from cytolens.numerics.estimates import Estimate
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells, Decision
from cytolens.records.knowledge import Alarm, Confounds, Properties, Suspects
from cytolens.simulation.simulate import simulate
from cytolens.store.csv_text import csv_text
from cytolens.study.stages import knowledge as knowing
from cytolens.study.stages.cells import properties_at

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PLANTED = ("empty", "debris", "doublet", "out of focus", "saturated")


def measure(cells: Cells, chosen: np.ndarray) -> Properties:
    return Properties(chosen, *measure_cells(cells.subset(chosen)))


def cells_with_odd_ones(n: int = 240, each: int = 3) -> Cells:
    """Simulated cells; the first of them are empty, debris, doublets, blurred, saturated."""
    made = simulate(n, size=64, difficulty=0.0, rng=0)
    rng = np.random.default_rng(0)
    crops = made.images[:, 0].astype(float)
    ground = np.median(crops)
    y, x = np.mgrid[:64, :64]
    for k in range(each):
        empty, debris, doublet, blurred, bright = (k + each * j for j in range(5))
        crops[empty] = rng.normal(ground, 10, (64, 64))
        speck = 400 * np.exp(-((y - 30) ** 2 + (x - 34) ** 2) / 8)
        crops[debris] = rng.normal(ground, 10, (64, 64)) + speck
        beside = np.roll(crops[100 + k], (0, 16), (0, 1))
        crops[doublet] = np.roll(crops[doublet], (0, -16), (0, 1)) + beside - ground
        blur = ndimage.gaussian_filter(crops[blurred] - ground, 4)
        crops[blurred] = blur + rng.normal(ground, 10, (64, 64))
        crops[bright] = ground + 20 * (crops[bright] - ground)
    counts = np.clip(crops, 0, 4095).astype(np.uint16)
    return cells_from_arrays(counts, made.labels, pixel_size=made.pixel_size)


def test_odd_cells_planted_in_images_are_found_with_their_reason() -> None:
    cells = cells_with_odd_ones()
    made = measure(cells, np.arange(len(cells)))
    odd, reasons, _, remarks = find_odd(made.values, made.checks, cells.labels)
    found = dict(zip(odd.tolist(), reasons))
    expected = [reason for reason in PLANTED for _ in range(3)]
    given = [found.get(k) for k in range(15)]
    assert all(one in (wanted, None) for one, wanted in zip(given, expected))
    assert given.count(None) <= 2  # lobes are as thick as many a second cell
    assert set(given) >= set(PLANTED)
    assert len(found) <= 15 + 5  # of 225 others
    assert remarks == ()


def test_no_nuisance_differs_between_simulated_classes() -> None:
    made = simulate(400, difficulty=0.0, rng=0)
    cells = cells_from_arrays(made.images[:, 0], made.labels)
    found, _ = knowing.nuisances_of(measure(cells, np.arange(400)), cells)
    for name, values in found.items():
        if np.asarray(values).dtype.kind == "f":
            auc = area_under_curve(values[made.labels == 1], values[made.labels == 0])
            assert abs(auc - 0.5) < 0.1, name


def test_file_names_come_apart_where_letters_meet_digits() -> None:
    names = np.array([f"CD3_{k % 2}_{'act' if k % 2 else 'no'}_{k}.png" for k in range(30)])
    parts = name_parts(names)
    assert list(parts) == ["file name part 3", "file name part 4", "file name part 5"]
    assert parts["file name part 5"].tolist() == list(range(30))
    assert name_parts(np.array([f"cells.npz[{k}]" for k in range(9)])) == {}
    mixed = name_parts(np.array(["a1", "b", "7"]))
    assert mixed["file name pattern"].tolist() == ["a9", "a", "9"]
    assert name_parts(np.array(["", "?"])) == {}


def test_groups_and_columns_named_like_batches_are_nuisances_and_artefacts() -> None:
    made = simulate(40, rng=0)
    cells = replace(
        cells_from_arrays(made.images[:, 0], made.labels),
        groups=np.arange(40).astype(str),
        group_name="donor",
        covariates={"Plate": np.arange(40) % 3, "n_lobes": made.properties["n_lobes"]},
    )
    found, artefacts = knowing.nuisances_of(measure(cells, np.arange(40)), cells)
    assert {"donor", "Plate", "padding_share", "offset_x"} <= set(artefacts)
    assert "n_lobes" not in found
    assert {"crop_size", "total_brightness"} <= set(found) - set(artefacts)


def test_properties_of_some_cells_are_those_measured_with_what_came_along() -> None:
    made = simulate(30, rng=0)
    covariates = {"area": np.arange(30.0), "note": np.array(["x"] * 30)}
    cells = replace(cells_from_arrays(made.images[:, 0], made.labels), covariates=covariates)
    measured = measure(cells, np.arange(5, 25))
    some = np.array([7, 20])
    found = properties_at(measured, cells, some)
    assert found["area (given)"].tolist() == [7, 20]
    assert found["area"].tolist() == measured.values["area"][[2, 15]].tolist()
    assert "note" not in found


def test_an_artefact_that_is_all_there_is_to_learn_is_gone_from_crops_made_alike() -> None:
    crops = simulate(240, size=48, rng=0).images[:, 0].astype(float)
    labels = np.random.default_rng(0).integers(0, 2, 240)
    crops[labels == 1] += 60
    cells = cells_from_arrays(np.clip(crops, 0, 4095).astype(np.uint16), labels)
    made = train(cells, settings=TrainingSettings(epochs=6), rng=0)
    one = Estimate(0.9, 0.8, 1.0, 0.6)
    alarm = Alarm("background", "off the cell", (), one, "conv1", one, "r2", one, one, 0.0)
    rest = (cells, made.model, made.split, None)
    settings = {"epochs": 6, "seed": 0, "device": None, "progress": lambda *_: None}
    alarming = Confounds({}, {}, (alarm,), {}, 240)
    found = knowing.equalised(alarming, *rest, equalised=200, **settings)
    assert found is not None
    assert found.before.value > 0.9
    assert abs(found.trained_anew.value - 0.5) < 0.15
    assert found.change.high < 0
    assert np.isin(found.cells, made.split.test).all()
    assert found.n_trained <= 200
    assert found.crops.shape == (len(found.shown), *cells.shape)
    assert knowing.equalised(alarming, *rest, equalised=0, **settings) is None
    quiet = Confounds({}, {}, (), {}, 240)
    assert knowing.equalised(quiet, *rest, equalised=200, **settings) is None


@pytest.fixture
def suspects() -> Suspects:
    return Suspects(
        judged=np.arange(9), labels=np.array([4, 2]), given=np.array([0, 1]),
        suggested=np.array([1, 0]), score=np.array([2.5, 0.5]),
        votes={"probe at a": np.array([0.1, np.nan])}, odd=np.array([8]),
        reasons=("empty, cut off",), oddness=np.array([35.0]),
    )  # fmt: skip


def test_the_table_and_the_summary_name_every_suspect(suspects: Suspects) -> None:
    made = simulate(20, rng=0)
    cells = cells_from_arrays(made.images[:, 0], made.labels, class_names=("G1", "G2"))
    table = csv_text(knowing.suspects_table(suspects, cells))
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["cell"], row["list"]) for row in rows] == [
        ("4", "label"), ("2", "label"), ("8", "odd")
    ]  # fmt: skip
    assert (rows[0]["given"], rows[0]["suggested"], rows[0]["probe at a"]) == ("G1", "G2", "0.1000")
    assert rows[2]["reason"] == "empty, cut off"
    assert [(row["use"], row["label"]) for row in rows] == [
        ("yes", row["given"]) for row in rows
    ]  # fmt: skip
    found = {"confounds": Confounds({}, {}, (), {}, 9), "suspects": suspects, "cells": cells}
    assert knowing.CONFOUNDS.summarise(found).study["alarms"] == []
    entries = knowing.SUSPECTS.summarise(found).study
    assert entries["suspects"]["labels"][0] == {
        "name": str(cells.names[4]), "given": "G1", "suggested": "G2", "score": 2.5
    }  # fmt: skip
    assert entries["suspects"]["odd"][0]["reason"] == "empty, cut off"


def test_the_table_repeats_earlier_decisions_and_has_each_cell_once(suspects: Suspects) -> None:
    made = simulate(20, rng=0)
    cells = cells_from_arrays(made.images[:, 0], made.labels, class_names=("G1", "G2"))
    label = [cells.class_names[code] for code in cells.labels]
    names = cells.names.tolist()
    cells = replace(
        cells,
        decisions=(
            Decision(names[4], "before", label[4]), Decision(names[9], "before", label[9]),
            Decision("gone.png", "G2", None),
        ),
    )  # fmt: skip
    both = replace(suspects, odd=np.array([8, 2]), reasons=("empty", "debris"), oddness=np.ones(2))
    rows = list(csv.DictReader(io.StringIO(csv_text(knowing.suspects_table(both, cells)))))
    columns = ("name", "list", "use", "label", "given", "reason")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        (names[4], "label", "yes", label[4], "before", ""),
        (names[2], "label", "yes", label[2], label[2], "debris"),
        (names[8], "odd", "yes", label[8], label[8], "empty"),
        (names[9], "decided", "yes", label[9], "before", ""),
        ("gone.png", "decided", "no", "G2", "G2", ""),
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real cells are not here")
def test_real_confounds_are_caught_by_what_is_measured_on_the_crops() -> None:
    tcells = read_cells(SHARED / "tcell_autofluorescence" / "images")
    size = {"crop_size": tcells.original_sizes.prod(axis=1)}
    told, _ = label_from_nuisance(size, tcells.labels, groups=tcells.groups, rng=0)
    assert 0.65 < told["crop_size"].value < 0.8
    assert told["crop_size"].low > (told["crop_size"].null or 1)
    jurkat = SHARED / "jurkat_ifc_cellcycle" / "jurkat_ifc.npz"
    cells = read_cells(jurkat, classes=["G1", "G2"], channels=["DNA"])
    some = np.arange(0, len(cells), 6)
    light = measure(cells, some).values["total_brightness"]
    labels = cells.labels[some]
    assert area_under_curve(light[labels == 1], light[labels == 0]) > 0.995
    assert label_from_nuisance({"light": light}, labels, rng=0)[0]["light"].value > 0.97
