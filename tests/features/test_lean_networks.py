"""What spares the network work leaves the answers and the images as they are."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from optimised_networks import images_made, tiny
from torch import Tensor, nn

from cytolens.activations.layers import find_layers, resolve_layer
from cytolens.features import responding as responses
from cytolens.features.canvas import prepare_canvas
from cytolens.features.fast import lean_copy
from cytolens.features.fast.convolutions import OwnChannel
from cytolens.features.objectives import Objective, channel, layer, neuron
from cytolens.features.responding import responding

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 5, "stride": 3, "bias": False},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "dilation": 2, "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"kernel_size": 7, "stride": 2, "padding": 3},
    {"kernel_size": 4, "padding": 1, "stride": 2},
]


def images_of(channels: int, size: tuple[int, int] = (19, 22), n: int = 3) -> Tensor:
    noise = torch.randn((n, channels, *size), generator=torch.Generator().manual_seed(1)).double()
    return noise.contiguous(memory_format=torch.channels_last).requires_grad_()


def conv_of(before: int, after: int, **options: Any) -> nn.Conv2d:
    conv = nn.Conv2d(before, after, **options).double().requires_grad_(False)
    for parameter in conv.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(2))
    return conv


def slope(values: Tensor, images: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, values.numel()).double().view(values.shape)
    return torch.autograd.grad((values * weights).sum(), images)[0]


@pytest.mark.parametrize("options", GEOMETRIES)
def test_an_own_channel_is_that_channel_of_the_convolution(options: dict[str, Any]) -> None:
    conv, images, own = conv_of(5, 6, **options), images_of(5), torch.tensor([5, 0, 5])
    lean = OwnChannel(conv)
    assert torch.equal(lean(images), conv(images))
    lean.own = own
    expected = conv(images)[torch.arange(3), own, None]
    assert torch.allclose(lean(images), expected, atol=1e-12)
    assert torch.allclose(slope(lean(images), images), slope(expected, images), atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 1, "padding": 1},
    ],
)
def test_other_convolutions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="channel by channel"):
        OwnChannel(nn.Conv2d(4, 6, **options))


class Twice(nn.Module):
    """The convolution's output is read beside its non-linearity, before this is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        self.gate = nn.Conv2d(16, 16, 1)
        self.logits = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x.repeat(1, 16, 1, 1))
        gate = self.gate(made)
        return self.logits((self.relu(made) * gate).mean((2, 3)))


def deep(activation: nn.Module | None = None, norm: nn.Module | None = None, **options: Any):
    """Two convolutions of sixteen channels, pooled between, random weights, in double precision."""
    second = OrderedDict(conv=nn.Conv2d(16, 16, **({"kernel_size": 3, "padding": 1} | options)))
    second |= OrderedDict(norm=norm or nn.BatchNorm2d(16), act=activation or nn.ReLU())
    first = OrderedDict(conv=nn.Conv2d(1, 16, 3, padding=1), norm=nn.BatchNorm2d(16), act=nn.ReLU())
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(first),
            pool=nn.MaxPool2d(2),
            conv2=nn.Sequential(second),
            gather=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            logits=nn.Linear(16, 2),
        )
    )
    return drawn(network)


def drawn(network: nn.Module) -> nn.Module:
    """The network with random weights of its own, in double precision."""
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return network.double().eval()


NETWORKS = {
    "norm and ReLU": (lambda: deep(), "conv2", True),
    "leaky": (lambda: deep(nn.LeakyReLU(0.2)), "conv2", True),
    "valid, strided": (lambda: deep(padding=0, stride=1, dilation=2), "conv2", True),
    "the norm's output": (lambda: deep(), "conv2.norm", True),
    "a slope for each channel": (lambda: deep(nn.PReLU(16)), "conv2", False),
    "a norm over channels": (lambda: deep(norm=nn.GroupNorm(4, 16)), "conv2", False),
    "grouped": (lambda: deep(groups=2), "conv2", False),
    "read twice": (lambda: drawn(Twice()), "conv", False),
}


def answers(
    network: nn.Module, objective: Objective, size: tuple[int, int], own: bool
) -> tuple[Tensor, Tensor, str | None, Tensor]:
    """Scores of three images, their gradient, whether reduced, and the layer's values."""
    name, shape = objective.layers[0], (1, *size)
    canvas = prepare_canvas(shape, None, 0.0, None, None, torch.zeros((), dtype=torch.float64))
    layers = {name: resolve_layer(network, shape, name)}
    images, targets = images_of(1, size), torch.tensor([1, 0, 1])
    cpu = torch.device("cpu")
    with responding(network, layers, canvas, device=cpu, focus=objective.focus) as respond:
        channels = torch.tensor(objective.focus.channels)[targets] if own else None  # pyright: ignore
        response = respond(images, images, channels)
        score = objective(response, targets)
        values = response.pre_activation[name].detach()
        return score.detach(), slope(score, images), response.reduced, values


@pytest.mark.parametrize("name", list(NETWORKS))
def test_an_ascent_on_a_channel_computes_it_alone_where_it_can(name: str) -> None:
    make, where, reduces = NETWORKS[name]
    objective = channel(where, [3, 15])
    plain = answers(make(), objective, (20, 23), own=False)
    lean = answers(make(), objective, (20, 23), own=True)
    assert torch.allclose(plain[0], lean[0], atol=1e-9)
    assert torch.allclose(plain[1], lean[1], atol=1e-9)
    assert plain[2] is None
    assert lean[2] == (where if reduces else None)
    assert lean[3].shape[1] == (1 if reduces else 16)


@pytest.mark.parametrize("position", [(None, None), (0, 0), (-1, 3), (4, -1), (17, 16)])
@pytest.mark.parametrize(
    "options", [{}, {"padding": 0}, {"stride": 2}, {"padding": 0, "stride": 3}]
)
@pytest.mark.parametrize("size", [(64, 64), (49, 71)])
def test_an_ascent_on_a_neuron_computes_its_receptive_field_alone(
    position: tuple[int | None, int | None], options: dict[str, Any], size: tuple[int, int]
) -> None:
    height, width = resolve_layer(deep(**options), (1, *size), "conv2").shape[1:]
    y, x = (
        p if p is None else min(p, n - 1) for p, n in zip(position, (height, width), strict=True)
    )
    objective = neuron("conv2", [3, 15], y=y, x=x)
    plain = answers(deep(**options), objective, size, own=False)
    lean = answers(deep(**options), objective, size, own=True)
    assert torch.allclose(plain[0], lean[0], atol=1e-9)
    assert torch.allclose(plain[1], lean[1], atol=1e-9)
    assert lean[3].shape[2:] == plain[3].shape[2:]
    assert (lean[3] == 0).double().mean() > 0.5  # most of the map was never computed


def test_a_neuron_that_sees_the_whole_image_gets_it() -> None:
    objective = neuron("conv2", [3, 15])
    plain, lean = (answers(deep(), objective, (12, 12), own=own) for own in (False, True))
    assert torch.allclose(plain[1], lean[1], atol=1e-9)
    assert not (lean[3] == 0).any()


@pytest.mark.parametrize("objective", [channel("conv2", [1, 5]), neuron("conv2", [1, 5], y=3, x=3)])
def test_feature_images_are_those_of_the_plain_network(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> np.ndarray:
        options: dict[str, Any] = {"input_shape": (1, 40, 40), "steps": 8, "rng": 0}
        return images_made(deep(), objective=objective, **options).images

    lean = made()
    monkeypatch.setattr(responses, "find_tile", lambda *_: None)
    monkeypatch.setattr(OwnChannel, "pays", staticmethod(lambda conv: False))
    assert np.allclose(lean, made(), atol=1e-6)


def test_a_regulariser_that_reads_the_layer_gets_all_of_it() -> None:
    made = images_made(
        deep(),
        objective=channel("conv2", [1, 5]),
        regularisers=0.01 * layer("conv2"),
        input_shape=(1, 16, 16),
        steps=3,
    )
    assert np.isfinite(made.images).all()


def test_every_layer_of_a_network_can_be_climbed() -> None:
    model, shape = tiny(), (1, 23, 20)
    for found in find_layers(model, shape)[1:]:
        made = images_made(model, layer=found, input_shape=shape, steps=2, rng=0)
        assert len(made.images) == found.channels


def test_other_layers_may_be_read_beside_an_own_channel() -> None:
    shape, cpu = (1, 20, 20), torch.device("cpu")
    canvas = prepare_canvas(shape, None, 0.0, None, None, torch.zeros((), dtype=torch.float64))
    layers = {name: resolve_layer(deep(), shape, name) for name in ("conv1", "conv2")}
    focus, images = neuron("conv2", [3, 15]).focus, images_of(1, (20, 20), n=2)
    with responding(deep(), layers, canvas, device=cpu, focus=focus) as respond:
        plain, lean = respond(images, images), respond(images, images, torch.tensor([3, 15]))
    assert torch.equal(plain.activation["conv1"], lean.activation["conv1"])
    assert lean.reduced == "conv2"
    own = plain.activation["conv2"][torch.arange(2), [3, 15]]
    assert torch.allclose(own, lean.activation["conv2"][:, 0])


def test_the_convolution_of_a_layer_is_found_whatever_memory_is_used_again() -> None:
    torch.manual_seed(0)
    convs = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(5)]
    parts = [part for conv in convs for part in (conv, nn.ReLU())]
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *parts).eval()
    for wanted in (4, 6, 8, 10):
        place = resolve_layer(network, (1, 24, 24), str(wanted)).pre_activation
        found = [lean_copy._source(network, torch.rand(2, 1, 24, 24), place) for _ in range(20)]
        assert found == [str(wanted)] * 20
