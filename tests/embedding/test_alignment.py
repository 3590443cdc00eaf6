import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.embedding.alignment import align, displacement, flip, start_from


def cloud(seed: int = 0, n: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2)) * [3, 1]


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0, 6.3), mirrored=st.booleans(), seed=st.integers(0, 1000))
def test_a_turned_or_mirrored_map_is_turned_back(angle: float, mirrored: bool, seed: int):
    fixed = cloud(seed)
    fixed = fixed - fixed.mean(axis=0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moving = (fixed * ([-1, 1] if mirrored else [1, 1])) @ turn + [5, -2]
    np.testing.assert_allclose(align(moving, fixed), fixed, atol=1e-4)


def test_aligning_changes_no_distance_within_the_map():
    moving = cloud(1)
    aligned = align(moving, 7 * cloud(2))
    for a, b in ((0, 1), (3, 40)):
        before = np.linalg.norm(moving[a] - moving[b])
        assert np.linalg.norm(aligned[a] - aligned[b]) == pytest.approx(before, rel=1e-5)


def test_flipping_changes_signs_only():
    fixed = cloud()
    np.testing.assert_allclose(flip(fixed * [-1, 1], fixed), fixed, rtol=1e-6)


def test_displacement_is_none_for_the_same_map_and_a_share_of_its_width():
    fixed = cloud()
    assert displacement(fixed + 4, fixed) == pytest.approx(0, abs=1e-12)
    square = np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
    assert displacement(-square, square) == pytest.approx(1)


def test_a_start_is_small_and_no_two_cells_coincide():
    start = start_from(np.zeros((20, 2)), rng=np.random.default_rng(0))
    assert len(np.unique(start, axis=0)) == 20
    spread = start_from(cloud(), rng=np.random.default_rng(0)).std(axis=0)
    assert spread.max() == pytest.approx(1e-4, rel=0.01)
