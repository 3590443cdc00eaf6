import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cytolens.features.texture import VIEWS, RandomFilters, describe, texture_filters, view_of

Images = NDArray[np.float32]


def noise(n: int, *shape: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def turned(images: Images, quarter_turns: int, mirrored: bool) -> Images:
    """An orientation by NumPy, which `view_of` has no part in."""
    seen = np.rot90(images, quarter_turns, (2, 3))
    return np.ascontiguousarray(seen[..., ::-1] if mirrored else seen)


@pytest.mark.parametrize("size", [16, 17, 22])
@pytest.mark.parametrize("pooling", ["mean", "largest"])
def test_texture_is_the_same_for_all_eight_orientations(size: int, pooling: str) -> None:
    filters = RandomFilters(2, widths=(6, 8, 8), seed=3, pooling=pooling)
    images = noise(3, 2, size, size)
    upright = describe(filters, images)
    for turns in range(4):
        for mirrored in (False, True):
            found = describe(filters, turned(images, turns, mirrored))
            assert np.allclose(found, upright, atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 23), (20, 16), (5, 31)])
def test_texture_of_oblong_images_is_the_same_for_the_four_orientations_they_have(
    shape: tuple[int, int],
) -> None:
    images = noise(3, 1, *shape)
    upright = describe(texture_filters(1), images)
    for turns in (0, 2):
        for mirrored in (False, True):
            found = describe(texture_filters(1), turned(images, turns, mirrored))
            assert np.allclose(found, upright, atol=1e-5)


@pytest.mark.parametrize(("shape", "kinds"), [((9, 9), 8), ((7, 9), 4)])
def test_views_are_all_the_orientations_of_an_image_and_keep_its_shape(
    shape: tuple[int, int], kinds: int
) -> None:
    image = torch.from_numpy(noise(1, 1, *shape))
    views = [view_of(image, k) for k in range(2 * VIEWS)]
    assert all(view.shape == image.shape for view in views)
    assert len({view.numpy().tobytes() for view in views[:VIEWS]}) == kinds
    assert all(torch.equal(views[k], views[k + VIEWS]) for k in range(VIEWS))


@pytest.mark.parametrize("shape", [(16, 16), (17, 23)])
def test_the_texture_of_an_image_does_not_depend_on_the_batch(shape: tuple[int, int]) -> None:
    images = noise(150, 3, *shape)  # more than one batch
    together = describe(texture_filters(3), images)
    alone = np.concatenate([describe(texture_filters(3), one[None]) for one in images[::15]])
    assert np.allclose(together[::15], alone, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "largest"])
def test_the_statistics_are_those_of_convolutions_with_the_pooling_of_pytorch(pooling: str) -> None:
    images = torch.from_numpy(noise(3, 1, 13, 18))
    filters = RandomFilters(1, widths=(4, 5, 6), seed=3, pooling=pooling)
    pool = functional.avg_pool2d if pooling == "mean" else functional.max_pool2d
    expected, maps = [images], images
    for depth, weights in enumerate(filters.filters):
        maps = functional.conv2d(pool(maps, 2) if depth else maps, weights, padding=1).relu()
        expected.append(maps)
    moments = [(one.mean((2, 3)), one.std((2, 3), correction=0)) for one in expected]
    found = filters(images)
    assert torch.allclose(
        found, torch.cat([m for pair in moments for m in pair], 1), atol=2e-4
    )  # a floor of 1e-4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_one_to_five_channels_have_a_texture(channels: int) -> None:
    filters = texture_filters(channels)
    found = describe(filters, noise(4, channels, 16, 16))
    assert found.shape == (4, len(filters.weights)) == (4, 2 * (channels + 16 + 32 + 32 + 64))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert float(filters.weights.sum()) == pytest.approx(1)


def test_the_first_statistics_are_the_mean_and_the_deviation_of_each_image_channel() -> None:
    images = noise(3, 2, 16, 16)
    found = describe(RandomFilters(2, widths=(4,), seed=0), images)
    assert np.allclose(found[:, :2], images.mean((2, 3)), atol=1e-5)
    assert np.allclose(found[:, 2:4], images.std((2, 3)), atol=1e-3)


def test_filters_are_those_of_their_seed_and_touch_no_global_randomness() -> None:
    torch_state, numpy_state = torch.random.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    images = noise(2, 1, 16, 16)
    first, again, other = (
        describe(RandomFilters(1, widths=(8, 8), seed=seed), images) for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert numpy_state == str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("factor", [0.1, 3.0, 50.0])
def test_statistics_grow_with_the_contrast(factor: float) -> None:
    """Filters have no bias and ReLU is homogeneous: twice the image, twice the statistics."""
    images, filters = noise(2, 1, 16, 16), RandomFilters(1, widths=(8, 8), seed=1)
    found = describe(filters, np.float32(factor) * images)
    # a deviation of nothing is given as 1e-4, so that it has a gradient
    near = 2e-4 * max(1, factor)
    assert np.allclose(found, factor * describe(filters, images), rtol=1e-4, atol=near)


def test_textures_of_one_kind_are_nearer_than_those_of_two() -> None:
    """Fine and coarse noise of the same mean and deviation, at places of their own."""
    fine = noise(6, 1, 24, 24)
    coarse = np.kron(noise(6, 1, 6, 6, seed=1), np.ones((1, 1, 4, 4), np.float32))
    images = np.concatenate([fine, coarse])
    mean, deviation = images.mean((2, 3), keepdims=True), images.std((2, 3), keepdims=True)
    images = (images - mean) / deviation
    found = describe(texture_filters(1), images)
    distance = np.linalg.norm(found[:, None] - found[None], axis=2)
    same = np.kron(np.eye(2), np.ones((6, 6))).astype(bool)
    within, between = distance[same & ~np.eye(12, dtype=bool)], distance[~same]
    assert within.max() < between.min()


def test_an_image_of_nothing_has_no_texture_and_a_gradient() -> None:
    images = torch.zeros((2, 1, 16, 16), requires_grad=True)
    found = texture_filters(1)(images)
    found.sum().backward()
    assert float(found.detach().abs().max()) < 1e-3
    assert images.grad is not None
    assert bool(torch.isfinite(images.grad).all())


def test_filters_that_were_first_asked_for_in_inference_mode_still_pass_gradients() -> None:
    with torch.inference_mode():
        filters = RandomFilters(1, widths=(4, 4), seed=0)
    images = torch.from_numpy(noise(2, 1, 16, 16)).requires_grad_()
    (filters(images) * filters.weights).sum().backward()
    assert images.grad is not None
