import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from cytolens.clusters import methods as module
from cytolens.clusters.agreement import adjusted_rand, normalised_information, purity
from cytolens.clusters.clustering import cluster
from cytolens.clusters.methods import METHODS, NUMBERED
from cytolens.errors import InputError, SettingError


def blobs(n: int = 180, k: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return (rng.normal(size=(n, 6)) + 15 * np.eye(k, 6)[labels]).astype(np.float32), labels


def quick(features, labels, **options):
    options = {"name": "conv3", "rng": 0, "resamples": 100, "permutations": 50, **options}
    return cluster(features, labels, threads=1, **options)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_recovers_blobs_far_apart(method: str):
    features, labels = blobs()
    found = quick(features, labels, method=method)
    assert (found.layer, found.method, found.n) == ("conv3", method, 3)
    assert found.agreement["ari"].value > 0.95
    assert found.agreement["nmi"].value > 0.9
    assert found.agreement["ari"].null < 0.1
    assert found.table.shape == (3, 3)
    np.testing.assert_array_equal(found.table.argmax(axis=1), [0, 1, 2])  # numbered by class
    assert found.table.sum() == (found.labels >= 0).sum()


def test_blobs_inside_a_class_are_found_although_the_classes_are_fewer():
    features, blob = blobs(k=5)
    found = quick(features, (blob > 1).astype(int), n_classes=2)
    assert found.n == 5
    assert found.settings["chosen_by"] == "silhouette"
    np.testing.assert_array_equal((found.table > 0).sum(axis=1), 1)


def test_the_typical_cells_are_the_members_nearest_to_the_mean():
    features, labels = blobs()
    found = quick(features, labels, typical=4)
    for number, cells in enumerate(found.typical):
        assert len(cells) == 4
        members = np.flatnonzero(found.labels == number)
        off = ((features[members] - features[members].mean(axis=0)) ** 2).sum(axis=1)
        np.testing.assert_array_equal(cells, members[off.argsort()[:4]])


@pytest.mark.parametrize("method", NUMBERED)
def test_a_given_number_of_clusters_is_kept(method: str):
    assert quick(*blobs(), n_clusters=4, method=method).n == 4


@pytest.mark.parametrize("method", list(METHODS))
def test_the_same_seed_gives_the_same_clusters(method: str):
    features, labels = blobs()
    features = features * 0.1  # one cloud: the start matters
    first, second = (quick(features, labels, method=method) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_a_mixture_finds_that_one_gaussian_is_one():
    features = np.random.default_rng(0).normal(size=(300, 5)) * [9, 3, 1, 1, 1]
    found = quick(features, np.zeros(300, int), method="gmm")
    assert found.n == 1
    assert found.settings["chosen_by"] == "BIC"


def test_a_mixture_parts_long_clouds_side_by_side_that_k_means_cuts_across():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    long = np.column_stack([rng.normal(size=400) * 20, rng.normal(size=400) + 8 * labels])
    assert quick(long, labels, method="gmm").agreement["ari"].value > 0.95
    assert quick(long, labels, n_clusters=2).agreement["ari"].value < 0.5


def test_labels_that_say_nothing_agree_no_better_than_the_null():
    features, _ = blobs()
    inside = []
    for seed in range(10):
        labels = np.random.default_rng(seed + 50).integers(0, 3, 180)
        agreement = quick(features, labels, n_clusters=3).agreement
        inside += [measure.value <= measure.null for measure in agreement.values()]
    assert np.mean(inside) > 0.75


def test_a_continuum_may_have_no_dense_cluster_at_all():
    rng = np.random.default_rng(0)
    found = quick(rng.random((150, 8)), rng.integers(0, 2, 150), method="hdbscan")
    assert found.n == len(found.typical) == len(found.table)
    assert np.isfinite(found.agreement["ari"].value)


def test_many_cells_join_the_nearest_of_those_clustered(monkeypatch: pytest.MonkeyPatch):
    for name in ("DENSE_FIT", "MIXTURE_FIT", "GRAPH_FIT"):
        monkeypatch.setattr(module, name, 90)
    monkeypatch.setattr(module, "JUDGED_ON", 60)
    for method in METHODS:
        assert quick(*blobs(), method=method).agreement["ari"].value > 0.9


@pytest.mark.parametrize("method", list(METHODS))
def test_degenerate_features_form_clusters_that_make_sense(method: str):
    labels = np.repeat([0, 1], 20)
    silent = quick(np.zeros((40, 3)), labels, method=method)
    assert silent.n == 1
    assert silent.table.tolist() == [[20, 20]]
    assert silent.agreement["ari"].value == pytest.approx(0)
    assert silent.agreement["purity"].value == 0.5
    two = np.repeat([[0.0, 1], [1, 0]], 20, axis=0)
    assert quick(two, labels, method=method).n in (1, 2)
    few = quick(np.arange(4.0)[:, None], np.array([0, 0, 1, 1]), method=method, halves=3)
    assert few.labels.shape == (4,)
    pair = quick(np.arange(2.0)[:, None], np.array([0, 1]), method=method, halves=3)
    assert pair.labels.shape == (2,)


def test_k_means_of_two_points_copied_finds_the_two():
    two = np.repeat([[0.0, 1], [1, 0]], 20, axis=0)
    found = quick(two, np.repeat([0, 1], 20))
    assert found.n == 2
    assert found.agreement["ari"].value == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), c=st.integers(1, 4), n=st.integers(2, 60))
def test_agreement_is_that_of_scikit_learn(seed: int, k: int, c: int, n: int):
    rng = np.random.default_rng(seed)
    found, labels = rng.integers(0, k, n), rng.integers(0, c, n)
    table = np.bincount(found * c + labels, minlength=k * c).reshape(1, k, c)
    assert adjusted_rand(table)[0] == pytest.approx(adjusted_rand_score(labels, found))
    assert normalised_information(table)[0] == pytest.approx(
        normalized_mutual_info_score(labels, found), abs=1e-9
    )


def test_purity_is_the_share_of_the_main_class_in_each_cluster():
    table = np.array([[[9, 9], [3, 1], [0, 4]]])  # the first row is of cells in no cluster
    assert purity(table)[0] == 7 / 8
    assert np.isnan(purity(table[:, :1])[0])


def test_a_cluster_that_is_one_donor_is_called_so():
    rng = np.random.default_rng(0)
    features, blob = blobs(300)
    labels = rng.integers(0, 2, 300)
    donor = np.where(blob == 2, "d9", np.array(["d1", "d2", "d3"])[rng.integers(0, 3, 300)])
    groups = quick(features, labels, groups=donor).groups
    assert groups.dominated.sum() == 1
    alone = int(groups.dominated.argmax())
    assert groups.names[groups.main[alone]] == "d9"
    assert groups.share[alone] == 1
    assert groups.agreement["ari"].value > groups.agreement["ari"].null


def test_clusters_that_are_classes_are_not_blamed_on_the_donors_of_these():
    rng = np.random.default_rng(0)
    features, blob = blobs(400, k=2)
    donor = np.where(rng.random(400) < 0.8, blob, rng.integers(2, 5, 400))  # most of a class each
    groups = quick(features, blob, groups=donor).groups
    assert not groups.dominated.any()
    assert groups.agreement["ari"].value <= groups.agreement["ari"].null + 1e-9


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    features, blob = blobs(300, k=2)
    donor = rng.integers(0, 5, 300)
    labels = np.where(donor < 2, rng.integers(0, 2, 300), blob)  # two donors are mislabelled
    cells = quick(features, labels).agreement["ari"]
    people = quick(features, labels, groups=donor).agreement["ari"]
    assert people.high - people.low > cells.high - cells.low


def test_what_cannot_be_clustered_is_said_in_one_line():
    features, labels = blobs(20)
    with pytest.raises(SettingError, match="choose one of: kmeans, gmm, hdbscan, leiden"):
        quick(features, labels, method="spectral")
    with pytest.raises(SettingError, match="n_clusters is 21"):
        quick(features, labels, n_clusters=21)
    for method in ("hdbscan", "leiden"):
        with pytest.raises(SettingError, match="leave n_clusters out"):
            quick(features, labels, method=method, n_clusters=3)
    with pytest.raises(InputError, match="20 cells but 19 labels"):
        quick(features, labels[:19])


def test_clusters_need_no_labels():
    features, labels = blobs()
    found, told = (cluster(features, y, rng=0, threads=1) for y in (None, labels))
    assert adjusted_rand_score(found.labels, told.labels) == 1
    assert found.agreement == {}
    assert found.table.tolist() == [[n] for n in np.bincount(found.labels)]
    assert (np.diff(np.bincount(found.labels)) <= 0).all()  # the largest first
    parted = cluster(features, groups=labels, n_clusters=3, rng=0, threads=1)
    assert parted.groups.agreement["ari"].value == pytest.approx(1)


def test_labels_may_be_names_and_layers_may_come_together():
    features, labels = blobs()
    named = cluster(features, np.array(["b", "c", "a"])[labels], n_clusters=3, rng=0)
    assert np.count_nonzero(named.table) == 3
    stack = {"conv1": features[:, :2], "conv2": features}
    found = cluster(stack, labels, n_clusters=3, rng=4)
    assert [c.layer for c in found.values()] == ["conv1", "conv2"]
    alone = cluster(features, labels, n_clusters=3, rng=4)
    np.testing.assert_array_equal(found["conv2"].labels, alone.labels)
    assert found["conv2"].agreement == alone.agreement
