import numpy as np
import pytest

from cytolens.numerics.estimates import Estimate, bootstrap, generator, mean_of_both
from cytolens.numerics.intervals import SHARE


def test_interval_of_a_mean_has_the_textbook_width():
    values = np.random.default_rng(0).normal(size=400)
    estimate = bootstrap(lambda i: float(values[i].mean()), 400, resamples=2000, rng=1)
    expected = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(expected, rel=0.1)


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 50)
    values = np.repeat(rng.normal(size=6), 50) + 0.1 * rng.normal(size=300)
    by_cell = bootstrap(lambda i: float(values[i].mean()), 300, rng=1)
    by_group = bootstrap(lambda i: float(values[i].mean()), 300, groups=groups, rng=1)
    assert by_group.high - by_group.low > 3 * (by_cell.high - by_cell.low)


def test_a_statistic_that_is_never_defined_gives_no_interval():
    estimate = bootstrap(lambda i: float("nan"), 5, resamples=10, rng=0)
    assert np.isnan(estimate.low)


def test_summary_entries_leave_out_controls_that_do_not_apply():
    assert Estimate(1.0, 0.5, 1.5).as_dict() == {"value": 1.0, "low": 0.5, "high": 1.5}
    assert Estimate(1.0, 0.5, 1.5, null=0.2).as_dict()["null"] == 0.2


@pytest.mark.parametrize(("groups", "why"), [(1, "1 group"), (2, "2 groups")])
def test_fewer_than_three_groups_have_no_interval_and_say_so(groups: int, why: str):
    names = np.arange(40) % groups
    estimate = bootstrap(lambda i: float(i.mean()), 40, groups=names, rng=0)
    assert np.isnan([estimate.low, estimate.high]).all()
    assert not estimate.known
    assert str(estimate) == f"19.500 (no interval: {why})"
    assert estimate.as_dict()["no_interval"] == why
    assert estimate.least == estimate.value


def test_a_seed_repeats_and_a_generator_is_used_as_it_is():
    rng = np.random.default_rng(3)
    assert generator(rng) is rng
    assert generator(3).random() == np.random.default_rng(3).random()


def test_a_mean_over_channels_doubts_the_cells_as_well():
    rng = np.random.default_rng(0)
    values = 0.7 + 0.05 * rng.normal(size=8)
    still = np.tile(values, (200, 1))
    shared = still + 0.05 * rng.normal(size=(200, 1))  # cells that move all channels together
    channels = mean_of_both(values, still, grouped=False, within=SHARE)
    both = mean_of_both(values, shared, grouped=False, within=SHARE)
    assert both.high - both.low > 1.5 * (channels.high - channels.low)
    assert both.value == pytest.approx(values.mean())
    assert mean_of_both(values, shared[:2], grouped=True, within=SHARE).no_interval == "2 groups"
    assert mean_of_both(values[:2], shared[:, :2], grouped=False, within=SHARE).no_interval == (
        "2 channels"
    )
