from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from made_records import make_cells, make_layers, make_separation

from cytolens.numerics.estimates import Estimate
from cytolens.records.separation import ClassSeparation, Onset, Similarity
from cytolens.report import separation
from cytolens.report.results import StudyResults

GOOD = Estimate(0.9, 0.85, 0.95, null=0.55, untrained=0.6)
NAN = float("nan")


def alike(names: tuple[str, ...]) -> Similarity:
    size = len(names)
    value = 0.9 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    curve = np.linspace(1, 0.3, size)
    beside = np.stack([curve, curve - 0.1, curve + 0.1, np.full(size, 0.02)])
    null = np.full((size, size), 0.02)
    return Similarity(names, value, value - 0.05, value + 0.05, null, beside, value**0.5, 300)


@pytest.fixture
def two() -> StudyResults:
    layers = make_layers(5)
    return StudyResults(
        cells=make_cells(40, class_names=("G2", "Prophase")),
        layers=layers,
        separation=make_separation(layers),
        onsets=(Onset(("G2", "Prophase"), "conv1", "conv2", "logits", GOOD),),
        similarity=alike(tuple(layer.name for layer in layers)),
    )


@pytest.fixture
def many(two: StudyResults) -> StudyResults:
    classes = ("G1", "G2", "M", "S")
    pairs = tuple(combinations(classes, 2))
    found = ClassSeparation("conv1", dict.fromkeys(classes, GOOD), pairs, (GOOD,) * 6, ("T",))
    layers = [layer.name for layer in two.layers]
    onsets = [
        Onset(pair, layers[min(k, 4)], "conv2", "logits", GOOD) for k, pair in enumerate(pairs)
    ]
    onsets[-1] = replace(onsets[-1], clear=None, nine_tenths=None)
    onsets += [Onset((name,), "conv1", "conv2", "logits", GOOD) for name in classes]
    return replace(two, pairs={n: replace(found, layer=n) for n in layers}, onsets=onsets)


def names(results: StudyResults) -> list[str]:
    return [drawing[0] for drawing in separation.chapter(results)[3]]


def test_for_two_classes_nothing_is_drawn_or_tabled_twice(two: StudyResults) -> None:
    assert names(two) == ["separation", "similarity"]
    assert separation.onsets_table(two) is None
    assert "tells G2 and Prophase apart from conv1 on" in separation.sentences(two)[0]
    assert "0.90 [0.85, 0.95] at logits" in separation.sentences(two)[0]


def test_for_more_classes_the_first_and_the_last_pair_are_named(many: StudyResults) -> None:
    assert names(many) == ["separation", "pairs", "similarity"]
    told = separation.sentences(many)[0]
    assert told.startswith("First apart are G1 and G2, from input on")
    assert "last are G2 and S, from logits on" in told
    assert told.endswith("Never clearly to the last layer: M and S.")
    table = separation.onsets_table(many)
    assert table is not None
    assert len(table.rows) == 10
    assert table.rows[5][:2] == ("M | S", "–")
    assert table.rows[6][:2] == ("G1 | rest", "conv1")
    assert "Too few cells: T." in separation.of_pairs(many)


def test_the_caption_says_what_each_measure_tells_and_what_its_null_is(two: StudyResults) -> None:
    dimension = Estimate(4, 3, 5, null=9, untrained=4)
    extended = {
        name: {**found, "nc1": GOOD, "fisher_ratio": GOOD, "intrinsic_dimension": dimension}
        for name, found in two.separation.items()
    }
    text = separation.of_separation(replace(two, separation=extended))
    for word in (
        "Silhouette",
        "Fisher",
        "NC1",
        "Intrinsic dimension",
        "permuting each",
        "permuted",
    ):
        assert word in text
    assert "Intrinsic" not in separation.of_separation(two)


def test_layers_without_a_number_are_said_to_have_none(two: StudyResults) -> None:
    unknown = {**two.separation, "conv1": {"nc1": Estimate(NAN, NAN, NAN)}}
    text = separation.of_separation(replace(two, separation=unknown))
    assert "within-class collapse (nc1) of conv1" in text


def test_classes_that_never_come_apart_are_said_not_to(two: StudyResults) -> None:
    never = replace(two.onsets[0], clear=None, nine_tenths=None, best="conv1")
    told = separation.sentences(replace(two, onsets=(never,)))[0]
    assert told.startswith("At no depth up to the last does a linear probe tell")


def test_what_training_has_moved_is_told(two: StudyResults) -> None:
    told = separation.sentences(two)[1]
    assert "moved the cells most at logits" in told
    assert "0.30 [0.20, 0.40]" in told


def test_every_number_is_in_a_folded_table(two: StudyResults) -> None:
    table = separation.measures_table(two)
    assert table is not None
    assert table.folded
    assert len(table.rows) == 5 * 4


def test_without_results_there_is_no_chapter() -> None:
    *_, drawings, tables = separation.chapter(StudyResults())
    assert not drawings
    assert not any(tables)
