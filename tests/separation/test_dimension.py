import numpy as np
import pytest
from numpy.typing import NDArray
from skdim.id import TwoNN

from cytolens.separation.dimension import neighbour_ratios, two_nearest_dimension
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]


def dimension(features: Array, asked: NDArray[np.int64] | None = None) -> float:
    ratios, _ = neighbour_ratios(features, np.arange(len(features)) if asked is None else asked)
    return float(two_nearest_dimension(ratios, np.ones((1, len(ratios))))[0])


def plane(n: int, d: int, f: int, seed: int = 0) -> Array:
    """Cells that vary in ``d`` directions of a space of ``f``."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, d)) @ rng.normal(size=(d, f))).astype(np.float32)


@pytest.mark.parametrize(("d", "f"), [(1, 3), (2, 10), (5, 40), (12, 64)])
def test_it_is_that_of_scikit_dimension(d: int, f: int):
    features = plane(700, d, f)
    oracle = TwoNN().fit(features.astype(np.float64)).dimension_
    assert dimension(features) == pytest.approx(oracle, rel=1e-3)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_cells_on_a_plane_have_its_dimension(d: int):
    assert dimension(plane(3000, d, 20)) == pytest.approx(d, rel=0.1)


def test_rotating_scaling_and_moving_changes_nothing():
    features = plane(500, 3, 8)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    moved = (0.01 * features @ turn + 3).astype(np.float32)
    assert dimension(moved) == pytest.approx(dimension(features), rel=1e-2)


def test_cells_that_coincide_count_once():
    features = plane(400, 3, 8)
    doubled = np.concatenate([features, features[:200], features[:100]])
    assert dimension(doubled) == pytest.approx(dimension(features), rel=1e-6)


def test_each_ratio_names_its_cell():
    features = plane(300, 2, 5)
    asked = np.arange(0, 300, 3)
    ratios, cells = neighbour_ratios(features, asked)
    np.testing.assert_array_equal(cells, asked)
    away = np.linalg.norm(features[30] - np.delete(features, 30, axis=0), axis=1)
    nearest, second = np.sort(away)[:2]
    assert ratios[10] == pytest.approx(second / nearest, rel=1e-4)


def test_weights_count_as_copies():
    ratios, _ = neighbour_ratios(plane(400, 3, 8), np.arange(400))
    twice = two_nearest_dimension(ratios, np.full((1, 400), 2.0))[0]
    assert twice == pytest.approx(dimension(plane(400, 3, 8)), rel=0.01)


def test_resampling_the_ratios_gives_the_spread_of_repeated_sampling():
    """Resampling the cells would not: a copy of a cell is its nearest neighbour."""
    values = [dimension(plane(300, 4, 10, seed=seed)) for seed in range(60)]
    ratios, _ = neighbour_ratios(plane(300, 4, 10), np.arange(300))
    rng = np.random.default_rng(0)
    counts = rng.multinomial(300, np.full(300, 1 / 300), size=300).astype(float)
    drawn = two_nearest_dimension(ratios, counts)
    assert drawn.std() == pytest.approx(np.std(values), rel=0.35)
    assert drawn.mean() == pytest.approx(dimension(plane(300, 4, 10)), rel=0.05)


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((200, 4), np.float32),
        np.repeat(plane(10, 2, 4), 20, axis=0),
        plane(12, 2, 4),
        np.arange(100, dtype=np.float32)[:, None],  # a grid: all ratios are 1, or 2 at its ends
    ],
)
def test_too_few_places_or_a_grid_have_no_dimension(features: Array):
    value = dimension(features)
    assert np.isnan(value) or len(np.unique(features)) == 100


def test_features_that_know_of_each_other_stay_below_independent_ones():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    bound = measure_separation(
        plane(400, 3, 30), labels, permutations=1, resamples=50, rng=0, threads=1
    )["intrinsic_dimension"]
    free = measure_separation(
        rng.random((400, 10)), labels, permutations=1, resamples=50, rng=0, threads=1
    )["intrinsic_dimension"]
    assert bound.null is not None
    assert bound.high < bound.null
    assert free.value == pytest.approx(free.null, rel=0.15)
