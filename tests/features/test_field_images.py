from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from optimised_networks import tiny
from torch import nn

from cytolens.activations.layers import resolve_layer
from cytolens.activations.maps import capture_maps
from cytolens.errors import InputError
from cytolens.features.ascent import Ascent
from cytolens.features.fields import cell_side, covers_a_cell, field_images
from cytolens.features.priors import fit_prior
from cytolens.records.features import FieldImages

SHAPE = (1, 20, 20)


def edge_detector() -> nn.Module:
    """One channel that asks for dark left of bright, one for the contrary; each of 3 × 3 pixels."""
    conv = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        step = torch.tensor([[-1.0, 0.0, 1.0]]).repeat(3, 1)
        conv.weight.copy_(torch.stack([step, -step])[:, None])
        conv.bias.zero_()  # pyright: ignore
    first = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))
    return nn.Sequential(
        OrderedDict(
            conv1=first, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), logits=nn.Linear(2, 2)
        )
    ).eval()


def discs(n: int = 40, seed: int = 0) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:20, :20] - 9.5
    radius = draw.uniform(3, 6, (n, 1, 1))
    inside = 1 / (1 + np.exp(3 * (np.hypot(y, x) - radius)))
    noise = 0.02 * draw.standard_normal((n, 20, 20))
    return (draw.uniform(0.3, 0.9, (n, 1, 1)) * inside + noise)[:, None].astype(np.float32)


CELLS = discs()
PRIOR = fit_prior(CELLS, background=0.0, n_components=20, rng=0)
ASCENT = Ascent(steps=24)


def made(network: nn.Module, layer: str, channels: list[int], **options: int) -> FieldImages:
    return field_images(
        network, layer, channels, prior=PRIOR, cells=CELLS, input_shape=SHAPE, ascent=ASCENT,
        rng=0, **options,
    )  # fmt: skip


def test_an_edge_detector_is_shown_edges_of_its_own_direction() -> None:
    found = made(edge_detector(), "conv1", [0, 1])
    assert found.made.images.shape == (2, 1, 3, 3)
    assert found.patches.shape == (2, 3, 1, 3, 3)
    assert found.likely is not None
    assert found.likely.images.shape == (2, 1, 3, 3)
    for images in (found.made.images, found.likely.images, found.patches[:, 0]):
        left, right = images[..., 0].mean((1, 2)), images[..., 2].mean((1, 2))
        assert right[0] > left[0] + 0.1
        assert left[1] > right[1] + 0.1
    assert (found.ratio(found.made) > 1).all()  # no cell has so sharp an edge
    assert (found.ratio(found.likely) > 0.5).all()


def test_the_patches_are_where_cells_drive_the_neuron_most_one_of_each_cell() -> None:
    network = tiny()
    found = made(network, "conv2", [0, 3], patches=2)
    maps = capture_maps(network, CELLS, "conv2")[:, [0, 3]]
    size = found.patches.shape[-1]
    assert size == resolve_layer(network, SHAPE, "conv2").receptive_field
    for k in range(2):
        best = maps[:, k, 2:-2, 2:-2].max((1, 2))
        assert found.reached[k, 0] <= maps[:, k].max() + 1e-6
        assert found.reached[k, 0] >= np.sort(best)[-1] - 1e-5
        for patch, reached in zip(found.patches[k], found.reached[k]):
            cell = next(c for c in CELLS if _holds(c[0], patch[0]))
            assert reached <= maps[[np.array_equal(cell, c) for c in CELLS], k].max() + 1e-5


def test_a_neuron_answers_to_its_patch_alone_as_it_does_in_the_cell() -> None:
    network = tiny()
    found = made(network, "conv2", [1])
    layer = resolve_layer(network, SHAPE, "conv2")
    size, middle = found.patches.shape[-1], layer.shape[1] // 2
    for patch, reached in zip(found.patches[0], found.reached[0]):
        answers = [
            capture_maps(network, _pasted(patch, top, left), layer)[0, 1, middle, middle]
            for top in range(20 - size + 1)
            for left in range(20 - size + 1)
        ]
        assert np.abs(np.array(answers) - reached).min() < 1e-4


def test_patches_that_look_the_same_whichever_way_they_are_turned_are_shown_once() -> None:
    copies = np.concatenate([CELLS, np.rot90(CELLS, 1, (2, 3)), CELLS[..., ::-1]])
    network = tiny()
    found = field_images(
        network, "conv2", [0], prior=PRIOR, cells=np.ascontiguousarray(copies), input_shape=SHAPE,
        ascent=Ascent(steps=2), rng=0,
    )  # fmt: skip
    first = found.patches[0, 0, 0]
    for other in found.patches[0, 1:, 0]:
        views = [np.rot90(view, k) for view in (other, other[:, ::-1]) for k in range(4)]
        assert max(np.corrcoef(first.ravel(), view.ravel())[0, 1] for view in views) < 0.96


def test_the_image_is_alone_on_its_field_and_likeness_is_to_patches() -> None:
    found = made(tiny(), "conv1", [0, 2])
    low, high = PRIOR.value_range[0]
    assert found.made.images.min() >= low - 1e-6
    assert found.made.images.max() <= high + 1e-6
    assert found.made.similarity is not None
    assert ((found.made.similarity > 0) & (found.made.similarity <= 1)).all()
    assert found.n == 40
    assert found.layer == found.made.layer == "conv1"


def test_a_dense_layer_has_no_field() -> None:
    with pytest.raises(InputError, match="no positions"):
        made(tiny(), "hidden", [0])


def test_several_image_channels_and_a_silent_channel_are_shown() -> None:
    cells = np.random.default_rng(0).random((30, 2, 16, 16)).astype(np.float32)
    network = tiny(2)
    with torch.no_grad():
        network.conv1.norm.weight[1] = 0  # pyright: ignore
        network.conv1.norm.bias[1] = -1  # pyright: ignore
    found = field_images(
        network, "conv1", [0, 1], prior=fit_prior(cells, rng=0), cells=cells,
        input_shape=(2, 16, 16), ascent=Ascent(steps=2), rng=0,
    )  # fmt: skip
    assert found.patches.shape == (2, 3, 2, 3, 3)
    assert found.made.dead.tolist() == [False, True]
    assert np.isnan(found.ratio(found.made)[1])


def test_a_layer_covers_a_cell_where_its_field_is_as_large_or_unknown() -> None:
    layer = resolve_layer(tiny(), SHAPE, "conv2")
    assert layer.receptive_field == 8
    assert covers_a_cell(layer, 8)
    assert not covers_a_cell(layer, 8.5)
    assert covers_a_cell(replace(layer, receptive_field=None), 8.5)
    assert covers_a_cell(resolve_layer(tiny(), SHAPE, "hidden"), 100)


def test_the_side_of_a_cell_is_found_on_any_background_and_in_noise() -> None:
    square = np.zeros((5, 2, 31, 31), np.float32)
    square[:, 0, 10:21, 10:21] = 7
    square[:, 1, 10:21, 10:21] = 0.1
    assert cell_side(square + 3, np.full(2, 3.0)) == 11
    noisy = square + 0.01 * np.random.default_rng(0).standard_normal(square.shape)
    assert cell_side(noisy.astype(np.float32), np.zeros(2)) == pytest.approx(11, abs=2)


def _holds(crop: NDArray[np.float32], patch: NDArray[np.float32]) -> bool:
    views = np.lib.stride_tricks.sliding_window_view(crop, patch.shape)
    return bool((views == patch).all((2, 3)).any())


def _pasted(patch: NDArray[np.float32], top: int, left: int) -> NDArray[np.float32]:
    crop = np.random.default_rng(1).random((1, *SHAPE)).astype(np.float32)
    crop[0, :, top : top + patch.shape[1], left : left + patch.shape[2]] = patch
    return crop
