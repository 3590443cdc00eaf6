"""Our t-SNE against the sums it stands for, and against openTSNE."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from openTSNE import TSNE, TSNEEmbedding
from openTSNE.affinity import PerplexityBasedNN, PrecomputedAffinities
from openTSNE.nearest_neighbors import PrecomputedNeighbors
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from cytolens.embedding import tsne
from cytolens.embedding.affinities import joint_affinities
from cytolens.embedding.methods import embed
from cytolens.embedding.tsne import Phase, optimise
from cytolens.numerics.neighbours import find_neighbours


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    centres = 6 * rng.normal(size=(5, 12))
    return (rng.normal(size=(700, 12)) + centres[rng.integers(0, 5, 700)]).astype(np.float32)


@pytest.fixture(scope="module")
def joint(features):
    return joint_affinities(find_neighbours(features, 90), 30)


def exact(places):
    """Repulsion and Z over all pairs, in float64."""
    apart = places[:, None] - places[None]
    q = 1 / (1 + (apart**2).sum(axis=2))
    np.fill_diagonal(q, 0)
    return (q[..., None] ** 2 * apart).sum(axis=1), q.sum()


def divergence(joint, places):
    p = joint.toarray()
    q = 1 / (1 + cdist(places, places, "sqeuclidean"))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def recall(features, places):
    near = find_neighbours(features, 10).indices
    found = find_neighbours(np.asarray(places, dtype=np.float32), 10).indices
    return np.mean([len(set(a) & set(b)) for a, b in zip(found, near, strict=True)]) / 10


def test_affinities_are_those_of_openTSNE(features, joint):
    found = find_neighbours(features, 90)
    index = PrecomputedNeighbors(found.indices, found.distances.astype(np.float64))
    oracle = PerplexityBasedNN(knn_index=index, perplexity=30).P
    assert joint.sum() == pytest.approx(1, abs=1e-5)
    assert abs(joint - joint.T).max() < 1e-9
    assert abs(joint - oracle).max() < 1e-4 * oracle.max()


@pytest.mark.parametrize(("extent", "error"), [(1e-4, 0.01), (0.3, 0.01), (3, 0.01), (12, 0.05)])
def test_repulsion_is_that_of_all_pairs(extent, error):
    places = extent * np.random.default_rng(1).normal(size=(1500, 2))
    expected, total = exact(places)
    found, z = tsne._Repulsion(torch.device("cpu"))(torch.from_numpy(places.T).float())
    assert abs(z - total) < 0.02 * len(places)  # of each cell's own share, which is taken off
    assert np.linalg.norm(found.T.numpy() - expected) < error * np.linalg.norm(expected)


@pytest.mark.parametrize("exaggeration", [1, 12])
@pytest.mark.parametrize("extent", [1e-4, 3])
def test_all_pairs_and_the_grid_give_the_same_gradient(joint, extent, exaggeration):
    places = extent * np.random.default_rng(6).normal(size=(700, 2))
    q = 1 / (1 + cdist(places, places, "sqeuclidean"))
    np.fill_diagonal(q, 0)
    forces = (exaggeration * joint.toarray() - q / q.sum()) * q
    expected = forces.sum(axis=1)[:, None] * places - forces @ places
    y = torch.from_numpy(places.T).float()
    with ThreadPoolExecutor(1) as workers:
        for made in (tsne._AllPairs(joint), tsne._Forces(joint, torch.device("cpu"))):
            found = made(y, exaggeration, workers, 1).T.numpy()
            assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
            assert made.divergence(y) == pytest.approx(divergence(joint, places), rel=0.01)


def test_the_divergence_given_is_that_of_the_map(joint):
    start = 1e-4 * np.random.default_rng(2).normal(size=(700, 2))
    places, found = optimise(joint, start, [Phase(100, 12), Phase(100, 1)])
    assert found == pytest.approx(divergence(joint, places), rel=0.005)


def test_maps_are_as_good_as_those_of_openTSNE(features, joint):
    start = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[0][:, :2]
    start = 1e-4 * start / start.std()
    ours, ours_kl = optimise(joint, start, [Phase(250, 12), Phase(300, 1)])
    theirs = TSNEEmbedding(
        start.copy(), PrecomputedAffinities(joint.astype(np.float64)),
        negative_gradient_method="bh", learning_rate="auto", n_jobs=1,
    )  # fmt: skip
    theirs.optimize(250, exaggeration=12, momentum=0.8, inplace=True)
    theirs.optimize(300, momentum=0.8, inplace=True)
    assert ours_kl < divergence(joint, np.asarray(theirs)) * 1.02
    assert recall(features, ours) > recall(features, theirs) - 0.01


def cloud(n):
    return np.random.default_rng(n).normal(size=(n, 16)).astype(np.float32)


def one_far_away(n):
    features = cloud(n)
    features[0] = 100
    return features


def half_coincide(n):
    features = cloud(n)
    features[: n // 2] = features[0]
    return features


@pytest.mark.parametrize("make", [cloud, one_far_away, half_coincide])
@pytest.mark.parametrize("n", [3, 6, 30, 300, 3000])
def test_weak_structure_is_mapped_as_well_as_by_openTSNE(make, n):
    if n == 3000 and make is not one_far_away:
        pytest.skip("covered by the benchmark: benchmarks/bench_weak_structure.py")
    features = make(n)
    found = embed(features, rng=0, threads=1).coordinates
    assert np.ptp(found) > 1
    if n < 30:  # too few to speak of neighbours
        return
    perplexity = min(30, (n - 1) / 3)
    theirs = TSNE(perplexity=perplexity, n_jobs=1, random_state=0).fit(features)
    assert recall(features, found) > recall(features, theirs) - (0.05 if n == 30 else 0.02)


def test_an_exaggerated_map_does_not_shrink_to_nothing():
    features = cloud(300)
    joint = joint_affinities(find_neighbours(features, 90), 30)
    shrunk, _ = optimise(joint, 1e-4 * features[:, :2], [Phase(250, 12)])
    assert np.sqrt((shrunk**2).sum(axis=1).mean()) >= 0.999 * tsne.SMALLEST


@pytest.mark.parametrize("all_pairs_up_to", [0, 1200])
def test_the_same_start_gives_the_same_bytes_for_any_number_of_threads(
    joint, all_pairs_up_to, monkeypatch
):
    monkeypatch.setattr(tsne, "ALL_PAIRS_UP_TO", all_pairs_up_to)
    start = 1e-4 * np.random.default_rng(3).normal(size=(700, 2))
    made = [optimise(joint, start, [Phase(20, 12)], threads=threads)[0] for threads in (1, 1, 3)]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_cells_without_neighbours_are_pushed_away_and_stay_finite():
    pairs = csr_matrix(([0.5, 0.5], ([0, 1], [1, 0])), shape=(6, 6), dtype=np.float32)
    start = np.random.default_rng(4).normal(size=(6, 2))
    places, _ = optimise(pairs, start, [Phase(50, 1)])
    assert np.isfinite(places).all()
    apart = cdist(places, places)
    assert apart[0, 1] < apart[2:, :2].min()


def test_a_callback_sees_the_map_on_its_way(joint):
    seen = []
    start = 1e-4 * np.random.default_rng(5).normal(size=(700, 2))
    optimise(joint, start, [Phase(15, 12), Phase(10, 1)], callback=lambda *at: seen.append(at))
    assert [at[:2] for at in seen] == [(0, 25), (10, 25), (20, 25)]
    np.testing.assert_array_equal(seen[0][2], start.astype(np.float32))
    assert all(at[2].shape == (700, 2) for at in seen)
    assert (seen[1][2] != seen[2][2]).any()
