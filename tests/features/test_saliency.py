import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytolens.errors import InputError, ModelError, SettingError
from cytolens.features.saliency import (
    channel_saliency,
    contrasting,
    explaining_layer,
    measure_saliency,
)
from cytolens.records.layers import Layer

SIZE = 24


class Sums(nn.Module):
    """Full-resolution convolutions with positive weights: every pixel speaks for class 1."""

    def __init__(self, functional: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.logits = nn.Linear(2, 2, bias=False)
        self.functional = functional
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in (self.conv1.weight, self.conv2.weight):
                parameter.copy_(torch.rand(parameter.shape, generator=draw))
            for conv in (self.conv1, self.conv2):
                conv.bias.fill_(0.01)  # so that no ReLU is at its kink on an empty image
            self.logits.weight.copy_(torch.tensor([[-1.0, -2.0], [1.0, 3.0]]))

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = nn.functional.relu(conv(x)) if self.functional else self.relu(conv(x))
        return self.logits(x.mean((2, 3)))


def spots(*places: tuple[int, int]) -> np.ndarray:
    images = np.zeros((len(places), 1, SIZE, SIZE), np.float32)
    for image, (row, column) in zip(images, places, strict=True):
        image[0, row, column] = 1
    return images


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_evidence_adds_up_to_what_the_image_changes_in_the_decision(layer: str):
    model, images = Sums(), np.random.default_rng(0).random((2, 1, SIZE, SIZE), np.float32)
    found = measure_saliency(model, images, layer=layer, target=1, smoothing=0)
    with torch.no_grad():
        with_image, empty = (
            model(x) @ torch.tensor([-1.0, 1.0])
            for x in (torch.from_numpy(images), torch.zeros(2, 1, SIZE, SIZE))
        )
    assert found.sum(axis=(1, 2)) == pytest.approx((with_image - empty).numpy(), rel=1e-3)


def test_it_peaks_where_the_only_evidence_is_and_smoothing_spreads_it():
    images = spots((5, 17), (12, 3))
    for smoothing in (0, 1.5):
        found = measure_saliency(Sums(), images, layer="conv2", target=1, smoothing=smoothing)
        peaks = [np.unravel_index(m.argmax(), m.shape) for m in found]
        assert [tuple(map(int, peak)) for peak in peaks] == [(5, 17), (12, 3)]
    sharp = measure_saliency(Sums(), images, layer="conv2", target=1, smoothing=0)
    assert (found > 0.01 * found.max()).sum() > (sharp > 0.01 * sharp.max()).sum()


def test_evidence_against_a_class_is_no_evidence_for_it():
    against = measure_saliency(Sums(), spots((5, 17)), layer="conv2", target=0)
    assert against == pytest.approx(0, abs=1e-6)


def test_without_a_target_it_explains_the_class_that_is_given():
    images = spots((5, 17), (12, 3))
    given = measure_saliency(Sums(), images, layer="conv1")
    assert np.array_equal(given, measure_saliency(Sums(), images, layer="conv1", target=1))


def test_an_image_that_is_background_holds_no_evidence():
    images = np.full((1, 1, SIZE, SIZE), 0.3, np.float32)
    assert not measure_saliency(Sums(), images, layer="conv2", target=1, background=0.3).any()


def test_half_the_evidence_is_by_contrast_to_other_cells():
    """What a cell shares with all references counts half: only from the background it is new."""
    shared, own = spots((5, 17)), spots((12, 3))
    options = {"layer": "conv2", "target": 1, "smoothing": 0}
    alone = measure_saliency(Sums(), shared + own, **options)[0]
    found = measure_saliency(Sums(), shared + own, references=shared, **options)[0]
    assert found[5, 17] == pytest.approx(alone[5, 17] / 2, rel=0.05)
    assert found[12, 3] == pytest.approx(alone[12, 3], rel=0.05)


def test_contrasting_cells_are_those_that_are_given_another_class():
    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.mean((1, 2, 3)) - 0.5
            return torch.stack([-bright, bright], dim=1)

    cells = np.linspace(0.1, 0.9, 9, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4))
    found = contrasting(Bright(), cells.astype(np.float32), 1, most=3)
    assert found[:, 0, 0, 0] == pytest.approx([0.1, 0.2, 0.3])


def test_batches_and_functions_in_place_of_modules_change_nothing():
    images = np.random.default_rng(1).random((5, 1, SIZE, SIZE), np.float32)
    whole = measure_saliency(Sums(), images, layer="conv2", target=1)
    parts = measure_saliency(Sums(), images, layer="conv2", target=1, batch_size=2)
    inline = measure_saliency(Sums(functional=True), images, layer="conv2", target=1)
    assert np.allclose(whole, parts, rtol=1e-4, atol=1e-6)
    assert np.allclose(whole, inline, rtol=1e-4, atol=1e-6)


def test_the_network_is_left_as_it_was_even_after_an_error():
    class Breaks(Sums):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 3:
                raise RuntimeError("three")
            return super().forward(x)

    model = Breaks().train()
    with pytest.raises(RuntimeError, match="three"):
        measure_saliency(model, spots((1, 1), (2, 2), (3, 3)), layer="conv2")
    assert model.training
    assert model.relu.inplace
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_what_cannot_be_asked_says_why():
    with pytest.raises(InputError, match="image, channel, y, x"):
        measure_saliency(Sums(), spots((1, 1))[0], layer="conv1")
    with pytest.raises(SettingError, match="steps=0"):
        measure_saliency(Sums(), spots((1, 1)), layer="conv1", steps=0)
    with pytest.raises(SettingError, match="no positions"):
        measure_saliency(Sums(), spots((1, 1)), layer="logits")


def test_a_layer_that_does_not_decide_is_refused():
    class Aside(Sums):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return super().forward(x)

    with pytest.raises(ModelError, match="does not depend on layer 'aside'"):
        measure_saliency(Aside(), spots((1, 1)), layer="aside")


def test_cells_are_explained_at_the_deepest_layer_that_sees_a_third_of_the_crop():
    def layer(name: str, field: int | None) -> Layer:
        return Layer(name, "conv", 1, (1, 8, 8), field, (name, 0, "output"), (name, 0, "output"))

    layers = [layer("a", 3), layer("b", 16), layer("c", 17), layer("d", None)]
    assert explaining_layer(layers, 48).name == "b"
    assert explaining_layer(layers, 8).name == "a"
    assert explaining_layer(layers[2:], 48).name == "c"
    assert explaining_layer([], 48) is None


def test_what_drives_a_channel_is_where_its_feature_is_and_not_its_whole_field():
    """A wide average of spots: the map of the second layer is broad, the saliency is the spot."""
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 2, 9, padding=4, bias=False),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2),
    )  # fmt: skip
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[2].weight[0].fill_(1)
        network[2].weight[1].fill_(-1)
    image = np.zeros((2, 1, 24, 24), np.float32)
    image[:, 0, 6:8, 15:17] = 1
    found = channel_saliency(network, image, np.array([0, 1]), layer="2", smoothing=0.5)
    assert found.shape == (2, 24, 24)
    assert found[0, 6:8, 15:17].min() > 10 * found[0, :, :10].max()
    assert found[1].max() == 0  # that channel the image does not drive
    with pytest.raises(SettingError, match="positions"):
        channel_saliency(network, image, np.array([0, 1]), layer="logits")
