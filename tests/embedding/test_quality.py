import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from cytolens.embedding.quality import measure_quality
from cytolens.numerics.features import principal_components


def features(n: int = 300, f: int = 8, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, f)) + 50).astype(np.float32)


def measured(x: np.ndarray, y: np.ndarray, **options: int) -> dict[str, float]:
    return measure_quality(x, y, **options, rng=np.random.default_rng(0))


def test_trustworthiness_and_continuity_are_those_of_scikit_learn():
    x = features()
    y = principal_components(x, 2)[0]
    found = measured(x, y)
    assert found["trustworthiness"] == pytest.approx(trustworthiness(x, y, n_neighbors=10))
    assert found["continuity"] == pytest.approx(trustworthiness(y, x, n_neighbors=10))


@pytest.mark.parametrize("k", [10, 100])
def test_recall_is_the_share_of_neighbours_that_are_kept(k: int):
    x = features()
    y = principal_components(x, 2)[0]
    there, here = (NearestNeighbors(n_neighbors=k).fit(z).kneighbors()[1] for z in (x, y))
    kept = np.mean([len(set(a) & set(b)) / k for a, b in zip(there, here)])
    assert measured(x, y)[f"recall_{k}"] == pytest.approx(kept, abs=1e-3)


def test_the_correlation_of_distances_is_near_that_over_all_pairs():
    x = features()
    y = principal_components(x, 2)[0]
    expected = spearmanr(pdist(x), pdist(y)).statistic
    assert measured(x, y)["distance_correlation"] == pytest.approx(expected, abs=0.03)


def test_a_map_that_keeps_all_has_one_everywhere():
    x = features(f=2)
    found = measured(x, 3 * x[:, ::-1] + 7)
    assert set(found) == {
        "recall_10", "recall_100", "trustworthiness", "continuity", "distance_correlation",
    }  # fmt: skip
    assert min(found.values()) > 0.995


def test_a_map_of_chance_keeps_neighbours_by_chance_alone():
    n = 500
    found = measured(features(n), features(n, 2, seed=1))
    assert found["recall_10"] == pytest.approx(10 / (n - 1), abs=0.01)
    assert found["recall_100"] == pytest.approx(100 / (n - 1), abs=0.01)
    assert found["trustworthiness"] == pytest.approx(0.5, abs=0.03)
    assert found["continuity"] == pytest.approx(0.5, abs=0.03)
    assert found["distance_correlation"] == pytest.approx(0, abs=0.05)


def test_what_is_torn_apart_costs_continuity_and_what_is_laid_together_trust():
    rng = np.random.default_rng(0)
    line = np.sort(rng.uniform(0, 1, 400))
    plane = np.column_stack([line, np.zeros(400)]).astype(np.float32)
    torn = plane.copy()
    torn[::2, 0] += 5  # every other cell is moved far away
    found = measured(plane, torn)
    assert found["continuity"] < found["trustworthiness"] - 0.005
    found = measured(torn, plane)
    assert found["trustworthiness"] < found["continuity"] - 0.005


def test_duplicates_gain_nothing_from_being_tied():
    x = np.repeat(features(6), 50, axis=0)
    y = np.repeat(features(6, 2, seed=3), 50, axis=0) + 0.01 * features(300, 2, seed=4)
    found = measured(x, y)
    assert found["recall_10"] == pytest.approx(10 / 49, abs=0.02)  # any of the 49 copies


def test_with_few_cells_the_wide_recall_is_left_out():
    x = features(200)
    assert "recall_100" not in measured(x, x[:, :2])
    x = features(4)
    assert set(measured(x, x[:, :2])) >= {"recall_10", "trustworthiness", "continuity"}


def test_constant_features_and_two_cells_have_no_quality():
    assert measured(np.ones((30, 3), dtype=np.float32), features(30, 2)) == {}
    assert measured(features(2), features(2, 2)) == {}


def test_a_map_without_extent_is_told_without_a_correlation():
    found = measured(features(60), np.zeros((60, 2), dtype=np.float32))
    assert "distance_correlation" not in found
    assert all(np.isfinite(value) for value in found.values())


def test_a_sample_of_the_cells_is_close_to_all():
    x = features(1500)
    y = principal_components(x, 2)[0]
    every, some = measured(x, y, queries=1500), measured(x, y, queries=300)
    for name in every:
        assert some[name] == pytest.approx(every[name], abs=0.03)
