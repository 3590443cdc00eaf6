"""What the captions of maps say of what is on them."""

import numpy as np
from made_records import make_cells, make_embedding

from cytolens.report.chapters.maps import figures
from cytolens.report.results import Results


def caption(shown: int, *, recall: float) -> str:
    cells = make_cells(60)
    results = Results(
        {
            "cells": cells,
            "mapped": np.arange(shown),
            "main_layer": "conv3",
            "maps": {"tsne": {"conv3": make_embedding(shown, quality=recall)}},
        }
    )
    return next(drawing.caption for drawing in figures(results) if drawing.name == "map_panel")


def test_a_draw_is_said_with_the_number_that_it_is_of() -> None:
    assert "Each of the 40 points is a cell, drawn at random from 60, placed" in caption(
        40, recall=0.4
    )
    assert "drawn" not in caption(60, recall=0.4)


def test_a_map_that_keeps_few_neighbours_is_to_be_read_by_groups() -> None:
    text = "0.8 are among its ten nearest here: the map shows which groups there are"
    assert text in caption(60, recall=0.08)
    assert "which groups there are" not in caption(60, recall=0.4)
