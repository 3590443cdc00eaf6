from dataclasses import replace

import numpy as np
import pytest
from made_records import make_cells, make_embedding

from cytolens.figures.style import render
from cytolens.numerics.estimates import Estimate
from cytolens.records.maps import Answered, NovelCells, PlacedCells
from cytolens.report.chapter import MOST_WORDS
from cytolens.report.page import render_report
from cytolens.report.placed import (
    PlacedOn,
    placed_drawings,
    placed_page,
    placed_summary,
    placed_table,
)

LAYERS = ("conv1", "logits")
CELLS = make_cells(6)
MEASURES = {"accuracy": Estimate(0.5, 0.3, 0.7)}


def on() -> PlacedOn:
    maps = {"tsne": {name: make_embedding(60, layer=name) for name in LAYERS}}
    return PlacedOn("runs/study", maps, np.arange(60) % 2, "conv1")


def placed(*, odd: int = 2) -> PlacedCells:
    """Six new cells, of which the first ``odd`` are odd at both depths."""
    rng = np.random.default_rng(0)
    flags = np.arange(6) < odd
    share, clean = Estimate(odd / 6, odd / 6 - 0.05, odd / 6 + 0.05), Estimate(0.02, 0.0, 0.05)
    return PlacedCells(
        names=CELLS.names,
        answered=Answered(
            CELLS.class_names,
            np.array([[0.9, 0.1]] * 4 + [[0.2, 0.8]] * 2),
            {},
            np.array(["a"] * 6),
            np.zeros(6, np.int64),
        ),
        places={"tsne": {name: rng.normal(size=(6, 2)).astype(np.float32) for name in LAYERS}},
        kept={"tsne": dict.fromkeys(LAYERS, Estimate(0.4, 0.3, 0.5))},
        schemes={"tsne": dict.fromkeys(LAYERS, "t-SNE")},
        distances={name: rng.random(6) for name in LAYERS},
        percentiles={name: rng.random(6) for name in LAYERS},
        odd=dict.fromkeys(LAYERS, flags),
        share=dict.fromkeys((*LAYERS, "any"), share),
        clean=dict.fromkeys((*LAYERS, "any"), clean),
        expected=0.02,
        calibrated_on=(30, 20, 10),
        overall=NovelCells(
            np.arange(6.0)[::-1], np.linspace(0.05, 1, 6), flags, share, clean, 0.05, True
        ),
    )


def test_the_page_has_every_figure_and_the_numbers_by_depth() -> None:
    drawings = placed_drawings(placed(), CELLS, on())
    assert [one.name for one in drawings] == [
        "placed_map", "placed_by_depth_tsne", "odd_by_depth", "odd_cells",
    ]  # fmt: skip
    assert all(len(one.caption.split()) <= MOST_WORDS for one in drawings)
    pictures = {one.name: render(one.plot(), dpi=40)[0] for one in drawings}
    summary = placed_summary(placed(), CELLS, on(), MEASURES)
    content = placed_page(placed(), CELLS, on(), MEASURES, pictures, summary)
    assert content.answer[0] == "Predicted: 4 class 0, 2 class 1."
    assert "cannot be told" in content.answer[2]
    rows = content.sections[1].tables[0].rows
    assert [row[0] for row in rows] == [*LAYERS, "any of these", "one number over all"]
    assert len({len(row) for row in rows}) == 1
    assert render_report(content).count("<figure") == 4


@pytest.mark.parametrize(("odd", "warned"), [(0, False), (2, True)])
def test_many_odd_cells_are_warned_of_and_shown(odd: int, warned: bool) -> None:
    found = placed(odd=odd)
    content = placed_page(found, CELLS, on(), {}, {}, {})
    assert any("the run has no cells like these" in text for text in content.warnings) == warned
    assert ("odd_cells" in [d.name for d in placed_drawings(found, CELLS, on())]) == warned


def test_the_table_has_a_row_per_cell_and_the_summary_counts_them() -> None:
    labelled = replace(CELLS, covariates={"label": np.array(list("aabbcc"))})
    table = placed_table(placed(), labelled)
    assert table["prediction"].tolist() == ["class 0"] * 4 + ["class 1"] * 2
    assert table["label"].tolist() == list("aabbcc")
    assert table["depths_odd"].tolist() == [2, 2, 0, 0, 0, 0]
    assert table["novel"].tolist() == [True, True, False, False, False, False]
    assert table["novelty_p"].tolist() == pytest.approx(np.linspace(0.05, 1, 6).tolist())
    assert {"odd_conv1", "distance_logits", "x_tsne_conv1"} <= set(table.columns)
    summary = placed_summary(placed(), CELLS, on(), MEASURES)
    assert summary["odd"]["overall"]["clean"]["value"] == 0.02
    assert summary["odd"]["overall"]["expected"] == 0.05
    assert summary["predicted"] == {"class 0": 4, "class 1": 2}
    assert summary["labelled"] == {"n": 6, "accuracy": MEASURES["accuracy"].as_dict()}
    assert summary["maps"][0]["recall_10"]["of_the_map"] == 0.42
