import numpy as np
from made_records import NAN, make_layers, make_separation, texts

from cytolens.figures.depth import plot_separation
from cytolens.figures.faithfulness import plot_faithfulness
from cytolens.numerics.estimates import Estimate
from cytolens.records.features import Faithfulness


def test_separation_has_a_panel_per_measure_from_input_to_logits() -> None:
    layers = make_layers(4)
    figure = plot_separation(make_separation(layers), layers)
    written = texts(figure)
    assert len(figure.axes) == 4
    assert {"input", "logits"} <= set(written)
    assert written.count("trained") == written.count("permuted") == 4


def test_names_of_thirty_layers_do_not_overlap() -> None:
    figure = plot_separation(make_separation(make_layers(30)))
    ticks = figure.axes[2].get_xticks()
    assert len(ticks) <= 14
    assert np.diff(ticks).min() >= 2


def test_layers_and_numbers_that_are_missing_leave_gaps() -> None:
    layers = make_layers(6)
    separation = make_separation(layers)
    del separation["conv2"]
    separation["conv3"] = {"silhouette": Estimate(NAN, NAN, NAN)}
    figure = plot_separation(separation, layers)
    assert texts(figure)
    trained = figure.axes[0].lines[-1].get_ydata()
    assert np.isnan(trained[[2, 3]]).all()


def test_no_measures_at_all_is_an_empty_figure() -> None:
    assert not plot_separation({}, make_layers(5)).axes


def test_the_separation_of_one_layer_is_drawn_as_it_is_measured() -> None:
    found = make_separation(make_layers(4))["conv1"]
    figure = plot_separation(found)
    assert len(figure.axes) == len(found)
    assert texts(figure).count("permuted") == len(found)


def test_faithfulness_of_one_layer_is_drawn_as_it_is_measured() -> None:
    estimates = {name: Estimate(0.8, 0.7, 0.9) for name in ("predictivity", "best_cell", "z")}
    found = Faithfulness("conv3", np.arange(2), {}, estimates, ("", ""), 40)
    alone, by_layer = plot_faithfulness(found), plot_faithfulness({"conv3": found})
    assert "conv3" in texts(alone)
    assert texts(alone) == texts(by_layer)
