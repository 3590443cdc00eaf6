"""Images with the cells that they began as, and neurons on what they see."""

from dataclasses import replace

import numpy as np
import pytest
from made_records import (
    begun_as_cells,
    make_field_images,
    make_images,
    make_layers,
    make_ranking,
    texts,
)

from cytolens.figures.fields import plot_field_images
from cytolens.figures.origins import plot_from_cells
from cytolens.figures.twins import shown_here, twin_lines
from cytolens.records.features import Faithfulness

IMAGES = begun_as_cells(make_images("conv3", count=4))
JUDGED = Faithfulness(
    "conv3", IMAGES.channels,
    {"predictivity": np.array([0.91, 0.8, 0.7, 1.0]), "start_cell": np.array([0.9, 0.6, 0.7, 0.4])},
    {}, ("", "unnatural", "at chance", ""), 40, np.array([False, False, False, True]),
)  # fmt: skip


def test_cell_image_change_and_the_image_without_a_prior_stand_above_each_other() -> None:
    figure = plot_from_cells([IMAGES], unconstrained={"conv3": make_images("conv3", count=4)})
    written = texts(figure)
    for name in ("cell", "image", "change", "no prior"):
        assert name in written
    assert any("change: image minus cell" in text for text in written)
    assert len(figure.axes[0].images) == 4 * 4 + 2  # and two scales
    assert "r .97" in written


def test_the_change_has_one_signed_scale_for_all() -> None:
    same = replace(IMAGES, starts=IMAGES.images)
    pictures = [p.get_array() for p in plot_from_cells([same]).axes[0].images]
    changes = [p for p in pictures if p is not None and p.shape[:2] == (40, 40)][2::3]
    assert len(changes) == 4
    assert all(np.ptp(np.asarray(change), axis=(0, 1)).max() < 1e-6 for change in changes)
    assert not any("minus" in text for text in texts(plot_from_cells([same])))  # nothing changed


def test_predictivity_is_shown_with_that_of_the_cell_and_marked_where_it_is_more() -> None:
    written = texts(plot_from_cells([IMAGES], faithfulness={"conv3": JUDGED}))
    assert "p .91|.90" in written
    assert "p 1.00|.40 ✓" in written
    assert "odd" in written
    assert "at chance" in written


def test_images_that_began_as_no_cell_have_no_cell_row() -> None:
    written = texts(plot_from_cells([make_images("conv3", count=2)]))
    assert "image" in written
    assert "cell" not in written


def test_many_images_take_several_blocks_and_dead_channels_are_named() -> None:
    many = begun_as_cells(make_images("conv3", count=20, dead=(3,)))
    figure = plot_from_cells([many], layers=make_layers(), rankings={"conv3": make_ranking()})
    written = texts(figure)
    assert written.count("cell") == 2
    assert "dead" in written
    assert "20 of 16, 1 dead" in written


@pytest.mark.parametrize("channels", [2, 3])
def test_each_image_channel_has_its_own_pictures(channels: int) -> None:
    images = begun_as_cells(make_images("conv3", count=2, channels=channels))
    figure = plot_from_cells([images])
    crops = [p for p in figure.axes[0].images if np.shape(p.get_array())[:2] == (40, 40)]
    assert len(crops) == 2 * 3 * channels
    rgb = plot_from_cells([images], channel_names=("red", "green", "blue")[:channels])
    crops = [p for p in rgb.axes[0].images if np.shape(p.get_array())[:2] == (40, 40)]
    assert len(crops) == (2 * 3 if channels == 3 else 2 * 3 * channels)


def test_a_neuron_on_its_field_has_patches_above_and_its_scale_beneath_the_name() -> None:
    found = make_field_images("conv1")
    written = texts(plot_field_images([found], layers=make_layers(), pixel_size=0.5))
    for text in ("cells", "prior", "no prior", "tile: 2.5 µm", "0.5 µm", "dead", "r .75 .75"):
        assert text in written
    assert "4 of 16" in written
    without = replace(found, likely=None)
    assert "prior" not in texts(plot_field_images([without]))
    assert "5 px" in " ".join(texts(plot_field_images([without])))
    assert plot_field_images([]).axes
    several = texts(plot_field_images([found], columns=3))
    assert several.count("cells") == 2  # a second block
    assert several.count("conv1") == 1


def test_twins_are_left_out_where_they_come_again_and_named_on_both_sides() -> None:
    twins = {"conv3/3": "conv1/6", "pre_softmax/9": "conv3/0"}
    assert shown_here(IMAGES, twins) == [0, 2, 3]
    lines = twin_lines(IMAGES, twins)
    assert lines == ["ch 0 also: pre_softmax/9", "shown above: ch 3 (conv1/6)"]
    many = twins | {f"conv5/{channel}": "conv3/0" for channel in range(30)}
    listed = twin_lines(IMAGES, many)[0]
    assert listed.startswith("ch 0 also: pre_softmax/9, conv5/0, ")
    assert listed.endswith(" more")  # whole names, and how many are not listed
    assert "…" not in listed
    written = texts(plot_from_cells([IMAGES], twins=twins))
    assert "ch 3" not in written
    assert lines[0] in written
    all_gone = {f"conv3/{channel}": "conv1/6" for channel in IMAGES.channels}
    assert "cell" not in texts(plot_from_cells([IMAGES], twins=all_gone))
    field = texts(plot_field_images([make_field_images("conv1")], twins=twins))
    assert "ch 6 also: conv3/3" in field
