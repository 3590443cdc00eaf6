import numpy as np
import pytest
import torch
from torch import nn

from cytolens.features import optimisation
from cytolens.features.ascent import Ascent
from cytolens.features.fast import half
from cytolens.features.optimisation import feature_images

SHAPE = (1, 24, 24)
FOUND = torch.zeros(())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    draw = torch.Generator().manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return made.eval()


def images_of(network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    made = feature_images(
        network, layer="3", input_shape=SHAPE, ascent=Ascent(steps=16, regularisers={}), rng=0
    )
    expected = "bfloat16" if optimisation.gains_by_half(network, SHAPE, FOUND) else "float32"
    assert made.settings["precision"] == expected
    return made.images, made.activation


def test_images_in_half_precision_are_as_strong_and_are_measured_in_full(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    _, whole = images_of(network)
    monkeypatch.setattr(optimisation, "gains_by_half", lambda *asked: True)
    images, activation = images_of(network)
    assert images.dtype == activation.dtype == np.float32
    alive = whole > 0.1
    assert alive.sum() >= 4
    np.testing.assert_allclose(activation[alive], whole[alive], rtol=0.1)
    with torch.inference_mode():
        asked = network[:4](torch.from_numpy(images)).mean((2, 3)).diagonal()
    np.testing.assert_allclose(activation, asked, rtol=1e-3, atol=1e-3)


def test_only_large_networks_on_such_a_processor_climb_in_half_precision(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(half, "computes_bfloat16", lambda: True)
    assert not half.gains_by_half(network, SHAPE, FOUND)
    large = nn.Sequential(nn.Conv2d(1, 64, 7), nn.ReLU(), nn.Conv2d(64, 64, 7))
    assert not half.gains_by_half(large, (1, 14, 14), FOUND)  # by what it does to such crops
    assert half.gains_by_half(large, (1, 48, 48), FOUND)
    assert not half.gains_by_half(large, (1, 48, 48), FOUND.double())
    monkeypatch.setattr(half, "computes_bfloat16", lambda: False)
    assert not half.gains_by_half(large, (1, 48, 48), FOUND)
