"""Cells as a sequence and as an array."""

from typing import Any

import numpy as np
import pytest

from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells

CROPS = np.random.default_rng(0).integers(0, 200, (40, 2, 16, 18), dtype=np.uint8)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return cells_from_arrays(
        CROPS,
        ["G1", "G2"] * 20,
        groups=["donor 1", "donor 1", "donor 2", "donor 2"] * 10,
        group_name="donor",
        covariates={"area": np.arange(40)},
        size=(16, 18),
        intensity="none",
    )


def test_one_cell_has_its_image_and_what_is_known_of_it(cells: Cells) -> None:
    cell = cells[3]
    assert cell.image.dtype == np.float32
    assert np.array_equal(cell.image, CROPS[3])
    assert (cell.name, cell.label, cell.class_name) == ("arrays[3]", 1, "G2")
    assert (cell.group, cell.covariates) == ("donor 2", {"area": 3})


@pytest.mark.parametrize(
    "index",
    [
        slice(10),
        slice(None, None, -3),
        np.array([5, 1, -1]),
        [7, 7, 0],
        np.arange(40) % 3 == 0,
        (np.arange(40) > 30).tolist(),
        [],
    ],
)
def test_slices_masks_and_indices_give_the_cells_that_numpy_gives(cells: Cells, index: Any) -> None:
    expected = np.arange(40)[index if np.size(index) else slice(0)]
    chosen = cells[index]
    assert isinstance(chosen, Cells)
    assert chosen.covariates["area"].tolist() == expected.tolist()
    assert chosen.names.tolist() == [f"arrays[{i}]" for i in expected]
    assert np.array_equal(np.asarray(chosen), CROPS[expected])


def test_a_choice_of_a_choice_is_the_choice(cells: Cells) -> None:
    twice = cells[5:25][np.array([3, -1])]
    assert np.array_equal(np.asarray(twice), CROPS[[8, 24]])
    assert np.array_equal(twice[-1].image, CROPS[24])


def test_places_count_from_either_end_and_stop_there(cells: Cells) -> None:
    assert cells[-1].name == cells[np.int64(39)].name == "arrays[39]"
    for place in (40, -41):
        with pytest.raises(IndexError):
            cells[place]
    for index in ("G1", 1.0, (0, 1)):
        with pytest.raises(TypeError):
            cells[index]  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_iterating_gives_every_cell_once_in_order(cells: Cells) -> None:
    seen = list(cells)
    assert [cell.name for cell in seen] == cells.names.tolist()
    assert np.array_equal([cell.image for cell in seen], CROPS)


def test_cells_become_arrays_of_the_type_asked_for(cells: Cells) -> None:
    assert np.asarray(cells).dtype == np.float32
    assert np.asarray(cells, dtype=np.float64).dtype == np.float64
    assert np.array(cells[:4]).shape == (4, 2, 16, 18)
    with pytest.raises(ValueError, match="copy"):
        cells.__array__(copy=False)


def test_a_cell_without_a_known_class_says_so(cells: Cells) -> None:
    from dataclasses import replace

    assert replace(cells, labels=np.full(40, -1))[0].class_name == "unknown"
