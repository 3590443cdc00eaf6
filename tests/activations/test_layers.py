import pytest
import torch
from made_networks import (
    Functional,
    ResNetLike,
    Transformer,
    named,
    reference_like,
    seeded,
    vgg_like,
)
from torch import Tensor, nn

from cytolens.activations.capture import capture, evaluating
from cytolens.activations.layers import find_layers, resolve_layer
from cytolens.errors import ModelError, SettingError


def names_of(model: nn.Module, size: int = 28) -> list[str]:
    return [layer.name for layer in find_layers(model, (1, size, size))]


def test_the_reference_net_gives_its_own_names_in_depth_order():
    layers = find_layers(reference_like(), (1, 32, 32))
    expected = ["input", "conv1", "conv2", "conv3", "conv4", "pre_softmax", "logits"]
    assert [layer.name for layer in layers] == expected
    assert [layer.depth for layer in layers] == list(range(7))
    assert [layer.kind for layer in layers] == ["input", *["conv"] * 4, "linear", "linear"]
    assert layers[3].shape == (6, 16, 16)
    assert layers[3].channels == 6
    assert layers[-1].shape == (2,)


def test_receptive_fields_are_those_worked_out_by_hand():
    fields = {x.name: x.receptive_field for x in find_layers(reference_like(), (1, 32, 32))}
    # conv3: 1 + 2 + 2 = 5, pooling adds 1 (6), then 2 steps of 2 pixels per convolution.
    expected = {"input": 1, "conv1": 3, "conv2": 5, "conv3": 10, "conv4": 14}
    assert fields == {**expected, "pre_softmax": 32, "logits": 32}


def test_receptive_fields_follow_stride_dilation_and_unequal_kernels():
    model = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), stride=2),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, dilation=3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 2, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    fields = [x.receptive_field for x in find_layers(model, (1, 64, 64))]
    # across: 5; + 2*3*2 = 17; pooling + 2 = 19; + 2*4 = 27; then everything
    assert fields == [1, 5, 17, 27, 64, 64]


@pytest.mark.parametrize("row", [3, 4])
def test_no_pixel_outside_the_receptive_field_reaches_a_neuron(row: int):
    first, _, pool, third, fourth, *_ = reference_like().children()
    linear = [first.conv, pool, third.conv, nn.AvgPool2d(3, 2), fourth.conv]
    model = seeded(nn.Sequential(*linear, nn.Flatten(), nn.Linear(6 * 7 * 7, 2)))
    layer = next(x for x in find_layers(model, (1, 32, 32)) if x.name == "4")
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    images.requires_grad_()
    with evaluating(model), capture(model, [layer.pre_activation], stop_at_last=True) as values:
        model(images)
    values[layer.pre_activation][0, :, row, 3].sum().backward()
    assert images.grad is not None
    touched = torch.nonzero(images.grad[0, 0].abs().sum(1)).flatten()
    assert layer.receptive_field == int(touched.max() - touched.min()) + 1


def test_plain_sequentials_name_a_layer_by_its_linear_operation():
    expected = ["input", "features.0", "features.3", "pre_softmax", "logits"]
    assert names_of(vgg_like()) == expected
    layers = {layer.name: layer for layer in find_layers(vgg_like(), (1, 28, 28))}
    assert layers["features.3"].pre_activation == ("features.4", 0, "output")
    assert layers["features.3"].activation == ("features.5", 0, "output")
    assert layers["pre_softmax"].activation == ("classifier.1", 0, "output")


def test_a_reused_relu_is_told_apart_by_its_calls_and_residual_sums_are_blocks():
    shape = (1, 64, 64)
    layers = {layer.name: layer for layer in find_layers(ResNetLike(), shape)}
    assert list(layers) == [
        "input", "conv1", "layer1.0", "layer1.1", "layer2.0", "pre_softmax", "logits"
    ]  # fmt: skip
    within = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.downsample"]
    layers |= {layer.name: layer for layer in find_layers(ResNetLike(), shape, names=within)}
    assert layers["layer1.0.conv1"].activation == ("layer1.0.relu", 0, "output")
    assert layers["layer1.0"].kind == "block"
    assert layers["layer1.0"].pre_activation == ("layer1.0.relu", 1, "input")
    assert layers["layer1.0"].activation == ("layer1.0", 0, "output")
    # the second convolution of a block has no non-linearity of its own
    assert layers["layer1.0.conv2"].activation == layers["layer1.0.conv2"].pre_activation
    assert layers["layer2.0.downsample"].shape == (6, 8, 8)
    assert layers["pre_softmax"].kind == "pool"
    assert layers["pre_softmax"].shape == (6,)


def test_functional_non_linearities_are_found_and_the_logits_come_before_the_softmax():
    model = seeded(Functional())
    layers = {layer.name: layer for layer in find_layers(model, (1, 28, 28))}
    assert list(layers) == ["input", "c1", "c2", "pre_softmax", "logits"]
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    places = [layer.activation for layer in layers.values()]
    with evaluating(model), capture(model, places) as values:
        probabilities = model(images)
    first = torch.relu(model.c1(images))
    assert torch.allclose(values[layers["c1"].activation], first)
    assert layers["c1"].shape == first.shape[1:]
    assert torch.allclose(probabilities, values[layers["logits"].activation].softmax(1))
    assert float(values[layers["pre_softmax"].activation].min()) >= 0


@pytest.mark.parametrize("make", [reference_like, vgg_like, ResNetLike, Functional])
def test_activation_is_the_rectified_pre_activation_wherever_there_is_a_relu(make: type):
    model = seeded(make())
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    layers = [x for x in find_layers(model, (1, 28, 28)) if x.activation != x.pre_activation]
    places = [place for x in layers for place in (x.pre_activation, x.activation)]
    with evaluating(model), torch.no_grad(), capture(model, places) as values:
        model(images)
    for layer in layers:
        before, after = values[layer.pre_activation], values[layer.activation]
        assert torch.equal(before.relu(), after), layer.name
        assert tuple(after.shape[1:]) == layer.shape


@pytest.mark.parametrize("make", [reference_like, vgg_like, ResNetLike, Functional, Transformer])
def test_pre_softmax_is_what_the_last_linear_map_turns_into_the_logits(make: type):
    model = seeded(make())
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    *_, features, logits = find_layers(model, (1, 28, 28))
    assert (features.name, logits.name) == ("pre_softmax", "logits")
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with evaluating(model), capture(model, [features.activation, logits.activation]) as values:
        model(images)
    assert torch.allclose(last(values[features.activation]), values[logits.activation], atol=1e-5)


def test_a_transformer_is_described_without_a_receptive_field_behind_attention():
    layers = {layer.name: layer for layer in find_layers(Transformer(), (1, 28, 28))}
    assert list(layers) == ["input", "patch", "encoder", "pre_softmax", "logits"]
    assert layers["encoder"].shape == (8, 7, 7)
    assert layers["patch"].receptive_field == 4
    assert layers["logits"].receptive_field is None


def test_a_fully_convolutional_classifier_has_its_pooled_maps_as_logits():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
            self.head = nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x)).mean((2, 3))

    layers = find_layers(Pooled(), (1, 12, 12))
    assert [(x.name, x.shape) for x in layers[1:]] == [
        ("pre_softmax", (4, 10, 10)),
        ("logits", (3,)),
    ]


def test_a_convolution_that_is_used_twice_makes_two_layers():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.fc = nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.conv(torch.relu(self.conv(x)))).flatten(1))

    layers = find_layers(Twice(), (1, 8, 8))
    assert [x.name for x in layers] == ["input", "conv", "conv[1]", "pre_softmax", "logits"]
    assert [x.receptive_field for x in layers[1:3]] == [3, 5]
    assert find_layers(Twice(), (1, 8, 8), names=["conv[1]"])[0] == layers[2]


def test_names_pick_layers_or_any_module_and_keep_the_depth_order():
    model = reference_like()
    layers = find_layers(model, (1, 32, 32), names=["logits", "pool1", "conv1"])
    assert [layer.name for layer in layers] == ["conv1", "pool1", "logits"]
    assert [layer.depth for layer in layers] == [1, 3, 7]
    pool = layers[1]
    assert (pool.kind, pool.shape, pool.receptive_field) == ("pool", (4, 16, 16), 6)
    assert pool.pre_activation == pool.activation == ("pool1", 0, "output")


def test_a_layer_may_be_called_by_the_name_of_its_module():
    (layer,) = find_layers(vgg_like(), (1, 28, 28), names=["classifier.1"])
    assert layer.name == "classifier.1"
    assert layer.pre_activation == ("classifier.0", 0, "output")
    assert resolve_layer(vgg_like(), (1, 28, 28), "features.0").receptive_field == 3
    assert resolve_layer(vgg_like(), (1, 28, 28), layer) is layer


def test_an_unknown_name_lists_the_layers_there_are():
    with pytest.raises(SettingError, match="choose one of: input, conv1"):
        find_layers(reference_like(), (1, 32, 32), names=["conv9"])


def test_a_shape_the_network_does_not_take_is_one_clear_line():
    with pytest.raises(ModelError, match="does not take images of 3 x 32 x 32") as caught:
        find_layers(reference_like(), (3, 32, 32))
    assert "\n" not in str(caught.value)


def test_a_network_without_layers_is_refused():
    with pytest.raises(ModelError, match="no convolution or dense layer"):
        find_layers(nn.Sequential(nn.ReLU(), nn.Flatten()), (1, 8, 8))


def test_finding_layers_leaves_the_network_as_it_was():
    model = ResNetLike().train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    find_layers(model, (1, 64, 64))
    assert [module.training for module in model.modules()] == modes
    assert not model.conv1.weight.requires_grad
    assert model.fc.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_dropout_within_a_layer_does_not_change_its_name():
    unit = named(conv=nn.Conv2d(1, 2, 3), relu=nn.ReLU(), drop=nn.Dropout2d())
    model = named(first=unit, flat=nn.Flatten(), fc=nn.Linear(72, 2))
    assert names_of(model, 8) == ["input", "first", "pre_softmax", "logits"]
