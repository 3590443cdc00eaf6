from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from made_records import make_cells, make_gains, make_layers, make_separation

from cytolens.numerics.estimates import Estimate
from cytolens.records.separation import ClassSeparation, Onset, Pairs, Similarity
from cytolens.report.chapter import MOST_WORDS
from cytolens.report.chapters.separation import (
    figures,
    gains_table,
    measures_table,
    onsets_table,
    pairs_note,
    sentences,
    separation_note,
    tables,
)
from cytolens.report.results import Results

GOOD = Estimate(0.9, 0.85, 0.95, null=0.55, untrained=0.6)
NAN = float("nan")


def alike(names: tuple[str, ...]) -> Similarity:
    size = len(names)
    value = 0.9 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    curve = np.linspace(1, 0.3, size)
    beside = np.stack([curve, curve - 0.1, curve + 0.1, np.full(size, 0.02)])
    null = np.full((size, size), 0.02)
    return Similarity(names, value, value - 0.05, value + 0.05, null, beside, value**0.5, 300)


Stages = dict[str, Any]


@pytest.fixture
def two() -> Stages:
    layers = make_layers(5)
    return {
        "cells": make_cells(40, class_names=("G2", "Prophase")),
        "layers": layers,
        "separation": make_separation(layers),
        "pairs": Pairs({}, (Onset(("G2", "Prophase"), "conv1", "conv2", "logits", GOOD),)),
        "similarity": alike(tuple(layer.name for layer in layers)),
    }


@pytest.fixture
def many(two: Stages) -> Stages:
    classes = ("G1", "G2", "M", "S")
    pairs = tuple(combinations(classes, 2))
    found = ClassSeparation("conv1", dict.fromkeys(classes, GOOD), pairs, (GOOD,) * 6, ("T",))
    layers = [layer.name for layer in make_layers(5)]
    onsets = [
        Onset(pair, layers[min(k, 4)], "conv2", "logits", GOOD) for k, pair in enumerate(pairs)
    ]
    onsets[-1] = replace(onsets[-1], clear=None, nine_tenths=None)
    onsets += [Onset((name,), "conv1", "conv2", "logits", GOOD) for name in classes]
    return {**two, "pairs": Pairs({n: replace(found, layer=n) for n in layers}, tuple(onsets))}


def names(stages: Stages) -> list[str]:
    drawings = list(figures(Results(stages)))
    assert all(len(drawing.caption.split()) <= MOST_WORDS for drawing in drawings)
    return [drawing.name for drawing in drawings]


def test_the_caption_says_why_there_are_no_intervals(two: Stages) -> None:
    def caption() -> str:
        return next(one for one in figures(Results(two)) if one.name == "separation").caption

    assert "with 95 % intervals" in caption()
    two["separation"] = {
        layer: {
            key: replace(estimate, low=np.nan, high=np.nan, no_interval="2 groups")
            for key, estimate in found.items()
        }
        for layer, found in two["separation"].items()
    }
    assert "95 %" not in caption()
    assert "without intervals (2 groups)" in caption()


def test_layers_are_compared_in_a_table(two: Stages) -> None:
    table = gains_table(list(make_gains(two["separation"]).values()))
    assert table is not None
    assert table.rows[0][1] == "0.00 [\N{MINUS SIGN}0.03, 0.03]"
    assert table.rows[-1][1] == "0.22 [0.19, 0.25] *"
    assert gains_table([]) is None


def test_for_two_classes_nothing_is_drawn_or_tabled_twice(two: Stages) -> None:
    assert names(two) == ["separation", "similarity"]
    assert onsets_table(two["pairs"].onsets) is None
    text = sentences(Results(two))[0]
    assert "separates G2 and Prophase from conv1 on" in text
    assert "0.90 [0.85, 0.95] at logits" in text


def test_for_more_classes_the_first_and_the_last_pair_are_named(many: Stages) -> None:
    assert names(many) == ["separation", "pairs", "similarity"]
    text = sentences(Results(many))[0]
    assert text.startswith("The first to come apart are G1 and G2, from input on")
    assert "the last are G2 and S, from logits on" in text
    assert text.endswith("Not clearly apart at the last layer: M and S.")
    found = [replace(onset, clear="input") for onset in many["pairs"].onsets]
    together = sentences(Results({**many, "pairs": replace(many["pairs"], onsets=tuple(found))}))[0]
    assert together.startswith("All ")
    assert "pairs of classes are clearly apart from input on" in together
    table = onsets_table(many["pairs"].onsets)
    assert table is not None
    assert len(table.rows) == 10
    assert table.rows[5][:2] == ("M | S", "–")
    assert table.rows[6][:2] == ("G1 | rest", "conv1")
    assert "Too few cells: T." in pairs_note(many["pairs"])


def test_the_note_says_what_each_measure_is_and_what_its_null_is(two: Stages) -> None:
    dimension = Estimate(4, 3, 5, null=9, untrained=4)
    more = {"nc1": GOOD, "fisher_ratio": GOOD, "intrinsic_dimension": dimension}
    extended = {name: {**found, **more} for name, found in two["separation"].items()}
    text = separation_note(Results({**two, "separation": extended}))
    for word in ("Silhouette", "Fisher", "NC1", "Intrinsic dimension", "permuting each"):
        assert word in text
    assert "Intrinsic" not in separation_note(Results(two))


def test_layers_without_a_number_are_said_to_have_none(two: Stages) -> None:
    unknown = {**two["separation"], "conv1": {"nc1": Estimate(NAN, NAN, NAN)}}
    text = separation_note(Results({**two, "separation": unknown}))
    assert "within-class collapse (nc1) of conv1" in text


def test_classes_that_never_come_apart_are_said_not_to(two: Stages) -> None:
    never = replace(two["pairs"].onsets[0], clear=None, nine_tenths=None, best="conv1")
    text = sentences(Results({**two, "pairs": Pairs({}, (never,))}))[0]
    assert text.startswith("A linear probe does not clearly separate G2 and Prophase")


def test_what_training_has_moved_is_named(two: Stages) -> None:
    text = sentences(Results(two))[1]
    assert "moved the cells most at logits" in text
    assert "0.30 [0.20, 0.40]" in text


def test_every_number_is_in_a_folded_table(two: Stages) -> None:
    table = measures_table(two["separation"])
    assert table is not None
    assert table.folded
    assert len(table.rows) == 5 * 4


def test_without_results_there_is_nothing_in_the_chapter() -> None:
    assert not list(figures(Results({})))
    assert not any(tables(Results({})))
    assert sentences(Results({})) == ()
