import gc
import subprocess
import sys
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from made_records import make_cells, make_embedding, make_history
from matplotlib.figure import Figure
from PIL import Image

from cytolens.figures import display
from cytolens.figures.cells import plot_cells
from cytolens.figures.display import display_of_cells, display_of_channels
from cytolens.figures.labels import format_interval, format_number, shorten
from cytolens.figures.maps import plot_embedding
from cytolens.figures.performance import plot_training
from cytolens.figures.style import colours, legend_text, logarithmic, move_apart, render
from cytolens.figures.tiles import round_length
from cytolens.numerics.estimates import Estimate


def test_nothing_global_is_changed() -> None:
    before = dict(mpl.rcParams)
    render(plot_training(make_history(4)))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("lowest", "highest", "shown"),
    [
        (2, 100, ["2", "5", "10", "20", "50", "100"]),
        (0.0005, 10, ["0.001", "0.01", "0.1", "1", "10"]),
    ],
)
def test_a_logarithmic_axis_has_few_ticks(lowest: float, highest: float, shown: list[str]) -> None:
    axes = Figure().add_subplot()
    axes.plot([lowest, highest])
    axes.margins(y=0)
    logarithmic(axes)
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert [axes.yaxis.get_major_formatter()(tick) for tick in ticks] == shown


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "from cytolens.report.story import find_chapters; import cytolens.report.placed; "
            "assert find_chapters()",
            ("torch", "matplotlib.pyplot", "jinja2", "pandas"),
        ),
        ("import cytolens.report.page, cytolens.report.findings", ("matplotlib", "jinja2", "PIL")),
    ],
)
def test_only_what_is_used_is_loaded(code: str, heavy: tuple[str, ...]) -> None:
    asked = f"import sys; {code}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_same_figure_gives_the_same_bytes() -> None:
    cells = make_cells(24)
    assert render(plot_cells(cells)) == render(plot_cells(cells))


def test_a_figure_rendered_twice_is_the_same_picture() -> None:
    for figure in (plot_cells(make_cells(24)), plot_training(make_history(4))):
        first, second = (
            np.asarray(Image.open(BytesIO(render(figure, dpi=80)[0]))) for _ in range(2)
        )
        assert np.array_equal(first, second)


@pytest.mark.parametrize(("cells", "pictures"), [(1500, 0), (2500, 1)])
def test_only_a_dense_cloud_is_a_picture_in_the_svg(cells: int, pictures: int) -> None:
    figure = plot_embedding(make_embedding(cells), color=np.zeros(cells, dtype=int))
    assert render(figure, dpi=40)[1].count(b"<image") == pictures


def test_a_figure_is_laid_out_once_for_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = plot_training(make_history(4))
    engine = figure.get_layout_engine()
    assert engine is not None
    laid_out: list[object] = []
    execute = engine.execute
    monkeypatch.setattr(engine, "execute", lambda fig: (laid_out.append(fig), execute(fig)))
    render(figure, dpi=40)
    assert laid_out == [figure]
    render(figure, dpi=40)
    assert laid_out == [figure]


def test_text_in_svg_stays_text() -> None:
    assert b">epoch<" in render(plot_training(make_history(4)))[1]


def test_thirty_colours_are_thirty() -> None:
    assert len(set(colours(30))) == 30
    assert colours(2) == ["#0072b2", "#d55e00"]


def test_long_names_keep_both_ends() -> None:
    assert shorten("a very long name 17", 12) == "a very l… 17"
    assert len(shorten("a very long name 17", 12)) == 12
    assert shorten("short", 12) == "short"


def test_a_name_with_an_underscore_is_not_hidden_from_the_legend() -> None:
    assert not legend_text("_activated").startswith("_")


def test_numbers_are_written_for_readers() -> None:
    assert format_number(-0.5) == "−0.50"
    assert format_number(float("nan")) == "–"
    assert format_interval(Estimate(0.5, 0.4, 0.6)) == "0.50 [0.40, 0.60]"
    assert format_interval(Estimate(0.5, float("nan"), float("nan"))) == "0.50"


def test_labels_are_spread_no_further_than_needed() -> None:
    assert move_apart([0.0, 5.0, 10.0], 1.0) == [0.0, 5.0, 10.0]
    placed = move_apart([1.0, 1.1, 0.9], 1.0)
    assert np.allclose(np.diff(np.sort(placed)), 1.0, atol=0.02)
    assert np.argsort(placed).tolist() == [2, 0, 1]


@pytest.mark.parametrize(("limit", "length"), [(20.3, 20), (6.0, 5), (0.49, 0.2), (1.0, 1)])
def test_scale_bars_have_round_lengths(limit: float, length: float) -> None:
    assert round_length(limit) == pytest.approx(length)


def test_only_channels_named_red_green_blue_are_shown_in_colour() -> None:
    assert display_of_channels(3, channel_names=("Red", "Green", "Blue")).colour
    assert not display_of_channels(3, channel_names=("a", "b", "c")).colour
    assert display_of_channels(3).views == ("channel 0", "channel 1", "channel 2")


def test_intensities_between_the_limits_become_grey() -> None:
    picture = display_of_channels(1, value_range=(10.0, 20.0)).show(
        np.array([[[5.0, 15.0, 25.0, np.nan]]])
    )
    assert picture[0, :, 0].tolist() == [0.0, 0.5, 1.0, 0.0]


def test_a_constant_image_does_not_divide_by_zero() -> None:
    picture = display_of_channels(1, value_range=(3.0, 3.0)).show(np.full((1, 4, 4), 3.0))
    assert np.isfinite(picture).all()


def test_one_hot_pixel_does_not_darken_all_cells() -> None:
    images = np.random.default_rng(0).random((40, 1, 16, 16))
    images[3, 0, 0, 0] = 1e6
    assert display_of_cells(make_cells(images=images)).limits[0, 1] < 2


def test_the_same_cells_are_looked_at_once_and_then_forgotten() -> None:
    cells, others = make_cells(), make_cells(images=2 * np.asarray(make_cells()))
    known = len(display._known)
    drawn = display_of_cells(cells)
    assert display_of_cells(cells) is drawn
    assert display_of_cells(cells, sample=2) is not drawn
    assert display_of_cells(others).limits[0, 1] == pytest.approx(2 * drawn.limits[0, 1])
    del cells, others
    gc.collect()
    assert len(display._known) == known
