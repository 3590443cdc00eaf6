import numpy as np
import pytest
from made_records import make_cells, texts

from cytolens.figures.cells import plot_cells

LONG = tuple(f"activated by a stimulus of long name {k}" for k in range(10))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_each_image_channel_has_its_block_of_rows(channels: int) -> None:
    figure = plot_cells(make_cells(24, channels=channels), per_class=4)
    written = texts(figure)
    assert sum(text.startswith("channel") for text in written) == (0 if channels == 1 else channels)
    assert written.count("class 0") == channels
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) % (2 * channels) == 0
    assert len(tiles) >= 2 * 4 * channels


def test_colour_images_are_shown_once_in_colour() -> None:
    cells = make_cells(24, channels=3, channel_names=("red", "green", "blue"))
    figure = plot_cells(cells, per_class=4)
    assert texts(figure).count("class 0") == 1
    picture = figure.axes[0].images[0].get_array()
    assert not np.allclose(picture[..., 0], picture[..., 1])


def test_ten_classes_with_long_names_and_five_channels_stay_on_the_page() -> None:
    cells = make_cells(60, channels=5, classes=10, class_names=LONG)
    figure = plot_cells(cells)
    assert figure.get_size_inches()[1] < 24
    assert all(len(text) <= 40 for text in texts(figure))


def test_the_scale_bar_is_in_micrometres_where_the_pixel_size_is_known() -> None:
    assert "5 µm" in texts(plot_cells(make_cells(24, pixel_size=0.5)))
    assert "10 px" in texts(plot_cells(make_cells(24)))


def test_a_class_without_cells_does_not_stop_the_figure() -> None:
    cells = make_cells(24, class_names=("a", "b", "none of them"))
    assert "n = 0" in texts(plot_cells(cells))


def test_all_groups_are_seen_where_there_are_groups() -> None:
    groups = np.array(["rare"] * 2 + ["common"] * 58)
    from cytolens.figures.cells import _choose

    cells = make_cells(60, groups=groups, group_name="donor")
    chosen = _choose(cells, 0, 4, np.random.default_rng(0))
    assert "rare" in cells.groups[chosen]


def test_names_that_look_like_formulas_are_shown_as_typed() -> None:
    assert "CD3$^+$" in texts(plot_cells(make_cells(24, class_names=("CD3$^+$", "$"))))
