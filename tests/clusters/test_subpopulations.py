import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cytolens.clusters.subpopulations import describe_clusters
from cytolens.errors import InputError


def planted(n: int = 400, seed: int = 0):
    """Cells of one class, of which the second cluster's are larger; brightness says nothing."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    area = rng.normal(100, 10, n) + 20 * labels
    measured = {"focus": rng.normal(size=n), "area": area, "mean_brightness": rng.normal(size=n)}
    return labels, measured


def test_a_planted_sub_population_is_named_by_its_area():
    labels, measured = planted()
    small, large = describe_clusters(labels, measured, rng=0)
    assert (small.name, large.name) == ("smaller", "larger")
    assert large.n == labels.sum()
    first = large.differences[0]
    assert first.name == "area"
    assert first.auc.value == pytest.approx(roc_auc_score(labels, measured["area"]))
    assert first.auc.low < first.auc.value < first.auc.high
    assert first.auc.low > first.auc.null > 0.5
    assert first.proven


def test_what_does_not_differ_is_named_in_at_most_one_of_twenty():
    named = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        measured = {f"p{i}": rng.normal(size=60) for i in range(5)}
        described = describe_clusters(rng.integers(0, 3, 60), measured, permutations=100, rng=seed)
        named += any(found.differences[0].proven for found in described)
    assert named <= 7  # 3 expected


def test_a_property_that_says_the_same_again_is_not_named_twice():
    labels, measured = planted()
    measured["total_brightness"] = measured["area"] * 3 + np.random.default_rng(1).normal(size=400)
    assert describe_clusters(labels, measured, rng=0)[1].name in ("larger", "brighter in total")


def test_properties_that_follow_donors_are_no_difference_of_clusters_across_donors():
    rng = np.random.default_rng(0)
    donor = rng.integers(0, 6, 600)
    labels = (rng.random(600) < np.where(donor < 3, 0.2, 0.8)).astype(int)
    measured = {"area": 5.0 * donor + rng.normal(size=600)}
    (_, plain), (_, careful) = (
        describe_clusters(labels, measured, groups=groups, rng=0) for groups in (None, donor)
    )
    assert plain.differences[0].proven
    assert not careful.differences[0].proven


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    donor = rng.integers(0, 8, 600)
    labels = (donor + rng.integers(0, 2, 600) > 4).astype(int)
    measured = {"area": rng.normal(size=8)[donor] + rng.normal(size=600)}
    widths = []
    for groups in (None, donor):
        auc = describe_clusters(labels, measured, groups=groups, rng=0)[1].differences[0].auc
        widths.append(auc.high - auc.low)
    assert widths[1] > 2 * widths[0]


def test_the_interval_covers_the_truth():
    covered = 0
    truth = 0.7602  # of normals one s.d. apart
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        measured = {"area": rng.normal(size=120) + labels}
        auc = describe_clusters(labels, measured, permutations=1, rng=0)[1].differences[0].auc
        covered += auc.low <= truth <= auc.high
    assert covered >= 88


def test_what_is_not_known_or_constant_is_left_out():
    labels, measured = planted()
    measured["area"][:50] = np.nan
    measured["constant"] = np.ones(400)
    measured["never"] = np.full(400, np.nan)
    found = describe_clusters(labels, measured, rng=0)[1]
    assert {d.name for d in found.differences} == {"focus", "area", "mean_brightness"}
    assert found.name == "larger"
    assert describe_clusters(labels, {}, rng=0)[1].differences == ()
    assert describe_clusters(np.full(5, -1), {"area": np.arange(5.0)}, rng=0) == ()
    one = describe_clusters(np.zeros(5, int), {"area": np.arange(5.0)}, rng=0)
    assert (one[0].name, one[0].differences) == ("", ())
    two = describe_clusters(np.array([0, 1]), {"area": np.array([1.0, 2.0])}, rng=0)
    assert [found.name for found in two] == ["", ""]  # two cells prove nothing


def test_the_same_seed_gives_the_same_description():
    labels, measured = planted()
    assert describe_clusters(labels, measured, rng=3) == describe_clusters(labels, measured, rng=3)


def test_properties_of_other_cells_are_refused():
    with pytest.raises(InputError, match=r"'area': \(3,\) values for 2 cells"):
        describe_clusters(np.array([0, 1]), {"area": np.arange(3.0)})
