"""The figures at the top of the report: the most important only, at the width of a column."""

from typing import Any

import numpy as np
import pytest
from made_records import (
    make_cells,
    make_context,
    make_embedding,
    make_images,
    make_layers,
    make_separation,
    texts,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cytolens.figures.channels import plot_channel_cards
from cytolens.figures.depth import plot_separation
from cytolens.figures.knowledge import plot_knowledge
from cytolens.figures.pairs import plot_pairs
from cytolens.figures.style import BRIEF_WIDTH
from cytolens.figures.suspects import plot_suspects
from cytolens.figures.thumbnails import plot_thumbnails
from cytolens.numerics.estimates import Estimate
from cytolens.records.knowledge import Knowledge, Suspects
from cytolens.records.separation import ClassSeparation, Onset

LAYERS = make_layers(12)
CELLS = make_cells(60)
PIXELS = 102  # of a screen per inch, where two figures share 985 pixels


def knowledge() -> Knowledge:
    names = ["class", *(f"a rather long name {k}" for k in range(20))]
    layers = {
        layer.name: {
            name: Estimate(0.04 * k, 0.04 * k - 0.1, 0.04 * k + 0.1, 0.05)
            for k, name in enumerate(names)
        }
        for layer in LAYERS
    }
    measures = {name: "auc" if name == "class" else "r2" for name in names}
    return Knowledge(layers, measures, dict.fromkeys(names, 60), (), {})


def suspects(doubted: int, odd: int) -> Suspects:
    chosen = np.arange(doubted)
    return Suspects(
        judged=np.arange(60),
        labels=chosen,
        given=CELLS.labels[chosen],
        suggested=1 - CELLS.labels[chosen],
        score=np.linspace(3, 1, doubted),
        votes={"conv1 probe": np.full(doubted, 0.2)},
        odd=np.arange(odd),
        reasons=("far from all others, out of focus",) * odd,
        oddness=np.linspace(9, 5, odd),
    )


def pairs() -> Figure:
    classes = [f"cells of the class {k}" for k in range(6)]
    found = [(a, b) for i, a in enumerate(classes) for b in classes[i + 1 :]]
    good = Estimate(0.8, 0.7, 0.9, 0.55)
    each = ClassSeparation("", dict.fromkeys(classes, good), tuple(found), (good,) * 15, ())
    onsets = [Onset(pair, "conv1", "conv2", "logits", good) for pair in found]
    return plot_pairs(LAYERS, {layer.name: each for layer in LAYERS}, onsets, brief=True)


def cards() -> Figure:
    images = make_images(count=12)
    contexts = [make_context(CELLS, k) for k in range(6)]
    return plot_channel_cards(contexts, images, CELLS, brief=True)


DRAWN: dict[str, Any] = {
    "separation": lambda: plot_separation(make_separation(LAYERS), LAYERS, brief=True),
    "pairs": pairs,
    "knowledge": lambda: plot_knowledge(LAYERS, knowledge(), brief=True),
    "thumbnails": lambda: plot_thumbnails(make_embedding(60), CELLS, brief=True),
    "cards": cards,
    "suspects": lambda: plot_suspects(suspects(40, 30), CELLS, brief=True),
    "only odd cells": lambda: plot_suspects(suspects(0, 30), CELLS, brief=True),
}


@pytest.mark.parametrize("name", DRAWN)
def test_it_fits_a_column_and_nothing_lies_beside_it(name: str) -> None:
    figure = DRAWN[name]()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    box = figure.get_tightbbox(renderer)
    assert figure.get_size_inches()[0] == BRIEF_WIDTH
    assert box.x0 > -0.1
    assert box.x1 < BRIEF_WIDTH + 0.1
    assert figure.get_size_inches()[1] * PIXELS < 500


def test_the_probe_alone_stands_for_separation() -> None:
    (axes,) = DRAWN["separation"]().axes
    assert axes.get_title(loc="left") == "Linear-probe balanced accuracy"


def test_the_properties_that_are_read_best_stand_for_all() -> None:
    shown = " ".join(texts(DRAWN["knowledge"]()))
    assert "class (AUC)" in shown
    assert "name 19" in shown
    assert "name 3" not in shown


def test_cells_of_both_lists_are_shown_in_tiles_that_can_be_seen() -> None:
    figure = DRAWN["suspects"]()
    tiles = figure.axes[0].images
    assert len(tiles) == 5
    assert min(tile.get_extent()[1] - tile.get_extent()[0] for tile in tiles) * PIXELS >= 64
    assert "3 of 40" in texts(figure)
    assert "2 of 30" in texts(figure)
    alone = DRAWN["only odd cells"]()
    assert len(alone.axes[0].images) == 5
    assert "Labels to look at again" not in texts(alone)
