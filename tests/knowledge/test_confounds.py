"""Alarms where a nuisance gives the label away and the network has it; silence elsewhere."""

from typing import Any

import numpy as np
import pytest

from cytolens.errors import InputError
from cytolens.knowledge.confounds import find_confounds, label_from_nuisance
from cytolens.knowledge.matching import hold_fixed

N = 600


def study(*, leak: float = 0.0, seen: bool = True, seed: int = 0) -> dict[str, Any]:
    """Cells of two classes, a network that tells them, and a nuisance that leaks the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, N)
    nuisance = rng.normal(size=N) + leak * labels
    features = rng.normal(size=(N, 8))
    features[:, 0] += 3 * labels
    if seen:
        features[:, 1] += 2 * nuisance
    predicted = (features[:, 0] + rng.normal(size=N) > 1.5).astype(int)
    return {
        "nuisances": {"size": nuisance, **{f"other {k}": rng.normal(size=N) for k in range(6)}},
        "labels": labels,
        "features": {"conv": features.astype(np.float32)},
        "held_out": np.arange(N),
        "predicted": predicted,
        "resamples": 200,
        "permutations": 100,
        "rng": seed,
    }


def test_a_planted_confound_is_caught_and_held_fixed() -> None:
    alarm = find_confounds(**study(leak=1.5)).alarms[0]
    assert alarm.nuisance == "size"
    assert alarm.label_from_nuisance.value == pytest.approx(0.79, abs=0.05)
    assert alarm.encoded_at == "conv"
    assert alarm.encoded.value > 0.5
    assert alarm.performance_fixed.value == pytest.approx(alarm.performance.value, abs=0.06)


def test_without_a_confound_there_is_no_alarm() -> None:
    assert sum(bool(find_confounds(**study(seed=seed)).alarms) for seed in range(6)) == 0


def test_a_nuisance_that_the_network_does_not_have_raises_no_alarm() -> None:
    found = find_confounds(**study(leak=1.0, seen=False))
    assert found.alarms == ()
    assert found.nuisances["size"].low > (found.nuisances["size"].null or 1)


def test_a_network_that_goes_by_the_nuisance_alone_has_nothing_left_when_it_is_fixed() -> None:
    given = study(leak=1.5)
    given["predicted"] = (given["nuisances"]["size"] > 0.75).astype(int)
    alarm = find_confounds(**given).alarms[0]
    assert alarm.performance.value > 0.7
    assert alarm.performance_fixed.value < 0.6


def test_a_plate_that_is_the_class_cannot_be_told_from_it_and_is_an_alarm() -> None:
    given = study()
    given["nuisances"]["plate"] = np.where(given["labels"] == 1, "p1", "p2")
    given["artefacts"] = ("plate",)
    alarm = find_confounds(**given).alarms[0]
    assert (alarm.nuisance, alarm.kind, alarm.matched) == ("plate", "artefact", 0.0)
    assert alarm.label_from_nuisance.value == 1
    assert np.isnan(alarm.performance_fixed.value)


def test_a_network_that_goes_by_a_planted_nuisance_has_half_right_among_pairs_alike_in_it() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    for step in (0.5, 1.0, 2.0):
        planted = rng.normal(size=N) + step * labels
        for sharpness in (1.0, 100.0):  # probabilities, or next to none but 0 and 1
            second = 1 / (1 + np.exp(-sharpness * (planted - step / 2)))
            answers = np.stack([1 - second, second], axis=1)
            whole, fixed, matched = hold_fixed(planted, labels, answers, rng=0)
            assert whole.value > 0.55
            assert fixed.value == pytest.approx(0.5, abs=0.04)
            assert matched > 0.5


def test_a_network_that_knows_the_cell_keeps_its_performance_among_pairs() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, N)
    shown = np.where(rng.random(N) < 0.9, labels, 1 - labels)
    answers = np.stack([1 - shown, shown], axis=1).astype(float)
    _, fixed, _ = hold_fixed(rng.normal(size=N) + labels, labels, answers, rng=0)
    assert fixed.value == pytest.approx(0.9, abs=0.05)


def test_classes_that_do_not_overlap_in_a_nuisance_give_no_number() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, N)
    answers = rng.random((N, 2))
    _, fixed, matched = hold_fixed(rng.normal(size=N) + 9 * labels, labels, answers, rng=0)
    assert np.isnan(fixed.value)
    assert matched < 0.05


def test_a_rough_measure_of_what_the_network_goes_by_is_heard_with_the_true_one_off_cell() -> None:
    """Focus of .69 where a blur, which the noise gives away, is all that the network has."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, N)
    features = rng.normal(size=(N, 4)) + 6 * labels[:, None] * np.array([1, 0, 0, 0])
    found = find_confounds(
        {"focus": rng.normal(size=N) - labels, "noise": rng.normal(size=N) - 6 * labels},
        labels, features={"conv": features}, held_out=np.arange(N), predicted=labels,
        off_cell=("noise",), rng=0,
    )  # fmt: skip
    assert [alarm.nuisance for alarm in found.alarms] == ["noise", "focus"]
    assert np.isnan([alarm.performance_fixed.value for alarm in found.alarms]).all()


def test_a_network_at_chance_cannot_excuse_a_nuisance_that_tells_the_label() -> None:
    given = study(leak=1.5, seen=False)
    rng = np.random.default_rng(4)
    given |= {"features": {"conv": rng.normal(size=(N, 4))}, "predicted": rng.integers(0, 2, N)}
    alarm = find_confounds(**given).alarms[0]
    assert alarm.nuisance == "size"
    assert alarm.encoded.low <= (alarm.encoded.null or 0)


def test_several_numbers_are_one_nuisance_and_are_silent_under_chance() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, N)
    corners = rng.normal(size=(N, 8))
    corners[:, 3] += labels
    loud, _ = label_from_nuisance({"frame": corners}, labels, permutations=50, rng=0)
    assert loud["frame"].low > loud["frame"].null > 0.5
    raised = 0
    for seed in range(10):
        told, _ = label_from_nuisance(
            {"frame": corners}, rng.integers(0, 2, N), permutations=50, resamples=100, rng=seed
        )
        raised += told["frame"].low > (told["frame"].null or 1)
    assert raised <= 1


def test_a_file_name_that_names_the_class_is_left_out_with_a_note() -> None:
    given = study()
    given["nuisances"]["name"] = np.where(given["labels"] == 1, "act", "noact")
    given["nuisances"]["number"] = np.argsort(np.argsort(given["labels"] + np.arange(N) / N))
    found = find_confounds(**given, file_names=("name", "number"))
    assert found.alarms == ()  # files are numbered class by class, which no network sees
    assert "one to one" in found.left_out["name"]


def test_a_nuisance_and_its_double_are_one_alarm() -> None:
    given = study(leak=1.5)
    given["nuisances"]["padding"] = -(given["nuisances"]["size"] ** 3)
    found = find_confounds(**given)
    assert [(a.nuisance, a.same_as) for a in found.alarms] == [("size", ("padding",))]


def test_dependence_that_is_no_trend_is_seen_and_constants_are_named() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    found, left_out = label_from_nuisance(
        {
            "width": rng.normal(size=N) * np.where(labels, 3, 0.5),
            "constant": np.ones(N),
            "missing": np.full(N, np.nan),
            "holes": np.where(rng.random(N) < 0.3, np.nan, labels + rng.normal(size=N)),
        },
        labels,
        rng=0,
    )
    assert found["width"].low > found["width"].null > 0.5
    assert left_out == {"constant": "the same for all cells", "missing": "not known"}
    assert found["holes"].value == pytest.approx(0.69, abs=0.05)


def test_what_goes_with_groups_is_judged_in_groups_held_out() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 60)
    labels = rng.integers(0, 2, 480)
    shift = np.where(labels == 1, rng.normal(size=8)[groups], rng.normal(size=8)[groups])
    found, _ = label_from_nuisance(
        {"shift": shift, "group": groups.astype(str)}, labels, groups=groups, rng=0
    )
    assert found["shift"].value < 0.75  # within a group it would be 1
    assert found["group"].value < 0.6


def test_a_class_of_three_cells_and_a_third_class_are_taken_along() -> None:
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(60, int), np.ones(60, int), np.full(3, 2)]
    values = labels + 0.3 * rng.normal(size=123)
    found, _ = label_from_nuisance({"v": values}, labels, rng=0)
    assert 0.5 < found["v"].value <= 1
    whole, fixed, matched = hold_fixed(values, labels, rng.random((123, 3)), rng=0)
    assert 0 <= matched < 1
    assert np.isfinite(whole.value)
    assert np.isnan(fixed.value)  # hardly any overlap


def test_lengths_must_agree() -> None:
    given = study()
    given["nuisances"]["short"] = np.zeros(5)
    with pytest.raises(InputError, match="short"):
        find_confounds(**given)
    given = study()
    given["predicted"] = given["predicted"][:9]
    with pytest.raises(InputError, match="9 of 600"):
        find_confounds(**given)


def test_alarms_of_one_cause_are_one_finding() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    size = y + rng.normal(scale=0.7, size=400)
    other = 0.8 * y + rng.normal(scale=0.7, size=400)
    nuisances = {
        "crop_size": size, "noise": size + rng.normal(scale=0.3, size=400), "darkest": other,
    }  # fmt: skip
    features = {"conv1": np.stack([size, nuisances["noise"], other], axis=1)}
    found = find_confounds(
        nuisances, y, features=features, held_out=np.arange(400),
        predicted=(size + other > 0.9).astype(np.int64), artefacts=tuple(nuisances),
        off_cell=("noise", "darkest"), resamples=100, permutations=50, rng=0,
    )  # fmt: skip
    goes_with = {alarm.nuisance: alarm.goes_with for alarm in found.alarms}
    assert goes_with == {"crop_size": "", "noise": "crop_size", "darkest": ""}
    noise = next(alarm for alarm in found.alarms if alarm.nuisance == "noise")
    assert noise.within < 0.6 < noise.label_from_nuisance.value
