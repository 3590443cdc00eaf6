"""The layers of the architectures that users bring, and that what is captured is what is there."""

import pytest
import torch
from torch import Tensor, nn

from architectures import ARCHITECTURES, N_CLASSES, SIZE, TorchViT, conv_norm_act, made
from cytolens.activations.capture import capture, evaluating
from cytolens.activations.layers import find_layers, unseen_layers
from cytolens.errors import ModelError

SHAPE = (1, SIZE, SIZE)
BETWEEN = {
    "plain": "conv1 conv2",
    "resnet": "conv1 layer1.0 layer1.1 layer2.0 layer2.1",
    "densenet": "features.conv0 features.denseblock1 features.transition1.conv "
    "features.denseblock2",
    "inception": "stem mixed1 mixed2",
    "mobilenet": "model.0 model.1.0 model.1.3 model.2.0 model.2.3",
    "convnext": "features.0.0 features.1.0 features.1.1 features.2.1 features.3.0",
    "efficientnet": "features.0 features.1.0 features.2.0 features.2.1 features.3",
    "unet": "down1.0 down1.3 down2.0 down2.3 bottom.0 bottom.3 up2 dec2.0 dec2.3 dec1.0 dec1.3",
    "unet-encoder": "encoder.0 encoder.1 encoder.2",
    "torch-vit": "patch encoder.layers.0 encoder.layers.1 encoder.layers.2.class_token",
    "torch-vit-second": "patch encoder.layers.0 encoder.layers.1 encoder.layers.2.class_token",
    "vit": "patch_embed blocks.0 blocks.1 blocks.2.class_token",
    "inline-vit": "to_patch_embedding.1 layers.0.0.sum layers.0.1.sum layers.1.0.sum "
    "layers.1.1.sum layers.2.0.sum layers.2.1.sum",
    "swin": "features.0.0 features.1.0 features.1.1 features.2.reduction features.3.0",
    "mixer": "stem blocks.0 blocks.1",
}
"""Layers by default, between the input and the pre-softmax layer: one for each depth."""


def images(n: int = 3) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_layer_stands_for_each_depth_under_the_name_that_the_code_gives_it(name: str):
    network = made(name)
    layers = find_layers(network, SHAPE)
    names = [layer.name for layer in layers]
    assert names == ["input", *BETWEEN[name].split(), "pre_softmax", "logits"]
    modules = dict(network.named_modules())
    plain = [n.removesuffix(".sum").removesuffix(".class_token") for n in names[1:-2]]
    assert set(plain) <= set(modules)
    assert [layer.depth for layer in layers] == list(range(len(layers)))
    assert layers[-1].shape == (N_CLASSES,)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_layers_are_captured_at_once_on_the_way_to_an_unchanged_answer(name: str):
    network, batch = made(name), images().requires_grad_()
    layers = find_layers(network, SHAPE)
    places = [layer.activation for layer in layers]
    with torch.no_grad():
        expected = network(batch)
    with evaluating(network), capture(network, places) as values:
        given = network(batch)
        kept = {layer.name: values[layer.activation] for layer in layers}
    assert torch.allclose(given, expected, atol=1e-5)
    score = kept["logits"][:, 0].sum()
    for layer in layers:
        assert tuple(kept[layer.name].shape) == (3, *layer.shape), layer.name
        on_path = not layer.activation[2].startswith("output.relu")  # a side branch
        (gradient,) = torch.autograd.grad(
            score, kept[layer.name], retain_graph=True, allow_unused=True
        )
        assert (gradient is not None) == on_path, layer.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_value_that_is_put_back_changed_is_what_the_network_goes_on_with(name: str):
    network, batch = made(name), images()
    layer = find_layers(network, SHAPE)[-3]
    with evaluating(network), torch.no_grad(), capture(network, [layer.pre_activation]) as values:
        expected = network(batch)
        seen = values[layer.pre_activation].clone()
    logits: dict[str, Tensor] = {}
    for kind, value in {"same": seen, "twice": seen.repeat(2, *(1,) * (seen.ndim - 1)),
                        "turned": seen.flip(0)}.items():  # fmt: skip
        with (
            evaluating(network),
            torch.no_grad(),
            capture(network, [layer.pre_activation], consume=lambda place, _, new=value: new),
        ):
            logits[kind] = network(batch)
    assert torch.allclose(logits["same"], expected, atol=1e-5)
    assert torch.allclose(logits["twice"], expected.repeat(2, 1), atol=1e-5)
    assert torch.allclose(logits["turned"], expected.flip(0), atol=1e-5)


def test_the_maps_of_a_transformer_are_its_patches_where_they_lie_in_the_image():
    network = made("vit")
    layers = {layer.name: layer for layer in find_layers(network, SHAPE)}
    embedded = layers["patch_embed"].activation
    one = torch.zeros(1, *SHAPE)
    one[:, :, 8:16, 24:32] = 1  # the patch in the second row, the last column
    with evaluating(network), torch.no_grad(), capture(network, [embedded]) as values:
        network(torch.zeros_like(one))
        before = values[embedded].clone()
        network(one)
        changed = (values[embedded] - before).abs().sum(1)[0] > 0
    assert changed.nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize("name", ["vit", "torch-vit", "torch-vit-second"])
def test_the_class_token_is_a_layer_of_its_own(name: str):
    network = made(name)
    block = find_layers(network, SHAPE)[-3].name.removesuffix(".class_token")
    found = find_layers(network, SHAPE, names=[block, f"{block}.class_token"])
    assert sorted(layer.shape for layer in found) == [(16,), (16, 4, 4)]
    token = next(layer.activation for layer in found if layer.kind == "token")
    inputs = []
    head = network.head.register_forward_hook(lambda m, args, out: inputs.append(args[0]))
    with evaluating(network), torch.no_grad(), capture(network, [token]) as values:
        network(images())
    head.remove()
    expected = network.norm(values[token]) if name == "vit" else values[token]
    assert torch.allclose(inputs[0], expected, atol=1e-5)


def test_a_class_token_behind_the_patches_is_not_taken_for_a_patch():
    class Behind(TorchViT):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([x, self.token.expand(len(x), -1, -1)], 1) + self.position
            return self.head(self.encoder(x)[:, -1])

    layer = find_layers(Behind().eval(), SHAPE)[2]
    assert (layer.shape, layer.activation[2]) == ((16, 4, 4), "output.tokens(0,4,4)")


def test_what_is_within_a_block_can_be_named():
    within = ["layer1.0.conv1", "layer2.0.downsample"]
    found = find_layers(made("resnet"), SHAPE, names=[*within, "layer1.0"])
    assert [layer.name for layer in found] == ["layer1.0.conv1", "layer1.0", "layer2.0.downsample"]
    (hidden,) = find_layers(made("vit"), SHAPE, names=["blocks.1.mlp.act"])
    assert hidden.shape == (32, 4, 4)
    (gate,) = find_layers(made("efficientnet"), SHAPE, names=["features.2.0.block.2"])
    assert gate.shape == (16, 8, 8)


def test_a_receptive_field_is_the_whole_image_where_tokens_are_mixed():
    fields = {layer.name: layer.receptive_field for layer in find_layers(made("mixer"), SHAPE)}
    assert (fields["stem"], fields["blocks.0"]) == (8, SIZE)
    unet = {layer.name: layer.receptive_field for layer in find_layers(made("unet"), SHAPE)}
    assert unet["up2"] == unet["bottom.3"]


def test_layers_that_cannot_be_seen_are_named_with_the_reason():
    assert unseen_layers(made("inception"), SHAPE) == {"aux": "it is not called in evaluation mode"}
    windows = unseen_layers(made("swin"), SHAPE)
    assert set(windows) == {"features.1.0.attn", "features.1.1.attn"}
    assert "parts of images" in windows["features.1.0.attn"]
    with pytest.raises(ModelError, match="parts of images"):
        find_layers(made("swin"), SHAPE, names=["features.1.0.attn.attn.proj"])
    for name in ("plain", "resnet", "vit", "torch-vit", "mixer", "convnext"):
        assert unseen_layers(made(name), SHAPE) == {}, name


def test_torchscript_and_a_sum_that_no_module_takes_are_said_to_be_unseen():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3, padding=1)
            self.inner = torch.jit.trace(conv_norm_act(4, 4).eval(), torch.zeros(1, 4, 8, 8))
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.fc((x + self.inner(x)).mean((2, 3)))

    reasons = unseen_layers(Odd().eval(), SHAPE)
    assert any("TorchScript" in reason for reason in reasons.values())

    class Between(Odd):
        def __init__(self) -> None:
            super().__init__()
            self.inner = conv_norm_act(4, 4)

    assert "none takes or gives them" in unseen_layers(Between().eval(), SHAPE)["inner.sum"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_looked_at_in_single_precision_and_left_as_it_was(dtype):
    network = made("resnet").to(dtype)
    layers = find_layers(network, SHAPE)
    with evaluating(network), torch.no_grad(), capture(network, [layers[2].activation]) as values:
        network(images())
    assert values[layers[2].activation].dtype == torch.float32
    assert {weight.dtype for weight in network.state_dict().values()} == {dtype, torch.int64}


def test_what_a_module_gives_in_a_tuple_is_seen_and_can_be_changed():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.GRU(SIZE, 8, batch_first=True)
            self.fc = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            values, _ = self.rows(x[:, 0])
            return self.fc(values[:, -1])

    network = Recurrent().eval()
    (rows,) = find_layers(network, SHAPE, names=["rows"])
    zero = capture(network, [rows.activation], consume=lambda place, value: torch.zeros_like(value))
    with evaluating(network), torch.no_grad(), zero:
        assert torch.allclose(network(images()), network.fc.bias.expand(3, -1))


def test_a_wrapped_network_is_the_one_within():
    names = [layer.name for layer in find_layers(nn.DataParallel(made("resnet")), SHAPE)]
    assert names[1:3] == ["conv1", "layer1.0"]
