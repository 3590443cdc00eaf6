import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.embedding.layout import layout_of_part, most_mixed_part, thumbnail_layout
from cytolens.errors import SettingError


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 200), rows=st.integers(1, 12), columns=st.integers(1, 12),
    fill=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_no_two_thumbnails_share_a_square_and_all_lie_on_the_grid(n, rows, columns, fill, seed):
    coordinates = np.random.default_rng(seed).normal(size=(n, 2)) * [5, 2]
    cells, squares = thumbnail_layout(coordinates, grid=(rows, columns), fill=fill)
    assert len(cells) == len(np.unique(cells)) == len(squares)
    assert len(np.unique(squares, axis=0)) == len(squares)
    assert (squares >= 0).all()
    assert (squares < [columns, rows]).all()
    if fill:
        assert len(cells) == min(n, rows * columns)


def test_the_picture_keeps_left_and_right_below_and_above():
    corners = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    for fill in (False, True):
        cells, squares = thumbnail_layout(corners, grid=(2, 2), fill=fill)
        places = {int(cell): tuple(square) for cell, square in zip(cells, squares.tolist())}
        assert places == {0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (1, 1)}


def test_the_cell_nearest_to_the_middle_of_its_square_is_shown():
    coordinates = np.array([[0.0, 0], [4, 4], [1, 1], [0.4, 0.4]])
    cells, _ = thumbnail_layout(coordinates, grid=(2, 2))
    assert set(cells) == {2, 1}


def test_squares_without_cells_stay_empty_and_a_long_map_is_not_stretched():
    line = np.column_stack([np.linspace(0, 10, 100), np.zeros(100)])
    cells, squares = thumbnail_layout(line, grid=(9, 9))
    assert len(cells) == 9
    assert np.unique(squares[:, 1]).tolist() == [4]


def test_neighbours_stay_near_when_the_grid_is_filled():
    coordinates = np.random.default_rng(0).random((400, 2))
    cells, squares = thumbnail_layout(coordinates, grid=(20, 20), fill=True)
    for axis in range(2):
        assert np.corrcoef(coordinates[cells, axis], squares[:, axis])[0, 1] > 0.95


def test_cells_without_a_place_and_empty_maps_are_no_trouble():
    coordinates = np.array([[0.0, 0], [np.nan, 1], [1, 1]])
    assert set(thumbnail_layout(coordinates)[0]) == {0, 2}
    assert len(thumbnail_layout(np.full((3, 2), np.nan))[0]) == 0
    cells, squares = thumbnail_layout(np.zeros((5, 2)))
    assert (len(cells), len(squares)) == (1, 1)


def test_impossible_grids_are_refused():
    with pytest.raises(SettingError, match="no squares"):
        thumbnail_layout(np.zeros((5, 2)), grid=(0, 4))
    with pytest.raises(SettingError, match="at most 2500"):
        thumbnail_layout(np.zeros((5, 2)), grid=(60, 60), fill=True)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 300), grid=st.integers(1, 9), seed=st.integers(0, 99))
def test_in_a_part_every_cell_has_a_square_of_its_own_while_there_is_room(n, grid, seed):
    coordinates = np.random.default_rng(seed).normal(size=(n, 2))
    window = (-0.5, 0.7, -0.6, 0.6)
    inside = ((coordinates >= [-0.5, -0.6]) & (coordinates < [0.7, 0.6])).all(axis=1)
    cells, squares, moved = layout_of_part(coordinates, window, grid=grid)
    assert len(cells) == len(np.unique(cells)) == len(squares)
    assert len(np.unique(squares, axis=0)) == len(squares)
    assert inside[cells].all()
    assert ((squares >= 0) & (squares < grid)).all()
    if inside.sum() * 9 <= grid**2 / 9 or not inside.any():
        assert len(cells) == inside.sum()
    assert np.isnan(moved) == (not inside.any())


def test_gaps_of_a_part_stay_gaps_and_cells_are_moved_as_little_as_can_be():
    rng = np.random.default_rng(0)
    coordinates = np.concatenate([rng.random((30, 2)) * 2, [10, 10] - rng.random((30, 2)) * 2])
    cells, squares, moved = layout_of_part(coordinates, (0, 10, 0, 10), grid=10)
    middle = ((squares >= 4) & (squares < 7)).all(axis=1)
    assert not middle.any()
    assert moved < 1.5
    lower = coordinates[cells].sum(axis=1) < 10
    assert (squares[lower].sum(axis=1) < squares[~lower].sum(axis=1).min()).all()


def test_the_part_where_classes_mix_most_is_found():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    coordinates = rng.normal(size=(600, 2)) * 0.4 + np.where(labels[:, None] == 1, [5, 5], [-5, -5])
    coordinates[:80] = rng.normal(size=(80, 2)) * 0.3 + [4, -4]  # both classes
    left, right, bottom, top = most_mixed_part(coordinates, labels)
    assert left < 4 < right
    assert bottom < -4 < top
    held = (coordinates[:, 0] > left) & (coordinates[:, 0] < right) & (coordinates[:, 1] < top)
    assert held.sum() >= 80
    assert right - left == pytest.approx(top - bottom)


def test_where_nothing_mixes_the_densest_part_is_shown():
    coordinates = np.concatenate([np.random.default_rng(0).normal(size=(90, 2)), [[50.0, 50]]])
    left, right, bottom, top = most_mixed_part(coordinates, np.zeros(91, dtype=int))
    assert left < 0 < right
    assert bottom < 0 < top
    assert most_mixed_part(np.full((3, 2), np.nan), np.zeros(3, dtype=int)) is None


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_cells_in_one_place_has_a_part_too(n: int):
    window = most_mixed_part(np.zeros((n, 2)), np.arange(n))
    cells, squares, _ = layout_of_part(np.zeros((n, 2)), window)
    assert len(np.unique(squares, axis=0)) == len(cells) == n
