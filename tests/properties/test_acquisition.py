"""Marks of how crops were taken are measured, wherever they are; the cell has no part in them."""

import numpy as np
import pytest
from scipy import ndimage

from cytolens.images.arrays import cells_from_arrays
from cytolens.numerics.auc import area_under_curve
from cytolens.properties.acquisition import ACQUISITION, measure_acquisition
from cytolens.records.cells import Cells
from cytolens.simulation.simulate import simulate

N = 60


def crops(n: int = N) -> np.ndarray:
    return simulate(n, size=48, rng=0).images[:, 0].astype(float)


def cells_of(images: np.ndarray, **more: object) -> Cells:
    counts = [np.clip(np.rint(image), 0, 4095).astype(np.uint16) for image in images]
    return cells_from_arrays(counts, ["a", "b"] * (len(counts) // 2), **more)  # type: ignore[arg-type]


def changed(name: str, images: np.ndarray) -> float:
    """Share of pairs in which a crop with the mark has more than one without."""
    plain = measure_acquisition(cells_of(crops()))[name]
    return area_under_curve(measure_acquisition(cells_of(images))[name], plain)


def marked(where: tuple[slice, slice], more: float) -> np.ndarray:
    images = crops()
    images[:, *where] += more
    return images


def test_a_mark_in_a_corner_is_a_corner_unlike_the_rest() -> None:
    assert changed("corners", marked((slice(0, 4), slice(44, 48)), 40)) > 0.99


def test_noise_is_measured_in_counts_and_blur_takes_it_away() -> None:
    rng = np.random.default_rng(0)
    flat = 400 + rng.normal(0, 12, (N, 48, 48))
    assert measure_acquisition(cells_of(flat))["noise"].mean() == pytest.approx(12, rel=0.05)
    soft = ndimage.gaussian_filter(crops(), (0, 0.7, 0.7))
    assert changed("noise", soft) < 0.01
    assert changed("fine_detail", soft) < 0.01


def test_rows_that_alternate_are_stripes_and_blocks_of_eight_are_a_grid() -> None:
    rows = crops()
    rows[:, ::2] += 4
    assert changed("stripes", rows) > 0.99
    images = crops()
    blocks = images.reshape(N, 6, 8, 6, 8).mean((2, 4))
    assert changed("grid", images / 2 + np.kron(blocks, np.ones((8, 8))) / 2) > 0.99


def test_a_gain_leaves_gaps_between_the_intensities() -> None:
    assert changed("levels", crops() * 1.5) < 0.05


def test_a_hot_pixel_is_a_spike() -> None:
    assert changed("spikes", marked((slice(2, 3), slice(5, 6)), 300)) > 0.99


def test_several_channels_and_several_parts_have_a_column_each() -> None:
    images = np.stack([crops(), crops()[::-1]], axis=3)
    found = measure_acquisition(cells_of(images, channel_names=("x", "y")))
    assert set(found) == set(ACQUISITION)
    assert found["noise"].shape == (N, 2)
    assert found["outside"].shape == (N, 48)
    assert found["frame"].shape == (N, 16)


def test_padding_is_not_measured_and_the_batch_does_not_matter() -> None:
    images = crops()
    small = [np.rint(image[3:-3, 5:-5]).astype(np.uint16) for image in images]
    labels = ["a", "b"] * (N // 2)
    tight = measure_acquisition(cells_from_arrays(small, labels, size=38))
    padded = cells_from_arrays(small, labels, size=48)
    wide = measure_acquisition(padded, batch=7)
    for name in ("noise", "levels", "darkest", "spikes"):
        same = np.isclose(tight[name], wide[name][: len(small)], rtol=0.3)
        assert same.mean() > 0.9, name


def test_a_crop_that_the_cell_fills_has_no_outside() -> None:
    y, x = np.mgrid[:48, :48] - 23.5
    disc = 100 + 800.0 * (np.hypot(y, x) < 32)
    grain = np.random.default_rng(0).normal(0, 2, (N, 48, 48))
    found = measure_acquisition(cells_of(disc + grain))
    assert np.isnan(found["noise"]).all()
    assert np.isfinite(found["darkest"]).all()
