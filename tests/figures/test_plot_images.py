from dataclasses import replace

import numpy as np
import pytest
from made_records import (
    NAN,
    make_cells,
    make_clusters,
    make_embedding,
    make_explanation,
    make_images,
    make_layers,
    make_modulated,
    texts,
)
from matplotlib.figure import Figure

from cytolens.figures.clusters import plot_clusters
from cytolens.figures.gallery import plot_feature_gallery, plot_feature_images, z_score
from cytolens.figures.modulation import (
    VEIL,
    plot_cell_explanation,
    plot_modulated,
    salient_part,
)

LONG = tuple(f"activated by a stimulus of long name {k}" for k in range(10))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_feature_images_are_shown_channel_by_channel(channels: int) -> None:
    images = make_images(count=10, channels=channels, dead=(3,))
    figure = plot_feature_images(images, receptive_field=12, pixel_size=0.3)
    written = texts(figure)
    assert written.count("dead") == 1
    assert "conv3: 10 feature images, 1 dead" in written
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) == 9 * channels


def test_colour_feature_images_are_shown_in_colour() -> None:
    images = make_images(count=4, channels=3)
    figure = plot_feature_images(images, channel_names=("red", "green", "blue"))
    texts(figure)
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) == 4


def test_z_is_activation_above_natural_cells_in_standard_deviations() -> None:
    images = make_images(count=3)
    images.activation[:] = [2.0, 0.5, 1.0]
    images.natural[:] = [[0.5, 0.3, 1], [0.5, 0.0, 1], [NAN, NAN, NAN]]
    z = z_score(images)
    assert z[0] == pytest.approx(5.0)
    assert np.isnan(z[1:]).all()
    written = texts(plot_feature_images(images))
    assert "z 5.0" in written
    assert not any("nan" in text for text in written)


def test_directions_are_called_by_their_names() -> None:
    images = make_images("logits", count=2, targets=("G2 - Prophase", "Prophase - G2"))
    assert "G2 - Prophase" in texts(plot_feature_images(images))


def test_modulated_images_are_shown_as_feature_images_are_but_have_no_z() -> None:
    images = make_images(count=3)
    figure = plot_feature_images(make_modulated(images))
    written = texts(figure)
    assert "conv3: 3 modulated images" in written
    assert images.targets[0] in written
    assert not any(text.startswith("z ") for text in written)
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) == 3


def test_the_gallery_has_a_row_per_layer_with_its_receptive_field() -> None:
    layers = make_layers(6)
    rows = [make_images(layer.name, count=12, dead=(0,)) for layer in layers[1:-1]]
    written = texts(plot_feature_gallery(rows, layers=layers, pixel_size=0.5))
    assert {"conv1", "conv2", "pre_softmax", "field 1.5 µm", "sees the whole crop"} <= set(written)
    assert "12 of 16, 1 dead" in written


def test_a_gallery_of_thirty_layers_of_three_channels_is_drawn() -> None:
    rows = [make_images(f"layer {k}", count=2, channels=3, side=12) for k in range(30)]
    assert "layer 29" in texts(plot_feature_gallery(rows))
    assert plot_feature_gallery([]).axes


@pytest.mark.parametrize("channels", [1, 3])
def test_modulated_images_stand_below_gain_and_feature_image(channels: int) -> None:
    images = make_images(count=5, channels=channels, dead=(2,))
    figure = plot_modulated(images, make_modulated(images))
    written = texts(figure)
    assert "conv3: modulated by their own activation maps" in written
    assert {"gain", "dead"} <= set(written)
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) == 4 * (3 * channels + 1)


def test_what_a_channel_of_darkness_answers_to_is_seen_and_the_rest_has_a_tint() -> None:
    black, gain = np.zeros((8, 8, 3)), np.zeros((8, 8))
    gain[:, :4] = 1
    shown = salient_part(black, gain)
    assert np.all(shown[:, :4] == 0)
    assert np.allclose(shown[:, 4:], VEIL)
    assert len(set(VEIL)) == 3  # no grey, which intensities have


def test_padding_is_marked_where_crops_were_padded() -> None:
    images = make_images(count=2)
    small = np.zeros_like(images.images)
    small[..., 6:10, 6:12] = 1.0
    images = replace(images, images=small, dead=np.zeros(2, bool))
    modulated = replace(make_modulated(images), settings={"background": [0.0]})

    def dotted(figure: Figure) -> int:
        return sum(patch.get_linestyle() in (":", "dotted") for patch in figure.axes[0].patches)

    assert dotted(plot_modulated(images, modulated, padded=True)) == 2
    assert dotted(plot_modulated(images, modulated)) == 0
    cell = make_explanation(make_cells(6), 1)
    rows, columns = cell.image.shape[1:]
    assert dotted(plot_cell_explanation(cell, crop_size=(rows - 6, columns))) == 2
    assert dotted(plot_cell_explanation(cell, crop_size=(rows, columns + 9))) == 0


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_an_explained_cell_names_class_prediction_and_channels(channels: int) -> None:
    cells = make_cells(6, channels=channels, class_names=LONG[:2])
    written = texts(plot_cell_explanation(make_explanation(cells, 1), pixel_size=0.5))
    assert any("(wrong)" in text for text in written)
    assert {"saliency", "+1.40", "−0.50", "ch 3"} <= set(written)


def test_a_cell_explained_by_one_channel_is_drawn() -> None:
    shown = make_explanation(make_cells(6), count=1)
    assert texts(plot_cell_explanation(replace(shown, saliency=shown.saliency * NAN)))


@pytest.mark.parametrize("n", [0, 1, 4, 20])
def test_clusters_are_listed_with_size_classes_and_cells(n: int) -> None:
    cells = make_cells(100, classes=10, class_names=LONG, channels=2)
    images = make_images(count=max(n, 1), channels=2, dead=(0,), targets=("cluster",) * max(n, 1))
    figure = plot_clusters(make_clusters(cells, n=n), make_embedding(100), cells, images)
    written = texts(figure)
    assert sum(text.startswith("n = ") for text in written) == min(n, 12)
    assert ("the 12 largest of 20 clusters" in written) == (n == 20)
    assert ("no clusters were found at this layer" in written) == (n == 0)


def test_clusters_do_without_feature_images() -> None:
    cells = make_cells()
    written = texts(plot_clusters(make_clusters(cells), make_embedding(), cells))
    assert not any("feature" in text for text in written)
