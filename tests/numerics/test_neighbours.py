import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from cytolens.embedding.quality import measure_quality
from cytolens.numerics import neighbours as module
from cytolens.numerics.features import principal_components, reduce_features
from cytolens.numerics.neighbours import find_neighbours, find_neighbours_elsewhere, nearest_of
from cytolens.numerics.threads import limited_threads, thread_count


def features(n: int = 200, f: int = 6, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, f)) + 50).astype(np.float32)


def test_neighbours_are_those_of_scikit_learn():
    x = features()
    found = find_neighbours(x, 7)
    distances, indices = NearestNeighbors(n_neighbors=7).fit(x).kneighbors()
    assert (found.indices == indices).mean() > 0.995  # float32 may swap near ties
    np.testing.assert_allclose(found.distances, distances, rtol=1e-3)


def test_no_cell_is_its_own_neighbour_even_among_duplicates():
    x = np.repeat(features(5), 12, axis=0)
    found = find_neighbours(x, 4)
    assert (found.indices != np.arange(60)[:, None]).all()
    np.testing.assert_allclose(found.distances, 0, atol=1e-3)


def test_neighbours_elsewhere_are_of_other_folds():
    x, folds = features(), np.random.default_rng(1).integers(0, 3, 200)
    asked = np.arange(0, 200, 3)
    found = find_neighbours_elsewhere(x, 5, folds=folds, asked=asked)
    assert (folds[found.indices] != folds[asked][:, None]).all()
    cell = asked[10]
    others = np.flatnonzero(folds != folds[cell])
    nearest = others[((x[others] - x[cell]) ** 2).sum(axis=1).argsort()[:5]]
    assert set(found.indices[10]) == set(nearest)


def test_more_neighbours_than_cells_are_clipped():
    assert find_neighbours(features(6), 90).indices.shape == (6, 5)


def test_many_cells_are_searched_with_high_recall(monkeypatch: pytest.MonkeyPatch):
    x = features(3000, 10)
    exact = find_neighbours(x, 10).indices
    monkeypatch.setattr(module, "EXACT_UP_TO", 1000)
    found = find_neighbours(x, 10).indices
    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, found)]) / 10
    assert shared > 0.9


def test_the_nearest_reference_is_found():
    x = features(30)
    np.testing.assert_array_equal(nearest_of(x, x[::-1]), np.arange(30)[::-1])


def test_only_layers_of_many_features_are_reduced():
    small, large = features(60, 256), features(60, 257)
    assert reduce_features(small) is small
    assert reduce_features(large).shape == (60, 50)


def test_principal_components_survive_any_scale():
    x = features(50, 5)
    whole, shares = principal_components(x, 2)
    tiny, tiny_shares = principal_components(1e-20 * x, 2)
    np.testing.assert_allclose(1e20 * tiny, whole, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(shares, tiny_shares, rtol=1e-3)


def test_threads_follow_the_environment_where_none_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count(None) == 3
    assert thread_count(2) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(None) >= 1
    with limited_threads(1) as count:
        assert count == 1


def test_quality_is_that_of_scikit_learn():
    x = features(150, 5)
    coordinates = x[:, :2] + 0.1 * features(150, 2, seed=1)
    found = measure_quality(x, coordinates, rng=np.random.default_rng(0))
    expected = trustworthiness(x, coordinates, n_neighbors=10)
    assert found["trustworthiness"] == pytest.approx(expected, abs=2e-3)
    near = NearestNeighbors(n_neighbors=10).fit(x).kneighbors(return_distance=False)
    near_on_map = (
        NearestNeighbors(n_neighbors=10).fit(coordinates).kneighbors(return_distance=False)
    )
    recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(near, near_on_map)]) / 10
    assert found["recall_10"] == pytest.approx(recall, abs=2e-3)


def test_quality_on_a_sample_is_close_to_that_on_all_cells():
    x = features(1500, 4)
    coordinates = x[:, :2]
    whole = measure_quality(x, coordinates, rng=np.random.default_rng(0))
    some = measure_quality(x, coordinates, queries=500, rng=np.random.default_rng(0))
    for name, value in whole.items():
        assert some[name] == pytest.approx(value, abs=0.03)


def test_a_perfect_map_has_perfect_quality_and_noise_has_none():
    x = features(300, 2)
    assert set(measure_quality(x, x, rng=np.random.default_rng(0)).values()) == {1.0}
    noise = measure_quality(x, features(300, 2, seed=5), rng=np.random.default_rng(0))
    assert noise["recall_10"] < 0.1
    assert noise["trustworthiness"] == pytest.approx(0.5, abs=0.05)


def test_duplicates_do_not_pass_for_perfect_neighbourhoods():
    x = np.zeros((100, 3), dtype=np.float32)
    x[0] = 1
    quality = measure_quality(x, features(100, 2), rng=np.random.default_rng(0))
    assert quality["recall_10"] < 0.2
