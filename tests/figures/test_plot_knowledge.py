"""The heat map of properties by depth, and the suspects' thumbnails."""

from dataclasses import replace

import numpy as np
import pytest
from made_records import NAN, make_cells, make_layers

from cytolens.figures.knowledge import MOST_ROWS, is_clear, plot_knowledge, rows_of
from cytolens.figures.style import render
from cytolens.figures.suspects import plot_suspects
from cytolens.numerics.estimates import Estimate
from cytolens.records.knowledge import Knowledge, Suspects


def made(names: list[str], depth: int = 5, *, value: float = 0.6) -> Knowledge:
    layers = {
        layer.name: {
            name: Estimate(value, value - 0.1, value + 0.1, 0.05, 0.2 if k % 2 else NAN)
            for k, name in enumerate(names)
        }
        for layer in make_layers(depth)
    }
    return Knowledge(
        layers=layers,
        measures={name: "auc" if name == "class" else "r2" for name in names},
        counts=dict.fromkeys(names, 60),
        by_cells=(),
        left_out={},
        gains={
            layer.name: dict.fromkeys(names, Estimate(0.3, 0.1, 0.5))
            for layer in make_layers(depth)
        },
    )


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_class_stands_first_and_properties_in_sections() -> None:
    names = [
        "plate",
        "focus",
        "class",
        "brightness_SSC",
        "area",
        "padding_share",
        "mean_brightness",
    ]
    sections = rows_of(made(names))
    assert [section for section, _ in sections] == [
        "", "shape", "brightness", "texture", "the crop", "given"
    ]  # fmt: skip
    assert sections[2][1] == ["mean_brightness", "brightness_SSC"]
    shown = texts(plot_knowledge(make_layers(5), made(names)))
    assert "class (AUC)" in shown
    assert "0.60" in shown


def test_a_triangle_needs_a_difference_that_is_clear_and_an_interval() -> None:
    known = made(["area", "focus"])
    layers = make_layers(5)
    drawn = {}
    for name, gain in {
        "up": Estimate(0.3, 0.1, 0.5),
        "down": Estimate(-0.3, -0.5, -0.1),
        "unclear": Estimate(0.3, -0.1, 0.5),
        "two groups": Estimate(0.3, NAN, NAN, no_interval="2 groups"),
    }.items():
        gains = {layer.name: dict.fromkeys(["area", "focus"], gain) for layer in layers}
        shown = texts(plot_knowledge(layers, replace(known, gains=gains)))
        drawn[name] = {mark for mark in "▲▼" if mark in shown}
    assert drawn == {"up": {"▲"}, "down": {"▼"}, "unclear": set(), "two groups": set()}
    gains = {layer.name: {"area": gain} for layer in layers}
    assert not any(
        "▲" in text for text in texts(plot_knowledge(layers, replace(known, gains=gains)))
    )


def test_numbers_that_are_not_clear_of_the_null_or_of_guessing_are_grey() -> None:
    assert is_clear(Estimate(0.4, 0.2, 0.5, 0.1), "r2")
    assert not is_clear(Estimate(0.4, 0.2, 0.5, 0.3), "r2")
    assert not is_clear(Estimate(0.4, -0.2, 0.5, -0.3), "r2")
    assert not is_clear(Estimate(0.6, 0.45, 0.7, 0.4), "auc")
    assert not is_clear(Estimate(NAN, NAN, NAN, None), "auc")


def test_many_properties_one_layer_and_values_without_number_are_drawn() -> None:
    names = ["class", *(f"column {k}" for k in range(80))]
    assert sum(len(rows) for _, rows in rows_of(made(names))) == MOST_ROWS
    assert len(render(plot_knowledge(make_layers(1), made(names, 1)), dpi=40)[0]) > 1000
    assert render(plot_knowledge(make_layers(3), made(["area"], 3, value=NAN)), dpi=40)[0]


@pytest.mark.parametrize(("doubted", "odd"), [(20, 3), (0, 2), (3, 0), (0, 0)])
def test_suspects_are_shown_with_classes_votes_and_reasons(doubted: int, odd: int) -> None:
    cells = make_cells(60, classes=3, class_names=("G1", "S", "G2"))
    suspects = Suspects(
        judged=np.arange(60),
        labels=np.arange(doubted),
        given=np.zeros(doubted, dtype=np.int64),
        suggested=np.full(doubted, 2),
        score=np.linspace(3, 1, doubted),
        votes={"probe at a": np.full(doubted, 0.2), "network": np.full(doubted, NAN)},
        odd=np.arange(30, 30 + odd),
        reasons=("empty, cut off",) * odd,
        oddness=np.full(odd, 9.0),
    )
    figure = plot_suspects(suspects, cells)
    shown = texts(figure)
    assert render(figure, dpi=40)[0]
    assert shown.count("given G1") == shown.count("rather G2") == min(doubted, 16)
    assert shown.count("empty") == odd
    assert shown.count("none") == (doubted == 0) + (odd == 0)
