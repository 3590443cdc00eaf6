"""How images lie in memory on their way through a network."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytolens.activations.extraction import extract
from cytolens.activations.forward import fast_layout, laid_out
from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import predict
from cytolens.classifier.training import TrainingSettings, train
from cytolens.classifier.wrapping import wrap_for
from cytolens.features.ascent import Ascent
from cytolens.features.optimisation import feature_images
from cytolens.images.arrays import cells_from_arrays

CPU = torch.device("cpu")


class Viewing(nn.Module):
    """Looks at activations with ``view``, which takes those that lie channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 5, stride=2)
        self.relu = nn.ReLU()
        self.dense = nn.Linear(3 * 10 * 10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        return self.dense(x.view(len(x), -1))


@pytest.mark.parametrize("channels", [1, 2])
def test_images_lie_channel_by_channel_where_a_network_needs_that(channels: int) -> None:
    network = Viewing(channels).eval()
    with fast_layout(network, (channels, 24, 24), CPU) as layout:
        assert layout == torch.contiguous_format
    with fast_layout(nn.Conv2d(channels, 3, 3), (channels, 24, 24), CPU) as layout:
        assert layout == torch.channels_last
    images = np.random.default_rng(0).random((60, channels, 24, 24)).astype(np.float32)
    cells = cells_from_arrays(images, ["a", "b"] * 30, intensity="none", background=0.0)
    model = wrap_for(network, cells)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images))
    assert np.allclose(predict(model, cells), logits.softmax(1), atol=1e-5)
    assert np.allclose(extract(model, cells)["logits"], logits, atol=1e-5)
    assert capture_maps(network, images, "conv").shape == (60, 3, 10, 10)
    made = feature_images(
        network, layer="logits", channels=[0, 1], input_shape=(channels, 24, 24),
        ascent=Ascent(steps=2), rng=0,
    )  # fmt: skip
    assert made.images.shape == (2, channels, 24, 24)
    short = TrainingSettings(epochs=1)
    trained = train(cells, settings=short, architecture=Viewing(channels), rng=0)
    assert np.isfinite(trained.history[0]["training_loss"])


def test_images_of_one_channel_lie_as_asked_whatever_their_strides() -> None:
    plane = torch.zeros(4, 5, 5)[:, None]
    assert laid_out(plane, torch.contiguous_format).stride() == (25, 25, 5, 1)
    assert laid_out(plane, torch.channels_last).stride() == (25, 1, 5, 1)
