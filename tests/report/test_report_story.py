from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from made_records import (
    make_atlas,
    make_cells,
    make_clusters,
    make_complexity,
    make_context,
    make_embedding,
    make_evaluation,
    make_explanation,
    make_history,
    make_images,
    make_layers,
    make_modulated,
    make_probabilities,
    make_ranking,
    make_separation,
)

from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Skipped, Split
from cytolens.report.findings import answer, facts, rise_of_separation, warnings
from cytolens.report.page import render_report
from cytolens.report.results import StudyResults
from cytolens.report.story import _story, draw, tell

FIGURES = [
    "cells",
    "measures",
    "confusion",
    "reliability",
    "training",
    "map_panel",
    "map_clusters",
    "map_thumbnails",
    "maps_by_depth_tsne",
    "maps_by_depth_pca",
    "separation",
    "clusters",
    "class_images",
    "gallery",
    "complexity",
    "gallery_conv2",
    "atlas",
    "channels_conv2",
    "channels_conv1",
    "explanation_1",
    "modulated_conv2",
    "modulated_conv1",
]
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (1400).to_bytes(4, "big") + (700).to_bytes(4, "big")
)


@cache
def complete() -> StudyResults:
    cells = make_cells(
        80,
        class_names=("G2", "Prophase"),
        remarks=("The innermost folder was taken for the class.",),
        skipped=(Skipped("bad.png", "truncated"),),
    )
    layers = make_layers(5)
    order = np.random.default_rng(0).permutation(80)
    mapped = np.arange(0, 80, 2)
    shown = cells.subset(mapped)
    maps = {layer.name: make_embedding(40, layer=layer.name) for layer in layers}
    galleries = (make_images("conv1"), make_images("conv2", count=16, dead=(1,)))
    return StudyResults(
        cells=cells,
        split=Split(order[:50], order[50:60], order[60:]),
        history=make_history(5),
        evaluation=make_evaluation(),
        baseline=make_evaluation(good=0.64),
        folds=make_evaluation(good=0.8).measures,
        fold_evaluations={"donor 1": make_evaluation(), "donor 2": make_evaluation()},
        probabilities=make_probabilities(cells.labels, 2),
        layers=layers,
        main_layer="pre_softmax",
        maps={"pca": maps, "tsne": maps},
        mapped=mapped,
        clusters={layer.name: make_clusters(shown, layer=layer.name) for layer in layers},
        cluster_images=make_images("pre_softmax", count=4, targets=tuple("abcd")),
        separation=make_separation(layers),
        galleries=galleries,
        class_images=make_images("logits", count=2, targets=("G2 - Prophase", "Prophase - G2")),
        rankings={name: make_ranking(name) for name in ("conv1", "conv2")},
        contexts={
            name: tuple(make_context(cells, channel, layer=name) for channel in (3, 6))
            for name in ("conv1", "conv2")
        },
        atlas=make_atlas(shown),
        complexity=make_complexity(layers),
        complexity_trend={"spectral_centroid": Estimate(0.7, 0.5, 0.8, null=0.4)},
        modulated=tuple(make_modulated(images) for images in galleries),
        explanations=(make_explanation(cells),),
        settings={"seed": 0, "methods": ["tsne"], "train": {"epochs": 5, "rate": None}},
        versions={"cytolens": "0.1.0"},
        timings={"cells": 1.0, "training": 60.0},
        summary={"cells": {"n": 80}},
    )


def names(results: StudyResults) -> list[str]:
    return [drawing[0] for chapter in _story(results) for drawing in chapter[3]]


def test_the_story_is_told_in_order() -> None:
    found = names(complete())
    assert sorted(found) == sorted(FIGURES)
    content = tell(complete(), dict.fromkeys(found, PICTURE))
    assert [section.anchor for section in content.sections] == [
        "cells", "classifier", "maps", "separation", "clusters", "features", "channels",
        "modulated", "settings",
    ]  # fmt: skip


def test_every_figure_has_a_caption_that_says_how_to_read_it() -> None:
    content = tell(complete(), dict.fromkeys(names(complete()), PICTURE))
    for section in content.sections:
        for figure in section.figures:
            assert len(figure.caption) > 60, figure.name
            assert "nan" not in figure.caption.lower().split()


def test_a_study_is_drawn_and_told_from_end_to_end() -> None:
    maps = dict(list(complete().maps["tsne"].items())[-2:])
    galleries = complete().galleries[:1]
    results = replace(complete(), maps={"tsne": maps}, galleries=galleries)
    made = draw(results)
    assert list(made) == names(results)
    pictures = {name: render(figure, dpi=60)[0] for name, figure in made.items()}
    page = render_report(tell(results, pictures, title="G2 or Prophase?"))
    assert page.count("<figure") == len(made)
    assert len(page) < 15e6
    assert "bad.png: truncated" in page
    assert "arXiv:1811.06488" in page


def test_figures_are_drawn_where_none_are_given() -> None:
    content = tell(StudyResults(cells=complete().cells))
    assert content.sections[0].figures[0].png.startswith(b"\x89PNG")


def test_nothing_found_is_still_a_report() -> None:
    assert draw(StudyResults()) == {}
    page = render_report(tell(StudyResults()))
    assert "<section id=" in page  # how to cite


@pytest.mark.parametrize("missing", [f.name for f in fields(StudyResults)])
def test_any_result_may_be_missing(missing: str) -> None:
    empty = getattr(StudyResults(), missing)
    results = replace(complete(), **{missing: empty})
    if missing == "mapped":
        results = replace(results, cells=results.cells.subset(complete().mapped), split=None)
        results = replace(results, probabilities=None)
    found = names(results)
    assert set(found) <= set(FIGURES)
    assert render_report(tell(results, dict.fromkeys(found, PICTURE)))


def test_the_headline_gives_interval_baseline_and_depth() -> None:
    told = " ".join(answer(complete()))
    assert "0.86 [0.82, 0.90]" in told
    assert "0.64 [0.60, 0.68]; the network is better" in told
    assert "of 4)" in told
    assert [fact.value for fact in facts(complete())][:2] == ["0.86", "0.94"]


def test_no_rise_of_separation_is_called_what_it_is() -> None:
    flat = {layer.name: {"probe_accuracy": Estimate(0.6, 0.5, 0.7)} for layer in complete().layers}
    results = replace(complete(), separation=flat)
    rise = rise_of_separation(results)
    assert rise is not None
    assert rise.onset is None
    assert "At no depth" in " ".join(answer(results))
    assert rise_of_separation(replace(results, separation={})) is None


def test_the_onset_is_where_nine_tenths_of_the_rise_is_reached() -> None:
    values = dict(zip([layer.name for layer in complete().layers], (0.5, 0.6, 0.88, 0.9, 0.9)))
    separation = {
        name: {"probe_accuracy": Estimate(value, value - 0.05, value + 0.05)}
        for name, value in values.items()
    }
    rise = rise_of_separation(replace(complete(), separation=separation))
    assert rise is not None
    assert (rise.onset, rise.onset_depth) == ("conv2", 2)


def test_a_network_at_chance_is_warned_of_first() -> None:
    results = replace(complete(), evaluation=make_evaluation(good=0.52))
    told = warnings(results)
    assert "not clearly better than chance" in told[0]
    assert "linear model" in told[1]


def test_what_speaks_against_the_numbers_is_said() -> None:
    sizes = np.stack([10 + 5 * complete().cells.labels + np.arange(80) % 3] * 2, axis=1)
    unequal = replace(complete().cells, original_sizes=sizes)
    told = " ".join(warnings(replace(complete(), cells=unequal)))
    assert "No groups" in told
    assert "size of the crops alone" in told
    grouped = replace(complete().cells, groups=np.repeat("donor 1", 80), group_name="donor")
    told = " ".join(warnings(replace(complete(), cells=grouped)))
    assert "come from 1 donor only" in told


def test_many_dead_channels_are_warned_of() -> None:
    results = replace(complete(), galleries=(make_images(count=4, dead=(0, 1)),))
    assert "2 of the 4 channels looked at are dead" in " ".join(warnings(results))


def test_errors_on_training_cells_are_told_apart() -> None:
    content = tell(complete(), {"map_panel": PICTURE})
    caption = next(s for s in content.sections if s.anchor == "maps").figures[0].caption
    assert "are test cells; the other" in caption


def test_channels_are_told_from_the_deepest_and_explained_once() -> None:
    content = tell(complete(), dict.fromkeys(names(complete()), PICTURE))
    chapter = next(s for s in content.sections if s.anchor == "channels")
    assert [figure.name for figure in chapter.figures] == [
        "atlas", "channels_conv2", "channels_conv1",
    ]  # fmt: skip
    first, second = (figure.caption for figure in chapter.figures[1:])
    assert "held out from training" in first
    assert second.startswith("Read as the figure before")
    assert "16 channels fall into 15 groups" in first
    table = chapter.tables[0]
    assert table.rows[0] == ("conv1", "16", "15", "3", "0.40", "0.80", "0.80 [0.70, 0.90]")
    assert chapter.text[0].startswith("conv2: the decision changes most (0.50 logits) without")
    assert "goes along with area 0.71 [0.60, 0.80]." in chapter.text[0]
