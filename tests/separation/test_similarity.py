import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.records.separation import Similarity
from cytolens.separation.similarity import measure_similarity

Array = NDArray[np.float64]


def alike(features: dict[str, Array], **options: object) -> Similarity:
    options = {"resamples": 60, "permutations": 30, "rng": 0, "threads": 1, **options}
    return measure_similarity(features, **options)  # pyright: ignore


def by_definition(x: Array, y: Array) -> float:
    """Equation 5 of Song et al. 2012, normalised as in Kornblith et al. 2019."""

    def criterion(k: Array, h: Array) -> float:
        n = len(k)
        k, h = k - np.diag(np.diag(k)), h - np.diag(np.diag(h))
        ones = np.ones(n)
        return (
            np.trace(k @ h)
            + (ones @ k @ ones) * (ones @ h @ ones) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (ones @ k @ h @ ones)
        ) / (n * (n - 3))

    k, h = x @ x.T, y @ y.T
    return criterion(k, h) / np.sqrt(criterion(k, k) * criterion(h, h))


def noise(n: int, f: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, f))


def test_it_is_the_unbiased_estimate_of_the_papers():
    x = noise(80, 12)
    y = x[:, :5] + noise(80, 5, seed=1)
    assert alike({"a": x, "b": y}).between("a", "b").value == pytest.approx(
        by_definition(x, y), abs=1e-5
    )


def test_rotated_scaled_and_moved_layers_are_the_same():
    x = noise(100, 8)
    turn = np.linalg.qr(noise(8, 8, seed=1))[0]
    found = alike({"a": x, "b": 5 * x @ turn + 3})
    assert found.between("a", "b").value == pytest.approx(1, abs=1e-5)
    assert found.between("a", "b").low == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("width", [5, 100, 2000])
def test_wide_layers_of_few_cells_do_not_look_alike(width: int):
    """Without the correction unrelated layers of 2,000 features and 100 cells have about 0.95."""
    found = alike({"a": noise(100, width), "b": noise(100, width, seed=1)}).between("a", "b")
    assert abs(found.value) < 0.06
    assert found.low < 0 < found.high


def test_half_of_the_features_is_less_alike_than_all():
    x = noise(300, 10)
    found = alike({"all": x, "half": x[:, :5]})
    assert 0.6 < found.between("all", "half").value < 0.85
    null = found.between("all", "half").null
    assert null is not None
    assert null < 0.1


def test_each_layer_is_compared_with_itself_before_training():
    x, y = noise(200, 6), noise(200, 6, seed=1)
    found = alike({"a": x, "b": y}, untrained={"a": x, "b": noise(200, 6, seed=2)})
    assert found.with_untrained("a").value == pytest.approx(1, abs=1e-5)
    assert abs(found.with_untrained("b").value) < 0.1
    assert found.control.shape == (2, 2)
    assert found.between("a", "b").untrained == pytest.approx(found.control[0, 1])


def test_the_matrix_is_symmetric_with_ones():
    layers = {str(k): noise(60, k + 2, seed=k) for k in range(4)}
    found = alike(layers)
    for part in (found.value, found.low, found.high, found.null):
        np.testing.assert_array_equal(part, part.T)
    np.testing.assert_array_equal(np.diag(found.value), 1)
    assert (found.low <= found.value + 1e-9).all()
    assert (found.high >= found.value - 1e-9).all()


def test_unrelated_layers_stay_within_the_null():
    inside = []
    for seed in range(20):
        found = alike({"a": noise(80, 5, seed=seed), "b": noise(80, 5, seed=100 + seed)})
        one = found.between("a", "b")
        inside.append(one.value <= (one.null or 0))
    assert np.mean(inside) > 0.75  # 95 % expected of 20


def test_intervals_over_donors_are_wider_than_over_cells():
    donors = np.repeat(np.arange(6), 40)
    shift = noise(6, 5, seed=5)[donors]
    x = noise(240, 5) + 2 * shift
    y = noise(240, 5, seed=1) + 2 * shift @ np.diag([1, 0, 1, 0, 1])
    cells = alike({"a": x, "b": y}).between("a", "b")
    people = alike({"a": x, "b": y}, groups=donors.astype(str)).between("a", "b")
    assert people.high - people.low > 1.5 * (cells.high - cells.low)


def test_many_cells_are_sampled():
    x = noise(2500, 4)
    found = alike({"a": x, "b": x + noise(2500, 4, seed=1)})
    assert found.n == 1000
    assert found.between("a", "b").value == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_gives_the_same_numbers():
    layers = {"a": noise(70, 4), "b": noise(70, 4) ** 2}
    one, two = alike(layers), alike(layers)
    np.testing.assert_array_equal(one.low, two.low)
    np.testing.assert_array_equal(one.null, two.null)


@pytest.mark.parametrize("dull", [np.zeros((50, 3)), np.full((50, 1), 7.0)])
def test_a_constant_layer_has_no_alignment(dull: Array):
    found = alike({"a": noise(50, 4), "dull": dull}, untrained={"a": dull, "dull": dull})
    assert found.between("a", "a").value == 1
    assert np.isnan(found.value[1]).all()
    assert np.isnan(found.with_untrained("a").value)


@pytest.mark.parametrize("n", [2, 5])
def test_a_handful_of_cells_has_no_alignment(n: int):
    found = alike({"a": noise(n, 4), "b": noise(n, 4, seed=1)})
    assert np.isnan(found.value).all()


def test_one_dimensional_logits_and_duplicates_are_no_trouble():
    x = noise(40, 3)
    found = alike({"a": np.repeat(x, 3, axis=0), "logit": np.repeat(x[:, :1], 3, axis=0)})
    assert 0 < found.between("a", "logit").value < 1


def test_what_cannot_be_compared_is_said_in_one_line():
    with pytest.raises(InputError, match=r"layers of \[40, 50\] cells"):
        alike({"a": noise(50, 3), "b": noise(40, 3)})
    broken = noise(50, 3)
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="layer b: 1 of 50 cells have NaN"):
        alike({"a": noise(50, 3), "b": broken})
