import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from cytolens.clusters.clustering import cluster
from cytolens.clusters.flow import _crossings, _ordered, _places, measure_flow
from cytolens.errors import InputError


def found_at(layer: str, labels):
    features = np.eye(int(labels.max()) + 1)[labels] * 20
    options = {"resamples": 2, "permutations": 2, "rng": 0, "threads": 1}
    return cluster(features, labels, name=layer, n_clusters=int(labels.max()) + 1, **options)


def test_the_same_clusters_flow_straight_and_independent_ones_share_nothing():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 400), rng.integers(0, 3, 400)
    flow = measure_flow({"x": found_at("x", a), "y": found_at("y", a), "z": found_at("z", b)})
    assert flow.layers == ("x", "y", "z")
    same, other = flow.agreement
    assert same.value == pytest.approx(1)
    assert same.null < 0.05
    assert other.value < other.null + 0.02
    expected = adjusted_mutual_info_score(flow.labels[1], flow.labels[2])
    assert other.value == pytest.approx(expected, abs=0.004)


def test_clusters_are_ordered_so_that_bands_do_not_cross_needlessly():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 300)
    shuffled = [rng.permutation(6)[labels] for _ in range(4)]
    order = _ordered(shuffled)
    places = [_places(found, mine) for found, mine in zip(shuffled, order)]
    assert _crossings(shuffled, places) == 0
    assert all(sorted(mine) == list(range(6)) for mine in order)


def test_crossings_are_pairs_of_cells_that_change_sides():
    a, b = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1])
    assert _crossings([], [a, b]) == 1
    assert _crossings([], [a, a]) == 0
    assert _crossings([], [a, 1 - a]) == 4


def test_cells_in_no_cluster_are_at_the_bottom():
    labels = np.array([0, 0, 1, -1])
    np.testing.assert_allclose(_places(labels, np.array([1, 0])), [0.5, 0.5, 0.125, 0.875])


def test_one_layer_flows_nowhere_and_other_cells_are_refused():
    one = found_at("x", np.array([0, 1, 0, 1]))
    assert measure_flow({"x": one}).agreement == ()
    with pytest.raises(InputError, match="different cells"):
        measure_flow({"x": one, "y": found_at("y", np.array([0, 1, 0]))})
