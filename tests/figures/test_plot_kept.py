from made_records import make_layers, texts

from cytolens.figures.kept import PLACES, plot_kept
from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate


def test_the_activation_map_is_drawn_beside_brightness_contrast_and_a_random_place():
    half = Estimate(0.5, 0.4, 0.6)
    keys = [prefix + key for prefix in PLACES for key in ("kept", "insertion", "deletion")]
    names = [layer.name for layer in make_layers(8) if layer.kind == "conv"]
    figure = plot_kept({name: dict.fromkeys(keys, half) for name in names}, make_layers(8))
    assert len(figure.axes) == 3
    for text, *_ in PLACES.values():
        assert text in texts(figure)
    assert all(len(axes.lines) == len(PLACES) for axes in figure.axes)
    assert render(figure, dpi=40)[0].startswith(b"\x89PNG")
