import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.numerics.intervals import (
    ANYTHING,
    AT_MOST_ONE,
    CORRELATION,
    POSITIVE,
    SHARE,
    Range,
    combined,
    group_interval,
    no_interval,
    t_interval,
)
from cytolens.numerics.resampling import (
    MOST_PARTS,
    parts_of,
    resample_weights,
    resampled_counts,
)

RANGES = [SHARE, CORRELATION, POSITIVE, AT_MOST_ONE, ANYTHING]


@pytest.mark.parametrize("deviation", [0.3, 0.8])
@pytest.mark.parametrize("groups", [3, 6, 10])
def test_intervals_over_groups_hold_what_new_groups_would_give(groups: int, deviation: float):
    rng = np.random.default_rng(groups)
    margins = 1.4 + deviation * rng.normal(size=(600, groups))
    truth = float((1 / (1 + np.exp(-1.4 - deviation * rng.normal(size=10**6)))).mean())
    sizes = np.maximum(20, 100 * np.exp(0.5 * rng.normal(size=margins.shape))).astype(int)
    right = rng.binomial(sizes, 1 / (1 + np.exp(-margins)))
    held = 0
    for n, hits in zip(sizes, right):
        without = (hits.sum() - hits) / (n.sum() - n)
        low, high = group_interval(hits.sum() / n.sum(), without, within=SHARE)
        held += low <= truth <= high
    assert 0.92 < held / 600 < 0.985  # 93 to 97 %, give or take chance


@pytest.mark.parametrize("within", RANGES)
@given(value=st.floats(0.01, 0.99), error=st.floats(0, 3), freedom=st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_its_value_and_stays_in_the_range(
    within: Range, value: float, error: float, freedom: int
):
    low, high = t_interval(value, error, freedom, within=within)
    assert within[0] <= low <= value <= high <= within[1]


@given(value=st.floats(-5, 5), error=st.floats(0.01, 3))
@settings(max_examples=20, deadline=None)
def test_without_ends_it_is_the_textbook_interval(value: float, error: float):
    low, high = t_interval(value, error, 2)
    assert (high - low) / 2 == pytest.approx(4.3027 * error, rel=1e-4)
    assert (high + low) / 2 == pytest.approx(value, abs=1e-9)


def test_the_interval_of_a_ratio_is_the_same_seen_upside_down():
    low, high = t_interval(4, 0.5, 9, within=POSITIVE)
    other_low, other_high = t_interval(1 / 4, 0.5 / 16, 9, within=POSITIVE)
    assert (1 / other_high, 1 / other_low) == pytest.approx((low, high))


def test_a_narrower_interval_is_of_a_lower_level():
    wide, narrow = (t_interval(0.8, 0.05, 5, within=SHARE, level=p) for p in (0.99, 0.9))
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]


def test_why_there_is_no_interval():
    assert no_interval([0.5]) == "1 group"
    assert no_interval([0.5, 0.6], "fold") == "2 folds"
    assert no_interval([0.5, 0.6, np.nan]) == "not defined without one group"
    assert no_interval([0.5, 0.6, 0.7]) is None


def test_independent_errors_add_up_and_the_larger_one_gives_the_freedom():
    error, freedom = combined([(3.0, 5), (4.0, 40)])
    assert error == pytest.approx(5)
    assert 5 < freedom < 45
    assert combined([(1e-9, 2), (1.0, 20)])[1] == pytest.approx(20)
    assert combined([(0.0, 2), (0.0, 20)]) == (0, 2)


@given(seed=st.integers(0, 1000), groups=st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_counts_and_weights_leave_out_one_group_at_a_time(seed: int, groups: int):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, size=30)])
    category = rng.integers(0, 4, size=len(group))
    counts = resampled_counts(category, 4, groups=group, resamples=7, rng=rng)
    weights = resample_weights(len(group), groups=group, resamples=7, rng=rng)
    left = [(group != one) | (groups == 1) for one in range(groups)]
    expected = [np.bincount(category[there], minlength=4) for there in left]
    assert counts.tolist() == np.array(expected).tolist()
    assert (weights == np.array(left)).all()


def test_very_many_groups_are_left_out_in_a_hundred_parts():
    group = np.arange(1000) // 2
    part = parts_of(group, rng=np.random.default_rng(0))
    assert len(np.unique(part)) == MOST_PARTS
    assert (part[::2] == part[1::2]).all()  # no group is cut
