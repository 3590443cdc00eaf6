from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score, silhouette_samples, silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from cytolens.errors import InputError
from cytolens.numerics.neighbours import find_neighbours
from cytolens.numerics.probe import held_out_predictions, probe_features
from cytolens.numerics.resampling import assign_folds, permuted_labels, resampled_counts
from cytolens.numerics.separability import (
    balanced_accuracies,
    discrimination_value,
    halved_scores,
    pair_distances,
    silhouettes,
    votes,
)
from cytolens.records.layers import Activations, Layer
from cytolens.separation.measures import MEASURES as DECLARED
from cytolens.separation.pairwise import measure_pairs
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]
ON_SCALE = ("silhouette", "knn_accuracy", "probe_accuracy", "gdv")
OF_CLASSES = (*ON_SCALE, "fisher_ratio", "nc1")
MEASURES = (*OF_CLASSES, "intrinsic_dimension")
HIGHER = ON_SCALE[:3]


def blobs(
    n: int = 200, *, classes: int = 3, apart: float = 4, f: int = 5, seed: int = 0
) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, n))
    features = rng.normal(size=(n, f)) + apart * np.eye(classes, f)[labels]
    return features.astype(np.float32), labels


def quick(features: object, labels: NDArray[np.integer], **options: object):
    options = {"rng": 0, "resamples": 100, "permutations": 40, "threads": 1, **options}
    return measure_separation(features, labels, **options)  # pyright: ignore


def test_blobs_far_apart_separate_perfectly_and_beyond_their_null():
    found = quick(*blobs(apart=40, f=3))
    assert tuple(found) == MEASURES
    for name in HIGHER:
        assert found[name].value > 0.9
        assert found[name].null is not None
        assert found[name].value > found[name].null
    assert found["gdv"].value < -0.5
    assert found["gdv"].null is not None
    assert found["gdv"].value < found["gdv"].null
    assert found["fisher_ratio"].value > 10 * (found["fisher_ratio"].null or np.inf)
    assert found["nc1"].value < 0.1 * (found["nc1"].null or 0)


def test_labels_that_say_nothing_stay_within_the_null():
    features, _ = blobs()
    inside = []
    for seed in range(8):
        labels = np.random.default_rng(100 + seed).integers(0, 3, len(features))
        found = quick(features, labels, rng=seed)
        inside += [found[name].value <= found[name].null for name in HIGHER]
        inside += [found[name].value >= found[name].null for name in ("gdv", "nc1")]
        inside.append(found["fisher_ratio"].value <= found["fisher_ratio"].null)
        assert found["knn_accuracy"].value == pytest.approx(1 / 3, abs=0.12)
        assert found["probe_accuracy"].value == pytest.approx(1 / 3, abs=0.12)
    assert np.mean(inside) > 0.75  # 95 % expected; 48 draws, six measures correlated


def test_every_estimate_lies_in_its_interval_and_is_reproducible():
    features, labels = blobs(apart=2)
    found, again = quick(features, labels), quick(features, labels)
    for name, estimate in found.items():
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate == again[name]


def test_classes_that_come_apart_from_a_depth_on_are_found_there():
    rng = np.random.default_rng(0)
    n, k = 240, 3
    labels = rng.integers(0, 2, n)
    signal = (2 * labels - 1)[:, None] * np.ones(6)
    depths = [
        (rng.normal(size=(n, 6)) + (2 * signal if depth >= k else 0)).astype(np.float32)
        for depth in range(6)
    ]
    before = [rng.normal(size=(n, 6)).astype(np.float32) for _ in range(6)]
    found = [quick(x, labels, untrained=b) for x, b in zip(depths, before)]
    for name in HIGHER:
        limit = 0.5 if name == "silhouette" else 0.9
        strong = [depth for depth in range(6) if found[depth][name].value > limit]
        assert strong == [3, 4, 5]
        for depth in range(6):
            assert found[depth][name].untrained < limit
    assert [depth for depth in range(6) if found[depth]["gdv"].value < -0.3] == [3, 4, 5]


def test_rotating_and_permuting_features_changes_nothing():
    features, labels = blobs(apart=2.5)
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0].astype(np.float32)
    plain = quick(features, labels)
    turned = quick(features @ rotation, labels)
    mixed = quick(features[:, [4, 2, 0, 1, 3]], labels)
    for name in MEASURES:
        assert mixed[name].value == pytest.approx(plain[name].value, rel=1e-4, abs=1e-4)
        if name != "gdv":  # scores each feature by itself: by definition tied to the axes
            assert turned[name].value == pytest.approx(plain[name].value, rel=1e-4, abs=0.006)


def test_moving_and_scaling_features_changes_nothing():
    features, labels = blobs(apart=2.5)
    plain, moved = quick(features, labels), quick(1000 * features + 500, labels)
    for name in MEASURES:
        assert moved[name].value == pytest.approx(plain[name].value, rel=1e-3, abs=0.006)


def test_the_silhouette_is_that_of_scikit_learn():
    features, labels = blobs(apart=2)
    assert quick(features, labels)["silhouette"].value == pytest.approx(
        silhouette_score(features, labels), abs=1e-5
    )
    shuffled = np.stack([labels, np.random.default_rng(0).permutation(labels)])
    for row, widths in zip(shuffled, silhouettes(pair_distances(features), shuffled)):
        np.testing.assert_allclose(widths, silhouette_samples(features, row), atol=1e-5)


def test_the_vote_is_that_of_scikit_learn():
    features, labels = blobs(classes=2, apart=1.5)
    judges = find_neighbours(features, 11).indices
    expected = cross_val_predict(KNeighborsClassifier(11), features, labels, cv=LeaveOneOut())
    np.testing.assert_array_equal(votes(judges, labels[None])[0], expected)
    assert quick(features, labels)["knn_accuracy"].value == pytest.approx(
        balanced_accuracy_score(labels, expected), abs=1e-9
    )


def test_ties_in_the_vote_go_to_the_nearer():
    labels = np.array([0, 1, 1, 0])
    assert votes(np.array([[0, 1, 2, 3], [1, 0, 3, 2]]), labels[None]).tolist() == [[0, 1]]


def test_without_penalty_the_probe_is_fishers_discriminant():
    features, labels = blobs(300, apart=2)
    folds = assign_folds(labels, groups=None, most=5, rng=np.random.default_rng(0))
    found = held_out_predictions(probe_features(features), labels[None], folds)[0]
    for fold in range(5):
        oracle = LinearDiscriminantAnalysis(priors=[1 / 3] * 3)
        oracle.fit(features[folds != fold], labels[folds != fold])
        expected = oracle.predict(features[folds == fold])
        assert (found[folds == fold] == expected).mean() > 0.97


def test_the_probe_is_not_blind_to_a_class_between_two_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    features = (3 * labels[:, None] + 0.3 * rng.normal(size=(300, 1))).astype(np.float32)
    assert quick(features, labels)["probe_accuracy"].value > 0.98


def test_a_rare_class_counts_as_much_as_a_common_one():
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.08).astype(int)
    features = (rng.normal(size=(400, 4)) + 1.2 * labels[:, None]).astype(np.float32)
    found = quick(features, labels)["probe_accuracy"]
    assert found.value > 0.75  # 0.5 is what favouring the common class gives


def test_the_probe_finds_few_telling_among_many_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    pixels = rng.normal(size=(150, 900))
    pixels[:, 300:340] += 1.2 * labels[:, None]
    found = quick(pixels.astype(np.float32), labels)
    assert found["probe_accuracy"].value > 0.8


def reference_gdv(features: Array, labels: NDArray[np.int64]) -> float:
    """Equations of Schilling et al. 2021, section 2, word for word."""
    s = 0.5 * (features - features.mean(axis=0)) / features.std(axis=0)
    parts = [s[labels == name] for name in np.unique(labels)]
    within = np.mean([pdist(part).mean() for part in parts])
    pairs = [(a, b) for i, a in enumerate(parts) for b in parts[i + 1 :]]
    between = np.mean([cdist(a, b).mean() for a, b in pairs])
    return float((within - between) / np.sqrt(features.shape[1]))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_discrimination_value_is_that_of_the_paper(classes: int):
    features, labels = blobs(classes=classes, apart=2)
    expected = reference_gdv(features.astype(np.float64), labels)
    assert quick(features, labels)["gdv"].value == pytest.approx(expected, abs=1e-6)


def test_the_discrimination_value_of_two_distant_points_is_minus_one():
    features = np.repeat([[0.0, 0], [1, 1]], 50, axis=0)
    assert quick(features, np.repeat([0, 1], 50))["gdv"].value == pytest.approx(-1, abs=1e-6)


def test_dead_channels_do_not_dilute_the_discrimination_value():
    features, labels = blobs()
    padded = np.concatenate([features, np.full((200, 20), 3.0)], axis=1)
    plain, more = quick(features, labels)["gdv"].value, quick(padded, labels)["gdv"].value
    assert more == pytest.approx(plain, abs=1e-6)


def test_a_cell_drawn_twice_makes_no_pair_with_itself():
    features, labels = blobs(60)
    scores = halved_scores(features)
    distances = pair_distances(scores)
    weights = np.stack([np.ones(60), 2 * np.ones(60)])
    once, twice = discrimination_value(distances, labels, 5, weights)
    assert once == pytest.approx(twice)


def grouped(n: int = 240, seed: int = 0) -> tuple[Array, NDArray[np.int64], NDArray[np.str_]]:
    """Six donors, each with features of its own that give its cells' class away; no shared cue."""
    rng = np.random.default_rng(seed)
    donor, labels = rng.integers(0, 6, n), rng.integers(0, 2, n)
    cue = rng.normal(size=(6, 2, 10)) * 3
    features = cue[donor, labels] + rng.normal(size=(n, 10))
    return features.astype(np.float32), labels, np.array([f"donor_{d}" for d in donor])


def test_a_cue_that_differs_from_donor_to_donor_does_not_count_across_donors():
    features, labels, donors = grouped()
    within, across = quick(features, labels), quick(features, labels, groups=donors)
    assert within["knn_accuracy"].value > 0.95
    assert across["knn_accuracy"].value < 0.75
    assert across["probe_accuracy"].value < 0.8


def test_intervals_over_donors_are_wider_than_over_cells():
    rng = np.random.default_rng(0)
    features, labels = blobs(300, classes=2, apart=1.5)
    donors = rng.integers(0, 5, 300)
    features = features + 1.5 * rng.normal(size=(5, 5))[donors] * (2 * labels[:, None] - 1)
    features = features.astype(np.float32)
    cells = quick(features, labels)["silhouette"]
    people = quick(features, labels, groups=donors)["silhouette"]
    assert people.high - people.low > 1.5 * (cells.high - cells.low)


def test_one_group_gives_the_same_numbers_as_none_but_no_interval():
    features, labels = blobs(120, apart=2)
    alone = quick(features, labels, groups=np.repeat("plate", 120))
    free = quick(features, labels)
    assert {key: e.value for key, e in alone.items()} == {key: e.value for key, e in free.items()}
    assert {e.no_interval for e in alone.values()} == {"1 group"}
    assert all(e.known for e in free.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.zeros_like(x),
        lambda x: np.full_like(x, 7.5),
        lambda x: x[:, :1],
        lambda x: np.repeat(x[:20], 10, axis=0),
        lambda x: np.where(np.arange(len(x))[:, None] % 4 > 0, 0, x),
        lambda x: 1e-15 * x,
        lambda x: np.concatenate([x] * 80, axis=1),
    ],
)
def test_degenerate_features_give_numbers_that_mean_something(change: Callable[[Array], Array]):
    features, _ = blobs(apart=0)
    features = change(features)
    labels = np.repeat([0, 1], 100)
    found = quick(features, labels, untrained=features)
    for name, estimate in found.items():
        assert estimate.untrained == pytest.approx(estimate.value, nan_ok=True)
        if name in ON_SCALE or np.ptp(features) > 0:
            assert np.isfinite([estimate.value, estimate.low, estimate.high]).all()
    if np.ptp(features) == 0:  # nothing can be told apart, nothing varies
        assert [found[name].value for name in ON_SCALE] == pytest.approx([0, 0.5, 0.5, 0], abs=0.1)
        assert all(np.isnan(found[name].value) for name in MEASURES[4:])


def test_silent_cells_sorted_by_class_do_not_pass_for_a_class():
    features, labels = np.zeros((200, 4), dtype=np.float32), np.repeat([0, 1], 100)
    features[::10] = np.random.default_rng(0).normal(size=(20, 4))
    assert quick(features, labels)["knn_accuracy"].value < 0.65


def test_classes_of_three_cells_are_kept_and_of_one_left_out():
    features, labels = blobs(100, classes=2)
    labels[:3], labels[50] = 2, 3
    groups = np.random.default_rng(0).integers(0, 4, 100)
    with_rare = quick(features, labels, groups=groups, untrained=features)
    without = np.delete(np.arange(100), 50)
    same = quick(
        features[without], labels[without], groups=groups[without], untrained=features[without]
    )
    assert with_rare == same


def test_what_cannot_be_measured_is_said_in_one_line():
    features, labels = blobs(50)
    with pytest.raises(InputError, match="two classes"):
        quick(features, np.zeros(50, dtype=int))
    with pytest.raises(InputError, match="50 cells, 49 labels"):
        quick(features, labels[:49])
    with pytest.raises(InputError, match="49 groups"):
        quick(features, labels, groups=np.zeros(49))
    with pytest.raises(InputError, match="untrained features: 49 cells"):
        quick(features, labels, untrained=features[:49])
    broken = features.copy()
    broken[0, 0] = np.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        quick(broken, labels)


def test_many_cells_are_sampled_and_the_result_is_about_the_same():
    features, labels = blobs(6000, apart=2, classes=2, f=3)
    found = quick(features, labels, resamples=20, permutations=3)
    few = quick(features[::4], labels[::4], resamples=20, permutations=3)
    for name in ON_SCALE:
        assert found[name].value == pytest.approx(few[name].value, abs=0.03)
    for name in MEASURES[4:]:
        assert found[name].value == pytest.approx(few[name].value, rel=0.12)


def test_counts_are_drawn_as_indices_would_be():
    rng = np.random.default_rng(0)
    outcome = (rng.random(75) < 0.4).astype(np.int64)
    counts = resampled_counts(outcome, 2, resamples=4000, rng=rng)
    drawn = [outcome[rng.integers(0, 75, size=75)].mean() for _ in range(4000)]
    rates = counts[:, 1] / counts.sum(axis=1)
    assert rates.mean() == pytest.approx(np.mean(drawn), abs=0.01)
    assert rates.std() == pytest.approx(np.std(drawn), rel=0.08)


def test_labels_are_exchanged_within_groups_or_groups_exchange_them_whole():
    rng = np.random.default_rng(0)
    groups, labels = np.repeat([0, 1, 2, 3], 30), rng.integers(0, 2, 120)
    for row in permuted_labels(labels, groups=groups, permutations=5, rng=rng):
        for name in range(4):
            assert row[groups == name].sum() == labels[groups == name].sum()
    owned = np.repeat([0, 1, 1, 0], 30)
    for row in permuted_labels(owned, groups=groups, permutations=5, rng=rng):
        assert all(len(np.unique(row[groups == name])) == 1 for name in range(4))


def test_no_fold_cuts_a_group_and_classes_are_spread_over_folds():
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 30, 400), rng.integers(0, 3, 400)
    folds = assign_folds(labels, groups=groups, most=10, rng=rng)
    assert len(np.unique(folds)) == 10
    assert all(len(np.unique(folds[groups == name])) == 1 for name in range(30))
    plain = assign_folds(labels, groups=None, most=5, rng=rng)
    counts = np.stack([np.bincount(labels[plain == fold], minlength=3) for fold in range(5)])
    assert np.ptp(counts, axis=0).max() <= 1


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, given = rng.integers(0, 4, 90), rng.integers(0, 4, 90)
    counts = np.bincount(2 * truth + (truth == given), minlength=8).reshape(1, 4, 2)
    assert balanced_accuracies(counts)[0] == pytest.approx(balanced_accuracy_score(truth, given))


def test_every_measure_is_declared_with_what_figures_and_texts_need():
    for apart in (0, 30):
        features, labels = blobs(apart=apart)
        found = quick(features, labels)
        assert tuple(found) == tuple(DECLARED)
        for name, declared in DECLARED.items():
            low, high = declared.range
            assert low <= found[name].value <= high
            assert declared.label
            assert declared.hint
            assert declared.text.endswith(".")
            if apart and declared.higher_is_better is not None:
                better = found[name].value > found[name].null
                assert better == declared.higher_is_better


def test_layers_are_measured_together_as_one_by_one():
    features, labels = blobs(60)
    stack = {"conv1": features[:, :3], "conv2": features}
    before = {layer: x[::-1].copy() for layer, x in stack.items()}
    found = quick(stack, labels, untrained=before)
    assert list(found) == list(stack)
    assert found["conv1"] == quick(stack["conv1"], labels, untrained=before["conv1"])
    layers = tuple(
        Layer(layer, "conv", depth, (x.shape[1],), None, ("", 0, "input"), ("", 0, "input"))
        for depth, (layer, x) in enumerate(stack.items())
    )
    acts = Activations(layers, stack, "mean")
    assert quick(acts, labels)["conv2"] == quick(features.tolist(), labels.tolist())
    pairs = measure_pairs(stack, labels, class_names=("a", "b", "c"), rng=0, resamples=20)
    assert [one.layer for one in pairs.values()] == list(stack)
