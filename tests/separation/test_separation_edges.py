import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]
BOUNDED = ("silhouette", "knn_accuracy", "probe_accuracy", "gdv")
MEASURES = (*BOUNDED, "fisher_ratio", "nc1", "intrinsic_dimension")


def blobs(n: int = 200, *, apart: float = 4) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 3, n))
    features = rng.normal(size=(n, 5)) + apart * np.eye(3, 5)[labels]
    return features.astype(np.float32), labels


def quick(features: object, labels: NDArray[np.integer], **options: object) -> dict[str, Estimate]:
    options = {"rng": 0, "resamples": 100, "permutations": 40, "threads": 1, **options}
    return measure_separation(features, labels, **options)  # pyright: ignore


@pytest.mark.parametrize("f", [1, 3, 300])
@pytest.mark.parametrize("n", [4, 6, 12])
def test_a_handful_of_cells_gives_numbers_or_none_but_no_noise(n: int, f: int):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, f)).astype(np.float32)
    found = quick(features, np.arange(n) % 2, untrained=features[::-1])
    assert tuple(found) == MEASURES
    for name in BOUNDED:
        assert np.isfinite(found[name].value)
    assert np.isnan(found["intrinsic_dimension"].value)  # fewer than 20 cells
    assert found["intrinsic_dimension"].null is None


def test_two_cells_are_too_few_and_so_is_one_class_and_the_message_counts_them():
    features, _ = blobs(20)
    with pytest.raises(InputError, match="the classes here have 1, 1 cells"):
        quick(features[:2], np.array([0, 1]))
    with pytest.raises(InputError, match="the classes here have 20 cells"):
        quick(features, np.zeros(20, dtype=int))
    with pytest.raises(InputError, match="the classes here have no cells"):
        quick(features[:0], np.zeros(0, dtype=int))


def test_a_broken_layer_is_named():
    features, labels = blobs(50)
    features[7] = np.nan
    with pytest.raises(InputError, match="features of conv2: 1 of 50 cells have NaN"):
        quick(features, labels, name="features of conv2")


def test_an_input_that_training_does_not_change_is_its_own_control():
    features, labels = blobs(80)
    for estimate in quick(features, labels, untrained=features.copy()).values():
        assert estimate.untrained == estimate.value


def test_collapse_grows_as_classes_shrink_to_points():
    features, labels = blobs(150, apart=4)
    means = np.stack([features[labels == k].mean(axis=0) for k in range(3)])[labels]
    found = [quick(means + s * (features - means), labels) for s in (1, 0.5, 0.1)]
    assert found[0]["nc1"].value > found[1]["nc1"].value > found[2]["nc1"].value
    fisher = [one["fisher_ratio"].value for one in found]
    assert fisher == sorted(fisher)
    assert found[2]["nc1"].value == pytest.approx(0.01 * found[0]["nc1"].value, rel=0.01)


@pytest.mark.parametrize("n", [20, 200])
def test_no_error_in_few_cells_is_less_sure_than_in_many(n: int):
    """Rule of three: of n / 2 cells of a class without an error up to 6 / n may be wrong."""
    labels = np.arange(n) % 2
    found = quick(100 * labels[:, None] + np.random.default_rng(0).random((n, 3)), labels)
    for name in ("knn_accuracy", "probe_accuracy"):
        assert found[name].value == found[name].high == 1
        assert 1 - 6 / n < found[name].low < 1 - 1 / n
