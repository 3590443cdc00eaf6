from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from optimised_networks import Functional, gabor_network, images_made, tiny
from torch import nn
from torch.nn.functional import leaky_relu

from cytolens.activations.layers import resolve_layer
from cytolens.errors import ModelError, SettingError
from cytolens.features.objectives import Objective, channel, class_logit, direction, layer, neuron
from cytolens.features.parametrisations import PARAMETRISATIONS, Canvas, Painting, pixels
from cytolens.features.transforms import STILL
from cytolens.records.features import FeatureImages

SHAPE = (1, 16, 16)


def few(model: nn.Module, **options: Any) -> FeatureImages:
    settings: dict[str, Any] = {"input_shape": SHAPE, "steps": 12, "rng": 0}
    return images_made(model, **(settings | options))


def random_cells(n: int = 20, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).random((n, *shape), dtype=np.float32)


def wave(image: np.ndarray) -> tuple[float, float]:
    """Angle in degrees (0 to 180) and wavelength in pixels of the strongest wave."""
    n = 512  # zero padding interpolates the spectrum
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None]
    waves = (image - np.average(image, weights=window)) * window
    spectrum = np.abs(np.fft.fft2(waves, s=(n, n)))
    row, column = np.unravel_index(np.argmax(spectrum), spectrum.shape)
    fy, fx = np.fft.fftfreq(n)[row], np.fft.fftfreq(n)[column]
    return float(np.degrees(np.arctan2(fy, fx)) % 180), float(1 / np.hypot(fx, fy))


@pytest.mark.parametrize("parametrisation", list(PARAMETRISATIONS))
def test_a_gabor_filter_asks_for_a_grating_of_its_angle_and_wavelength(
    parametrisation: str,
) -> None:
    angles, wavelengths = (0.0, 30.0, 75.0, 120.0), (5.0, 6.0, 7.0, 8.0)
    model = gabor_network(angles, wavelengths)
    made = few(
        model,
        layer="conv1",
        input_shape=(1, 48, 48),
        parametrisation=parametrisation,
        steps=64,
        transforms=STILL,  # a turned view would blur the angle that is measured
    )
    for image, angle, wavelength in zip(made.images[:, 0], angles, wavelengths, strict=True):
        found_angle, found_wavelength = wave(image)
        assert abs((found_angle - angle + 90) % 180 - 90) < 6
        assert found_wavelength == pytest.approx(wavelength, rel=0.12)


def test_a_gabor_filter_asks_for_its_grating_with_the_default_views_too() -> None:
    made = few(gabor_network((30.0,), (7.0,)), layer="conv1", input_shape=(1, 48, 48), steps=48)
    angle, wavelength = wave(made.images[0, 0])
    assert abs(angle - 30) < 10
    assert wavelength == pytest.approx(7, rel=0.15)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "neuron": lambda: neuron("conv2", [0, 3]),
    "channel": lambda: channel("conv2", [1, 2]),
    "dense channel": lambda: channel("pre_softmax", [0, 1]),
    "layer": lambda: layer("conv1"),
    "class_logit": lambda: class_logit([0, 1]),
    "direction": lambda: direction("conv2", np.eye(6)[:2] - np.eye(6)[3:5]),
    "cosine": lambda: direction("conv2", np.eye(6)[:2], cosine_power=1),
    "difference": lambda: class_logit([0, 1]) - class_logit(2),
    "over layers": lambda: channel("conv1", [0, 1]) + 0.5 * class_logit(0),
}


@pytest.mark.parametrize("parametrisation", list(PARAMETRISATIONS))
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_ascent_ends_above_its_start_and_above_random_images(
    name: str, parametrisation: str
) -> None:
    objective, cells = OBJECTIVES[name](), random_cells()
    made = few(
        tiny(),
        objective=objective,
        parametrisation=parametrisation,
        cells=cells,
        regularisers={},
        steps=24,
        transforms=STILL,
    )
    assert made.history.shape == (len(objective), 24)
    assert (made.history[:, -1] > made.history[:, 0]).all()
    assert (made.activation > made.natural[:, 0]).all()
    assert made.targets == objective.targets


def test_what_is_recorded_is_what_the_network_says_of_the_image() -> None:
    model = tiny(seed=3)
    made = few(model, layer="conv2")
    with torch.no_grad():
        pool_input = model.pool(model.conv1(torch.from_numpy(made.images)))  # pyright: ignore
        before = model.conv2.norm(model.conv2.conv(pool_input))  # pyright: ignore
    own = before[torch.arange(6), torch.arange(6)]
    assert np.allclose(made.activation, leaky_relu(own, 0.1).mean((1, 2)), atol=1e-5)
    assert np.allclose(made.activation_maps, own.relu(), atol=1e-5)
    assert made.channels.tolist() == list(range(6))


def test_natural_statistics_are_those_of_the_cells() -> None:
    model, cells = tiny(), random_cells(37)
    made = few(model, layer="logits", cells=cells, batch_size=8)
    with torch.no_grad():
        logits = model(torch.from_numpy(cells)).numpy()
    expected = np.stack([logits.mean(0), logits.std(0), logits.max(0)], axis=1)
    assert np.allclose(made.natural, expected, atol=1e-5)
    assert np.isnan(few(model, layer="logits").natural).all()


def test_a_dense_target_has_a_map_of_the_size_of_the_image() -> None:
    made = few(tiny(), layer="logits")
    assert made.activation_maps.shape == (3, 16, 16)
    assert (made.activation_maps >= 0).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_one_to_five_channels_are_native(channels: int) -> None:
    shape = (channels, 16, 16)
    made = few(tiny(channels), layer="conv2", input_shape=shape, cells=random_cells(9, shape))
    assert made.images.shape == (6, *shape)
    assert np.isfinite(made.images).all()
    assert len(made.settings["value_range"]) == channels


@pytest.mark.parametrize("size", [(16, 16), (17, 17), (31, 20), (45, 64), (101, 75)])
def test_odd_and_oblong_sizes_work(size: tuple[int, int]) -> None:
    made = few(tiny(), layer="conv2", channels=[1, 4], input_shape=(1, *size), steps=3)
    assert made.images.shape == (2, 1, *size)


def test_large_crops_work() -> None:
    shape = (1, 224, 224)
    made = few(tiny(), layer="conv1", channels=[0, 1], input_shape=shape, steps=2, batch_size=1)
    assert made.images.shape == (2, *shape)


def test_images_stay_within_the_value_range_of_the_cells() -> None:
    cells = 100 + 50 * random_cells(30)
    made = few(tiny(), layer="conv1", cells=cells, background=100.0, learning_rate=2.0)
    assert made.images.min() >= cells.min()
    assert made.images.max() <= cells.max()


def test_equal_seeds_give_equal_images() -> None:
    first, second = (few(tiny(), layer="conv2", rng=7) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert not np.array_equal(first.images, few(tiny(), layer="conv2", rng=8).images)


def test_an_image_does_not_depend_on_what_else_is_in_the_batch() -> None:
    conv2 = resolve_layer(tiny(), SHAPE, "conv2")
    model = tiny().double()
    together = few(model, layer=conv2, steps=24)
    chunked = few(model, layer=conv2, steps=24, batch_size=4)
    alone = few(model, layer=conv2, channels=[4], steps=24)
    assert np.allclose(together.images, chunked.images, atol=1e-6)
    assert np.allclose(together.images[4], alone.images[0], atol=1e-6)


def test_dead_channels_are_named() -> None:
    model = tiny()
    with torch.no_grad():
        model.conv2.norm.weight[2] = 0  # pyright: ignore
        model.conv2.norm.bias[2] = -1  # pyright: ignore
    made = few(model, layer="conv2", cells=random_cells())
    assert np.flatnonzero(made.dead).tolist() == [2]
    assert not few(model, objective=direction("conv2", -np.eye(6)[:3])).dead.any()


def test_a_channel_is_not_dead_if_any_cell_wakes_it() -> None:
    model = gabor_network((0.0,), (6.0,))
    with torch.no_grad():
        model.conv1.conv.weight.zero_()  # pyright: ignore
        model.conv1.conv.weight[0, 0, 12, 12] = 1.0  # pyright: ignore
    # within the value range nothing is above zero; one cell is brighter than that
    shape = (1, 32, 32)
    cells = np.full((5, *shape), -1.0, np.float32)
    options: dict[str, Any] = {"layer": "conv1", "input_shape": shape, "cells": cells}
    options |= {"value_range": (-1.0, -0.1), "background": -1.0}
    assert few(model, **options).dead.all()
    cells[3, 0, 16, 16] = 2.0
    assert not few(model, **options).dead.any()


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {name: value.requires_grad for name, value in model.named_parameters()},
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "inplace": [getattr(module, "inplace", None) for module in model.modules()],
        "attributes": sorted(vars(model)),
        "random": torch.random.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "filled": [p.grad is None for p in model.parameters()],
    }


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    weights = first.pop("weights"), second.pop("weights")
    random = first.pop("random"), second.pop("random")
    equal = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return equal and torch.equal(*random) and first == second


def uncopyable() -> nn.Module:
    model = tiny()
    model.extra = torch.ones(1, requires_grad=True) * 2  # deepcopy refuses tensors within a graph
    return model


@pytest.mark.parametrize("make", [tiny, uncopyable, Functional])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(make: Callable[[], nn.Module], fails: bool) -> None:
    model = make().train()
    next(model.parameters()).requires_grad_(False)
    names = dict(model.named_children())
    where = "conv2" if "conv2" in names else "conv"
    before = state_of(model)

    def stop(done: int, total: int, note: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            few(model, layer=where, progress=stop)
    else:
        few(model, layer=where, cells=random_cells())
    assert same(before, state_of(model))


def test_an_uncopyable_model_gives_the_same_images() -> None:
    conv2 = resolve_layer(tiny(), SHAPE, "conv2")
    plain = few(tiny().double(), layer=conv2)
    assert np.allclose(few(uncopyable().double(), layer=conv2).images, plain.images, atol=1e-6)


def test_progress_counts_every_step_of_every_batch() -> None:
    calls: list[tuple[int, int]] = []
    few(
        tiny(),
        layer="conv2",
        steps=3,
        batch_size=4,
        progress=lambda done, total, note: calls.append((done, total)),
    )
    assert calls == [(done, 6) for done in range(1, 7)]


def test_a_parametrisation_of_ones_own_is_a_function() -> None:
    def from_grey(canvas: Canvas, generators: Any) -> Painting:
        painting = pixels(canvas, generators)
        with torch.no_grad():
            painting.parameters.zero_()
        return painting

    made = few(tiny(), layer="conv2", parametrisation=from_grey)
    assert made.settings["parametrisation"] == "from_grey"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, SettingError),
        ({"layer": "conv1", "objective": channel("conv1", 0)}, SettingError),
        ({"channels": [0], "objective": channel("conv1", 0)}, SettingError),
        ({"layer": "conv9"}, SettingError),
        ({"layer": "conv1", "channels": [4]}, SettingError),
        ({"layer": "conv1", "steps": 0}, SettingError),
        ({"layer": "conv1", "learning_rate": 0.0}, SettingError),
        ({"layer": "conv1", "parametrisation": "wavelets"}, SettingError),
        ({"layer": "conv1", "batch_size": -1}, SettingError),
        ({"layer": "conv1", "learning_rate": float("nan")}, SettingError),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        few(tiny(), **options)


def test_broken_weights_are_told() -> None:
    model = tiny()
    with torch.no_grad():
        model.conv1.conv.weight[0, 0, 0, 0] = float("nan")  # pyright: ignore
    with pytest.raises(ModelError, match="NaN"):
        few(model, layer="conv2")
