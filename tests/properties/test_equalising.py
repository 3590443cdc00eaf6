"""What does not belong to the cell is gone from crops made alike; the cell is left."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from cytolens.images.arrays import cells_from_arrays
from cytolens.images.sources import with_crops
from cytolens.numerics.auc import area_under_curve
from cytolens.properties.acquisition import measure_acquisition
from cytolens.properties.equalising import BLUR, equalise
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells
from cytolens.simulation.simulate import simulate

N = 80
Crops = np.ndarray


def crops(seed: int = 0) -> Crops:
    return simulate(N, size=48, rng=seed).images[:, 0].astype(float)


def cells_of(images: Crops) -> Cells:
    counts = np.clip(np.rint(images), 0, 4095).astype(np.uint16)
    return cells_from_arrays(counts, ["a", "b"] * (len(counts) // 2))


def alike_of(cells: Cells, **more: int) -> Cells:
    return with_crops(cells, equalise(cells, **more))


def marked(images: Crops) -> Crops:
    images[:, :4, :4] += 60
    return images


def shaded(images: Crops) -> Crops:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    return images * (1 - 0.12 * (y**2 + x**2))


CHANGES: dict[str, Callable[[Crops], Crops]] = {
    "offset": lambda images: images + 40,
    "gain": lambda images: images * 1.2,
    "shift": lambda images: np.roll(images, 3, axis=2),
    "corner mark": marked,
    "shading": shaded,
    "noise": lambda images: images + np.random.default_rng(1).normal(0, 10, images.shape),
    "blur": lambda images: ndimage.gaussian_filter(images, (0, 0.7, 0.7)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_cells_taken_in_another_way_become_the_same_crops(change: str) -> None:
    plain, other = crops(), crops()
    other[N // 2 :] = CHANGES[change](other[N // 2 :])
    before = np.abs(other - plain)[N // 2 :].mean()
    one, two = (np.asarray(alike_of(cells_of(images), rng=0).images.read_raw(slice(None)))
                for images in (plain, other))  # fmt: skip
    late = ndimage.gaussian_filter(two - one, (0, 0, 1, 1))[N // 2 :]
    early = ndimage.gaussian_filter(two - one, (0, 0, 1, 1))[: N // 2]
    # what the changed differ by is what the others do, which get another share of common values
    assert np.abs(late).mean() < max(2 * np.abs(early).mean(), 0.35 * before)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_that_is_measured_off_the_cell_tells_how_it_was_taken(change: str) -> None:
    images = crops()
    images[1::2] = CHANGES[change](images[1::2])
    alike = alike_of(cells_of(images), rng=0)
    for name, values in measure_acquisition(alike).items():
        for column in values.reshape(N, -1).T:
            known = column[np.isfinite(column)]
            if len(known) == N and np.ptp(known) > 0:
                told = area_under_curve(column[1::2], column[::2])
                assert abs(told - 0.5) < 0.3, (name, told)


def test_the_shape_of_a_cell_is_left_and_its_brightness_and_place_are_not() -> None:
    cells = cells_of(crops())
    before, after = measure_cells(cells)[0], measure_cells(alike_of(cells, rng=0))[0]
    assert np.corrcoef(before["area"], after["area"])[0, 1] > 0.8
    assert np.corrcoef(before["eccentricity"], after["eccentricity"])[0, 1] > 0.6
    assert np.abs(after["offset_x"]).mean() < 0.6 * np.abs(before["offset_x"]).mean()
    spread = [np.std(of["mean_brightness"]) / np.mean(of["mean_brightness"])
              for of in (before, after)]  # fmt: skip
    assert spread[1] < 0.6 * spread[0]


def test_labels_names_and_scale_stay_and_a_seed_repeats_the_noise() -> None:
    cells = cells_of(crops())
    one, two, other = (alike_of(cells, rng=seed) for seed in (0, 0, 1))
    assert one.names.tolist() == cells.names.tolist()
    assert one.labels.tolist() == cells.labels.tolist()
    assert one.preparation == cells.preparation
    assert np.array_equal(one.read(slice(None)), two.read(slice(None)))
    assert not np.array_equal(one.read(slice(None)), other.read(slice(None)))
    assert one.images.masks(slice(0, 2)).all()


def test_small_crops_of_several_channels_and_crops_all_but_even_are_no_trouble() -> None:
    draw = np.random.default_rng(0)
    several = [draw.integers(0, 255, (h, 20, 3), dtype=np.uint8) for h in range(11, 51)]
    several[3][:] = 7
    several[3][0, 0] = 8
    cells = cells_from_arrays(several, ["a", "b"] * 20)
    made = alike_of(cells, batch=16, rng=0)
    assert made.shape == cells.shape
    assert np.isfinite(made.read(slice(None))).all()


def test_what_is_finer_than_the_blur_is_gone() -> None:
    images = crops()
    stripes = images.copy()
    stripes[:, ::2] += 12
    made = alike_of(cells_of(images), rng=0), alike_of(cells_of(stripes), rng=0)
    one, two = (np.asarray(of.images.read_raw(slice(None))) for of in made)
    assert BLUR > 1.5
    planted = np.abs(np.diff(stripes - images, axis=1)).mean()
    assert np.abs(np.diff(two - one, axis=2)).mean() < 0.2 * planted
