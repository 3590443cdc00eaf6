import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytolens.activations.layers import find_layers
from cytolens.errors import MissingExtra
from cytolens.validation.baselines import (
    NETWORK_FREE,
    gradcam,
    gradcam_of_maps,
    integrated_gradients,
    require_captum,
)


class Spots(nn.Module):
    """A matched filter for bright spots; class 1 is "there is one"."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.logits = nn.Linear(1, 2)
        with torch.no_grad():
            self.conv.weight.fill_(-0.1)
            self.conv.weight[0, 0, 1, 1] = 1
            self.conv.bias.zero_()
            self.logits.weight.copy_(torch.tensor([[0.0], [50.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.relu(self.conv(x)).mean((2, 3)))


def spots() -> np.ndarray:
    images = np.full((20, 1, 16, 16), 0.1, np.float32)
    for i, image in enumerate(images):
        image[0, 2 + i // 2, 12 - i // 2] = 1
    return images


@pytest.mark.parametrize("method", ["gradcam", "integrated_gradients"])
def test_a_baseline_points_at_the_only_spot_of_a_matched_filter(method: str):
    model, images = Spots().train(), spots()
    if method == "gradcam":
        layer = next(la for la in find_layers(model, (1, 16, 16)) if la.kind == "conv")
        found = gradcam(model, images, layer=layer, target=1)
    else:
        found = integrated_gradients(model, images, target=1, background=0.1)
    assert found.shape == (20, 16, 16)
    assert found.min() >= 0
    assert np.array_equal(
        found.reshape(20, -1).argmax(axis=1), images.reshape(20, -1).argmax(axis=1)
    )
    assert model.training
    assert model.relu.inplace


def test_grad_cam_of_tokens_is_that_of_captum_on_the_same_values():
    class Tokens(nn.Module):
        """The same maps, handed over as (N, h, w, C)."""

        def __init__(self, conv: nn.Module, mix: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.conv, self.mix, self.last, self.head = conv, mix, nn.Identity(), head

        def forward(self, x: Tensor) -> Tensor:
            x = self.mix(torch.tanh(self.conv(x)))
            return self.head((self.last(x.permute(0, 2, 3, 1)) ** 2).mean((1, 2)))

    torch.manual_seed(0)
    model = Tokens(nn.Conv2d(1, 5, 3, 2), nn.Conv2d(5, 6, 3), nn.Linear(6, 2)).eval()
    images = np.random.default_rng(0).random((3, 1, 20, 20), np.float32)
    maps, tokens = find_layers(model, (1, 20, 20), names=["mix", "last"])
    assert tokens.activation == ("last", 0, "output.channels_last")
    expected = gradcam(model, images, layer=maps, target=1)
    assert expected.max() > 0
    for layer in (maps, tokens):
        found = gradcam_of_maps(model, images, layer=layer, target=1)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.array_equal(gradcam(model, images, layer=tokens, target=1), found)


def test_integrated_gradients_of_a_linear_network_are_weights_times_change():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    images = np.random.default_rng(0).random((3, 1, 6, 6), np.float32)
    found = integrated_gradients(model, images, target=0, background=0.25)
    weights = model[1].weight[0].detach().numpy().reshape(6, 6)
    assert np.allclose(found, np.maximum(weights * (images[:, 0] - 0.25), 0), atol=1e-5)


def test_without_captum_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtra, match=r"pip install 'cytolens\[captum\]'"):
        require_captum()


@pytest.mark.parametrize("name", list(NETWORK_FREE))
def test_a_map_without_a_network_points_at_the_only_spot_and_sees_no_background(name: str):
    images = spots()
    found = NETWORK_FREE[name](images, [0.1])
    assert found.shape == (20, 16, 16)
    assert found.min() >= 0
    peaks = found.reshape(20, -1).argmax(1)
    assert np.array_equal(peaks, images[:, 0].reshape(20, -1).argmax(1))
    assert np.allclose(NETWORK_FREE[name](np.full_like(images, 0.1), 0.1), 0, atol=1e-6)
