"""Crops at the ends of a number, beside the map of it."""

import numpy as np
import pytest
from made_records import NAN, make_cells, make_embedding, texts

from cytolens.figures.extremes import plot_extremes
from cytolens.figures.style import WIDTH, render


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (7, 3)])
def test_the_least_and_the_most_of_each_class_are_shown(classes: int, channels: int) -> None:
    cells = make_cells(140, classes=classes, channels=channels)
    values = np.arange(140.0)
    values[cells.labels == 1] = NAN  # not measured
    figure = plot_extremes("background", values, cells, make_embedding(140))
    written = texts(figure)
    rows = min(classes - 1, 4)
    assert sum(text.startswith("least ") for text in written) == rows
    assert sum(text.startswith("most ") for text in written) == rows
    first = np.flatnonzero(cells.labels == 0)
    assert f"least {first[0]}" in {text.split(".")[0] for text in written}
    assert f"most {first[-1]}" in {text.split(".")[0] for text in written}
    assert figure.get_size_inches()[0] == WIDTH
    assert render(figure, dpi=60)[0]


def test_few_cells_and_no_map_are_drawn() -> None:
    cells = make_cells(6)
    assert texts(plot_extremes("focus", np.arange(6.0), cells))
    assert plot_extremes("focus", np.full(6, NAN), cells)


def test_only_mapped_cells_are_on_the_map() -> None:
    cells = make_cells(60)
    mapped = np.arange(0, 60, 2)
    figure = plot_extremes("focus", np.arange(60.0), cells, make_embedding(30), mapped)
    (points,) = [c for axes in figure.axes for c in axes.collections]
    assert len(points.get_offsets()) == 30
