"""Simulated cells: reproducible, consistent with their truth, hard where asked."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytolens.errors import SettingError
from cytolens.records.cells import Simulation
from cytolens.simulation.optics import Optics, expose, flat_through_lens, transfer_functions
from cytolens.simulation.simulate import BATCH, Plant, simulate

KINDS = ("granule", "rim", "bar", "texture")
QUIET = Optics(read_noise=0, background=0, photons=1e9, gain=1e-5, focus_sd_um=0)


def same(one: Simulation, other: Simulation, n: int) -> bool:
    """Whether the first ``n`` cells and all that is known of them agree to the byte."""
    pairs = [(one.images, other.images), (one.labels, other.labels)]
    pairs += [(one.masks[name], other.masks[name]) for name in one.masks]
    pairs += [(one.properties[name], other.properties[name]) for name in one.properties]
    return all(a[:n].tobytes() == b[:n].tobytes() for a, b in pairs)


def shape_features(images: NDArray[np.uint16]) -> NDArray[np.float64]:
    """A few numbers per image that do not change with pose: brightness, size, elongation, form."""
    x = images[:, 0].astype(float)
    x = x - np.median(np.concatenate([x[:, 0], x[:, -1]], 1), 1)[:, None, None]
    peak = np.percentile(x, 99.5, axis=(1, 2))[:, None, None]
    p = np.where(x > 0.25 * peak, x, 0)
    p /= p.sum((1, 2), keepdims=True)
    row, column = np.mgrid[: x.shape[1], : x.shape[2]]
    z = (column - (p * column).sum((1, 2))[:, None, None]) + 1j * (
        row - (p * row).sum((1, 2))[:, None, None]
    )
    r2 = (p * np.abs(z) ** 2).sum((1, 2))
    turns = [np.abs((p * z**k).sum((1, 2))) / r2 ** (k / 2) for k in (2, 3, 4)]
    tail = (p * np.abs(z) ** 4).sum((1, 2)) / r2**2
    filled = (x > 0.6 * peak).sum((1, 2)) / (x > 0.25 * peak).sum((1, 2))
    return np.stack([np.log(x.sum((1, 2))), np.log(r2), tail, filled, *turns], 1)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    plant = Plant("bar")
    one, other = (simulate(70, plant=plant, rng=3) for _ in range(2))
    assert same(one, other, 70)
    assert not np.array_equal(one.images, simulate(70, plant=plant, rng=4).images)


def test_an_int_and_a_generator_of_that_seed_give_the_same_cells():
    assert same(simulate(5, rng=3), simulate(5, rng=np.random.default_rng(3)), 5)


def test_a_larger_simulation_begins_with_the_cells_of_a_smaller_one():
    assert same(simulate(10, rng=1), simulate(2 * BATCH + 1, rng=1), 10)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate(4)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_images_are_counts_of_a_12_bit_camera_and_classes_are_balanced():
    made = simulate(101, size=40, rng=0)
    assert made.images.shape == (101, 1, 40, 40)
    assert made.images.dtype == np.uint16
    assert made.images.max() <= 4095
    assert abs(np.bincount(made.labels)[0] - 50.5) <= 1
    assert made.pixel_size == Optics().pixel_size_um
    assert all(len(column) == 101 for column in made.properties.values())


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
@pytest.mark.parametrize(("size", "pixel"), [(48, 0.33), (28, 0.5)])
def test_masks_and_properties_agree(difficulty: float, size: int, pixel: float):
    made = simulate(
        300, size=size, difficulty=difficulty, optics=Optics(pixel_size_um=pixel), rng=5
    )
    nucleus, lobes = made.masks["nucleus"], made.masks["lobes"]
    cytoplasm, known = made.masks["cytoplasm"], made.properties
    assert not (nucleus & cytoplasm).any()
    assert np.array_equal(nucleus, lobes > 0)
    for numbers, count in zip(lobes, known["n_lobes"]):
        assert np.array_equal(np.unique(numbers[numbers > 0]), np.arange(1, count + 1))
    cell = nucleus | cytoplasm
    border = np.ones((size, size), dtype=bool)
    border[1:-1, 1:-1] = False
    assert not (cell & border).any()
    # The nucleus lies within the cell: what surrounds it is cytoplasm, but for a touching pixel.
    grown = nucleus.copy()
    for axis in (1, 2):
        grown |= np.roll(nucleus, 1, axis) | np.roll(nucleus, -1, axis)
    around = grown & ~nucleus
    assert (around & ~cell).sum() < 0.08 * around.sum()
    assert np.allclose(known["nucleus_area_um2"], nucleus.sum((1, 2)) * pixel**2)
    assert np.allclose(known["nc_ratio"], nucleus.sum((1, 2)) / cell.sum((1, 2)))
    lymphocyte = made.labels == 0
    assert (known["n_lobes"][lymphocyte] == 1).all()
    assert set(known["n_lobes"][~lymphocyte]) <= {2, 3, 4, 5}
    assert not made.masks["plant"].any()
    assert not known["has_plant"].any()


def test_light_comes_from_where_the_masks_say():
    made = simulate(200, difficulty=0, optics=QUIET, rng=2)
    x = made.images[:, 0].astype(float) - 40
    nucleus, cytoplasm = made.masks["nucleus"], made.masks["cytoplasm"]
    inside = [image[mask].mean() for image, mask in zip(x, nucleus)]
    beside = [image[mask].mean() for image, mask in zip(x, cytoplasm)]
    outside = [image[~mask].mean() for image, mask in zip(x, nucleus | cytoplasm)]
    assert (np.array(inside) > 3 * np.array(beside)).all()
    assert (np.array(beside) > 2 * np.array(outside)).all()


def test_morphology_at_difficulty_zero_is_that_of_the_literature():
    known = (made := simulate(2000, difficulty=0, rng=7)).properties
    lymphocyte, neutrophil = made.labels == 0, made.labels == 1
    assert known["cell_diameter_um"][lymphocyte].mean() == pytest.approx(7.7, abs=0.1)
    assert known["cell_diameter_um"][neutrophil].mean() == pytest.approx(8.2, abs=0.1)
    assert known["nc_ratio"][lymphocyte].mean() > known["nc_ratio"][neutrophil].mean() + 0.1
    shares = np.bincount(known["n_lobes"][neutrophil])[2:] / neutrophil.sum()
    assert shares == pytest.approx([0.28, 0.53, 0.15, 0.04], abs=0.04)


def test_accuracy_falls_as_difficulty_rises():
    model = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy: list[float] = []
    for difficulty in (0, 0.5, 0.75, 1):
        made = simulate(1200, difficulty=difficulty, rng=11)
        scores = cross_val_score(model, shape_features(made.images), made.labels, cv=5)
        accuracy.append(float(scores.mean()))
    assert accuracy[0] > 0.98
    assert np.diff(accuracy).max() < -0.03
    assert 0.55 < accuracy[-1] < 0.75


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
def test_neither_brightness_nor_cell_size_gives_the_class_away(difficulty: float):
    made = simulate(1000, difficulty=difficulty, rng=13)
    total = made.images.sum((1, 2, 3), dtype=np.int64)
    for column, limit in (
        (total, 0.06),
        (made.properties["photons"], 0.06),
        (made.properties["brightness"], 0.06),
        (made.properties["cell_area_um2"], 0.3),
    ):
        assert abs(roc_auc_score(made.labels, column) - 0.5) < limit


def test_variance_of_the_counts_grows_with_their_mean_by_the_gain():
    optics = Optics(gain=0.2, read_noise=10, background=50, offset=30)
    levels = np.array([0, 100, 1000, 10000.0])
    counts = expose(np.repeat(levels, 40000).reshape(4, 200, 200), optics, np.random.default_rng(0))
    mean, variance = counts.mean((1, 2)), counts.var((1, 2))
    assert mean == pytest.approx(30 + 0.2 * (levels + 50), rel=0.01)
    assert variance == pytest.approx(0.2 * (mean - 30) + (0.2 * 10) ** 2 + 1 / 12, rel=0.03)


def test_counts_saturate_at_12_bits():
    counts = expose(np.full((1, 4, 4), 1e9), Optics(), np.random.default_rng(0))
    assert (counts == 4095).all()


def test_the_lens_keeps_light_and_passes_nothing_beyond_its_cutoff():
    optics = Optics(pixel_size_um=0.1, motion_blur_um=0)
    transfer = transfer_functions(64, np.array([0.0, 1.0, 4.0]), optics)
    assert np.allclose(transfer[:, 0, 0], 1)
    frequency = np.hypot(np.fft.fftfreq(64, 0.1)[:, None], np.fft.rfftfreq(64, 0.1))
    assert np.abs(transfer[:, frequency > 2 * 0.9 / 0.62]).max() < 1e-6
    assert (np.abs(transfer[1:]) <= transfer[0] + 1e-6).all()


def test_the_focused_point_is_an_airy_disc():
    optics = Optics(pixel_size_um=0.05, motion_blur_um=0)
    point = np.zeros((1, 128, 128), dtype=np.float32)
    point[0, 64, 64] = 1
    line = flat_through_lens(point, np.zeros(1), optics)[0, 64, 64:]
    first_dark_ring = 0.05 * np.flatnonzero(np.diff(line) > 0)[0]
    assert first_dark_ring == pytest.approx(0.61 * 0.62 / 0.9, abs=0.05)


def test_motion_blurs_along_the_flow_only():
    point = np.zeros((1, 64, 64), dtype=np.float32)
    point[0, 32, 32] = 1
    image = flat_through_lens(point, np.zeros(1), Optics(motion_blur_um=2))[0]
    down, across = (profile > profile.max() / 2 for profile in (image[:, 32], image[32]))
    assert across.sum() <= 3
    assert down.sum() * 0.33 == pytest.approx(2, abs=0.35)


def test_defocus_makes_images_lose_contrast():
    sharp = simulate(200, difficulty=0, optics=Optics(focus_sd_um=0), rng=1)
    blurred = simulate(200, difficulty=0, optics=Optics(focus_sd_um=4), rng=1)
    far = np.abs(blurred.properties["defocus_um"]) > 2.5
    ratio = blurred.images.max((1, 2, 3)) / sharp.images.max((1, 2, 3))
    assert np.median(ratio[far]) < 0.8
    assert blurred.images.mean() == pytest.approx(sharp.images.mean(), rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plant_is_in_its_class_as_often_as_asked_and_masked_there_alone(kind: str):
    made = simulate(800, plant=Plant(kind, "lympho", frequency=0.4), rng=2)
    carries = made.properties["has_plant"]
    assert not carries[made.labels == 1].any()
    assert carries[made.labels == 0].mean() == pytest.approx(0.4, abs=0.07)
    assert np.array_equal(made.masks["plant"].any((1, 2)), carries)
    assert np.array_equal(np.isfinite(made.properties["plant_contrast"]), carries)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plant_changes_the_image_by_its_contrast_and_within_its_mask(kind: str):
    plain = simulate(60, difficulty=0, optics=QUIET, rng=8)
    made = simulate(60, difficulty=0, plant=Plant(kind, contrast=1.5), optics=QUIET, rng=8)
    change = made.images[:, 0].astype(float) - plain.images[:, 0]
    carries = made.properties["has_plant"]
    assert np.array_equal(carries, made.labels == 1)
    assert np.array_equal(plain.masks["nucleus"], made.masks["nucleus"])
    peak = change[carries].max((1, 2))
    strongest = np.array(
        [i.max() == i[m].max() for i, m in zip(change, made.masks["plant"]) if m.any()]
    )
    assert strongest.all()
    nuclear = made.properties["brightness"] / made.masks["nucleus"].sum((1, 2)) * 1e9 * 1e-5
    measured = peak / nuclear[carries]
    assert measured == pytest.approx(made.properties["plant_contrast"][carries], rel=0.02, abs=0.02)
    assert (measured > 0.6 * 1.5).all()  # the lens takes some of it
    assert (measured < 1.05 * 1.5).all()
    if kind != "texture":
        mask = made.masks["plant"][carries]
        assert (change[carries][~mask]).max() < 0.51 * peak.max()


def test_a_granule_is_masked_where_it_was_put_and_as_large_as_asked():
    made = simulate(100, difficulty=0, plant=Plant("granule", size_um=2), optics=QUIET, rng=8)
    for i in np.flatnonzero(made.properties["has_plant"]):
        row, column = np.nonzero(made.masks["plant"][i])
        assert column.mean() == pytest.approx(made.properties["plant_x_px"][i], abs=0.5)
        assert row.mean() == pytest.approx(made.properties["plant_y_px"][i], abs=0.5)
        assert 2 * np.sqrt(row.size / np.pi) * 0.33 == pytest.approx(2, abs=0.35)


def test_progress_is_told_to_the_end():
    told: list[tuple[int, int, str]] = []
    simulate(100, rng=0, progress=lambda *news: told.append(news))
    assert told[-1][:2] == (100, 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "cells: 0"),
        ({"difficulty": 1.2}, "difficulty is 1.2"),
        ({"difficulty": float("nan")}, "difficulty is nan"),
        ({"size": 8}, "size is 8"),
        ({"size": 24}, r"choose a size of at least 37, or Optics\(pixel_size_um=0.5\)"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], message: str):
    with pytest.raises(SettingError, match=message):
        simulate(**{"n": 4, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "stripe"}, "plant 'stripe' is unknown; choose one of: granule, rim, bar"),
        ({"class_name": "monocyte"}, "choose one of: lymphocyte, neutrophil"),
        ({"size_um": -1}, "size_um is -1"),
        ({"contrast": 0}, "contrast is 0"),
        ({"frequency": 1.5}, "frequency is 1.5"),
        ({"period_um": float("nan")}, "period_um is nan"),
    ],
)
def test_a_plant_that_cannot_be_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(SettingError, match=message):
        Plant(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"na": 1.4}, {"gain": 0}, {"read_noise": -1}, {"photons": np.inf}])
def test_optics_that_cannot_be_are_refused(bad: dict[str, float]):
    with pytest.raises(SettingError, match="optics: "):
        Optics(**bad)
