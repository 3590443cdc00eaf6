"""Contrast pairs: known answers of every part, and a small network from end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cytolens.classifier.training import TrainingSettings, train
from cytolens.errors import InputError, SettingError
from cytolens.features.contrast.axis import Regression, Space, explained
from cytolens.features.contrast.editing import Filling, fill_in, share_changed, sparse_edits
from cytolens.features.contrast.matching import (
    cells_of_steps,
    clearest_pairs,
    goals_of,
    matched_cells,
    matched_series,
    turned_like,
)
from cytolens.features.contrast.naming import name_shifts, standardised
from cytolens.features.contrast.pairs import contrast_pairs
from cytolens.features.contrast.questions import Questions, ask, near_in_class
from cytolens.features.contrast.series import order_of
from cytolens.features.contrast.targets import channel_target, class_targets, find_target
from cytolens.features.priors import fit_prior
from cytolens.records.layers import Layer
from cytolens.simulation.simulate import Plant
from cytolens.validation.planting import plant_pairs


def _draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_regression_finds_the_slope_of_each_target_and_none_of_a_constant() -> None:
    points = _draw().standard_normal((300, 5)) * [1, 10, 0.1, 1, 1]
    slope = np.array([1.0, 0.0, 20.0, 0.0, -1.0])
    found = Regression(points)
    np.testing.assert_allclose(found.slope(points @ slope + 3), slope, rtol=0.02, atol=0.02)
    assert not found.slope(np.full(300, 7.0)).any()
    assert explained(points, points @ slope, slope).mean() == pytest.approx(1)


def test_a_single_value_is_a_target_and_an_output_is_no_class() -> None:
    logits = _layer("logits", 1)
    found = find_target("size", [logits], ("size",), classes=False)
    assert (found.name, found.kind, found.weights.tolist()) == ("size", "output", [1.0])
    with pytest.raises(SettingError, match=r"give an output \(size\)"):
        find_target("age", [logits], ("size",), classes=False)


def test_the_pairs_differ_along_the_axis_and_what_goes_with_it_cancels() -> None:
    draw = _draw()
    size = draw.standard_normal(600)
    target = 0.8 * size + 0.6 * draw.standard_normal(600)  # it goes with size, but is not size
    others = draw.standard_normal((600, 3))
    points = np.column_stack([target, size, others])
    less, more, along = clearest_pairs(
        points, target, np.array([1.0, 0, 0, 0, 0]), most=12, rng=draw
    )
    low, high = goals_of(target)
    assert (target[less] <= low).all()
    assert (target[more] >= high).all()
    assert len(set(less) | set(more)) == 24
    assert along[-1] > 0.9
    naive = size[target >= high].mean() - size[target <= low].mean()
    assert abs((size[more] - size[less]).mean()) < 0.4 * naive


def test_without_an_axis_there_are_no_pairs() -> None:
    points = _draw().standard_normal((50, 3))
    less, more, along = clearest_pairs(points, np.ones(50), np.zeros(3), most=5, rng=_draw())
    assert len(less) == len(more) == len(along) == 0


def test_matched_cells_differ_from_the_cell_along_the_axis_and_in_little_else() -> None:
    points = _draw().standard_normal((500, 4))
    start = _draw(1).standard_normal((6, 4)) * 0.5
    rows = matched_cells(points, points[:, 0], np.array([2.0, 0, 0, 0]), start)
    assert (points[rows[:, 0], 0] < -1).all()
    assert (points[rows[:, 1], 0] > 1).all()
    apart = np.linalg.norm(points[rows] - start[:, None], axis=2, ord=2)
    beside = np.linalg.norm((points[rows] - start[:, None])[..., 1:], axis=2)
    assert (beside < apart).all()
    assert beside.mean() < 0.7


def test_a_series_has_more_and_more_of_the_target_in_cells_that_are_alike_otherwise() -> None:
    draw = _draw()
    points = draw.standard_normal((600, 4))
    target = points[:, 0] + 0.1 * draw.standard_normal(600)
    steps = cells_of_steps(target)
    assert [len(rows) for rows in steps] == [60] * 5
    slope = np.array([2.0, 0, 0, 0])
    series = matched_series(points, steps, slope, most=8)
    assert series.shape == (8, 5)
    assert len(np.unique(series)) == 40
    assert (np.diff(target[series], axis=1) > 0).all()
    np.testing.assert_allclose(
        target[series].mean(0), np.quantile(target, [0.1, 0.3, 0.5, 0.7, 0.9]), atol=0.15
    )
    beside = points[series][..., 1:]
    apart = np.linalg.norm(beside - beside[:, 2:3], axis=2)[:, [0, 1, 3, 4]]
    unmatched = np.linalg.norm(points[steps[0], 1:] - points[steps[2], 1:], axis=1)
    assert apart.mean() < 0.6 * unmatched.mean()
    assert apart[0].mean() < apart[-1].mean()
    assert order_of(points[series] @ slope, rng=draw).value > 0.99
    assert order_of(-points[series] @ slope, rng=draw).value < -0.99


def test_a_target_that_is_silent_in_half_of_the_cells_has_no_series() -> None:
    points = _draw().standard_normal((200, 3))
    assert cells_of_steps(np.maximum(points[:, 0], 0)) == []
    assert matched_series(points, [], points[0], most=5).shape == (0, 5)


def test_a_picture_is_turned_as_its_other_lies() -> None:
    picture = _draw().random((3, 1, 12, 12)).astype(np.float32)
    turned = np.rot90(picture, 1, (2, 3))[..., ::-1]
    np.testing.assert_array_equal(turned_like(turned.copy(), picture), picture)


def test_questions_are_of_near_cells_of_one_class_that_differ_in_the_target() -> None:
    draw = _draw()
    points = draw.standard_normal((200, 2))
    labels = draw.integers(0, 2, 200)
    scores = points[:, 0] + 0.01 * draw.standard_normal(200)
    near = near_in_class(points, labels)
    asked = ask(near, scores, None)
    assert (labels[asked.more] == labels[asked.less]).all()
    assert (scores[asked.more] - scores[asked.less] >= 0.5 * scores.std()).all()
    right = asked.answered(points, np.array([1.0, 0.0]), rng=0)
    assert right.value > 0.95
    assert right.low > 0.5
    assert asked.answered(points, np.array([-1.0, 0.0]), rng=0).value < 0.05
    assert asked.answered(points, np.zeros(2), rng=0).value == 0.5
    few = Questions(np.arange(3), np.arange(3) + 3, None)
    assert np.isnan(few.answered(points, np.ones(2), rng=0).value)


def test_a_shift_is_named_where_real_pairs_show_it_and_edited_cells_do_not_deny_it() -> None:
    draw = _draw()
    natural = {
        "size": 1 + 0.3 * draw.standard_normal(40),
        "denied": 1 + 0.3 * draw.standard_normal(40),
        "nothing": draw.standard_normal(40),
        "small": 0.1 + 0.02 * draw.standard_normal(40),
        "unknown": np.full(40, np.nan),
    }
    made = {"size": np.array([0.8, 1.0]), "denied": np.array([-1.0, -0.8])}
    found = {shift.name: shift for shift in name_shifts(natural, made, rng=draw)}
    assert [name for name, shift in found.items() if shift.named] == ["size"]
    assert "unknown" not in found
    assert found["size"].natural.low < 1 < found["size"].natural.high


def test_properties_that_do_not_vary_are_left_out() -> None:
    found = standardised({"area": np.array([1.0, 2, 3, np.nan]), "same": np.ones(4)})
    assert list(found) == ["area"]
    assert np.nanstd(found["area"]) == pytest.approx(1)


def test_a_filled_region_looks_like_its_surroundings_and_nothing_else_changes() -> None:
    draw = _draw()
    y, x = np.mgrid[:24, :24]
    height = draw.standard_normal((2, 200, 1, 1))
    fields = height[0] * np.sin(x / 4) + height[1] * np.cos(y / 5)
    fields = (fields + 0.01 * draw.standard_normal(fields.shape)).astype(np.float32)[:, None]
    prior = fit_prior(fields, n_components=10, background=0.0, rng=0)
    region = (y - 12) ** 2 + (x - 12) ** 2 <= 9
    crop = fields[:2].copy()
    spoilt = crop.copy()
    spoilt[:, 0, region] += 5
    (filled,) = Filling(prior, rng=draw)(spoilt, region[None])
    np.testing.assert_allclose(filled[:, 0, ~region], spoilt[:, 0, ~region], atol=1e-5)
    assert np.abs(filled - crop)[:, 0, region].mean() < 0.1


def test_filling_in_takes_away_a_spot_that_the_score_asks_for_and_spares_the_padding() -> None:
    draw = _draw()
    cells = 0.1 * draw.random((100, 1, 24, 24)).astype(np.float32)
    prior = fit_prior(cells, n_components=20, background=0.0, rng=0)
    crop = cells[:1].copy()
    crop[0, 0, 10:13, 10:13] = 3
    crop[0, 0, 2:4, 2:4] = 3
    measured = np.ones((1, 24, 24), bool)
    measured[0, :6] = False
    (made,) = fill_in(
        lambda images: images[:, 0, 8:16].max((1, 2)).astype(float),
        crop, [0.3], Filling(prior, rng=draw), measured=measured,
    )  # fmt: skip
    np.testing.assert_array_equal(made[0, 0, :6], crop[0, 0, :6])
    assert made[0, 0, 10:13, 10:13].mean() < 1


def test_a_sparse_edit_reaches_its_goal_where_the_score_looks_and_nowhere_else() -> None:
    def score(images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 8:16, 8:16].mean((1, 2))

    crops = np.full((2, 1, 24, 24), 0.5, np.float32)
    measured = np.ones((2, 24, 24), bool)
    measured[1, :, 12:] = False
    made = sparse_edits(
        score, crops, np.array([0.7, 0.4]), measured=measured, deviation=0.1,
        value_range=np.array([[0.0, 1.0]]), steps=80,
    )  # fmt: skip
    reached = score(torch.from_numpy(made)).numpy()
    np.testing.assert_allclose(reached, [0.7, 0.4], atol=0.05)
    np.testing.assert_array_equal(made[1, :, :, 12:], crops[1, :, :, 12:])
    change = np.abs(made - crops)[:, 0]
    assert change[0, 6:18, 6:18].sum() > 0.9 * change[0].sum()
    assert (share_changed(crops, made) < 0.4).all()
    assert share_changed(crops, crops).tolist() == [0, 0]


def _layer(name: str, channels: int) -> Layer:
    return Layer(
        name=name, kind="linear", depth=1, shape=(channels,), receptive_field=None,
        pre_activation=(name, 0, "output"), activation=(name, 0, "output"),
    )  # fmt: skip


def test_targets_are_named_as_people_type_them() -> None:
    layers = [_layer("conv5", 8), _layer("logits", 2)]
    assert class_targets(layers[1], ("a", "b"))[0].name == "b rather than a"
    assert len(class_targets(_layer("logits", 3), ("a", "b", "c"))) == 3
    assert find_target("a", layers, ("a", "b")).weights.tolist() == [1, -1]
    assert find_target("conv5/3", layers, ("a", "b")).name == "conv5, channel 3"
    with pytest.raises(SettingError, match="choose from 0 to 7"):
        channel_target(layers[0], 8)
    with pytest.raises(SettingError, match="give a class"):
        find_target("nucleus", layers, ("a", "b"))


def test_pairs_of_a_planted_class_differ_in_the_plant_and_edits_are_judged_by_others() -> None:
    planted = plant_pairs(80, Plant(kind="rim"), size=40, rng=0)
    settings = TrainingSettings(epochs=4, patience=4)
    n = len(planted.masks)
    donors = np.char.add("donor ", (np.arange(len(planted.cells)) % n * 6 // n).astype(str))
    cells = replace(planted.cells, groups=donors)
    made = train(cells, settings=settings, rng=0)
    found = contrast_pairs(made.model, cells, split=made.split, judges=1, rng=0)
    (pairs,) = found.pairs
    assert pairs.target.name == "planted rather than plain"
    carries = pairs.more_rows >= n, pairs.less_rows >= n
    assert carries[0].mean() > carries[1].mean()
    assert set(pairs.answers) == {"scattering", "measured properties"}
    assert {"permuted", "untrained", "random_direction", "rotation"} == set(pairs.controls)
    assert pairs.edits is not None
    assert pairs.series is not None
    assert pairs.edits.own.shape == (len(pairs.edits.cells), 2)
    assert np.isin(pairs.edits.cells, made.split.test).all()
    assert pairs.series.edited is not None
    assert pairs.series.edited.shape == (5, 1, 40, 40)
    rows = pairs.series.rows
    assert pairs.series.images.shape == (*rows.shape, 1, 40, 40)
    assert np.isin(rows, made.split.train).all()
    assert set(pairs.series.order) == set(pairs.series.unmatched) == set(pairs.answers)
    real = np.concatenate([pairs.less_rows, pairs.more_rows, pairs.edits.matched_rows.ravel()])
    assert not np.isin(donors[real], donors[pairs.edits.cells]).any()
    again = contrast_pairs(made.model, cells, ["planted", "plain"], split=made.split, k=4, rng=0)
    np.testing.assert_array_equal(again.pairs[0].more_rows, pairs.more_rows[:4])
    assert len(again.pairs[0].less) == len(again.pairs[0].along) == 4
    assert again.pairs[0].edits is None
    assert again.pairs[0].series is not None
    np.testing.assert_array_equal(again.pairs[0].series.rows, rows)
    assert again.pairs[1].series is None  # the first target, the other way round
    with pytest.raises(SettingError, match="at least one pair"):
        contrast_pairs(made.model, cells, split=made.split, k=0)
    values = replace(made.model, outputs="values", class_names=("size", "age"))
    judged = contrast_pairs(values, cells, ["age"], split=made.split, judges=1, rng=0)
    assert [one.target.kind for one in judged.pairs] == ["output"]
    assert judged.pairs[0].edits is not None  # judges see the cells' classes, whatever is judged


def test_too_few_cells_are_refused() -> None:
    planted = plant_pairs(30, Plant(kind="rim"), size=40, rng=0)
    made = train(planted.cells, split=planted.split, settings=TrainingSettings(epochs=1), rng=0)
    with pytest.raises(InputError, match="at least 40"):
        contrast_pairs(made.model, planted.cells, split=made.split, rng=0)


def test_the_space_places_the_cells_it_was_made_of_where_they_are() -> None:
    cells = _draw().random((60, 1, 16, 16)).astype(np.float32)
    space = Space.of(fit_prior(cells, background=0.0, rng=0))
    np.testing.assert_allclose(space(cells[:5]), space.known[:5], atol=1e-3)
