import numpy as np

from cytolens.embedding.methods import embed
from cytolens.embedding.refinement import first_places, near_neighbours
from cytolens.numerics.neighbours import find_neighbours


def clusters(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 6 * rng.normal(size=(6, 10))
    return (centres[rng.integers(0, 6, n)] + rng.normal(size=(n, 10))).astype(np.float32)


def test_a_refined_map_of_few_landmarks_keeps_as_many_neighbours_as_one_of_all_cells():
    features = clusters(1300)
    refined = embed(features, landmarks=300, rng=0, threads=1)
    direct = embed(features, rng=0, threads=1)
    assert refined.settings["refined_with_neighbours"] == 30
    assert refined.quality["recall_10"] > direct.quality["recall_10"] - 0.03


def test_cells_begin_at_the_nearest_that_has_a_place_also_far_from_all_landmarks():
    features = np.array([[0], [1], [2.5], [100], [101]], dtype=np.float32)
    near = np.array([[1], [0], [1], [4], [3]])
    begun = first_places(features, near, np.array([0]), np.array([[7, 8]], dtype=np.float32))
    np.testing.assert_array_equal(begun, np.tile([7, 8], (5, 1)))
    begun = first_places(features, near, np.array([0, 3]), np.array([[7, 8], [1, 2]], np.float32))
    np.testing.assert_array_equal(begun, [[7, 8]] * 3 + [[1, 2]] * 2)


def test_most_near_neighbours_are_the_nearest_and_none_is_the_cell_itself():
    features = clusters(4000)
    features[:40] = features[0]
    features[-3:] = 1e3 * np.arange(1, 4)[:, None]  # in lists of their own
    found, true = near_neighbours(features, 20, None), find_neighbours(features, 20)
    assert (found.indices != np.arange(4000)[:, None]).all()
    assert found.indices.min() >= 0
    assert (np.diff(found.distances) >= 0).all()
    shared = (found.indices[40:, :, None] == true.indices[40:, None]).any(axis=2).mean()
    assert shared > 0.95
