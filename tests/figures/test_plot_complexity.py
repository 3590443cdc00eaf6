from dataclasses import replace

import numpy as np
from made_records import make_complexity, make_layers, texts

from cytolens.figures.complexity import fall_text, plot_complexity
from cytolens.figures.style import render
from cytolens.records.features import Fall


def test_the_figure_says_from_which_layer_on_a_description_fails_and_names_its_curves():
    layers = make_layers(8)
    found = make_complexity(layers)
    figure = plot_complexity(found, layers)
    written = texts(figure)
    for text in ("trained", "untrained", "random filters", fall_text(found.falls["intensity"])):
        assert text in written
    assert found.falls["intensity"].layer in fall_text(found.falls["intensity"])
    drawn = {tuple(line.get_ydata()) for line in figure.axes[0].lines if len(line.get_ydata()) > 2}
    assert tuple(shares["intensity"].value for shares in found.layers.values()) in drawn
    assert "input" not in written


def test_a_share_below_zero_stays_within_the_panel():
    layers = make_layers(8)
    figure = plot_complexity(make_complexity(layers, fall=0.4), layers)
    axes = figure.axes[0]
    lowest = min(np.nanmin(line.get_ydata()) for line in axes.lines)
    assert lowest < 0
    assert axes.get_ylim()[0] <= lowest


def test_one_layer_has_panels_but_no_matrix_and_draws():
    found = make_complexity(make_layers(8))
    name = next(iter(found.layers))
    alone = replace(found, layers={name: found.layers[name]}, earlier={}, random={})
    figure = plot_complexity(alone)
    assert len(figure.axes) == 4
    assert render(figure, dpi=40)[0].startswith(b"\x89PNG")


def test_a_fall_is_put_into_words():
    assert fall_text(Fall(None, None, None, True, None)) == "never below 0.8"
    assert fall_text(Fall("c", "b", "d", True, None)) == "below 0.8 from c (b to d)"
    assert fall_text(Fall("c", "b", None, True, None)) == "below 0.8 from c (b or later)"
    assert fall_text(Fall("c", None, None, False, None)) == "below 0.8 from c"
