"""Alarms stand at the top, with numbers and a verdict; tables name every nuisance."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from made_records import NAN, make_cells, make_layers
from PIL import Image

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Decision
from cytolens.records.knowledge import Alarm, Confounds, Equalised, Knowledge, Properties, Suspects
from cytolens.report.alarms import MOST_ALARMS, alarm_sentence, alarm_sentences
from cytolens.report.chapters import cells as chapter_on_cells
from cytolens.report.chapters.knowledge import confounds_table, figures, sentences, tables
from cytolens.report.findings import leads, warnings
from cytolens.report.page import render_report
from cytolens.report.results import Results
from cytolens.report.story import tell

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


def confounds(*alarms: Alarm, n: int = 40) -> Confounds:
    alone = {
        "crop_size": Estimate(0.7, 0.65, 0.75, 0.57),
        "padding_share": Estimate(0.69, 0.64, 0.74, 0.57),
        "plate": Estimate(0.5, 0.45, 0.55, 0.57),
    }
    kinds = dict.fromkeys(alone, "artefact")
    return Confounds(alone, kinds, alarms, {"file name part 2": "goes with the class"}, n)


def results(*alarms: Alarm, **more: object) -> Results:
    stages = {"cells": make_cells(40), "layers": make_layers(3), "confounds": confounds(*alarms)}
    return Results({**stages, **more})


def test_an_alarm_is_the_first_warning_and_says_what_is_left_without() -> None:
    text = warnings(results(ALARM))[0]
    assert text.startswith("Crop size (or padding share) alone predicts the class")
    for part in ("0.70 [0.65, 0.75]", "at most 0.57", "R² 0.90", "conv3", "0.82", "60 %"):
        assert part in text
    assert "no clear loss" in text
    assert "may be biology" in text


@pytest.mark.parametrize(
    ("fixed", "matched", "words"),
    [
        (Estimate(0.5, 0.45, 0.55), 0.6, "not clearly better than chance"),
        (Estimate(0.7, 0.6, 0.8), 0.6, "part of its performance rests on it"),
        (Estimate(NAN, NAN, NAN), 0.0, "cannot say"),
        (Estimate(1.0, 1.0, 1.0), 0.02, "cannot say"),
    ],
)
def test_the_verdict_goes_by_what_is_left(fixed: Estimate, matched: float, words: str) -> None:
    alarm = replace(ALARM, performance_fixed=fixed, matched=matched, kind="artefact")
    text = alarm_sentences(results(alarm))[0]
    assert words in text
    assert "No biology" in text


@pytest.mark.parametrize(
    ("anew", "change", "words"),
    [
        (Estimate(0.52, 0.45, 0.6), Estimate(-0.3, -0.4, -0.2), "not clearly better than guessing"),
        (Estimate(0.7, 0.6, 0.8), Estimate(-0.15, -0.2, -0.1), "part of the performance is lost"),
        (Estimate(0.84, 0.8, 0.9), Estimate(-0.01, -0.1, 0.1), "no clear loss"),
        (Estimate(0.7, NAN, NAN, no_interval="1 group"), Estimate(-0.1, NAN, NAN), "hint"),
    ],
)
def test_what_remains_in_crops_made_alike_is_the_last_of_the_alarms_and_is_shown(
    anew: Estimate, change: Estimate, words: str
) -> None:
    shown = np.array([0, 1, 2, 3])
    crops = make_cells(40).read(shown)
    before, again = Estimate(0.85, 0.8, 0.9), Estimate(0.51, 0.4, 0.6)
    found = Equalised(np.arange(20), 2, 600, before, again, anew, change, shown, crops)
    told = results(ALARM, equalised=found)
    text = alarm_sentences(told)[-1]
    assert words in text
    assert all(part in text for part in ("0.85", "0.51", f"{anew.value:.2f}", "20 test cells"))
    assert leads(told)[text] == "equalised"
    measured = Properties(np.arange(40), {}, {})
    drawn = {one.name: one for one in figures(results(ALARM, equalised=found, properties=measured))}
    buffer = BytesIO()
    drawn["equalised"].plot().savefig(buffer)
    assert Image.open(buffer).width > 500


def test_many_alarms_are_listed_in_few_lines_and_the_chapter_says_where_there_is_none() -> None:
    many = [replace(ALARM, nuisance=f"nuisance_{k}") for k in range(MOST_ALARMS + 3)]
    text = alarm_sentences(results(*many))
    assert len(text) == MOST_ALARMS + 1
    assert "nuisance 5" in text[-1]
    joined = replace(ALARM, nuisance="noise", goes_with=ALARM.nuisance, within=0.52)
    assert (
        "The same finding: noise outside of the cell (0.70, in cells alike in it 0.52)."
        in (alarm_sentences(results(ALARM, joined))[0])
    )
    assert len(alarm_sentences(results(ALARM, joined))) == 1
    assert alarm_sentences(results()) == alarm_sentences(Results({})) == ()
    assert "No confound alarm" in sentences(results())[0]
    assert "below about 0.62 cannot be heard" in sentences(results())[1]


def test_a_network_at_chance_is_not_said_to_encode_the_nuisance() -> None:
    text = alarm_sentences(results(replace(ALARM, encoded=Estimate(0.1, -0.1, 0.2, 0.15))))[0]
    assert "no better than chance" in text
    assert "The network encodes it" not in text


def test_the_table_names_every_nuisance_and_what_could_not_be_judged() -> None:
    table = confounds_table(confounds(ALARM))
    assert table is not None
    assert [row[0] for row in table.rows] == ["crop size", "padding share", "plate"]
    assert [row[2] for row in table.rows] == ["alarm", "as crop size", "–"]
    assert "file name part 2 (goes with the class)" in table.caption


def test_the_chapter_has_a_figure_of_each_and_nothing_of_nothing() -> None:
    read = {"size": Estimate(0.6, 0.5, 0.7, 0.1, 0.2), "class": Estimate(0.9, 0.8, 1.0, 0.6, 0.7)}
    known = Knowledge(
        {layer.name: read for layer in make_layers(3)}, {"size": "r2", "class": "auc"},
        {"size": 40, "class": 40}, ("donor",), {"lobes": "the same for all cells"},
        {layer.name: {"size": Estimate(0.4, 0.2, 0.6)} for layer in make_layers(3)},
    )  # fmt: skip
    suspects = Suspects(
        np.arange(40), np.array([3]), np.array([0]), np.array([1]), np.array([1.5]),
        {"probe at a": np.array([0.1])}, np.array([5]), ("empty",), np.array([35.0]), ("Tight.",),
    )  # fmt: skip
    found = results(ALARM, knowledge=known, suspects=suspects)
    drawings = list(figures(found))
    assert [drawing.name for drawing in drawings] == ["knowledge", "suspects"]
    assert "lobes (the same for all cells)" in drawings[0].note
    assert "Tight." in drawings[1].note
    assert [table.title for table in tables(found) if table] == [
        "What gives the label away", "Suspect labels", "Odd cells"
    ]  # fmt: skip
    assert "size (R² 0.60 [0.50, 0.70]" in sentences(found)[0]
    assert not list(figures(Results({})))
    assert not any(tables(Results({})))


def test_an_alarm_by_a_part_of_the_file_names_gives_the_option_that_splits_by_it() -> None:
    names = np.array([f"{'ab'[k % 2]}/p{k % 3}_{k}.png" for k in range(60)])
    cells = replace(make_cells(60), names=names)
    alarm = replace(ALARM, nuisance="file name part 2", same_as=())
    text = alarm_sentence(alarm, Results({"cells": cells}))
    assert "It may be the plate, donor or batch: split by it with --group '" in text
    pattern = re.search(r"--group '(.+)'\.", text)
    assert pattern is not None
    found = [re.search(pattern[1], name) for name in names]
    assert [match and match["group"] for match in found] == [str(k % 3) for k in range(60)]
    unlike = replace(cells, names=np.array([f"cells.npz[{k}]" for k in range(60)]))
    assert "--group" not in alarm_sentence(alarm, Results({"cells": unlike}))


def test_what_a_person_decided_is_listed_and_how_to_decide_is_said() -> None:
    cells = make_cells()
    assert list(chapter_on_cells.tables(Results({"cells": cells}))) == []
    made = (Decision("a.png", "G1", "G2"), Decision("b.png", "G2", None))
    (table,) = chapter_on_cells.tables(Results({"cells": replace(cells, decisions=made)}))
    assert table.folded
    assert table.rows == (("a.png", "G1", "G2"), ("b.png", "G2", "left out"))
    suspects = Suspects(
        np.arange(len(cells)), np.array([3]), np.array([0]), np.array([1]), np.array([2.0]), {},
        np.array([5]), ("empty",), np.array([35.0]),
    )  # fmt: skip
    found = [one for one in tables(Results({"cells": cells, "suspects": suspects})) if one]
    assert all("--relabel suspects.csv" in one.caption for one in found)
    assert len(found) == 2


def test_an_alarm_leads_to_the_crops_at_its_ends() -> None:
    properties = Properties(np.arange(30), {"crop_size": np.arange(30.0)}, {})
    plate = replace(ALARM, nuisance="plate", same_as=())
    found = results(ALARM, plate, properties=properties)
    (drawing,) = figures(found)
    assert drawing.name == "alarm_crop_size"
    assert drawing.fold
    assert drawing.plot().axes
    assert leads(found)[warnings(found)[0]] == drawing.name
    buffer = BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, format="png")
    page = render_report(tell(found, {drawing.name: buffer.getvalue()}))
    assert page.count('href="#figure-alarm_crop_size"') == 1  # a plate has no ends
    assert 'id="figure-alarm_crop_size"' in page


def test_what_is_measured_off_the_cell_is_not_called_biology() -> None:
    text = alarm_sentence(replace(ALARM, nuisance="darkest", kind="off the cell"), results())
    assert "no biology by itself" in text
    assert "It may be biology" not in text


def test_a_first_look_says_what_it_has_left_out() -> None:
    asked = {"quick": True, "limit": 400, "epochs": 6, "depths": 4, "gallery": 3, "pairs": None}
    text = warnings(Results({}, settings=asked))[-1]
    assert "6 epochs of training, 4 depths, feature images of 3 channels a layer." in text
    more = {"layers": ["conv1"], "equalised": 0, "model": "net.py:make"}
    named = warnings(Results({}, settings={**asked, **more}))[-1]
    assert "depths" not in named
    assert "epochs" not in named
    assert "no network trained on crops made alike." in named
    assert not warnings(Results({}, settings={**asked, "quick": False}))
