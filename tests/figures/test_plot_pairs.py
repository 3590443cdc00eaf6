from itertools import combinations

import numpy as np
from made_records import NAN, make_layers, texts

from cytolens.figures.pairs import plot_pairs
from cytolens.numerics.estimates import Estimate
from cytolens.records.layers import Layer
from cytolens.records.separation import ClassSeparation, Onset

CLASSES = ("G1", "G2", "M", "S")


def make_pairs(
    layers: tuple[Layer, ...], classes: tuple[str, ...] = CLASSES
) -> tuple[dict[str, ClassSeparation], tuple[Onset, ...]]:
    pairs = tuple(combinations(classes, 2))
    made: dict[str, ClassSeparation] = {}
    for layer in layers:
        value = 0.5 + 0.45 * layer.depth / (len(layers) - 1)
        estimate = Estimate(value, value - 0.05, value + 0.05, null=0.56, untrained=0.55)
        by_class = dict.fromkeys(classes, estimate)
        made[layer.name] = ClassSeparation(
            layer.name, by_class, pairs, (estimate,) * len(pairs), ()
        )
    last = next(iter(made[layers[-1].name].by_class.values()))
    clear = next(name for name, found in made.items() if found.by_pair[0].low > 0.56)
    keys = [*pairs, *((name,) for name in classes)]
    return made, tuple(Onset(key, clear, layers[-1].name, layers[-1].name, last) for key in keys)


def test_a_row_per_class_and_per_pair_a_column_per_layer() -> None:
    layers = make_layers(6)
    figure = plot_pairs(layers, *make_pairs(layers))
    classes, pairs = figure.axes[0], figure.axes[1]
    assert classes.images[0].get_array().shape == (4, 6)
    assert pairs.images[0].get_array().shape == (6, 6)
    assert {"G1", "G1 | G2", "M | S", "input", "logits", ".95"} <= set(texts(figure))


def test_the_layer_from_which_on_a_pair_is_apart_is_marked_in_every_row() -> None:
    layers = make_layers(6)
    found, onsets = make_pairs(layers)
    figure = plot_pairs(layers, found, onsets)
    x = [layer.name for layer in layers].index(onsets[0].clear or "")
    assert len(figure.axes[1].lines) == 6
    assert all(np.allclose(line.get_xdata(), x - 0.44) for line in figure.axes[1].lines)


def test_an_unknown_pair_is_a_gap() -> None:
    layers = make_layers(4)
    found, onsets = make_pairs(layers, ("a", "b", "c"))
    unknown = Estimate(NAN, NAN, NAN)
    found = {
        name: ClassSeparation(name, {}, one.pairs, (unknown, *one.by_pair[1:]), ())
        for name, one in found.items()
    }
    figure = plot_pairs(layers, found, [o for o in onsets if len(o.classes) == 2])
    picture = figure.axes[0].images[0].get_array()
    assert np.ma.getmaskarray(picture)[0].all()
    assert not np.ma.getmaskarray(picture)[1:].any()


def test_of_very_many_pairs_the_first_forty_are_drawn() -> None:
    layers = make_layers(5)
    figure = plot_pairs(layers, *make_pairs(layers, tuple(f"class {k}" for k in range(12))))
    assert figure.axes[1].images[0].get_array().shape == (40, 5)


def test_nothing_measured_is_an_empty_figure() -> None:
    assert not plot_pairs(make_layers(4), {}, ()).axes
