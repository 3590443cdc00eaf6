from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from optimised_networks import images_made
from torch import nn

from cytolens.activations.layers import resolve_layer
from cytolens.errors import InputError
from cytolens.features.comparison import measure_predictivity, prepare_comparison
from cytolens.features.faithfulness import measure_faithfulness, prepare_yardstick
from cytolens.features.natural import answers_at
from cytolens.features.priors import fit_prior
from cytolens.records.features import Faithfulness, FeatureImages

Images = NDArray[np.float32]
SHAPE = (1, 24, 24)
SPOTS, FINE, COARSE = range(3)  # what the channels of `detectors` are after


def pictures(
    kind: int,
    n: int,
    seed: int,
    *,
    strengths: tuple[float, float] = (0.4, 0.8),
    grain: float = 0.02,
) -> Images:
    """Cells (n, 1, 24, 24) on a dark ground, of one kind and of many strengths, with some grain.

    All are discs; in them are bright spots, or fine or coarse stripes.
    """
    draw = np.random.default_rng([seed, kind])
    y, x = np.mgrid[:24, :24] - 11.5
    radius = draw.uniform(8.5, 9.5, (n, 1, 1))
    disc = 1 / (1 + np.exp(2 * (np.hypot(y, x) - radius)))
    phase = draw.uniform(0, 2 * np.pi, (n, 1, 1))
    if kind == SPOTS:
        angle = phase[:, None] + 2 * np.pi * np.arange(5)[:, None, None] / 5  # 5 pixels out
        dy, dx = 5 * np.sin(angle), 5 * np.cos(angle)
        detail = np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / 2).sum(1) - 0.12
    else:
        detail = 0.5 * np.sin(2 * np.pi * y / (4 if kind == FINE else 10) + phase / 6)
    images = 0.1 + disc * (0.4 + draw.uniform(*strengths, (n, 1, 1)) * detail)
    return (images + grain * draw.standard_normal(images.shape))[:, None].astype(np.float32)


def mixture(each: int, seed: int) -> Images:
    return np.concatenate([pictures(kind, each, seed) for kind in (SPOTS, FINE, COARSE)])


def detectors(quiet: bool = False) -> nn.Module:
    """Matched filters of spots, fine and coarse stripes, which then inhibit each other.

    ``quiet`` silences the last channel.
    """
    y, x = torch.meshgrid(*[torch.arange(-5, 6.0)] * 2, indexing="ij")
    square = y**2 + x**2
    spot = torch.exp(-square / 2) - torch.exp(-square / 8) / 4
    stripes = [torch.cos(2 * np.pi * y / length) * torch.exp(-square / 18) for length in (4, 10)]
    filters = torch.stack([shape - shape.mean() for shape in (spot, *stripes)])
    lengths = filters.flatten(1).norm(dim=1)
    filters *= (torch.tensor([2.0, 1.0, 1.0]) / lengths)[:, None, None]
    first = nn.Conv2d(1, 3, 11, padding=5)
    second = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        first.weight.copy_(filters[:, None])
        first.bias.fill_(-0.3)  # pyright: ignore
        mixing = 1.5 * torch.eye(3) - 0.5
        if quiet:
            mixing[COARSE] = 0
        second.weight.copy_(mixing[..., None, None])
        second.bias.zero_()  # pyright: ignore
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(OrderedDict(conv=first, relu=nn.ReLU())),
            conv2=nn.Sequential(OrderedDict(conv=second, relu=nn.ReLU())),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            logits=nn.Linear(3, 2),
        )
    ).eval()


PRIOR = fit_prior(mixture(30, seed=0), rng=0)
HELD_OUT = mixture(40, seed=1)
NETWORK = detectors()
YARDSTICK = prepare_yardstick(
    NETWORK,
    [resolve_layer(NETWORK, SHAPE, name) for name in ("conv1", "conv2")],
    prior=PRIOR,
    held_out=HELD_OUT,
)


def shown(images: Images, channels: Sequence[int], layer: str = "conv2") -> FeatureImages:
    """Any images as if they were feature images of these channels."""
    k = len(images)
    return FeatureImages(
        layer=layer,
        targets=tuple(f"channel {index}" for index in channels),
        channels=np.array(channels, dtype=np.int64),
        images=images,
        activation=np.zeros(k, np.float32),
        natural=np.zeros((k, 3), np.float32),
        activation_maps=np.zeros((k, 24, 24), np.float32),
        history=np.zeros((k, 1), np.float32),
        dead=np.zeros(k, bool),
        settings={"background": [0.1]},
    )


def cells_by_rank(rank: int, layer: str = "conv2") -> Images:
    """Of the prior's cells those of that rank in driving each channel (3, C, H, W); 0: the best."""
    score = answers_at(NETWORK, YARDSTICK.layers, PRIOR.crops).score[layer]
    return PRIOR.crops[np.argsort(-score, axis=0)[rank]]


def judge(images: FeatureImages, **options: Any) -> Faithfulness:
    return measure_faithfulness(NETWORK, images, YARDSTICK, rng=0, **options)


SHOWING = cells_by_rank(3)  # not the best of all, which is odd already
RIGHT = judge(shown(SHOWING, [0, 1, 2]))
WRONG = judge(shown(SHOWING[[1, 2, 0]], [0, 1, 2]))


def test_an_image_that_shows_the_feature_predicts_and_a_wrong_one_fails_with_a_reason() -> None:
    assert (RIGHT.table["predictivity"] > 0.9).all()
    assert RIGHT.failures == ("", "", "")
    assert (WRONG.table["predictivity"] < 0.7).all()
    assert WRONG.failures == ("at chance",) * 3
    assert RIGHT.estimates["predictivity"].low > 0.9 > WRONG.estimates["predictivity"].high
    assert RIGHT.n == 120
    assert RIGHT.layer == "conv2"


def test_real_cells_stand_beside_the_image() -> None:
    found = RIGHT.table
    best = judge(shown(cells_by_rank(0), [0, 1, 2])).table
    assert np.array_equal(found["best_cell"], best["predictivity"])
    assert (found["nine_best_cells"] > 0.95).all()
    for name in ("best_cell", "nine_best_cells"):  # they are of the channel, not of the image
        assert np.array_equal(WRONG.table[name], found[name])
    assert ((found["random_cell"] >= 0) & (found["random_cell"] <= 1)).all()
    assert "unconstrained" not in found
    assert "stability" not in found
    noise = np.random.default_rng(0).random((3, *SHAPE), dtype=np.float32)
    beside = judge(shown(SHOWING, [0, 1, 2]), unconstrained=shown(noise, [0, 1, 2])).table
    assert (beside["unconstrained"] < beside["predictivity"]).all()


def test_a_random_cell_predicts_by_chance_over_many_channels() -> None:
    repeated = shown(np.repeat(SHOWING, 24, axis=0), list(np.repeat([0, 1, 2], 24)))
    # of three kinds, each drives one channel: a third predict, two thirds predict the contrary
    random = judge(repeated).table["random_cell"]
    assert random.mean() == pytest.approx(0.5, abs=0.12)
    assert random.std() > 0.2


def test_activation_is_given_in_that_of_the_best_cell() -> None:
    score = answers_at(NETWORK, YARDSTICK.layers, PRIOR.crops).score["conv2"]
    own = answers_at(NETWORK, YARDSTICK.layers, SHOWING).score["conv2"]
    assert np.allclose(RIGHT.table["activation_ratio"], np.diag(own) / score.max(0), atol=1e-5)
    best = judge(shown(cells_by_rank(0), [0, 1, 2])).table
    assert np.allclose(best["activation_ratio"], 1, atol=1e-5)
    # stripes of four pixels do not survive the resampling as well as what is coarser
    in_views = best["activation_ratio_in_views"]
    assert 0.2 < in_views[FINE] < min(in_views[SPOTS], in_views[COARSE])
    assert in_views.max() < 1.1
    assert (WRONG.table["activation_ratio"] < 0.6).all()
    assert (WRONG.table["z"] < 0).all()


def test_z_is_the_distance_from_the_mean_held_out_cell() -> None:
    held_out = answers_at(NETWORK, YARDSTICK.layers, HELD_OUT).score["conv2"]
    own = answers_at(NETWORK, YARDSTICK.layers, SHOWING).score["conv2"]
    expected = (np.diag(own) - held_out.mean(0)) / held_out.std(0)
    assert np.allclose(RIGHT.table["z"], expected, atol=1e-5)


def test_an_image_that_drives_only_its_channel_is_selective() -> None:
    assert np.array_equal(RIGHT.table["selectivity"], np.ones(3))
    assert (WRONG.table["selectivity"] < 1).all()


def test_a_real_cell_is_natural_and_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    noise = (0.1 + draw.random((3, *SHAPE))).astype(np.float32)
    found = judge(shown(noise, [0, 1, 2]))
    for name in ("natural_spectrum", "natural_path", "naturalness"):
        assert (RIGHT.table[name] > 0.05).all()
        assert (found.table[name] == 0).all()
    assert all(reason for reason in found.failures)
    least = np.minimum(RIGHT.table["natural_spectrum"], RIGHT.table["natural_path"])
    assert np.array_equal(RIGHT.table["naturalness"], least)


def test_held_out_cells_are_as_natural_as_each_other() -> None:
    """The share of cells that are at least as odd is uniform over cells: a half on average."""
    others = mixture(12, seed=2)
    found = judge(shown(others, list(np.repeat([0, 1, 2], 12)))).table
    assert found["natural_spectrum"].mean() == pytest.approx(0.5, abs=0.15)
    assert found["natural_path"].mean() == pytest.approx(0.5, abs=0.15)


def test_an_image_that_predicts_and_drives_its_channel_may_still_be_unnatural() -> None:
    """As strong as cells can be, but without their grain."""
    clean = [pictures(kind, 1, 5, strengths=(0.8, 0.8), grain=0.0) for kind in range(3)]
    found = judge(shown(np.concatenate(clean), [0, 1, 2]))
    assert (found.table["predictivity"] > 0.9).all()
    assert (found.table["activation_ratio"] > 0.9).all()
    assert (found.table["natural_spectrum"] == 0).all()
    assert (found.table["natural_path"] > 0.01).all()
    assert found.failures == ("unnatural",) * 3


def test_an_image_that_predicts_but_does_not_drive_its_channel_is_weak() -> None:
    found = judge(shown(cells_by_rank(15), [0, 1, 2]))  # the top decile is nine cells
    assert (found.table["predictivity"] > 0.8).all()
    assert found.failures == ("weak",) * 3


def test_the_same_images_again_are_stable_and_others_are_not() -> None:
    images = shown(SHOWING, [0, 1, 2])
    assert np.allclose(judge(images, again=images).table["stability"], 1, atol=1e-6)
    others = shown(SHOWING[[1, 2, 0]], [0, 1, 2])
    assert (judge(images, again=others).table["stability"] < 0.5).all()


def test_a_silent_channel_is_told_and_left_out_of_the_means() -> None:
    model = detectors(quiet=True)
    of_its_own = replace(
        YARDSTICK,
        made_from=answers_at(model, YARDSTICK.layers, PRIOR.crops),
        held_out=answers_at(model, YARDSTICK.layers, HELD_OUT),
    )
    found = measure_faithfulness(model, shown(SHOWING, [0, 1, 2]), of_its_own, rng=0)
    assert found.failures[COARSE] == "silent"
    assert found.failures[:COARSE] == ("", "")
    assert np.isnan(found.table["predictivity"][COARSE])
    for name, estimate in found.estimates.items():
        if name in ("predictivity", "activation_ratio", "z", "selectivity"):
            assert estimate.value == pytest.approx(found.table[name][:COARSE].mean())
    dead = shown(SHOWING, [0, 1, 2])
    dead = replace(dead, dead=np.array([False, True, False]))
    assert judge(dead).failures == ("", "silent", "")


def test_images_made_with_a_prior_are_judged_and_the_model_is_left_as_found() -> None:
    model = detectors().train()
    state = torch.random.get_rng_state()
    made, again = (
        images_made(model, layer="conv2", input_shape=SHAPE, prior=PRIOR, steps=12, rng=seed)
        for seed in (0, 1)
    )
    found = measure_faithfulness(model, made, YARDSTICK, again=again, rng=0)
    assert (found.table["predictivity"] > 0.9).all()
    assert found.table["stability"].min() > 0.5
    assert found.estimates["stability"].low <= found.estimates["stability"].value
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())  # pyright: ignore
    assert torch.equal(state, torch.random.get_rng_state())


def test_equal_seeds_give_equal_numbers() -> None:
    again = judge(shown(SHOWING, [0, 1, 2]))
    for name, column in RIGHT.table.items():
        assert np.array_equal(column, again.table[name])
    assert again.estimates == RIGHT.estimates


def test_an_image_is_judged_by_itself_whatever_is_beside_it() -> None:
    alone = judge(shown(SHOWING[[2]], [2]))
    for name in ("predictivity", "nine_best_cells", "z", "selectivity", "naturalness"):
        assert np.allclose(alone.table[name], RIGHT.table[name][2], atol=1e-6)
    assert alone.failures == ("",)


def test_the_first_layer_is_judged_on_its_own_activations() -> None:
    found = judge(shown(cells_by_rank(3, "conv1"), [0, 1, 2], layer="conv1"))
    assert (found.table["predictivity"] > 0.7).all()
    assert (found.table["natural_path"] > 0.01).all()


def test_what_cannot_be_judged_is_refused_in_one_line() -> None:
    layers = YARDSTICK.layers
    few = HELD_OUT[:19]
    for attempt, told in (
        (lambda: judge(shown(SHOWING, [0, -1, 2])), "directions"),
        (lambda: judge(shown(SHOWING, [0, 1, 2], layer="conv7")), "conv1, conv2"),
        (lambda: prepare_yardstick(NETWORK, layers, prior=PRIOR, held_out=few), "19 held-out"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            attempt()
        assert "\n" not in str(caught.value)


# The comparison


def arranged(n: int = 100) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (n, 2) whose direction follows their activation (n,), from (0, 1) to (1, 0)."""
    activation = np.linspace(0, 1, n).astype(np.float32)
    angle = np.pi / 2 * (1 - activation)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), activation


def test_predictivity_has_its_known_values() -> None:
    points, activation = arranged()
    ahead, behind = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert measure_predictivity(ahead, points, activation)[0] == 1
    assert measure_predictivity(behind, points, activation)[0] == 0
    assert measure_predictivity(ahead, points, -activation)[0] == 0
    nowhere = np.zeros(2, np.float32)
    assert measure_predictivity(nowhere, points, activation)[0] == 0.5
    alike = np.ones_like(points)
    assert measure_predictivity(ahead, alike, activation)[0] == 0.5
    # how far a cell or an image departs from the mean does not matter, only which way
    far = points * np.random.default_rng(0).uniform(0.1, 9, (100, 1)).astype(np.float32)
    assert measure_predictivity(7 * ahead, far, activation)[0] == 1


def test_predictivity_looks_at_the_top_decile_and_the_lower_half_alone() -> None:
    points, activation = arranged()
    points[50:90] = np.random.default_rng(0).standard_normal((40, 2))
    assert measure_predictivity(np.array([1, 0], np.float32), points, activation)[0] == 1
    swapped = points.copy()
    swapped[[0, 99]] = points[[99, 0]]  # of 10 above and 50 below one each has changed sides
    area = measure_predictivity(np.array([1, 0], np.float32), swapped, activation)[0]
    assert area == pytest.approx((9 * 49) / (10 * 50))


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_a_channel_that_says_the_same_of_all_cells_has_no_predictivity(value: float) -> None:
    points, activation = arranged()
    found = measure_predictivity(points[-1], points, np.full_like(activation, value))
    assert np.isnan(found).all()
    rare = np.zeros_like(activation)
    rare[:5] = 1  # fewer than a decile are above zero: nine tenths and more are alike
    assert np.isnan(measure_predictivity(points[-1], points, rare)).all()


@pytest.mark.parametrize("noise", [1.5, 2.0, 4.0])
def test_the_standard_error_is_that_of_a_bootstrap(noise: float) -> None:
    draw = np.random.default_rng(2)
    activation = draw.standard_normal(400)
    angle = np.arctan(activation + noise * draw.standard_normal(400))
    points = np.stack([np.sin(angle), np.cos(angle)], 1).astype(np.float32)
    ahead = np.array([1, 0], np.float32)
    area, error = measure_predictivity(ahead, points, activation)
    high = np.flatnonzero(activation >= np.quantile(activation, 0.9))
    low = np.flatnonzero(activation <= np.quantile(activation, 0.5))
    areas: list[float] = []
    for _ in range(300):
        a = points[high[draw.integers(0, len(high), size=len(high))], 0]
        b = points[low[draw.integers(0, len(low), size=len(low))], 0]
        areas.append(float((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2))
    assert area == pytest.approx(np.mean(areas), abs=0.02)
    assert 2 / 3 < error / np.std(areas) < 3 / 2


def test_a_turned_or_mirrored_image_is_the_same_point() -> None:
    space = YARDSTICK.spaces["filters"]
    compare, points, some = space.compare, space.points[::15], PRIOR.crops[::15]
    assert np.allclose(compare(some), points, atol=2e-3)
    for turns in range(4):
        view = np.ascontiguousarray(np.rot90(some, turns, (2, 3)))
        assert np.allclose(compare(view), points, atol=2e-3)
        assert np.allclose(compare(view[..., ::-1]), points, atol=2e-3)


def test_points_are_in_deviations_from_the_mean_cell() -> None:
    points = YARDSTICK.spaces["filters"].points
    assert np.allclose(points.mean(0), 0, atol=1e-3)
    assert np.median(points.std(0)) == pytest.approx(1, abs=1e-3)
    assert points.std(0).max() < 1.001  # below one only where cells hardly differ at all


def test_the_comparison_is_wider_than_the_texture_that_images_are_held_to_and_of_no_prior() -> None:
    points = YARDSTICK.spaces["filters"].points
    assert points.shape[1] > 1.5 * PRIOR.texture.shape[1]
    _, same = prepare_comparison(replace(PRIOR, kind="range"))
    assert np.array_equal(points, same)


@pytest.mark.parametrize("channels", [2, 5])
def test_oblong_cells_of_several_channels_are_compared(channels: int) -> None:
    prior = fit_prior(np.random.default_rng(0).random((12, channels, 17, 23), dtype=np.float32))
    compare, points = prepare_comparison(prior)
    assert np.isfinite(points).all()
    assert np.allclose(compare(prior.crops[:, :, ::-1, ::-1]), points, atol=5e-3)
