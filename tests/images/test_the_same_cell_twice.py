"""The same cell twice is found, and two cells are not taken for one."""

from pathlib import Path

import numpy as np
import pytest

from cytolens.images.arrays import cells_from_arrays
from cytolens.images.duplicates import find_duplicates
from cytolens.images.reading import read_cells
from cytolens.records.cells import Duplicates
from cytolens.simulation.simulate import simulate

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def again(crops: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each crop (n, C, S, S) shifted by up to 3 px, turned, mirrored, with noise of 2 %."""
    made = np.empty(crops.shape, dtype=float)
    side = crops.shape[-1]
    for i, crop in enumerate(crops.astype(float) - ground[:, None, None]):
        y, x = rng.integers(0, 7, 2)
        moved = np.pad(crop, ((0, 0), (3, 3), (3, 3)))[:, y : y + side, x : x + side]
        moved = np.rot90(moved, rng.integers(4), axes=(1, 2))[..., :: rng.choice([1, -1])]
        made[i] = moved + 0.02 * np.ptp(crop) * rng.normal(size=crop.shape)
    return made + ground[:, None, None]


def recall(found: Duplicates, sources: np.ndarray, n: int) -> float:
    pairs = set(map(tuple, found.pairs.tolist()))
    return float(np.mean([(cell, n + k) in pairs for k, cell in enumerate(sources.tolist())]))


@pytest.mark.parametrize("difficulty", [0.0, 0.7])
def test_planted_duplicates_are_found_and_distinct_cells_are_not(difficulty: float) -> None:
    made = simulate(300, size=48, difficulty=difficulty, rng=2)
    rng = np.random.default_rng(0)
    sources = np.sort(rng.permutation(300)[:60])
    ground = np.array([np.median(made.images)])
    crops = np.concatenate([made.images, again(made.images[sources], ground, rng)])
    labels = np.concatenate([made.labels, made.labels[sources]])
    found = find_duplicates(cells_from_arrays(crops, labels), rng=0)
    assert recall(found, sources, 300) >= 0.95
    known = {(cell, 300 + k) for k, cell in enumerate(sources.tolist())}
    assert set(map(tuple, found.pairs.tolist())) <= known
    assert np.all(found.differences < 0.03)


def test_no_simulated_cell_is_another() -> None:
    made = simulate(400, size=64, difficulty=0.3, rng=3)
    found = find_duplicates(cells_from_arrays(made.images, made.labels), rng=0)
    assert len(found.pairs) == 0
    assert found.looked_at.tolist() == list(range(400))


def test_a_draw_of_many_cells_is_compared_and_said() -> None:
    made = simulate(120, size=48, rng=0)
    crops = np.concatenate([made.images, made.images])
    cells = cells_from_arrays(crops, np.tile(made.labels, 2))
    found = find_duplicates(cells, most=100, rng=0)
    assert len(found.looked_at) == 100
    assert np.isin(found.pairs, found.looked_at).all()
    assert np.all(found.pairs[:, 1] - found.pairs[:, 0] == 120)


def test_pairs_across_two_parts_come_in_their_order() -> None:
    found = Duplicates(np.array([[0, 5], [1, 2], [3, 4]]), np.zeros(3), np.arange(6))
    across = found.across(np.array([5, 3]), np.array([0, 1, 4]))
    assert sorted(map(tuple, across.tolist())) == [(3, 4), (5, 0)]


@pytest.mark.skipif(not (SHARED / "tcell_autofluorescence").is_dir(), reason="no shared data")
def test_real_cells_that_are_planted_again_are_found_and_no_others() -> None:
    cells = read_cells(SHARED / "tcell_autofluorescence" / "images")
    raw = cells.images.read_raw(np.arange(len(cells)))
    rng = np.random.default_rng(0)
    sources = np.sort(rng.permutation(len(raw))[:80])
    ground = np.array(cells.preparation.background)
    crops = np.concatenate([raw, again(raw[sources], ground, rng)])
    labels = np.concatenate([cells.labels, cells.labels[sources]])
    found = find_duplicates(cells_from_arrays(crops, labels), rng=0)
    assert recall(found, sources, len(raw)) >= 0.95
    assert len(found.pairs) <= 80
