from collections.abc import Callable

import numpy as np
import pytest
import torch
from made_networks import ResNetLike, reference_like, seeded, vgg_like
from torch import Tensor, nn

from cytolens.activations.capture import capture, evaluating
from cytolens.activations.layers import find_layers
from cytolens.activations.maps import capture_maps
from cytolens.errors import InputError, ModelError


class Fails(Exception):
    pass


def images(n: int = 2, size: int = 28) -> Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


def state(model: nn.Module) -> list[object]:
    """All that capturing may disturb."""
    return [
        (
            module.training,
            getattr(module, "inplace", None),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            "forward" in module.__dict__,
            [parameter.requires_grad for parameter in module.parameters(recurse=False)],
        )
        for module in model.modules()
    ]


def test_the_values_are_those_of_the_modules():
    model = seeded(vgg_like()).eval()
    with capture(model, [("features.0", 0, "output"), ("classifier.3", 0, "input")]) as values:
        logits = model(images())
    assert torch.equal(values["features.0", 0, "output"], model.features[0](images()))
    assert torch.equal(model.classifier[3](values["classifier.3", 0, "input"]), logits)


def test_in_place_operations_do_not_corrupt_what_was_captured():
    model = seeded(ResNetLike()).eval()
    block = model.layer1[0]
    seen: list[Tensor] = []
    handle = block.bn2.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    plain = model(images())
    handle.remove()
    place = ("layer1.0.bn2", 0, "output")  # `out += identity` follows
    with capture(model, [place, ("bn1", 0, "output")]) as values:
        assert torch.equal(model(images()), plain)
    assert torch.equal(values[place], seen[0])
    assert bool((values["bn1", 0, "output"] < 0).any())  # an in-place ReLU follows


def test_calls_of_a_reused_module_are_told_apart_and_each_pass_starts_anew():
    model = seeded(ResNetLike()).eval()
    first, second = ("layer1.0.relu", 0, "output"), ("layer1.0.relu", 1, "output")
    with capture(model, [first, second]) as values:
        model(images())
        once = {place: value.clone() for place, value in values.items()}
        model(images())
    assert not torch.equal(once[first], once[second])
    assert all(torch.equal(once[place], values[place]) for place in (first, second))


def test_a_stopped_pass_gives_none_and_computes_nothing_behind_the_last_place():
    model = seeded(reference_like()).eval()
    ran: list[str] = []
    model.conv3.register_forward_hook(lambda *_: ran.append("conv3"))
    with capture(model, [("conv2", 0, "output")], stop_at_last=True) as values:
        assert model(images()) is None
        assert model(2 * images()) is None
        doubled = values["conv2", 0, "output"]
    assert ran == []
    assert torch.equal(doubled, model.conv2(model.conv1(2 * images())))
    assert model(images()).shape == (2, 2)


def test_gradients_flow_through_captured_values_to_the_logits_and_to_the_image():
    model = seeded(reference_like()).eval()
    place = ("conv2.relu", 0, "output")
    picture = images().requires_grad_()
    with evaluating(model), capture(model, [place]) as values:
        logits = model(picture)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), values[place], retain_graph=True)
    assert float(gradient.abs().sum()) > 0
    (at_image,) = torch.autograd.grad(values[place].sum(), picture)
    assert float(at_image.abs().sum()) > 0


@pytest.mark.parametrize("stop", [False, True])
def test_consumed_values_are_handed_over_and_not_kept(stop: bool):
    model = seeded(vgg_like()).eval()
    places = [layer.activation for layer in find_layers(model, (1, 28, 28))]
    sums: dict[object, float] = {}

    def consume(place: object, value: Tensor) -> None:
        sums[place] = float(value.sum())

    with torch.no_grad(), capture(model, places, stop_at_last=stop, consume=consume) as values:
        model(images())
        assert not values
    with torch.no_grad(), capture(model, places) as values:
        model(images())
    assert sums == pytest.approx({place: float(value.sum()) for place, value in values.items()})


def after_a_failure_in_the_block(model: nn.Module) -> None:
    with capture(model, [("conv1", 0, "output")]):
        model(images())
        raise Fails


def after_a_failure_in_the_network(model: nn.Module) -> None:
    def fail(*_: object) -> None:
        raise Fails

    handle = model.conv3.register_forward_hook(fail)
    try:
        with capture(model, [("logits", 0, "output")], stop_at_last=True):
            model(images())
    finally:
        handle.remove()


def after_a_failure_in_the_consumer(model: nn.Module) -> None:
    def fail(*_: object) -> None:
        raise Fails

    with evaluating(model), capture(model, [("conv1", 0, "output")], consume=fail):
        model(images())


@pytest.mark.parametrize(
    "go_wrong",
    [
        after_a_failure_in_the_block,
        after_a_failure_in_the_network,
        after_a_failure_in_the_consumer,
    ],
)
def test_the_network_is_left_as_found_after_a_failure(go_wrong: Callable[[nn.Module], None]):
    model = reference_like().train()
    model.conv2.eval()
    model.conv1.requires_grad_(False)
    before = state(model)
    with pytest.raises(Fails):
        go_wrong(model)
    assert state(model) == before
    assert model(images()).shape == (2, 2)


def test_evaluating_freezes_within_the_block_only():
    model = reference_like().train()
    model.conv2.eval()
    before = state(model)
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert state(model) == before


def test_a_forward_of_the_instance_is_put_back():
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    own = lambda x: 2 * nn.Sequential.forward(model, x)  # noqa: E731
    model.forward = own
    with capture(model, [("0", 0, "output")]):
        model(images())
    assert model.__dict__["forward"] is own


def test_an_activation_behind_a_function_is_made_anew():
    model = seeded(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with capture(model, [("0", 0, "output.relu"), ("0", 0, "output")]) as values:
        model(images())
    assert torch.equal(values["0", 0, "output.relu"], values["0", 0, "output"].relu())


@pytest.mark.parametrize("place", [("conv9", 0, "output"), ("conv1", 0, "outside")])
def test_places_that_do_not_exist_are_refused(place: tuple[str, int, str]):
    with pytest.raises(ModelError), capture(reference_like(), [place]):
        pass


def test_maps_of_single_images_are_rectified_activations():
    model = seeded(vgg_like())
    crops = images(5).numpy()
    maps = capture_maps(model, crops, "features.0", batch_size=2)
    with torch.no_grad():
        by_hand = model.features[0](images(5)).relu()
    assert np.allclose(maps, by_hand, atol=1e-6)
    assert capture_maps(model, crops, "logits").shape == (5, 3)
    assert capture_maps(model, crops, "logits").min() >= 0
    with pytest.raises(InputError, match="image, channel"):
        capture_maps(model, crops[0], "features.0")


def test_the_network_goes_on_with_what_consume_gives() -> None:
    model = seeded(vgg_like()).eval()
    x = images(3)
    with torch.no_grad():
        half = model.features[:3](x) / 2
        expected = model.classifier(model.flatten(model.features[3:](half)))
        with capture(model, [("features.2", 0, "output")], consume=lambda _, value: value / 2):
            found = model(x)
    torch.testing.assert_close(found, expected)
