"""Alarms stand at the top, with numbers and a verdict; tables name every nuisance."""

from dataclasses import replace

import numpy as np
import pytest
from made_records import NAN, make_cells, make_layers

from cytolens.numerics.estimates import Estimate
from cytolens.records.knowledge import Alarm, Confounds, Knowledge, Suspects
from cytolens.report import findings, knowledge
from cytolens.report.results import StudyResults

ALARM = Alarm(
    nuisance="crop_size",
    kind="may be biology",
    same_as=("padding_share",),
    label_from_nuisance=Estimate(0.7, 0.65, 0.75, 0.57),
    encoded_at="conv3",
    encoded=Estimate(0.9, 0.85, 0.95, 0.3, 0.7),
    measure="r2",
    performance=Estimate(0.85, 0.8, 0.9),
    performance_fixed=Estimate(0.82, 0.75, 0.88),
    matched=0.6,
)


def results(*alarms: Alarm, n: int = 40) -> StudyResults:
    told = {
        "crop_size": Estimate(0.7, 0.65, 0.75, 0.57),
        "padding_share": Estimate(0.69, 0.64, 0.74, 0.57),
        "plate": Estimate(0.5, 0.45, 0.55, 0.57),
    }
    kinds = dict.fromkeys(told, "artefact")
    left_out = {"file name part 2": "goes with the class one to one"}
    return StudyResults(
        cells=make_cells(n),
        layers=make_layers(3),
        confounds=Confounds(told, kinds, alarms, left_out, n),
    )


def test_an_alarm_is_the_first_warning_and_says_what_is_left_without() -> None:
    told = findings.warnings(results(ALARM))[0]
    assert told.startswith("Crop size (or padding share) alone tells the class")
    for part in ("0.70 [0.65, 0.75]", "at most 0.57", "R² 0.90", "conv3", "0.82", "60 %"):
        assert part in told
    assert "no clear loss" in told
    assert "may be biology" in told


@pytest.mark.parametrize(
    ("fixed", "matched", "words"),
    [
        (Estimate(0.5, 0.45, 0.55), 0.6, "not clearly better than chance"),
        (Estimate(0.7, 0.6, 0.8), 0.6, "part of what it does rests on it"),
        (Estimate(NAN, NAN, NAN), 0.0, "cannot tell"),
        (Estimate(1.0, 1.0, 1.0), 0.02, "cannot tell"),
    ],
)
def test_the_verdict_goes_by_what_is_left(fixed: Estimate, matched: float, words: str) -> None:
    alarm = replace(ALARM, performance_fixed=fixed, matched=matched, kind="artefact")
    told = knowledge.alarms(results(alarm))[0]
    assert words in told
    assert "No biology" in told


def test_many_alarms_are_told_in_few_lines_and_none_in_the_chapter() -> None:
    many = [replace(ALARM, nuisance=f"nuisance_{k}") for k in range(6)]
    told = knowledge.alarms(results(*many))
    assert len(told) == 4
    assert "nuisance 5" in told[-1]
    assert knowledge.alarms(results()) == knowledge.alarms(StudyResults()) == ()
    assert "No confound alarm" in knowledge.chapter(results())[2][0]


def test_the_table_names_every_nuisance_and_what_could_not_be_judged() -> None:
    table = knowledge.confounds_table(results(ALARM))
    assert table is not None
    assert [row[0] for row in table.rows] == ["crop size", "padding share", "plate"]
    assert [row[2] for row in table.rows] == ["alarm", "as crop size", "–"]
    assert "one to one" in table.caption


def test_the_chapter_has_a_figure_of_each_and_nothing_of_nothing() -> None:
    read = {"size": Estimate(0.6, 0.5, 0.7, 0.1, 0.2), "class": Estimate(0.9, 0.8, 1.0, 0.6, 0.7)}
    known = Knowledge(
        {layer.name: read for layer in make_layers(3)}, {"size": "r2", "class": "auc"},
        {"size": 40, "class": 40}, ("donor",), {"lobes": "the same for all cells"},
    )  # fmt: skip
    suspects = Suspects(
        np.arange(40), np.array([3]), np.array([0]), np.array([1]), np.array([1.5]),
        {"probe at a": np.array([0.1])}, np.array([5]), ("empty",), np.array([35.0]), ("Tight.",),
    )  # fmt: skip
    found = knowledge.chapter(replace(results(ALARM), knowledge=known, suspects=suspects))
    assert [drawing[0] for drawing in found[3]] == ["knowledge", "suspects"]
    assert "lobes (the same for all cells)" in found[3][0][2]
    assert "Tight." in found[3][1][2]
    assert [table.title for table in found[4] if table] == [
        "What gives the label away", "Suspect labels", "Odd cells"
    ]  # fmt: skip
    assert "size (R² 0.60 [0.50, 0.70]" in found[2][0]
    empty = knowledge.chapter(StudyResults())
    assert empty[3] == []
    assert not any(empty[4])
