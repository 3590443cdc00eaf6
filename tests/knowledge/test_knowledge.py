"""Properties planted in features are read where they are, and nowhere else."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from cytolens.errors import InputError
from cytolens.knowledge.knowledge import measure_knowledge
from cytolens.numerics.auc import weighted_areas
from cytolens.numerics.ridge import held_out_fits

N = 400


def depths(planted: np.ndarray, at: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Four layers of noise; from layer ``at`` on one direction carries what is planted."""
    rng = np.random.default_rng(seed)
    layers = {f"layer{k}": rng.normal(size=(len(planted), 12)) for k in range(4)}
    for k in range(at, 4):
        layers[f"layer{k}"] += np.outer(planted, rng.normal(size=12))
    return {name: rows.astype(np.float32) for name, rows in layers.items()}


def clear(estimate, floor: float) -> bool:
    return estimate.low > max(estimate.null, floor)


def test_a_property_is_read_exactly_from_the_depth_it_is_planted_at() -> None:
    rng = np.random.default_rng(1)
    size, grade = 3 * rng.normal(size=N), rng.choice(["low", "high"], N)
    features = depths(size, 2)
    features["layer3"][:, 0] += 4 * (grade == "high")
    shuffled = rng.permutation(size)
    found = measure_knowledge(
        features, {"size": size, "grade": grade, "shuffled": shuffled}, rng=0, resamples=100
    )
    assert found.measures == {"size": "r2", "grade": "auc", "shuffled": "r2"}
    read = {name: [found.layers[f"layer{k}"][name] for k in range(4)] for name in found.measures}
    assert [clear(one, 0.0) for one in read["size"]] == [False, False, True, True]
    assert [clear(one, 0.5) for one in read["grade"]] == [False, False, False, True]
    assert not any(clear(one, 0.0) for one in read["shuffled"])
    assert read["size"][2].value > 0.9
    assert abs(read["shuffled"][2].value) < 0.05


def test_a_linear_function_of_the_features_is_read_to_the_last_digit() -> None:
    features = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    found = measure_knowledge({"a": features}, {"p": features @ np.arange(5.0)}, rng=0)
    assert found.layers["a"]["p"].value > 0.9999


def test_rotating_features_and_permuting_cells_change_nothing_that_matters() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=N)
    rows = depths(value, 0)["layer0"]
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0].astype(np.float32)
    found = measure_knowledge({"a": rows, "b": rows @ turn}, {"p": value}, rng=0)
    assert found.layers["a"]["p"].value == pytest.approx(found.layers["b"]["p"].value, abs=1e-4)
    order = rng.permutation(N)
    again = measure_knowledge({"a": rows[order]}, {"p": value[order]}, rng=0)
    assert again.layers["a"]["p"].value == pytest.approx(found.layers["a"]["p"].value, abs=0.02)


def test_what_only_tells_groups_apart_is_not_read_in_groups_held_out() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 60)
    offset = rng.normal(size=(6, 20))[groups]
    features = {"a": (offset + 0.3 * rng.normal(size=(360, 20))).astype(np.float32)}
    dose = rng.permutation(6)[groups] + 0.1 * rng.normal(size=360)  # of the group, not the cell
    careless = measure_knowledge(features, {"dose": dose}, rng=0)
    careful = measure_knowledge(features, {"dose": dose, "group": groups.astype(str)},
                                groups=groups, rng=0)  # fmt: skip
    assert careless.layers["a"]["dose"].value > 0.9
    assert not clear(careful.layers["a"]["dose"], 0.0)
    assert careful.by_cells == ("group",)
    assert careful.layers["a"]["group"].value > 0.95


def test_beyond_the_class_a_network_that_knows_the_class_alone_knows_nothing() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, N)
    size = label + 0.5 * rng.normal(size=N)
    blind = rng.normal(size=(N, 4)) + 3 * label[:, None]
    seeing = blind + np.outer(size, [2, 0, 0, 0])
    layers = {"blind": blind.astype(np.float32), "seeing": seeing.astype(np.float32)}
    plain = measure_knowledge(layers, {"size": size}, rng=0)
    beyond = measure_knowledge(layers, {"size": size}, within=label, rng=0)
    assert clear(plain.layers["blind"]["size"], 0.0)
    assert not clear(beyond.layers["blind"]["size"], 0.0)
    assert clear(beyond.layers["seeing"]["size"], 0.0)


def test_properties_that_cannot_be_judged_are_named_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=N)
    holes = np.where(np.arange(N) % 3 == 0, np.nan, value)
    found = measure_knowledge(
        depths(value, 0),
        {
            "constant": np.ones(N),
            "missing": np.full(N, np.nan),
            "few": np.where(np.arange(N) < 10, value, np.nan),
            "names": np.array([f"cell {k}" for k in range(N)]),
            "words": np.where(np.arange(N) % 2, "", "a"),
            "holes": holes,
            "infinite": np.where(np.arange(N) == 7, np.inf, value),
            "class of three": np.where(np.arange(N) < 3, "rare", "a"),
        },
        rng=0,
        resamples=50,
    )
    assert set(found.left_out) == {
        "constant", "missing", "few", "names", "words", "class of three"
    }  # fmt: skip
    assert found.left_out["constant"] == "the same for all cells"
    assert found.counts["holes"] == np.isfinite(holes).sum()
    assert found.counts["infinite"] == N - 1
    assert found.layers["layer0"]["holes"].value > 0.8


def test_one_outlier_and_a_constant_or_one_dimensional_layer_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=N)
    far = value.copy()
    far[0] = 1e6
    layers = {
        "logits": value[:, None].astype(np.float32),
        "dead": np.zeros((N, 8), dtype=np.float32),
    }
    found = measure_knowledge(layers, {"far": far, "sign": value > 0}, rng=0, resamples=50)
    assert found.layers["logits"]["far"].value > 0.9
    assert found.layers["dead"]["far"].value == pytest.approx(0, abs=0.02)
    assert found.layers["logits"]["sign"].value == pytest.approx(1)
    assert found.layers["dead"]["sign"].value == pytest.approx(0.5, abs=0.05)


def test_the_untrained_network_stands_beside_and_lengths_must_agree() -> None:
    value = np.random.default_rng(0).normal(size=N)
    found = measure_knowledge(
        {"a": depths(value, 0)["layer0"]}, {"p": value},
        untrained={"a": depths(value, 4)["layer0"]}, rng=0, resamples=50,
    )  # fmt: skip
    assert found.layers["a"]["p"].untrained == pytest.approx(0, abs=0.05)
    ahead, alone = found.gain("a", "p"), found.layers["a"]["p"]
    assert ahead is not None
    assert alone.untrained is not None
    assert ahead.value == pytest.approx(alone.value - alone.untrained)
    assert ahead.low > 0
    same = measure_knowledge(
        {"a": depths(value, 4)["layer1"]}, {"p": value},
        untrained={"a": depths(value, 4)["layer1"]}, rng=0, resamples=50,
    ).gain("a", "p")  # fmt: skip
    assert same is not None
    assert (same.low, same.high) == pytest.approx(
        (0, 0), abs=1e-9
    )  # paired: nothing is left of what both have
    with pytest.raises(InputError, match="lengths must agree"):
        measure_knowledge(depths(value, 0), {"p": value[:-1]})
    with pytest.raises(InputError, match="groups"):
        measure_knowledge(depths(value, 0), {"p": value}, groups=np.zeros(3))


def test_weighted_areas_are_those_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 60).astype(float)
    inside, weights = rng.random(60) < 0.4, rng.integers(0, 4, (5, 60)).astype(float)
    expected = [roc_auc_score(inside, scores, sample_weight=row) for row in weights]
    assert weighted_areas(scores, inside, weights) == pytest.approx(expected)


def test_held_out_fits_agree_with_scikit_learn_where_no_penalty_is_needed() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6))
    columns = features @ rng.normal(size=(6, 2)) + 0.1 * rng.normal(size=(300, 2)) + 5
    folds = np.arange(300) % 5
    expected = cross_val_predict(LinearRegression(), features, columns, cv=PredefinedSplit(folds))
    for blocked in (None, np.array([True, False])):
        fits, means, _ = held_out_fits(features, columns, folds, blocked=blocked)
        np.testing.assert_allclose(fits + means, expected, atol=0.02)
