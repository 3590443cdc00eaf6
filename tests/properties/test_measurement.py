"""Shapes whose properties are known, and cells that cannot be found."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.feature import graycomatrix
from skimage.measure import regionprops

from cytolens.errors import SettingError
from cytolens.images.arrays import cells_from_arrays
from cytolens.properties.measurement import (
    CHECKS,
    OF_THE_CROP,
    PROPERTIES,
    measure_cells,
)
from cytolens.properties.wholeness import find_look, find_regions

SIDE = 48
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)
MIDDLE = (SIDE - 1) / 2


def ellipse(a: float, b: float, *, angle: float = 0.0, at: tuple[float, float] = (0.0, 0.0)):
    """Half-axes in px, angle in degrees, centre off the middle (y, x)."""
    y, x = Y - MIDDLE - at[0], X - MIDDLE - at[1]
    turn = np.deg2rad(angle)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (u / a) ** 2 + (v / b) ** 2 <= 1


def dumbbell(gap: float):
    return ellipse(9, 9, at=(0, -gap / 2)) | ellipse(9, 9, at=(0, gap / 2))


def measured(*shapes, value: float = 800.0, ground: float = 100.0, noise: float = 6.0, **more):
    rng = np.random.default_rng(0)
    crops = np.stack([ground + (value - ground) * shape for shape in shapes])
    crops = crops + rng.normal(0, noise, crops.shape)
    return measure_cells(cells_of(np.clip(crops, 0, 4095), **more))[0]


def cells_of(crops, **more):
    """Cells of few crops; each is stored several times, as a data set needs 20."""
    n, often = len(crops), -(-20 // len(crops))
    many = [np.asarray(crop).astype(np.uint16) for crop in crops] * often
    labels = (["a", "b"] * len(many))[: len(many)]
    return cells_from_arrays(many, labels, size=SIDE, **more).subset(np.arange(n))


def test_a_disc_has_its_area_and_is_round_whole_and_one() -> None:
    found = measured(ellipse(12, 12), ellipse(12, 12, at=(3, -4)))
    assert found["area"] == pytest.approx(np.pi * 144, rel=0.05)
    assert (found["eccentricity"] < 0.2).all()
    assert (found["solidity"] > 0.95).all()
    assert found["lobes"].tolist() == [1, 1]
    assert found["off_centre"] == pytest.approx([0, 5], abs=0.3)
    assert found["mean_brightness"] == pytest.approx(700, rel=0.05)
    assert found["total_brightness"] == pytest.approx(700 * np.pi * 144, rel=0.03)
    assert set(found) == set(PROPERTIES)


def test_an_ellipse_has_its_eccentricity_however_it_is_turned() -> None:
    found = measured(*(ellipse(16, 8, angle=angle) for angle in (0, 30, 45, 77, 90)))
    assert found["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.02)
    for name in ("area", "solidity", "texture_contrast", "texture_entropy"):
        assert np.ptp(found[name]) < 0.15 * found[name].mean(), name


def test_lobes_are_counted_and_lower_solidity() -> None:
    three = dumbbell(22) | ellipse(9, 9, at=(14, 0))
    found = measured(ellipse(14, 14), dumbbell(17), three, ellipse(20, 7))
    assert found["lobes"].tolist() == [1, 2, 3, 1]
    assert found["solidity"][0] > found["solidity"][1] > 0.8


def test_shape_agrees_with_scikit_image() -> None:
    shapes = [ellipse(15, 9, angle=20), dumbbell(18), ellipse(7, 7, at=(8, 8))]
    found = measured(*shapes, noise=0.0)
    for k, shape in enumerate(shapes):
        smooth = regionprops(shape.astype(int))[0]
        assert found["eccentricity"][k] == pytest.approx(smooth.eccentricity, abs=0.05)
        assert found["solidity"][k] == pytest.approx(smooth.solidity, abs=0.03)


def test_texture_does_not_depend_on_brightness_but_on_grain() -> None:
    grain = ellipse(14, 14) * (1 + 0.4 * np.sin(X * 2.5) * np.sin(Y * 2.5))
    fine, same = measured(grain, grain), measured(grain * 0.5, grain, noise=3.0)
    assert fine["texture_contrast"][0] == pytest.approx(same["texture_contrast"][0], rel=0.1)
    smooth = measured(ellipse(14, 14) * (1.2 - ((Y - MIDDLE) ** 2 + (X - MIDDLE) ** 2) / 400))
    assert fine["texture_contrast"][0] > 1.5 * smooth["texture_contrast"][0]


def test_texture_is_that_of_the_co_occurrence_matrix() -> None:
    rng = np.random.default_rng(1)
    disc = ellipse(12, 12)
    crop = np.where(disc, rng.integers(500, 4000, disc.shape), 20)
    found = measure_cells(cells_of([crop]))[0]
    levels = rng.integers(0, 16, (200, 200)).astype(np.uint8)
    table = graycomatrix(levels, [1], [0], 16, symmetric=True, normed=True)[..., 0, 0]
    entropy = -(table[table > 0] * np.log2(table[table > 0])).sum()
    assert found["texture_entropy"][0] == pytest.approx(entropy, rel=0.15)


def test_blur_lowers_focus() -> None:
    from scipy.ndimage import gaussian_filter

    sharp = ellipse(12, 12).astype(float)
    found = measured(sharp, gaussian_filter(sharp, 2), gaussian_filter(sharp, 4))
    assert found["focus"][0] > found["focus"][1] > found["focus"][2]


def test_dark_cells_on_a_bright_ground_are_found_too() -> None:
    found = measured(*[ellipse(12, 12)] * 4, value=200.0, ground=900.0)
    assert found["area"] == pytest.approx(np.pi * 144, rel=0.05)
    assert found["mean_brightness"] == pytest.approx(700, rel=0.05)


def test_where_there_is_no_cell_there_is_no_number() -> None:
    empty = np.zeros((SIDE, SIDE), dtype=bool)
    cut = ellipse(40, 20, at=(24, 0))  # most of its outline lies outside of the crop
    found = measured(empty, ellipse(12, 12), cut, ellipse(1.2, 1.2))
    for name in set(PROPERTIES) - set(OF_THE_CROP):
        assert np.isnan(found[name]).tolist() == [True, False, True, True], name


def test_a_ramp_is_no_cell_and_padding_is_not_measured() -> None:
    disc = 100 + 700 * ellipse(10, 10)
    found = measure_cells(cells_of([100 + 10 * X, disc, disc[8:38, 6:46]]))[0]
    assert np.isnan(found["area"]).tolist() == [True, False, False]
    assert found["area"][1:] == pytest.approx(np.pi * 100, rel=0.06)
    assert found["off_centre"][2] == pytest.approx(np.hypot(1, 2), abs=0.8)
    assert found["crop_height"].tolist() == [48, 48, 30]
    assert found["crop_width"].tolist() == [48, 48, 40]


def test_the_order_of_cells_and_the_batch_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    cells = cells_of([100 + 500 * ellipse(*rng.uniform(6, 18, 2)) for _ in range(30)])
    order = rng.permutation(30)
    whole = measure_cells(cells)[0]
    turned = measure_cells(cells.subset(order), batch=7)[0]
    for name, values in whole.items():
        np.testing.assert_allclose(turned[name], values[order], rtol=1e-12, err_msg=name)


def test_a_channel_can_be_named_and_is_else_the_one_that_shows_the_cell() -> None:
    disc = 100 + 500 * ellipse(12, 12)
    rough = 900 - disc + np.random.default_rng(0).normal(0, 60, disc.shape)
    crop = np.stack([np.zeros_like(disc), disc, rough], axis=-1)
    crop[0, 0, 0] = 1
    cells = cells_of([crop, crop], channel_names=("empty", "DNA", "brightfield"))
    found = measure_cells(cells)[0]
    assert found["area"] == pytest.approx(np.pi * 144, rel=0.05)
    assert found["mean_brightness"] == pytest.approx(500, rel=0.05)
    assert found["brightness_empty"] == pytest.approx(0)
    assert found["brightness_brightfield"] == pytest.approx(-500, rel=0.05)
    named = measure_cells(cells, channel="dna")[0]
    assert all(np.array_equal(found[name], values) for name, values in named.items())
    assert np.isnan(measure_cells(cells, channel=0)[0]["area"]).all()
    for unknown in ("actin", 3):
        with pytest.raises(SettingError, match="empty, DNA, brightfield"):
            measure_cells(cells, channel=unknown)


def test_crops_can_be_measured_as_others_were_where_their_own_look_is_another() -> None:
    disc = 100 + 500 * ellipse(12, 12)
    faint = disc + np.random.default_rng(0).normal(0, 150, disc.shape)
    names = ("left", "right")
    others = cells_of([np.stack([disc, faint], axis=-1)] * 2, channel_names=names)
    changed = cells_of([np.stack([faint, disc], axis=-1)] * 2, channel_names=names)
    by_itself = measure_cells(changed)[0]
    as_others = measure_cells(changed, look=find_look(others))[0]
    assert "brightness_left" in by_itself
    assert "brightness_right" in as_others
    assert set(as_others) == set(measure_cells(others)[0])


def test_focus_tells_of_blur_rather_than_of_lobes() -> None:
    shapes = [ellipse(14, 14), dumbbell(17), ellipse(20, 7, angle=30), dumbbell(22)]
    sharp, soft = ([gaussian_filter(shape.astype(float), s) for shape in shapes] for s in (1, 2.5))
    found = measured(*sharp, *soft)["focus"]
    assert found[:4].min() > 2 * found[4:].max()


def test_checks_are_known_of_every_crop_and_tell_what_is_wrong_with_it() -> None:
    two = ellipse(8, 8, at=(0, -12)) | ellipse(7, 7, at=(0, 12))
    empty = np.zeros((SIDE, SIDE), dtype=bool)
    flat = np.where(ellipse(12, 12), 4095, 100)
    rng = np.random.default_rng(0)
    crops = [100 + 700 * shape + rng.normal(0, 6, shape.shape) for shape in (two, empty)]
    _, checks = measure_cells(cells_of([*crops, flat]))
    assert set(checks) == set(CHECKS)
    assert checks["radius"][0] == pytest.approx(8, abs=1.5)
    assert checks["second_radius"][0] == pytest.approx(7, abs=1.5)
    assert checks["second_radius"][2] == 0
    assert checks["all_parts"][0] == pytest.approx(np.pi * (8**2 + 7**2), rel=0.15)
    assert checks["faint_area"][1] == checks["speck"][1] == 0
    assert checks["contact"].tolist() == [0, checks["contact"][1], 0]
    assert checks["separability"][1] < 0.7 < checks["separability"][0]
    assert checks["peak"][2] == 4095
    assert checks["plateau"][2] > 0.9 > checks["plateau"][0]
    assert checks["cut"].tolist() == [0, checks["cut"][1], 0]


def test_where_a_cell_lies_and_how_much_was_padded_is_known() -> None:
    disc = 100 + 500 * ellipse(9, 9, at=(3, -5))
    crops = [disc, disc[6:-6, 4:-4]]
    found = measure_cells(cells_of(crops))[0]
    assert found["offset_x"] == pytest.approx([-5, -5], abs=0.3)
    assert found["offset_y"] == pytest.approx([3, 3], abs=0.3)
    assert found["crop_size"].tolist() == [48 * 48, 36 * 40]
    assert found["padding_share"] == pytest.approx([0, 1 - 36 * 40 / 48**2])
    assert found["background"] == pytest.approx([100, 100])


def test_what_was_taken_for_the_cell_is_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    shapes = [ellipse(9, 9), ellipse(12, 6), ellipse(8, 8, at=(0, -12)) | ellipse(7, 7, at=(0, 12))]
    shapes.append(np.zeros((SIDE, SIDE), dtype=bool))
    cells = cells_of([100 + 700 * shape + rng.normal(0, 6, shape.shape) for shape in shapes])
    found = find_regions(cells, np.arange(4), like=np.arange(4))
    for region, shape in zip(found[:3], np.array(shapes)):
        assert (region & shape).sum() / (region | shape).sum() > 0.85
    assert not found[3].any()
    assert find_regions(cells, np.arange(0), like=np.arange(4)).shape == (0, SIDE, SIDE)
