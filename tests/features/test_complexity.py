from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from cytolens.activations.layers import find_layers
from cytolens.classifier.wrapping import wrap_for
from cytolens.errors import InputError
from cytolens.features.complexity import measure_complexity
from cytolens.features.descriptions import DESCRIPTIONS, describe_simply, random_answers
from cytolens.images.arrays import cells_from_arrays
from cytolens.records.features import Fall

SIZE = 24


def stripes(period: float, degrees: float, size: int = 32) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    angle = np.deg2rad(degrees)
    phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period
    return np.sin(phase)[None, None].astype(np.float32)


def spots(n: int = 240, *, seed: int = 0, groups: np.ndarray | None = None):
    """Blobs of all sizes and places on a dark ground, in fine or in wide stripes."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    centre, width = draw.uniform(9, 14, (2, n, 1, 1)), draw.uniform(2, 5, (n, 1, 1))
    blobs = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
    period = np.where(np.arange(n) % 2, 3.5, 8)[:, None, None]
    waves = np.sin(2 * np.pi * x / period + draw.uniform(0, 6, (n, 1, 1)))
    images = blobs * (1 + 0.5 * waves) * draw.uniform(0.5, 1, (n, 1, 1))
    images = images + draw.normal(0, 0.01, images.shape)
    names = ["wide", "fine"] * (n // 2)
    return cells_from_arrays(
        images[:, None].astype(np.float32), names, intensity="none", background=0.0, groups=groups
    )


class Mean(nn.Module):
    """Knows brightness, then stripes: conv1 smooths, conv2 is a wavelet of their period."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(3, 3, 7, padding=3)
        self.relu2 = nn.ReLU()
        self.logits = nn.Linear(3, 2)
        with torch.no_grad():
            self.conv1.weight[:] = torch.tensor([1.0, 0.5, 2.0])[:, None, None, None]
            self.conv1.bias[:] = torch.tensor([0.0, -0.2, -0.5])
            wave = torch.sin(2 * np.pi * (torch.arange(7) - 3) / 3.5)
            self.conv2.weight.zero_()
            for channel, scale in enumerate((1.0, -1.0, 0.6)):
                self.conv2.weight[channel, 0] = scale * wave[None] / 7
            self.conv2.bias.zero_()

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu(self.conv1(x))))
        return self.logits(x.mean((2, 3)))


def halves(cells):
    rows = np.arange(len(cells))
    return cells.subset(rows[rows % 4 < 2]), cells.subset(rows[rows % 4 >= 2])


@pytest.fixture(scope="module")
def found():
    cells = spots()
    model = wrap_for(Mean().eval(), cells)
    layers = find_layers(model.network, cells.shape)[1:3]
    return measure_complexity(model, *halves(cells), layers=layers, rng=0)


def test_brightness_explains_what_looks_at_single_pixels_and_not_what_looks_for_stripes(found):
    assert found.layers["conv1"]["intensity"].value > 0.98
    assert found.layers["conv2"]["intensity"].value < 0.9
    assert found.layers["conv2"]["first_order"].value > 0.95
    assert found.falls["intensity"] == Fall(None, "conv2", None, True, None)
    assert found.falls["second_order"].earliest is None
    assert found.known_from == found.n == 120


def test_every_share_has_its_interval_its_controls_and_its_channels(found):
    for layer, shares in found.layers.items():
        for name, share in shares.items():
            assert share.low <= share.value <= share.high <= 1
            assert share.untrained is not None
            gap = found.gaps[layer][name]
            assert gap.value == pytest.approx(share.value - share.untrained)
            assert found.channels[layer][name].shape == (3,)
            assert found.random[layer][name] <= 1
    assert list(found.earlier["conv2"]) == ["conv1"]
    assert not found.earlier["conv1"]
    assert found.earlier["conv2"]["conv1"].value < found.layers["conv2"]["first_order"].value


def test_it_is_the_same_again_and_leaves_the_network_as_it_was(found):
    cells = spots()
    module = Mean().train()
    model = wrap_for(module, cells)
    layers = find_layers(module, cells.shape)[1:3]
    again = measure_complexity(model, *halves(cells), layers=layers, rng=0)
    assert module.training
    assert again.layers["conv2"]["intensity"].value == pytest.approx(
        found.layers["conv2"]["intensity"].value, abs=1e-5
    )


def test_a_dead_channel_is_left_out_and_two_groups_have_no_interval():
    cells = spots(groups=np.arange(240) // 2 % 2)
    module = Mean()
    with torch.no_grad():
        module.conv2.bias[1] = -100.0
    model = wrap_for(module.eval(), cells)
    layers = find_layers(module, cells.shape)[1:3]
    measured = measure_complexity(model, *halves(cells), layers=layers, rng=0)
    assert np.isnan(measured.channels["conv2"]["intensity"]).tolist() == [False, True, False]
    share = measured.layers["conv1"]["intensity"]
    assert not share.known
    assert share.no_interval is not None


def test_of_a_wide_layer_some_channels_are_explained():
    cells = spots()
    network = nn.Sequential(
        nn.Conv2d(1, 100, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(100, 2)
    )
    model = wrap_for(network.eval(), cells)
    layers = find_layers(network, cells.shape)[1:2]
    measured = measure_complexity(model, *halves(cells), layers=layers, rng=0)
    assert np.isfinite(measured.channels["0"]["profile"]).sum() <= 64
    assert measured.channels["0"]["profile"].shape == (100,)
    assert measured.layers["0"]["profile"].value > 0.9


def test_too_few_cells_are_refused():
    cells = spots()
    model = wrap_for(Mean().eval(), cells)
    with pytest.raises(InputError, match="at least 20"):
        measure_complexity(model, cells, cells[:5])


def test_each_description_holds_those_before_it_and_two_image_channels_count():
    crops = np.concatenate([np.asarray(spots(40)), np.asarray(spots(40, seed=1))], axis=1)
    described = describe_simply(crops, np.arange(40) < 20, background=[0.0, 0.0])
    assert list(described) == list(DESCRIPTIONS)
    tables = list(described.values())
    for smaller, larger in pairwise(tables):
        assert np.array_equal(larger[:, : smaller.shape[1]], smaller)
        assert np.isfinite(larger).all()
    shuffled = np.random.default_rng(0).permuted(crops.reshape(40, 2, -1), axis=2)
    other = describe_simply(
        shuffled.reshape(crops.shape), np.arange(40) < 20, background=[0.0, 0.0]
    )
    assert np.allclose(other["intensity"], described["intensity"], atol=1e-6)  # blind to place
    assert not np.allclose(other["profile"], described["profile"], atol=1e-2)


def test_a_random_filter_of_one_pixel_answers_to_brightness_alone():
    crops = np.asarray(spots(30))
    shuffled = np.random.default_rng(0).permuted(crops.reshape(30, 1, -1), axis=2)
    alike = (random_answers(c.reshape(crops.shape), 1, background=[0.0]) for c in (crops, shuffled))
    assert np.allclose(*alike, atol=1e-4)
    wide = (random_answers(c.reshape(crops.shape), 9, background=[0.0]) for c in (crops, shuffled))
    assert not np.allclose(*wide, atol=1e-2)


def test_a_network_that_looks_at_activations_with_view_is_measured_like_any() -> None:
    class Viewing(nn.Module):
        def __init__(self, flat: bool) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 5, stride=2)
            self.relu = nn.ReLU()
            self.dense = nn.Linear(3 * 10 * 10, 2)
            self.flat = flat

        def forward(self, x):
            x = self.relu(self.conv(x))
            return self.dense(x.flatten(1) if self.flat else x.view(len(x), -1))

    cells = spots(80)
    weights, shares = None, []
    for flat in (True, False):
        network = Viewing(flat)
        weights = weights or network.state_dict()
        network.load_state_dict(weights)
        measured = measure_complexity(wrap_for(network.eval(), cells), *halves(cells), rng=0)
        shares.append(measured.layers["conv"]["intensity"].value)
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)
