import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cytolens.separation.plan import interval_about
from cytolens.separation.scatter import scatter_ratios
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]


def blobs(n: int = 300, *, classes: int = 3, apart: float = 2, f: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, f)) @ rng.normal(size=(f, f))
    features += apart * rng.normal(size=(classes, f))[labels]
    return features.astype(np.float32), labels.astype(np.int64)


def by_definition(features: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Papyan, Han & Donoho 2020, word for word; the ratio of traces beside it."""
    x = features.astype(np.float64)
    names = np.unique(labels)
    means = np.array([x[labels == name].mean(axis=0) for name in names])
    within = np.mean([np.cov(x[labels == name].T, bias=True) for name in names], axis=0)
    about = means - means.mean(axis=0)
    between = about.T @ about / len(names)
    inverse = np.linalg.pinv(between, rcond=1e-6)
    return np.trace(between) / np.trace(within), np.trace(within @ inverse) / len(names)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_both_ratios_are_those_of_the_papers(classes: int):
    features, labels = blobs(classes=classes)
    np.testing.assert_allclose(
        scatter_ratios(features, labels[None])[0], by_definition(features, labels), rtol=1e-4
    )


def test_for_two_classes_nc1_is_read_off_fishers_discriminant_of_round_classes():
    features, labels = blobs(400, classes=2)
    scaling = LinearDiscriminantAnalysis(solver="eigen").fit(features, labels)
    within, means = scaling.covariance_, scaling.means_
    white = features @ np.linalg.inv(np.linalg.cholesky(within)).T
    about = white[labels == 1].mean(axis=0) - white[labels == 0].mean(axis=0)
    found = scatter_ratios(white.astype(np.float32), labels[None])[0, 1]
    assert found == pytest.approx(2 / (about @ about), rel=1e-3)  # 2 |d|² / |d|⁴ when S_W = 1
    assert len(means) == 2


def test_a_cell_drawn_twice_counts_as_two():
    features, labels = blobs(90)
    counts = np.random.default_rng(0).integers(0, 3, (2, 90))
    found = scatter_ratios(features, np.stack([labels, labels]), counts)
    for row, count in zip(found, counts):
        drawn = np.repeat(np.arange(90), count)
        again = scatter_ratios(features[drawn], labels[drawn][None])[0]
        np.testing.assert_allclose(row, again, rtol=1e-5)


def test_many_labellings_at_once_are_as_one_by_one():
    features, labels = blobs(60)
    many = np.stack([np.random.default_rng(k).permutation(labels) for k in range(100)])
    one_by_one = [scatter_ratios(features, row[None])[0] for row in many]
    np.testing.assert_allclose(scatter_ratios(features, many), one_by_one, rtol=1e-3)


def test_rotating_and_scaling_changes_neither():
    features, labels = blobs()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    turned = (37 * features @ turn).astype(np.float32)
    np.testing.assert_allclose(
        scatter_ratios(turned, labels[None]), scatter_ratios(features, labels[None]), rtol=1e-4
    )


def test_classes_that_are_points_have_collapsed():
    labels = np.arange(60) % 3
    points = np.eye(3, 4, dtype=np.float32)[labels]
    fisher, nc1 = scatter_ratios(points - points.mean(axis=0), labels[None])[0]
    assert fisher == np.inf
    assert nc1 == pytest.approx(0, abs=1e-6)


def test_where_nothing_varies_or_no_mean_differs_there_is_no_number():
    labels = np.arange(40) % 2
    flat = np.zeros((40, 3), np.float32)
    assert np.isnan(scatter_ratios(flat, labels[None])).all()
    same = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 2, axis=0).astype(np.float32)
    fisher, nc1 = scatter_ratios(same - same.mean(axis=0), labels[None])[0]
    assert fisher == pytest.approx(0, abs=1e-6)
    assert np.isnan(nc1) or nc1 > 1e6


def test_a_class_that_was_not_drawn_is_left_out():
    features, labels = blobs(90)
    counts = (labels != 2).astype(int)[None]
    few = labels != 2
    np.testing.assert_allclose(
        scatter_ratios(features, labels[None], counts)[0],
        scatter_ratios(features[few], labels[few][None])[0],
        rtol=1e-4,
    )


def test_the_interval_lies_about_the_value_also_where_resamples_are_shifted():
    spread = np.exp(np.random.default_rng(0).normal(0, 0.1, 4000))
    low, high = interval_about(2.0, 5 * spread)
    assert (low, high) == pytest.approx((2 * np.exp(-0.196), 2 * np.exp(0.196)), rel=0.02)
    assert np.isnan(interval_about(np.nan, spread)).all()
    assert np.isnan(interval_about(1.0, np.array([np.nan, -1]))).all()


def test_intervals_cover_the_mean_of_what_repeated_sampling_gives():
    found = {"fisher_ratio": [], "nc1": []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = np.arange(160) % 2
        features = rng.normal(size=(160, 8)) + 0.5 * labels[:, None]
        made = measure_separation(
            features, labels, permutations=1, resamples=60, rng=seed, threads=1
        )
        for key, kept in found.items():
            kept.append((made[key].low, made[key].value, made[key].high))
    for kept in found.values():
        low, value, high = np.array(kept).T
        assert np.mean((low < value.mean()) & (value.mean() < high)) > 0.8  # 95 % expected of 30
        assert (high - low).mean() / 3.92 == pytest.approx(value.std(), rel=0.5)
