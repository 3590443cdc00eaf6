from dataclasses import replace

import pytest
from made_records import make_cells, make_pairs, texts

from cytolens.errors import SettingError
from cytolens.figures.contrast import plot_contrast, plot_series
from cytolens.figures.style import render


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("cells", [0, 1, 4])
def test_pairs_of_real_cells_come_first_and_rejected_edits_say_so(channels: int, cells: int):
    named = ("red", "green", "blue") if cells == 1 and channels == 3 else None
    every = make_cells(channels=channels, channel_names=named)
    figure = plot_contrast(make_pairs(channels=channels, cells=cells), every)
    shown = texts(figure)
    assert "real cells,\nless" in shown
    assert ("one cell,\nedited" in shown) == (cells > 0)
    assert ("others 0.30\nnot accepted" in shown) == (cells > 0)
    assert ("others 0.90" in shown) == (cells > 0)
    assert render(figure, dpi=40)[0].startswith(b"\x89PNG")


def test_series_of_up_to_three_targets_stand_side_by_side_in_five_steps():
    every = make_cells(channels=3, channel_names=("DNA", "actin", "tubulin"))
    stepped = [make_pairs(name, channels=3, cells=0) for name in ("first", "second", "third")]
    for pairs in (stepped[:1], stepped):
        shown = texts(figure := plot_series(pairs, every))
        assert [shown.count(step) for step in ("10th", "50th", "90th")] == [len(pairs)] * 3
        assert [text for text in shown if text in ("first", "second", "third")] == [
            one.target.name for one in pairs
        ]
        assert len(figure.axes[0].images) >= 15 * len(pairs)
        assert render(figure, dpi=40)[0].startswith(b"\x89PNG")
    with pytest.raises(SettingError, match="none of the targets has a series"):
        plot_series([replace(stepped[0], series=None)], every)
