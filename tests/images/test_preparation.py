"""Padding, cropping, intensity and background."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cytolens.images.arrays import cells_from_arrays
from cytolens.images.preparation import (
    border_background,
    fit_size,
    measured_masks,
    pad_or_crop,
    prepare,
)
from cytolens.records.cells import Preparation

CROPS = arrays.arrays(
    np.uint16,
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    elements=st.integers(1, 999),
)
SIZES = st.tuples(st.integers(1, 16), st.integers(1, 16))


def preparation(**changes: Any) -> Preparation:
    known: dict[str, Any] = {
        "size": (4, 4),
        "intensity": "dataset",
        "low": (0.0,),
        "high": (10.0,),
        "background": (0.0,),
        "dtype": "uint8",
    }
    return Preparation(**{**known, **changes})


@given(CROPS, SIZES)
def test_padding_and_cropping_keep_the_centre_and_mark_the_rest(
    crop: np.ndarray, size: tuple[int, int]
) -> None:
    out = pad_or_crop(crop, size, [0.0] * len(crop))
    mask = measured_masks(np.array([crop.shape[1:]]), size)[0]
    assert (out.shape, out.dtype) == ((len(crop), *size), crop.dtype)
    assert (out[:, ~mask] == 0).all()
    assert (out[:, mask] > 0).all()
    shared = np.minimum(crop.shape[1:], size)
    top, left = (np.array(crop.shape[1:]) - shared) // 2
    inside = crop[:, top : top + shared[0], left : left + shared[1]]
    np.testing.assert_array_equal(out[:, mask], inside.reshape(len(crop), -1))


@given(CROPS, SIZES)
def test_padding_can_be_undone(crop: np.ndarray, room: tuple[int, int]) -> None:
    larger = (crop.shape[1] + room[0], crop.shape[2] + room[1])
    padded = pad_or_crop(crop, larger, [0.0] * len(crop))
    np.testing.assert_array_equal(pad_or_crop(padded, crop.shape[1:], [0.0] * len(crop)), crop)


@given(CROPS)
def test_own_size_changes_nothing(crop: np.ndarray) -> None:
    np.testing.assert_array_equal(pad_or_crop(crop, crop.shape[1:], [0.0] * len(crop)), crop)


def test_default_size_holds_95_percent_in_multiples_of_8() -> None:
    sizes = np.full((100, 2), 20)
    sizes[:5] = 90
    assert fit_size(sizes) == (24, 24)
    sizes[:6] = 90
    assert fit_size(sizes) == (96, 96)
    assert fit_size(np.full((9, 2), 3)) == (16, 16)
    assert fit_size(np.full((9, 2), 1000)) == (128, 128)
    assert fit_size(np.array([[40, 7]])) == (40, 40)


@pytest.mark.parametrize(("ground", "other"), [(10, 200), (200, 10)])
def test_background_is_the_even_half_of_the_border_dark_or_bright(ground: int, other: int) -> None:
    rng = np.random.default_rng(0)
    crops = rng.normal(ground, 1, (50, 1, 20, 20))
    crops[:, :, :8] = rng.normal(other, 30, (50, 1, 8, 20))  # neighbours, over 45 % of the border
    crops[:, :, 5:15, 5:15] = other
    assert np.median(border_background(crops)) == pytest.approx(ground, abs=1)


def test_background_of_an_even_border_is_its_median() -> None:
    crops = np.random.default_rng(0).normal(50, 5, (200, 2, 30, 30))
    assert np.median(border_background(crops), axis=0) == pytest.approx([50, 50], abs=0.5)


def test_dataset_intensity_maps_the_limits_to_0_and_1_without_clipping() -> None:
    raw = np.array([0, 5, 10, 20], np.uint8).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(prepare(raw, preparation()).ravel(), [0, 0.5, 1, 2])
    np.testing.assert_array_equal(prepare(raw, preparation(intensity="none")), raw)


def test_image_intensity_takes_measured_pixels_only_and_holds_the_padding() -> None:
    raw = pad_or_crop(np.array([[[100, 150], [150, 200]]], np.uint8), (4, 4), (7.0,))[None]
    masks = measured_masks(np.array([[2, 2]]), (4, 4))
    out = prepare(raw, preparation(intensity="image"), masks=masks)
    np.testing.assert_allclose(out[0, 0, 1:3, 1:3], [[0, 0.5], [0.5, 1]])
    assert (out[0, 0][~masks[0]] == 0).all()
    assert out.dtype == np.float32


def test_image_intensity_of_a_flat_channel_is_zero() -> None:
    raw = np.stack([np.full((1, 4, 4), 9), np.arange(16).reshape(1, 4, 4)], axis=1).astype(np.uint8)
    out = prepare(raw, preparation(intensity="image", low=(0.0, 0.0), high=(1.0, 1.0)))
    assert (out[0, 0] == 0).all()
    assert (out[0, 1].min(), out[0, 1].max()) == (0, 1)


def test_limits_are_robust_and_do_not_depend_on_cell_order() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(1000, 100, (60, 30, 30)).astype(np.uint16)
    images[3, 4, 4] = 60_000
    cells = cells_from_arrays(images, np.arange(60) % 2)
    assert cells.preparation.high[0] < 1500
    order = rng.permutation(60)
    again = cells_from_arrays(images[order], np.arange(60) % 2)
    assert again.preparation == cells.preparation


def test_sparse_channel_keeps_its_contrast() -> None:
    images = np.zeros((40, 2, 40, 40), np.uint8)
    images[:, 0] = np.random.default_rng(0).integers(0, 9, (40, 40, 40))
    images[0, 1, 20, 20] = 77
    cells = cells_from_arrays(images, np.arange(40) % 2, channel_names=["full", "spot"])
    assert (cells.preparation.low[1], cells.preparation.high[1]) == (0, 77)
    images[0, 1] = 0
    flat = cells_from_arrays(images, np.arange(40) % 2, channel_names=["full", "spot"])
    assert "warning: image channels without any contrast: spot" in flat.remarks
    assert np.isfinite(flat.read(slice(0, 40))).all()
