import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.estimates import Estimate
from cytolens.numerics.probe import held_out_predictions, probe_features
from cytolens.numerics.ridge import PENALTIES, block_errors
from cytolens.records.separation import ClassSeparation
from cytolens.separation.pairwise import closest_pairs, find_onset, find_onsets, measure_pairs
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
NAMES = ("G1", "G2", "M", "S")


def depths(n: int = 400, *, width: int = 8) -> tuple[list[Array], Labels]:
    """At depth 0 nothing; from depth 1 on G1 stands apart, from depth 2 on G2, then M from S."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 4
    found: list[Array] = []
    for depth in range(4):
        features = rng.normal(size=(n, width))
        for k in range(depth):
            features[:, k] += 4 * (labels == k)
        found.append(features.astype(np.float32))
    return found, labels


def quick(features: Array, labels: Labels, **options: object) -> ClassSeparation:
    options = {
        "class_names": NAMES, "resamples": 100, "permutations": 30, "rng": 0, "threads": 1,
        **options,
    }  # fmt: skip
    return measure_pairs(features, labels, **options)  # pyright: ignore


@pytest.fixture(scope="module")
def separations() -> list[ClassSeparation]:
    layers, labels = depths()
    return [quick(x, labels, name=f"depth{d}", untrained=layers[0]) for d, x in enumerate(layers)]


def test_pairs_that_come_apart_from_a_depth_on_are_found_there(separations: list[ClassSeparation]):
    clear = {onset.classes: onset.clear for onset in find_onsets(separations)}
    assert clear["G1", "G2"] == clear["G1", "M"] == clear["G1", "S"] == "depth1"
    assert clear["G2", "M"] == clear["G2", "S"] == "depth2"
    assert clear["M", "S"] == "depth3"
    assert clear[("G1",)] == "depth1"


def test_the_first_to_come_apart_is_the_first_in_the_list(separations: list[ClassSeparation]):
    onsets = find_onsets(separations)
    places = [["depth0", "depth1", "depth2", "depth3"].index(o.clear or "") for o in onsets]
    assert places == sorted(places)
    assert len(onsets) == 6 + 4


def test_every_number_has_its_interval_and_controls(separations: list[ClassSeparation]):
    last = separations[-1]
    assert set(last.by_class) == set(NAMES)
    assert len(last.pairs) == len(last.by_pair) == 6
    for estimate in (*last.by_class.values(), *last.by_pair):
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.null is not None
        assert estimate.untrained is not None
        assert estimate.untrained < 0.65 < estimate.value


def test_a_pair_does_not_mind_what_else_there_is():
    layers, labels = depths()
    two = labels < 2
    alone = measure_separation(
        layers[1][two], labels[two], resamples=50, permutations=5, rng=0, threads=1
    )["probe_accuracy"]
    among = quick(layers[1], labels, pairs=[("G1", "G2")])
    assert among.pairs == (("G1", "G2"),)
    assert among.by_pair[0].value == pytest.approx(alone.value, abs=0.02)


def test_two_classes_are_one_pair_and_no_class_against_the_rest():
    layers, labels = depths()
    two = labels < 2
    found = quick(layers[1][two], labels[two])
    assert found.by_class == {}
    assert found.pairs == (("G1", "G2"),)


def test_a_class_of_three_cells_is_left_out_and_named():
    layers, labels = depths()
    kept = np.flatnonzero((labels != 3) | (np.arange(len(labels)) < 12))
    found = quick(layers[2][kept], labels[kept])
    assert found.left_out == ("S",)
    assert len(found.pairs) == 3
    assert set(found.by_class) == {"G1", "G2", "M"}


def test_classes_of_one_and_the_same_donor_cannot_be_told_apart_across_donors():
    layers, labels = depths()
    donors = np.where(labels < 2, "a", np.where(np.arange(len(labels)) % 8 < 4, "b", "c"))
    found = quick(layers[3], labels, groups=donors)
    by_pair = dict(zip(found.pairs, found.by_pair))
    assert np.isnan(by_pair["G1", "G2"].value)
    assert "one and the same group" in found.remark
    assert by_pair["M", "S"].value > 0.8


def test_of_many_classes_only_the_closest_pairs_are_measured():
    rng = np.random.default_rng(0)
    labels = np.arange(14 * 12) % 14
    features = (3 * labels[:, None] + rng.normal(size=(len(labels), 2))).astype(np.float32)
    names = [f"c{k:02}" for k in range(14)]
    found = quick(features, labels, class_names=names, resamples=10, permutations=2)
    assert len(found.pairs) == 66
    assert "25 pairs that are further apart" in found.remark
    assert ("c00", "c01") in found.pairs
    assert ("c00", "c13") not in found.pairs
    nearest = closest_pairs(features, labels, class_names=names, most=13)
    assert {int(b[1:]) - int(a[1:]) for a, b in nearest} == {1}


def curve(*values: tuple[float, float]) -> dict[str, Estimate]:
    return {f"d{k}": Estimate(v, low, 1, null=0.55) for k, (v, low) in enumerate(values)}


def test_an_onset_must_last():
    found = find_onset(("a", "b"), curve((0.7, 0.6), (0.6, 0.5), (0.8, 0.7), (0.9, 0.8)))
    assert (found.clear, found.nine_tenths, found.best) == ("d2", "d3", "d3")
    never = find_onset(("a", "b"), curve((0.7, 0.6), (0.6, 0.5)))
    assert (never.clear, never.nine_tenths, never.best) == (None, None, "d0")
    nothing = find_onset(("a", "b"), {"d0": Estimate(np.nan, np.nan, np.nan)})
    assert nothing.best is None


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_a_constant_layer_tells_nothing_apart(fill: float):
    labels = np.arange(60) % 3
    found = quick(np.full((60, 4), fill, np.float32), labels, class_names=("a", "b", "c"))
    for estimate in (*found.by_class.values(), *found.by_pair):
        assert estimate.value == pytest.approx(0.5)
    assert all(onset.clear is None for onset in find_onsets([found]))


def test_duplicates_and_one_dimensional_logits_are_told_apart():
    labels = np.repeat([0, 1, 2], 20)
    found = quick(labels[:, None].astype(np.float32), labels, class_names=("a", "b", "c"))
    assert [estimate.value for estimate in found.by_pair] == pytest.approx([1, 1, 1])


def test_what_cannot_be_measured_is_said_in_one_line():
    layers, labels = depths(40)
    with pytest.raises(InputError, match="two classes"):
        quick(layers[0][:2], labels[:2])
    with pytest.raises(InputError, match="two classes"):
        quick(layers[0], np.zeros(40, dtype=np.int64))
    broken = layers[0].copy()
    broken[3] = np.nan
    with pytest.raises(InputError, match="conv1: 1 of 40 cells have NaN"):
        quick(broken, labels, name="conv1")


def test_the_penalty_for_new_groups_is_that_of_leaving_groups_out_one_by_one():
    rng = np.random.default_rng(0)
    n, f, groups = 200, 20, rng.integers(0, 4, 200)
    x = rng.normal(size=(n, f)) + rng.normal(size=(4, f))[groups]
    x -= x.mean(axis=0)
    labels = rng.integers(0, 3, n)
    target = (labels[:, None] == np.arange(3)).astype(float)
    target -= target.mean(axis=0)
    power, axes = np.linalg.eigh(x.T @ x)
    found = block_errors(power, x @ axes / np.sqrt(power), target, groups).sum(axis=1)
    errors: list[float] = []
    ones = np.concatenate([np.ones((n, 1)), x], axis=1)
    for penalty in PENALTIES[::2] * power.mean():
        ridge = np.diag([0.0] + [penalty] * f)
        errors.append(0)
        for group in range(4):
            kept = groups != group
            fit = np.linalg.solve(ones[kept].T @ ones[kept] + ridge, ones[kept].T @ target[kept])
            errors[-1] += ((target[~kept] - ones[~kept] @ fit) ** 2).sum()
    np.testing.assert_allclose(found - found[0], np.array(errors) - errors[0], rtol=1e-6, atol=1e-6)


def test_for_new_donors_a_penalty_chosen_over_donors_is_no_worse():
    """Each donor has a cue of its own in many features, all share a faint one in a single."""
    within, across = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        n, donors = 480, np.arange(480) % 8
        labels = rng.integers(0, 2, n)
        sign = (2 * labels - 1)[:, None]
        x = rng.normal(size=(n, 60)) + 0.5 * sign * rng.normal(size=(8, 60))[donors]
        x[:, 0] += 0.8 * sign[:, 0]
        seen = probe_features(x.astype(np.float32))
        for grouped, kept in ((False, within), (True, across)):
            answers = held_out_predictions(seen, labels[None], donors, grouped=grouped)[0]
            kept.append((answers == labels).mean())
    assert np.mean(across) >= np.mean(within) - 0.005


def test_classes_that_are_nowhere_better_than_chance_have_no_onset():
    below = {name: Estimate(value, 0.1, 0.7) for name, value in (("a", 0.3), ("b", 0.4))}
    found = find_onset(("x", "y"), below)
    assert (found.clear, found.nine_tenths, found.best) == (None, None, "b")


def test_an_onset_is_corrected_for_the_number_of_pairs():
    near, wide = Estimate(0.7, 0.61, 0.8, null=0.6), Estimate(0.9, 0.85, 0.95, null=0.6)
    given = {"conv1": near, "conv2": wide}
    assert find_onset(("a", "b"), given).clear == "conv1"
    strict = find_onset(("a", "b"), given, {"conv1": False, "conv2": True})
    assert strict.clear == "conv2"


def test_pairs_of_two_donors_are_not_clear_and_say_why():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, 3)) + 5 * np.eye(3)[labels]
    found = measure_pairs(
        features, labels, class_names=("a", "b", "c"), groups=np.arange(120) // 60,
        resamples=20, permutations=5, rng=0,
    )  # fmt: skip
    assert found.by_pair[0].no_interval == "2 groups"
    assert not any(found.clear_by_pair)
    assert find_onsets([found])[0].clear is None
