from dataclasses import replace

import numpy as np
from made_records import texts

from cytolens.figures.similarity import plot_similarity
from cytolens.records.separation import Similarity


def make_similarity(depth: int = 6, *, untrained: bool = True) -> Similarity:
    names = ("input", *(f"conv{k}" for k in range(1, depth - 1)), "logits")
    apart = np.abs(np.subtract.outer(np.arange(depth), np.arange(depth)))
    value = 0.9**apart
    curve = np.linspace(1, 0.3, depth)
    beside = np.stack([curve, curve - 0.1, curve + 0.1, np.full(depth, 0.02)])
    return Similarity(
        names, value, value - 0.05, value + 0.05, np.full((depth, depth), 0.02),
        beside if untrained else np.full((4, depth), np.nan),
        0.95**apart if untrained else np.full((depth, depth), np.nan), 300,
    )  # fmt: skip


def test_trained_and_untrained_stand_side_by_side_above_the_curves() -> None:
    figure = plot_similarity(make_similarity())
    written = set(texts(figure))
    assert {"a   Trained", "b   Untrained", "input", "logits", "cells permuted"} <= written
    assert {"with itself untrained", "with the next layer"} <= written
    assert sum(bool(axes.images) for axes in figure.axes) == 2


def test_without_a_control_there_is_one_map_and_no_curve_for_it() -> None:
    figure = plot_similarity(make_similarity(untrained=False))
    assert sum(bool(axes.images) for axes in figure.axes) == 1
    assert "with itself untrained" not in set(texts(figure))


def test_a_layer_that_is_constant_leaves_a_gap() -> None:
    found = make_similarity()
    value = found.value.copy()
    value[2] = value[:, 2] = np.nan
    null = np.where(np.isnan(value), np.nan, found.null)
    figure = plot_similarity(replace(found, value=value, low=value, high=value, null=null))
    assert np.ma.getmaskarray(figure.axes[0].images[0].get_array())[2].all()


def test_thirty_layers_are_drawn_without_numbers() -> None:
    figure = plot_similarity(make_similarity(30))
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) <= 14
