import pytest
import torch

from cytolens.errors import SettingError
from cytolens.features.objectives import Response, channel, class_logit, direction, layer, neuron
from cytolens.features.regularisers import REGULARISERS, blur, departure, l1, l2, total_variation
from cytolens.features.regularisers import weigh as weigh_regularisers

LEAKY = torch.nn.LeakyReLU(0.1)
GENERATOR = torch.Generator().manual_seed(0)
MAPS = torch.randn(3, 4, 5, 6, generator=GENERATOR, dtype=torch.float64)
DENSE = torch.randn(3, 7, generator=GENERATOR, dtype=torch.float64)
IMAGES = torch.rand(3, 2, 8, 9, generator=GENERATOR, dtype=torch.float64)


def response(image: torch.Tensor = IMAGES, *, deviation: torch.Tensor | None = None) -> Response:
    values = {"conv": MAPS, "dense": DENSE}
    return Response(
        image=image,
        background=torch.zeros(image.shape[1], 1, 1, dtype=torch.float64),
        expected=torch.full(image.shape[1:], 0.5, dtype=torch.float64),
        deviation=deviation,
        pre_activation=values,
        activation={name: value.relu() for name, value in values.items()},
    )


def targets(*index: int) -> torch.Tensor:
    return torch.tensor(index)


def test_each_image_pursues_its_own_channel() -> None:
    scores = channel("conv", [3, 0, 2])(response())
    expected = torch.stack([LEAKY(MAPS[0, 3]), LEAKY(MAPS[1, 0]), LEAKY(MAPS[2, 2])]).mean((1, 2))
    assert torch.allclose(scores, expected)


def test_all_images_can_pursue_one_target() -> None:
    scores = channel("conv", [3, 0, 2])(response(), targets(2, 2, 2))
    assert torch.allclose(scores, LEAKY(MAPS[:, 2]).mean((1, 2)))


def test_a_neuron_is_the_centre_unless_a_place_is_given() -> None:
    assert neuron("conv", 1)(response())[1] == MAPS[1, 1, 2, 3]
    assert neuron("conv", 1, y=0, x=4)(response())[2] == MAPS[2, 1, 0, 4]
    assert torch.equal(neuron("dense", [0, 1, 2])(response()), DENSE.diagonal())


def test_a_layer_is_its_mean_square() -> None:
    assert torch.allclose(layer("conv")(response()), MAPS.square().mean((1, 2, 3)))


def test_a_class_logit_carries_the_name_of_the_class() -> None:
    objective = class_logit([1, 0], layer="dense", class_names=["G2", "Prophase"])
    assert objective.targets == ("Prophase", "G2")
    assert torch.isclose(objective(response(), targets(0, 1, 0))[1], LEAKY(DENSE[1, 0]))


def test_a_direction_is_the_projection_of_the_mean_activation_on_the_unit_vector() -> None:
    vector = torch.tensor([3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    scores = direction("conv", vector)(response())
    features = LEAKY(MAPS).mean((2, 3))
    assert torch.allclose(scores, 0.6 * features[:, 0] - 0.8 * features[:, 2])


def test_a_cosine_power_prefers_the_direction_alone() -> None:
    along = LEAKY(DENSE)[0]
    plain = direction("dense", along)
    powered = direction("dense", along, cosine_power=2)
    assert torch.allclose(plain(response())[0], powered(response())[0])
    assert powered(response())[1] < plain(response())[1]


def test_a_direction_passes_gradient_through_silent_channels() -> None:
    silent = torch.full((1, 2), -1.0, requires_grad=True)
    answer = Response(
        IMAGES[:1], IMAGES[0, :, :1, :1], IMAGES[0], None, {"d": silent}, {"d": silent.relu()}
    )
    score = direction("d", [1.0, 0.0])(answer)
    score.sum().backward()
    assert score.item() == pytest.approx(-0.1)
    assert silent.grad is not None
    assert silent.grad[0, 0] > 0


def test_objectives_add_subtract_and_scale() -> None:
    first, second = channel("conv", [0, 1, 2]), channel("dense", [3, 4, 5])
    a, b = first(response()), second(response())
    assert torch.allclose((first + second)(response()), a + b)
    assert torch.allclose((first - 2 * second)(response()), a - 2 * b)
    assert torch.allclose((-first / 4)(response()), -a / 4)
    assert (first - second).layers == ("conv", "dense")
    assert (first - second).targets[0] == "channel 0 - channel 3"
    assert first.channels == (0, 1, 2)
    assert (first - second).channels == (-1, -1, -1)


def test_a_single_target_goes_with_all() -> None:
    many, one = channel("conv", [0, 1, 2]), channel("dense", 3)
    assert len(many + one) == len(one + many) == 3
    assert torch.allclose((many + one)(response()), many(response()) + LEAKY(DENSE[:, 3]))
    assert torch.allclose((one + many)(response()), many(response()) + LEAKY(DENSE[:, 3]))


def test_a_sum_within_one_layer_still_has_a_place() -> None:
    difference = channel("conv", [0, 1, 2]) - channel("conv", 3)
    assert difference.place is not None
    maps = difference.place(response(), targets(0, 1, 2))
    assert torch.allclose(maps[1], MAPS[1, 1] - MAPS[1, 3])
    assert (channel("conv", 0) + channel("dense", 0)).place is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: channel("conv", [0, 1]) + channel("conv", [0, 1, 2]), "2 and 3 targets"),
        (lambda: channel("conv", []), "cannot be used"),
        (lambda: channel("conv", -1), "cannot be used"),
        (lambda: channel("conv", 9)(response()), "choose from 0 to 3"),
        (lambda: neuron("conv", 0, y=5, x=0)(response()), "5 × 6"),
        (lambda: direction("conv", [0.0, 0.0]), "non-zero"),
        (lambda: direction("conv", [1.0, float("nan")]), "finite"),
        (lambda: direction("conv", [1.0, 0.0], names=["a", "b"]), "2 names"),
        (lambda: direction("conv", [1.0, 0.0])(response()), "one entry per"),
        (lambda: weigh_regularisers({"sharpness": 1.0}), "choose one of"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_allowed(make, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


def test_regularisers_vanish_on_what_they_ask_for() -> None:
    flat = response(torch.full_like(IMAGES, 0.5), deviation=torch.full(IMAGES.shape[1:], 0.1))
    for regulariser in (total_variation(), blur(), departure()):
        assert torch.allclose(regulariser(flat), torch.zeros(3, dtype=torch.float64))
    dark = response(torch.zeros_like(IMAGES))
    for regulariser in (l1(), l2()):
        assert not regulariser(dark).any()


def test_regularisers_have_their_documented_values() -> None:
    step = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    step[..., 2:] = 1  # one edge: 4 of 12 differences across, none down
    assert total_variation()(response(step)).item() == pytest.approx(1 / 3)
    assert l1()(response(step)).item() == l2()(response(step)).item() == pytest.approx(0.5)
    assert blur()(response(step)).item() == pytest.approx(8 / 16 * 0.25**2)
    deviation = torch.full((1, 4, 4), 0.25, dtype=torch.float64)
    assert departure()(response(step, deviation=deviation)).item() == pytest.approx(4)
    assert departure()(response(step)).item() == 0


def test_every_regulariser_is_one_number_per_image_and_grows_from_zero() -> None:
    for make in REGULARISERS.values():
        values = make()(response(deviation=torch.full(IMAGES.shape[1:], 0.2)))
        assert values.shape == (3,)
        assert (values > 0).all()
    weighted = weigh_regularisers({"l1": 2.0, "blur": 0.0, "total_variation": 1.0})
    assert weighted is not None
    expected = 2 * l1()(response()) + total_variation()(response())
    assert torch.allclose(weighted(response()), expected)
    assert weigh_regularisers({"l1": 0.0}) is None
