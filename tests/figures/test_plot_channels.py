from dataclasses import replace

import numpy as np
import pytest
from made_records import (
    NAN,
    begun_as_cells,
    make_atlas,
    make_cells,
    make_context,
    make_images,
    make_ranking,
    texts,
)
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from cytolens.figures.atlas import plot_atlas
from cytolens.figures.channels import plot_channel_cards
from cytolens.figures.gallery import plot_feature_gallery
from cytolens.figures.style import OUTLINE, colours, render
from cytolens.numerics.estimates import Estimate


def outlines(figure) -> list[Rectangle]:
    patches = figure.axes[0].patches
    return [p for p in patches if to_hex(p.get_edgecolor()) == OUTLINE.lower()]


def tiles(axes) -> list[np.ndarray]:
    return [image.get_array() for image in axes.images if image.get_array().shape[0] > 1]


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 5), (3, 12)])
def test_a_card_says_what_speaks_for_a_channel(channels: int, classes: int) -> None:
    cells = make_cells(channels=channels, classes=classes)
    images = make_images(channels=channels, side=20)
    contexts = [make_context(cells, 3, alike=2), make_context(cells, 6)]
    figure = plot_channel_cards(contexts, images, cells)
    written = texts(figure)
    for text in ("ch 3", "ch 6", "+ 2 alike", "without it 0.50", "grad. × act. 1.25"):
        assert text in written
    assert written.count("area") == written.count("texture contrast") == 2
    assert written.count("0.71") == written.count("−0.11") == 2
    assert len([text for text in written if text.startswith("AUC")]) == 2
    shown = 6 if channels == 1 else 3
    assert len(tiles(figure.axes[0])) == 2 * channels * (1 + shown)
    assert len(outlines(figure)) == 2 * channels * shown
    assert len(render(figure, dpi=40)[0]) > 1000


@pytest.mark.parametrize("channels", [1, 2])
def test_an_image_made_from_a_cell_stands_with_it_and_its_change(channels: int) -> None:
    cells = make_cells(channels=channels)
    images = begun_as_cells(make_images(channels=channels, side=20))
    plain, figure = (
        plot_channel_cards([make_context(cells, 3)], shown, cells)
        for shown in (replace(images, starts=None), images)
    )
    assert len(tiles(figure.axes[0])) == len(tiles(plain.axes[0])) + 2 * channels
    written = texts(figure)
    assert "its cell, change" in written
    assert "r its cell 1.00" in written  # the made one is a darker copy
    assert images.similarity is not None
    assert f"r nearest {images.similarity[1]:.2f}" in written
    assert "its cell, change" not in texts(plain)


def test_the_field_is_outlined_to_scale_where_the_peak_is() -> None:
    cells = make_cells(side=20)
    figure = plot_channel_cards([make_context(cells, 3, field=5.0)], make_images(side=20), cells)
    box = outlines(figure)[0]
    crops = [image.get_extent() for image in figure.axes[0].images[1:]]
    left, right, bottom, top = crops[0]
    pixel = (right - left) / 20
    assert box.get_width() == pytest.approx(5 * pixel)
    assert box.get_x() == pytest.approx(left + 3 * pixel)
    assert box.get_y() == pytest.approx(min(bottom, top) + 2 * pixel)


def test_a_neuron_that_sees_the_whole_crop_has_no_outline() -> None:
    cells = make_cells()
    context = make_context(cells, 3, field=0)
    figure = plot_channel_cards([context], make_images(side=20), cells, whole_field=True)
    assert outlines(figure) == []
    assert "the neuron sees the whole crop" in texts(figure)


def test_what_is_not_known_leaves_its_place_empty() -> None:
    cells = make_cells()
    bare = replace(
        make_context(cells, 5), ablation=NAN, correlations={}, auc=dict.fromkeys("ab", NAN)
    )
    written = texts(plot_channel_cards([bare], make_images(side=20), cells))
    assert "without it –" in written
    assert "nothing measured" in written
    assert "dead" in written  # there is no feature image of channel 5


def test_what_permuted_cells_reach_is_grey() -> None:
    cells = make_cells()
    context = replace(make_context(cells), correlations={"area": Estimate(0.1, 0.0, 0.2, null=0.3)})
    figure = plot_channel_cards([context], make_images(side=20), cells)
    label = next(t for axes in figure.axes for t in axes.texts if t.get_text() == "area")
    assert to_hex(label.get_color()) == "#8a8a8a"


def test_a_silent_bin_is_cut_off_and_its_share_written() -> None:
    cells = make_cells()
    histogram = np.full((2, 12), 0.1)
    histogram[0, 0] = 5.0
    context = replace(make_context(cells), histogram=histogram)
    written = texts(plot_channel_cards([context], make_images(side=20), cells))
    assert "← 83 %" in written
    assert "← 2 %" in written


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 3)])
def test_the_atlas_shows_images_and_typical_cells_at_the_same_places(
    channels: int, classes: int
) -> None:
    cells = make_cells(channels=channels, classes=classes)
    figure = plot_atlas(make_atlas(cells), cells)
    axes = figure.axes[0]
    assert texts(figure).count("dead") == channels
    assert len(tiles(axes)) == (2 + 3) * channels
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    tints = colours(classes)
    for tint, count in ((tints[0], 2), (tints[-1], 3)):
        assert sum(to_hex(p.get_edgecolor()) == tint for p in frames) == count * channels
    framed = [p for p in frames if to_hex(p.get_edgecolor()) in tints]
    widths = sorted({round(p.get_width(), 3) for p in framed})[::-1]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10 / 40), abs=0.01)


def test_the_gallery_says_how_many_channels_are_like_one() -> None:
    images = make_images(count=4)
    written = texts(plot_feature_gallery([images], rankings={"conv3": make_ranking()}))
    assert "ch 3 +1" in written
    assert "ch 6" in written


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_the_key_names_every_class_or_says_how_many_it_does_not(classes: int) -> None:
    cells = make_cells(80, classes=classes)
    written = texts(plot_atlas(make_atlas(cells), cells))
    entries = [text for text in written if "…" in text or text.startswith("class ")]
    more = [int(text[2:]) for text in written if text.startswith("+ ")]
    assert len(entries) + sum(more) == classes
