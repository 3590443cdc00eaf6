"""What is computed on a GPU is what is computed on a CPU; device "cpu" takes both ways."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolens.embedding import tsne
from cytolens.embedding.affinities import joint_affinities
from cytolens.embedding.on_gpu import find_neighbours_on, joint_affinities_on
from cytolens.embedding.tsne import Phase, optimise
from cytolens.numerics.neighbours import Neighbours, find_neighbours


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 5 * rng.normal(size=(4, 10))
    return (rng.normal(size=(400, 10)) + centres[rng.integers(0, 4, 400)]).astype(np.float32)


@pytest.fixture(scope="module")
def neighbours(features: np.ndarray) -> Neighbours:
    return find_neighbours(features, 60)


def test_the_same_neighbours_are_found(features: np.ndarray, neighbours: Neighbours) -> None:
    found = find_neighbours_on(features, 60, "cpu")
    assert np.array_equal(found.indices, neighbours.indices)
    np.testing.assert_allclose(found.distances, neighbours.distances, atol=1e-3)
    assert find_neighbours_on(features[:5], 60, "cpu").indices.shape == (5, 4)


def test_a_cell_that_coincides_with_others_is_not_its_own_neighbour() -> None:
    found = find_neighbours_on(np.ones((20, 3), dtype=np.float32), 5, "cpu")
    assert (found.indices != np.arange(20)[:, None]).all()
    assert (found.distances == 0).all()


def test_affinities_are_the_same(neighbours: Neighbours) -> None:
    expected = joint_affinities(neighbours, 20).toarray()
    made = joint_affinities_on(neighbours, 20, "cpu")
    parts = (made.values.numpy(), made.columns.numpy(), made.starts.numpy())
    found = csr_matrix(parts, expected.shape).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found, found.T)


def test_a_map_of_the_tensor_is_that_of_the_matrix(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsne, "ALL_PAIRS_UP_TO", 0)  # as on a GPU
    start = 1e-4 * np.random.default_rng(1).normal(size=(400, 2))
    phases = [Phase(30, 12), Phase(20, 1)]
    tensor = joint_affinities_on(neighbours, 20, "cpu")
    ours, kl = optimise(tensor, start, phases)
    theirs, expected = optimise(joint_affinities(neighbours, 20), start, phases)
    assert kl == pytest.approx(expected, abs=1e-3)
    assert np.corrcoef(ours[:, 0], theirs[:, 0])[0, 1] > 0.99
