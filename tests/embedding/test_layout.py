import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.embedding import thumbnail_layout
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
