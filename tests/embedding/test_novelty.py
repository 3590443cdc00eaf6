import numpy as np
import pytest

from cytolens.embedding.novelty import (
    Novelty,
    Overall,
    Scale,
    calibrate,
    calibrate_overall,
    energy,
    expected_overall,
    expected_rate,
    share_of,
)
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
    found = judge.judge(cells(4000, 3))
    odd, percentiles = found.odd, found.percentiles
    assert odd.mean() == pytest.approx(0.01, abs=0.008)
    assert judge.rate.low <= 0.01 <= judge.rate.high
    assert judge.rate.value == judge.clean.mean()
    assert percentiles.min() >= 0
    assert percentiles[odd].min() > 99


def test_what_is_far_from_all_and_what_lies_beside_a_dense_crowd_is_odd(judge: Novelty):
    far = np.full((10, 5), 200, dtype=np.float32)
    beside = np.zeros((10, 5), dtype=np.float32)
    beside[:, 1] = 4  # nearer to a cell than those of the wide crowd are to each other
    assert judge.judge(far).odd.all()
    found = judge.judge(beside)
    distances = found.distances
    assert found.odd.all()
    assert distances.max() < np.median(judge.judge(cells(3000, 5)).distances) * 20
    assert (judge.scale.measure(beside)[:, 0] < judge.thresholds[0]).all()  # not by distance alone


def test_a_cell_is_judged_the_same_alone_and_among_others(judge: Novelty):
    new = cells(200, 7, spread=2)
    whole = judge.judge(new)
    for row in range(0, 200, 23):
        alone = judge.judge(new[row : row + 1].copy())
        for part in ("odd", "distances", "percentiles", "logs"):
            np.testing.assert_array_equal(getattr(alone, part), getattr(whole, part)[row : row + 1])


def test_copies_of_training_cells_are_not_odd(judge: Novelty):
    training = cells(1500, 0)
    assert judge.judge(training).odd.mean() < 0.02


def test_few_calibration_cells_make_the_largest_the_threshold():
    found = calibrate(cells(300, 0), cells(20, 1), cells(50, 2), rng=0)
    np.testing.assert_array_equal(found.thresholds, found.ladder[-1])
    assert expected_rate(20) == 2 / 21
    assert expected_rate(1000) == 0.01


def test_a_silent_layer_calls_nothing_odd():
    still = np.zeros((60, 4), dtype=np.float32)
    found = calibrate(still, still[:20], still[:30], rng=0)
    assert found.rate.value == 0
    assert not found.judge(still[:5]).odd.any()
    assert found.judge(still[:5] + 1).odd.all()


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


def flat(n: int, seed: int, *, off: float = 0.0) -> np.ndarray:
    """Cells that vary in two features and hardly in four; ``off`` along the hardly varying."""
    x = np.random.default_rng(seed).normal(size=(n, 6)) * [3, 3, 0.05, 0.05, 0.05, 0.05]
    return (x + np.array([0, 0, off, off, off, off])).astype(np.float32)


def decided(n: int, seed: int) -> np.ndarray:
    """Logits of three classes, the first ahead by 4."""
    return np.random.default_rng(seed).normal(size=(n, 3)) + np.array([4, 0, 0])


def over_depths(*, n: int = 400) -> tuple[list[Novelty], Overall]:
    depths = [[flat(n, at + k) for k in range(3)] for at in (0, 40, 80)]
    judges = [calibrate(*parts, rng=0) for parts in depths]
    logits = [decided(n, k) for k in (5, 6)]
    return judges, calibrate_overall(judges, energies=(energy(logits[0]), energy(logits[1])), rng=0)


def told(given: tuple[list[Novelty], Overall], features: list[np.ndarray], logits: np.ndarray):
    judges, overall = given
    logs = [judge.judge(x).logs for judge, x in zip(judges, features, strict=True)]
    return overall.judge(np.stack(logs, axis=1), energy(logits))


def test_one_number_calls_five_percent_of_clean_cells_odd():
    given = over_depths(n=2000)
    logits = decided(4000, 9)
    odd, scores, p = told(given, [flat(4000, seed) for seed in (20, 60, 90)], logits)
    assert odd.mean() == pytest.approx(0.05, abs=0.015)
    assert given[1].rate.low <= 0.05 <= given[1].rate.high
    assert p.min() >= 1 / 2001
    assert p.max() <= 1
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.04)  # uniform
    assert (np.diff(p[np.argsort(scores)]) <= 0).all()
    assert (p[odd] <= 0.05).all()


def test_few_cells_that_calibrate_do_not_make_more_false_alarms():
    """Means and deviations of few cells fit those cells: theirs must be without themselves."""
    shares = []
    for seed in range(0, 4000, 100):
        parts = [flat(150, seed + 1), flat(39, seed + 2), flat(150, seed + 3)]
        judge = calibrate(*parts, rng=0)
        shares.append(calibrate_overall([judge], rng=0).clean.mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)


def test_a_blob_off_the_plane_of_the_cells_at_one_depth_is_odd_over_all():
    clean = decided(200, 9)
    features = [flat(200, 20), flat(200, 60, off=2.0), flat(200, 90)]
    assert told(over_depths(), features, clean)[0].mean() > 0.9


def test_cells_among_the_others_are_odd_only_by_undecided_logits():
    features = [flat(400, seed) for seed in (20, 60, 90)]
    undecided = np.random.default_rng(9).normal(size=(400, 3)) * 0.1
    sure = decided(400, 9)
    assert told(over_depths(), features, undecided)[0].mean() > 0.2
    assert told(over_depths(), features, sure)[0].mean() < 0.1  # a class inside cannot be told


def test_one_number_is_the_same_alone_and_among_others():
    given = over_depths()
    features = [flat(150, seed) for seed in (20, 60, 90)]
    logits = np.random.default_rng(9).normal(size=(150, 3))
    whole = told(given, features, logits)
    for row in (0, 77, 149):
        some = slice(row, row + 1)
        alone = told(given, [x[some].copy() for x in features], logits[some].copy())
        for one, all_ in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(one, all_[some])


def test_one_number_without_logits_and_over_silent_depths():
    still = np.zeros((60, 4), dtype=np.float32)
    judge = calibrate(still, still[:20], still[:30], rng=0)
    overall = calibrate_overall([judge, judge], rng=0)
    assert overall.rate.value == 0
    new = judge.judge(np.concatenate([still[:1], still[:1] + 1])).logs
    odd, scores, _ = overall.judge(np.stack([new, new], axis=1), None)
    assert odd.tolist() == [False, True]
    assert np.isfinite(scores).all()
    assert expected_overall(9) == 0.1
    assert expected_overall(100) == 0.05


def test_energy_is_that_of_the_logits():
    logits = np.array([[0.0, 0.0], [1000.0, 0.0]])
    np.testing.assert_allclose(energy(logits), [-np.log(2), -1000])
