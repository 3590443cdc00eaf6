from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cytolens.errors import InputError
from cytolens.features.gain import descending, moved_to
from cytolens.features.insertion import (
    deletion,
    displaced,
    insertion,
    local_contrast,
    measure_kept,
)
from cytolens.features.modulation import modulate
from cytolens.records.features import FeatureImages

SIZE = 20
HALF = np.zeros((1, SIZE, SIZE), bool)
HALF[:, :, : SIZE // 2] = True


def in_the_half(images: np.ndarray) -> np.ndarray:
    return (images[:, 0] * HALF).sum(axis=(1, 2))


def test_knowing_where_the_evidence_is_brings_it_back_first_and_takes_it_away_first():
    images = np.ones((1, 1, SIZE, SIZE), np.float32)
    nothing = np.zeros_like(images)
    knows, wrong = HALF.astype(float), (~HALF).astype(float)
    options = {"fractions": (0.25, 0.5, 0.75)}
    assert insertion(knows, images, nothing, in_the_half, **options) == pytest.approx(
        (0.5 + 1 + 1) / 3
    )
    assert deletion(knows, images, nothing, in_the_half, **options) == pytest.approx(0.5 / 3)
    assert insertion(wrong, images, nothing, in_the_half, **options) == pytest.approx(0.5 / 3)
    assert deletion(wrong, images, nothing, in_the_half, **options) == pytest.approx(2.5 / 3)


def test_where_there_is_no_evidence_the_share_is_not_defined():
    images = np.zeros((1, 1, SIZE, SIZE), np.float32)
    assert np.isnan(insertion(HALF.astype(float), images, images, in_the_half)).all()


def test_the_most_salient_pixel_comes_first():
    saliency = np.random.default_rng(0).random((3, 5, 6))
    order = descending(saliency)
    assert np.array_equal(order[:, 0], saliency.reshape(3, -1).argmax(axis=1))
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(30), (3, 1)))


def test_a_displaced_map_keeps_its_values_and_its_seed_decides_where():
    maps = np.random.default_rng(0).random((4, 9, 9))
    moved = displaced(maps, rng=3)
    assert np.allclose(np.sort(moved.reshape(4, -1)), np.sort(maps.reshape(4, -1)))
    assert np.array_equal(moved, displaced(maps, rng=3))
    assert not np.array_equal(moved, maps)


def blob_network() -> nn.Module:
    """Channel 0 answers to bright pixels, channel 1 to nothing."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([-0.2, 0.0]))
    return model


def gallery() -> FeatureImages:
    y, x = np.mgrid[:SIZE, :SIZE]
    blob = np.exp(-((y - 6) ** 2 + (x - 13) ** 2) / 8).astype(np.float32)
    images = np.stack([blob, blob])[:, None]
    return FeatureImages(
        layer="0",
        targets=("channel 0", "channel 1"),
        channels=np.array([0, 1]),
        images=images,
        activation=np.ones(2, np.float32),
        natural=np.full((2, 3), np.nan, np.float32),
        activation_maps=np.maximum(images[:, 0] - 0.2, 0),
        history=np.zeros((2, 1), np.float32),
        dead=np.array([False, True]),
        settings={"background": [0.0]},
    )


def test_a_gain_that_keeps_the_blob_keeps_the_activation_of_a_blob_detector():
    images = gallery()
    flat = np.ones((2, SIZE, SIZE)) * np.arange(SIZE)[::-1, None]
    found = measure_kept(blob_network(), images, modulate(images), others={"rows": flat}, rng=0)
    assert found["insertion"].value > 0.95
    assert found["deletion"].value < 0.05
    assert found["kept"].value > 0.4
    assert found["random_kept"].value < 0.2
    for control in ("random_", "rows_"):
        assert found[f"{control}insertion"].value < found["insertion"].value
        assert found[f"{control}deletion"].value > found["deletion"].value


def test_what_cannot_be_measured_says_why():
    images = gallery()
    modulated = modulate(images)
    with pytest.raises(InputError, match="give those made"):
        measure_kept(blob_network(), images, replace(modulated, layer="2"))
    with pytest.raises(InputError, match="alive"):
        measure_kept(blob_network(), replace(images, dead=np.ones(2, bool)), modulated)


def test_brightness_and_contrast_are_the_same_gains_elsewhere():
    images = gallery()
    modulated = modulate(images)
    moved = moved_to(modulated.gain, images.images[:, 0])
    assert np.allclose(np.sort(moved.ravel()), np.sort(modulated.gain.ravel()))
    assert np.array_equal(moved[0].argmax(), images.images[0, 0].argmax())
    found = measure_kept(blob_network(), images, modulated, rng=0)
    for place in ("brightness", "contrast", "random"):
        ahead = found["kept"].value - found[f"{place}_kept"].value
        assert found[f"ahead_of_{place}"].value == pytest.approx(ahead)
    assert found["ahead_of_brightness"].value == pytest.approx(0, abs=0.02)  # it is brightness


def test_a_channel_of_darkness_is_told_apart_from_brightness():
    images = gallery()
    dark = replace(
        images,
        images=1 - images.images,
        activation_maps=np.maximum(images.images[:, 0] - 0.2, 0),
        settings={"background": [1.0]},
    )
    network = blob_network()
    with torch.no_grad():
        network[0].weight[0].fill_(-1.0)
        network[0].bias[0] = 0.8
    found = measure_kept(network, dark, modulate(dark), rng=0)
    assert found["kept"].value > 0.4
    assert found["ahead_of_brightness"].value > 0.3


def test_local_contrast_is_where_intensity_changes():
    image = np.zeros((1, 2, 32, 32), np.float32)
    image[0, 1, :, 16:] = 1
    found = local_contrast(image)[0]
    assert found[:, 15:17].min() > 0.4
    assert found[:, :8].max() < 1e-3


def test_the_salient_part_keeps_more_than_a_coarse_map_and_is_judged_with_it():
    images = gallery()
    coarse = images.activation_maps.reshape(2, 4, 5, 4, 5).mean((2, 4))
    images = replace(images, activation_maps=coarse.astype(np.float32))
    modulated = modulate(images, model=blob_network())
    assert modulated.salient is not None
    assert np.allclose(np.sort(modulated.salient[0].ravel()), np.sort(modulated.gain[0].ravel()))
    found = measure_kept(blob_network(), images, modulated, rng=0)
    assert found["salient_kept"].value > found["kept"].value
    assert found["salient_insertion"].value > found["insertion"].value
    more = found["salient_kept"].value - found["random_kept"].value
    assert found["salient_ahead_of_random"].value == pytest.approx(more)


def test_a_channel_that_background_drives_keeps_its_own_map():
    network = blob_network()
    with torch.no_grad():
        network[0].weight[0].fill_(-1.0)
        network[0].bias[0] = 1.0  # answers to what is dark, as the background is
    modulated = modulate(gallery(), model=network)
    assert modulated.salient is not None
    assert np.array_equal(modulated.salient[0], modulated.gain[0])
