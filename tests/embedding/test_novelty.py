import numpy as np
import pytest

from cytolens.embedding.novelty import Novelty, Scale, calibrate, expected_rate, share_of
from cytolens.errors import InputError


def cells(n: int, seed: int, *, spread: float = 1.0) -> np.ndarray:
    """A dense crowd (two thirds) and a wide one: what is far differs from place to place."""
    rng = np.random.default_rng(seed)
    wide = rng.uniform(size=n) < 1 / 3
    x = rng.normal(size=(n, 5)) * np.where(wide, 6, 0.3)[:, None] * spread
    x[:, 0] += np.where(wide, 30, 0)
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def judge() -> Novelty:
    return calibrate(cells(1500, 0), cells(600, 1), cells(900, 2), rng=0)


def test_clean_cells_are_called_odd_as_often_as_was_meant(judge: Novelty):
    odd, _, percentiles = judge.judge(cells(4000, 3))
    assert odd.mean() == pytest.approx(0.01, abs=0.008)
    assert judge.rate.low <= 0.01 <= judge.rate.high
    assert judge.rate.value == judge.clean.mean()
    assert percentiles.min() >= 0
    assert percentiles[odd].min() > 99


def test_what_is_far_from_all_and_what_lies_beside_a_dense_crowd_is_odd(judge: Novelty):
    far = np.full((10, 5), 200, dtype=np.float32)
    beside = np.zeros((10, 5), dtype=np.float32)
    beside[:, 1] = 4  # nearer to a cell than those of the wide crowd are to each other
    assert judge.judge(far)[0].all()
    odd, distances, _ = judge.judge(beside)
    assert odd.all()
    assert distances.max() < np.median(judge.judge(cells(3000, 5)[:, :])[1]) * 20
    assert (judge.scale.measure(beside)[:, 0] < judge.thresholds[0]).all()  # not by distance alone


def test_a_cell_is_judged_the_same_alone_and_among_others(judge: Novelty):
    new = cells(200, 7, spread=2)
    whole = judge.judge(new)
    for row in range(0, 200, 23):
        for one, all_ in zip(judge.judge(new[row : row + 1].copy()), whole, strict=True):
            np.testing.assert_array_equal(one, all_[row : row + 1])


def test_copies_of_training_cells_are_not_odd(judge: Novelty):
    training = cells(1500, 0)
    assert judge.judge(training)[0].mean() < 0.02


def test_few_calibration_cells_make_the_largest_the_threshold():
    found = calibrate(cells(300, 0), cells(20, 1), cells(50, 2), rng=0)
    np.testing.assert_array_equal(found.thresholds, found.ladder[-1])
    assert expected_rate(20) == 2 / 21
    assert expected_rate(1000) == 0.01


def test_a_silent_layer_calls_nothing_odd():
    still = np.zeros((60, 4), dtype=np.float32)
    found = calibrate(still, still[:20], still[:30], rng=0)
    assert found.rate.value == 0
    assert not found.judge(still[:5])[0].any()
    assert found.judge(still[:5] + 1)[0].all()


def test_duplicated_training_cells_do_no_harm():
    training = np.repeat(cells(40, 0), 30, axis=0)
    found = calibrate(training, cells(50, 1), cells(50, 2), rng=0)
    assert np.isfinite(found.thresholds).all()
    assert np.isfinite(Scale(training).measure(training)).all()


def test_no_false_alarm_still_has_an_interval_and_groups_widen_it():
    quiet = share_of(np.zeros(100, dtype=bool))
    assert quiet.value == 0
    assert quiet.high == pytest.approx(0.037, abs=0.001)  # Wilson
    flags = np.repeat([True, False, False, False], 50)
    plain, grouped = (
        share_of(flags, groups=groups, rng=0) for groups in (None, np.repeat(list("abcd"), 50))
    )
    assert grouped.high > plain.high
    assert grouped.low <= plain.low


def test_parts_that_are_too_small_are_said():
    with pytest.raises(InputError, match="0 validation"):
        calibrate(cells(30, 0), cells(0, 1), cells(5, 2))
