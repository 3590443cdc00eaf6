import numpy as np
import pytest

from cytolens.validation.measures import chance_of, overlap, points_at


def mask(rows: slice, columns: slice) -> np.ndarray:
    made = np.zeros((1, 12, 12), bool)
    made[:, rows, columns] = True
    return made


def peak(row: int, column: int) -> np.ndarray:
    made = np.zeros((1, 12, 12))
    made[0, row, column] = 1
    return made


def test_the_peak_may_lie_one_pixel_beside_the_mask_and_no_further():
    square = mask(slice(4, 7), slice(4, 7))
    assert points_at(peak(5, 5), square)[0]
    assert points_at(peak(7, 7), square)[0]
    assert not points_at(peak(8, 5), square)[0]
    assert not points_at(peak(7, 5), square, tolerance=0)[0]


def test_a_map_without_evidence_points_at_nothing():
    assert not points_at(np.zeros((1, 12, 12)), mask(slice(0, 12), slice(0, 12)))[0]


def test_overlap_is_one_for_the_mask_itself_and_none_elsewhere():
    square = mask(slice(4, 7), slice(4, 7))
    assert overlap(square.astype(float), square) == pytest.approx(1)
    assert overlap(1 - square.astype(float), square) == pytest.approx(0)
    shifted = mask(slice(4, 7), slice(5, 8)).astype(float)
    assert overlap(shifted, square) == pytest.approx(6 / 12)
    assert np.isnan(overlap(shifted, np.zeros_like(square))).all()


def test_chance_is_the_share_of_the_cell_that_the_plant_covers():
    cell = mask(slice(0, 6), slice(0, 12))
    assert chance_of(mask(slice(4, 8), slice(0, 12)), cell) == pytest.approx(24 / 72)
