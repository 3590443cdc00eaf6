from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from optimised_networks import images_made, tiny
from torch import Tensor, nn

from cytolens.activations.layers import resolve_layer
from cytolens.errors import CytolensError, InputError, SettingError
from cytolens.features.canvas import Canvas
from cytolens.features.natural import answers_at
from cytolens.features.objectives import Objective, channel, class_logit, direction, neuron
from cytolens.features.parametrisations import along, phases
from cytolens.features.priors import PRIORS, Prior, fit_prior
from cytolens.features.texture import describe, texture_filters
from cytolens.records.features import FeatureImages

Images = NDArray[np.float32]
SHAPE = (1, 16, 16)


def grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns from the centre, in pixels."""
    y, x = np.mgrid[:height, :width]
    return y - (height - 1) / 2, x - (width - 1) / 2


def simple_cells(n: int = 60, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Images:
    """Discs of several sizes and brightnesses with grains in them, on a dark ground, 0…1."""
    draw = np.random.default_rng(seed)
    y, x = grid(*shape[1:])
    radius = draw.uniform(0.2, 0.45, (n, 1, 1, 1)) * min(shape[1:])
    brightness = draw.uniform(0.3, 0.8, (n, shape[0], 1, 1))
    inside = 1 / (1 + np.exp(2 * (np.hypot(y, x) - radius)))
    grain = 1 + draw.uniform(0, 0.4, (n, 1, 1, 1)) * draw.standard_normal((n, *shape))
    return (0.1 + brightness * inside * grain + 0.01 * draw.random((n, *shape))).astype(np.float32)


CELLS = simple_cells()
PRIOR = fit_prior(CELLS, rng=0)


def few(model: nn.Module, prior: Prior = PRIOR, **options: Any) -> FeatureImages:
    settings: dict[str, Any] = {"input_shape": prior.crops.shape[1:], "steps": 6, "rng": 0}
    return images_made(model, prior=prior, **(settings | options))


def scores(model: nn.Module, crops: Images, index: int) -> NDArray[np.float32]:
    """What the network says of a class of cells (N,)."""
    with torch.no_grad():
        return model(torch.from_numpy(crops))[:, index].numpy()


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "channel": lambda: channel("conv2", [0, 1]),
    "neuron": lambda: neuron("conv2", [0, 3]),
    "direction": lambda: direction("conv2", np.eye(6)[:2] - np.eye(6)[3:5]),
    "class_logit": lambda: class_logit([0, 2]),
}


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_prior_climbs_above_the_mean_cell_and_stays_in_the_value_range(
    name: str, kind: str
) -> None:
    objective, prior = OBJECTIVES[name](), PRIOR.named(kind)
    made = few(tiny(), prior, objective=objective, cells=CELLS, steps=12)
    assert (made.activation > made.natural[:, 0]).all()
    assert made.images.shape == (len(objective), *SHAPE)
    low, high = PRIOR.value_range[0]
    assert made.images.min() >= low - 1e-6
    assert made.images.max() <= high + 1e-6
    assert made.targets == objective.targets
    assert made.settings["prior"]["kind"] == kind


def test_an_image_that_is_not_held_answers_more_strongly_than_the_cell_it_starts_from() -> None:
    for kind in ("cells", "accentuation"):
        made = few(tiny(), PRIOR.named(kind), layer="logits", steps=12, prior_weight=0.0)
        for index, cell in enumerate(made.settings["start"]):
            assert made.activation[index] > scores(tiny(), PRIOR.crops, index)[cell]


def test_the_prior_learns_value_range_background_and_spectrum_from_the_cells() -> None:
    low, high = PRIOR.value_range[0]
    assert CELLS.min() <= low < np.quantile(CELLS, 0.01)
    assert np.quantile(CELLS, 0.99) < high <= CELLS.max()
    assert PRIOR.background[0] == pytest.approx(0.1, abs=0.03)
    energy = np.fft.fft2(CELLS - PRIOR.background[0], norm="ortho")
    expected = np.sqrt((np.abs(energy) ** 2).mean(0))[..., : PRIOR.amplitude.shape[-1]]
    assert np.allclose(PRIOR.amplitude, expected, rtol=1e-4, atol=1e-6)
    assert fit_prior(CELLS, background=0.25).background.tolist() == [0.25]


def test_components_are_orthonormal_and_explain_the_cells_in_all_orientations() -> None:
    flat = PRIOR.components.reshape(len(PRIOR.components), -1)
    assert np.allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-4)
    assert (np.diff(PRIOR.deviations) <= 1e-6).all()
    turned = [np.rot90(CELLS, k, (2, 3)) for k in range(4)]
    turned += [view[..., ::-1] for view in turned]
    views = np.concatenate(turned).reshape(8 * len(CELLS), -1)
    along_each = (views - views.mean(0)) @ flat.T
    assert np.allclose(along_each.std(0)[:20], PRIOR.deviations[:20], rtol=0.02)
    rest = views - views.mean(0) - along_each @ flat
    assert (rest**2).sum() < 0.05 * ((views - views.mean(0)) ** 2).sum()


def test_equal_seeds_give_equal_priors_and_equal_images() -> None:
    first, second = (fit_prior(CELLS, n_cells=40, rng=3) for _ in range(2))
    assert np.array_equal(first.crops, second.crops)
    assert np.array_equal(first.components, second.components)
    assert not np.array_equal(first.crops, fit_prior(CELLS, n_cells=40, rng=4).crops)
    for kind in PRIORS:
        images, again, other = (
            few(tiny(), prior.named(kind), layer="conv2", channels=[1, 2], rng=seed).images
            for prior, seed in ((first, 7), (second, 7), (first, 8))
        )
        assert np.array_equal(images, again)
        assert not np.array_equal(images, other)


@pytest.mark.parametrize("kind", PRIORS)
def test_an_image_does_not_depend_on_what_else_is_in_the_batch(kind: str) -> None:
    model, prior = tiny().double(), PRIOR.named(kind)
    # where an image is clipped it is flat, and rounding decides which of equals a maximum takes
    model.pool = nn.AvgPool2d(2)
    together = few(model, prior, layer="conv2", variants=2)
    chunked = few(model, prior, layer="conv2", variants=2, batch_size=8)
    alone = few(model, prior, layer="conv2", variants=2, channels=[4])
    # images are kept in single precision
    assert np.allclose(together.images, chunked.images, rtol=0, atol=1.2e-7)
    assert np.allclose(together.images[8:10], alone.images, rtol=0, atol=1.2e-7)


def brightness_network() -> nn.Module:
    """Channel 0 is the mean intensity, channel 1 its negative, above −1."""
    conv = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([0.0, 1.0]))  # pyright: ignore
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    return nn.Sequential(nn.Sequential(conv, nn.ReLU()), pool).eval()


def cells_of_three_kinds() -> tuple[Images, NDArray[np.int64]]:
    """90 dark cells, and, as bright as each other, 6 with stripes and 4 smooth ones; their kind."""
    draw = np.random.default_rng(4)
    dark = simple_cells(90, seed=5) * 0.3
    y, x = grid(16, 16)
    disc = (np.hypot(y, x) < 6).astype(np.float64)
    stripes = disc * np.where(x.astype(int) % 2, 1.0, 0.2)
    bright = [stripes / stripes.mean()] * 6 + [disc / disc.mean()] * 4
    bright = 0.5 * np.stack(bright)[:, None] * draw.uniform(0.98, 1.02, (10, 1, 1, 1))
    kinds = np.repeat([0, 1, 2], [90, 6, 4])
    return np.concatenate([dark, bright.astype(np.float32)]), kinds


def test_variants_show_one_each_of_the_kinds_of_cell_that_drive_a_channel() -> None:
    crops, kinds = cells_of_three_kinds()
    made = few(
        brightness_network(), fit_prior(crops, rng=0), layer="0", channels=[0, 1], variants=2
    )
    assert made.targets[:2] == ("channel 0, 1 of 2", "channel 0, 2 of 2")
    assert made.channels.tolist() == [0, 0, 1, 1]
    assert made.images.shape == (4, *SHAPE)
    starts = made.settings["start"]
    assert kinds[starts].tolist() == [1, 2, 0, 0]  # the more frequent kind first
    assert len(set(starts)) == 4
    # and they still show their kind when they are done
    texture = describe(texture_filters(1), np.concatenate([made.images[:2], crops[90:]]))
    distance = np.linalg.norm(texture[:2, None] - texture[None, 2:], axis=2)  # (image, cell)
    assert distance[0, :6].mean() < distance[0, 6:].mean()
    assert distance[1, 6:].mean() < distance[1, :6].mean()


def test_variants_without_a_starting_cell_differ_too() -> None:
    for kind in ("components", "range"):
        made = few(tiny(), PRIOR.named(kind), layer="conv2", channels=[0], variants=3)
        assert len({image.tobytes() for image in made.images}) == 3


def test_each_image_starts_at_one_of_the_cells_that_drive_its_target() -> None:
    model = tiny()
    made = few(model, layer="logits", variants=2)
    for image, start in enumerate(made.settings["start"]):
        on_cells = scores(model, PRIOR.crops, int(made.channels[image]))
        assert on_cells[start] >= np.sort(on_cells)[-6]  # a tenth of 60


def wide(prior: Prior) -> Prior:
    """Without limits of intensity, so that nothing is clipped."""
    return replace(prior, value_range=np.array([[-1e3, 1e3]]))


def open_canvas(start: Tensor) -> Canvas:
    """A canvas (C, H, W) without limits of intensity."""
    limit = torch.full((len(start), 1, 1), 1e3).to(start)
    channels, height, width = start.shape
    return Canvas((channels, height, width), -limit, limit, torch.zeros_like(limit), start)


def test_components_stay_within_their_ellipsoid_however_far_the_optimiser_goes() -> None:
    prior = wide(PRIOR.named("components"))
    made = few(tiny(), prior, layer="conv2", learning_rate=3.0)
    flat = prior.components.reshape(len(prior.components), -1)
    departure = (made.images - prior.crops.mean(0)).reshape(6, -1)
    coefficients = departure @ flat.T / prior.deviations
    assert np.allclose((coefficients**2).mean(1), 1, atol=0.02)  # at the border, and not beyond
    assert np.allclose(departure @ flat.T @ flat, departure, atol=1e-3)


def test_a_coefficient_of_one_is_one_deviation_of_the_cells() -> None:
    start = torch.zeros(SHAPE, dtype=torch.float64)
    draws = [torch.Generator().manual_seed(0)]
    painting = along(PRIOR.components, PRIOR.deviations)(open_canvas(start), draws)
    with torch.no_grad():
        painting.parameters.zero_()[0, 2] = 1
        image = painting.image()[0].numpy()
    assert np.allclose(image, PRIOR.components[2] * PRIOR.deviations[2], atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (17, 23)])
def test_the_spectrum_of_the_cells_is_kept_whatever_the_phases(size: tuple[int, int]) -> None:
    prior = fit_prior(simple_cells(30, (1, *size)), "spectrum", rng=0)
    start = torch.from_numpy(prior.crops[3]).double()
    draws = [torch.Generator().manual_seed(seed) for seed in range(3)]
    painting = phases(prior.amplitude)(open_canvas(start), draws)
    with torch.no_grad():
        painting.parameters.normal_(generator=draws[0])
        found = torch.fft.rfft2(painting.image(), norm="ortho").abs().numpy()
    # the first and, of even widths, the last column hold their own mirror images
    free = slice(1, (size[1] + 1) // 2)
    assert np.allclose(found[..., free], prior.amplitude[..., free], rtol=1e-4, atol=1e-6)
    assert (found <= prior.amplitude * (1 + 1e-4) + 1e-6).all()


def test_spectrum_images_have_the_amplitudes_of_the_cells() -> None:
    made = few(tiny(), wide(PRIOR.named("spectrum")), layer="conv2", channels=[0, 5])
    found = np.abs(np.fft.rfft2(made.images - PRIOR.background[0], norm="ortho"))
    assert np.allclose(found[..., 1:8], PRIOR.amplitude[..., 1:8], rtol=1e-2, atol=1e-3)


def test_an_image_keeps_the_texture_of_the_cells_that_drive_its_target() -> None:
    model, filters = tiny(), texture_filters(1)
    driving = np.argsort(-scores(model, PRIOR.crops, 0), kind="stable")[:6]
    goal = PRIOR.texture[driving].mean(0)
    low, high = PRIOR.value_range[0]

    def distance(images: Images) -> float:
        above = ((images - PRIOR.background[0]) / (high - low)).astype(np.float32)
        found = (describe(filters, above) - PRIOR.texture_mean) / PRIOR.texture_deviation
        return float(((found - goal) ** 2 @ filters.weights.numpy()).mean())

    free, held = (
        few(model, layer="logits", channels=[0], prior_weight=weight, steps=16)
        for weight in (0.0, 2.0)
    )
    assert distance(held.images) < distance(PRIOR.crops) / 10
    assert distance(held.images) < distance(free.images) / 10
    assert free.activation[0] > held.activation[0]  # texture has its price


def test_a_prior_of_some_cells_starts_from_these_alone() -> None:
    made = few(tiny(), PRIOR.of(np.arange(0, 60, 3)), layer="logits")
    assert max(made.settings["start"]) < 20
    assert made.settings["prior"]["cells"] == 20


@pytest.mark.parametrize("shape", [(1, 17, 23), (5, 16, 16), (2, 19, 16)])
def test_odd_oblong_and_many_channelled_crops_work(shape: tuple[int, int, int]) -> None:
    prior = fit_prior(simple_cells(24, shape), rng=0)
    low, high = prior.value_range.T[:, :, None, None]
    for kind in PRIORS:
        made = few(tiny(shape[0]), prior.named(kind), layer="conv2", channels=[1, 4], steps=3)
        assert made.images.shape == (2, *shape)
        assert (made.images >= low - 1e-6).all()
        assert (made.images <= high + 1e-6).all()


def odd_cells() -> dict[str, Images]:
    one_channel_empty = simple_cells(20, (2, 16, 16))
    one_channel_empty[:, 1] = 3000
    return {
        "constant": np.full((20, *SHAPE), 0.5, np.float32),
        "constant at a high intensity": np.full((20, *SHAPE), 3000, np.float32),
        "one cell many times": np.repeat(CELLS[:1], 20, axis=0),
        "two cells many times": np.repeat(CELLS[:2], 10, axis=0),
        "an image channel without anything": one_channel_empty,
        "a grey level camera": 1000 + 200 * CELLS[:20],
    }


@pytest.mark.parametrize("name", list(odd_cells()))
def test_cells_that_are_all_alike_give_no_error_and_no_nan(name: str) -> None:
    prior = fit_prior(odd_cells()[name], rng=0)
    model = tiny(prior.crops.shape[1])
    for kind in PRIORS:
        made = few(model, prior.named(kind), layer="conv2", channels=[0, 3], variants=2, steps=3)
        assert len(made.images) == 4
        assert np.isfinite(made.images).all()
        assert np.isfinite(made.activation).all()


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) for m in model.modules()],  # pyright: ignore
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "random": torch.random.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
    }


@pytest.mark.parametrize("kind", PRIORS)
def test_model_and_global_randomness_are_left_as_found(kind: str) -> None:
    model, prior, crops = tiny().train(), PRIOR.named(kind), PRIOR.crops.copy()
    before = state_of(model)

    def stop(done: int, total: int, note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    few(model, prior, layer="conv2", channels=[0], cells=CELLS, variants=2, steps=3)
    assert before == state_of(model)
    with pytest.raises(KeyboardInterrupt):
        few(model, prior, layer="conv2", channels=[0], progress=stop)
    assert before == state_of(model)
    assert np.array_equal(crops, PRIOR.crops)


def test_dead_channels_are_named() -> None:
    model = tiny()
    with torch.no_grad():
        model.conv2.norm.weight[2] = 0  # pyright: ignore
        model.conv2.norm.bias[2] = -1  # pyright: ignore
    assert np.flatnonzero(few(model, layer="conv2").dead).tolist() == [2]
    twice = few(model, layer="conv2", variants=2)
    assert np.flatnonzero(twice.dead).tolist() == [4, 5]
    assert np.isfinite(twice.images).all()


def test_progress_tells_of_the_fit() -> None:
    calls: list[tuple[int, int]] = []
    fit_prior(CELLS, progress=lambda done, total, note: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_prior_that_was_fitted_in_inference_mode_works_outside_of_it() -> None:
    plain = few(tiny(), layer="conv2", channels=[1])
    texture_filters.cache_clear()
    with torch.inference_mode():
        prior = fit_prior(CELLS, rng=0)
    assert np.allclose(few(tiny(), prior, layer="conv2", channels=[1]).images, plain.images)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"start": CELLS[0]}, SettingError),
        ({"parametrisation": "pixels"}, SettingError),
        ({"value_range": (0, 1)}, SettingError),
        ({"variants": 0}, SettingError),
        ({"variants": 2, "prior": None}, SettingError),
        ({"input_shape": (1, 20, 20)}, InputError),
    ],
)
def test_settings_that_do_not_go_with_a_prior_are_refused_in_one_line(
    options: dict[str, Any], error: type[CytolensError]
) -> None:
    together: dict[str, Any] = {"layer": "conv2", "input_shape": SHAPE, "prior": PRIOR} | options
    with pytest.raises(error) as caught:
        images_made(tiny(), **together)
    assert "\n" not in str(caught.value)


def test_what_no_prior_can_be_made_of_is_refused_in_one_line() -> None:
    for make in (
        lambda: PRIOR.named("diffusion"),
        lambda: fit_prior(CELLS[:9]),
        lambda: fit_prior(CELLS[:0]),
    ):
        with pytest.raises(CytolensError) as caught:
            make()
        assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match="cells, components, accentuation, spectrum, range"):
        fit_prior(CELLS, "diffusion")


# Starts


def test_the_cell_that_an_image_began_as_is_kept_with_it_and_so_is_its_likeness_to_cells() -> None:
    made = few(tiny(), layer="conv2", channels=[0, 1])
    assert made.starts is not None
    assert made.similarity is not None
    assert np.array_equal(made.starts, CELLS[made.settings["start"]])
    assert ((made.similarity > 0.5) & (made.similarity <= 1)).all()
    free = few(tiny(), PRIOR.named("range"), layer="conv2", channels=[0, 1])
    assert free.starts is None
    assert free.similarity is not None
    assert (free.similarity < made.similarity).all()
    without = images_made(tiny(), layer="conv2", channels=[0], input_shape=SHAPE, steps=2, rng=0)
    assert without.starts is None
    assert without.similarity is None


def test_an_image_can_start_where_another_target_says() -> None:
    model = tiny()
    own = few(model, objective=channel("conv2", [0, 4]))
    other = few(model, objective=channel("conv2", [4, 0]))
    assert own.settings["start"] != other.settings["start"]
    layer = resolve_layer(model, SHAPE, "conv2")
    answers = answers_at(model, [layer], CELLS).score["conv2"]
    guided = few(model, objective=channel("conv2", [0, 4]), guided_by=answers[:, [4, 0]])
    assert guided.settings["start"] == other.settings["start"]
    assert guided.targets == own.targets
    still = few(model, objective=0.0 * channel("conv1", [0, 0]), guided_by=answers[:, [0, 4]])
    assert still.settings["start"] == own.settings["start"]
    assert still.starts is not None
    assert not np.allclose(still.images, still.starts)  # the hold alone moves it


def test_a_guide_without_cells_to_start_from_is_refused_in_one_line() -> None:
    guide = np.zeros((60, 1))
    for prior, told in ((PRIOR.named("range"), "start at cells"), (None, "start at cells")):
        with pytest.raises(SettingError, match=told):
            images_made(tiny(), layer="conv2", channels=[0], input_shape=SHAPE, prior=prior,
                        guided_by=guide)  # fmt: skip
    with pytest.raises(SettingError, match="cell of the prior, target"):
        few(tiny(), layer="conv2", channels=[0, 1], guided_by=guide)
