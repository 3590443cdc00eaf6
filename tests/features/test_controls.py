"""What an image has to outdo: its start, the ascent without its channel, and rotated channels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optimised_networks import images_made
from test_faithfulness import (
    COARSE,
    FINE,
    NETWORK,
    PRIOR,
    SHAPE,
    SHOWING,
    SPOTS,
    YARDSTICK,
    cells_by_rank,
    shown,
)

from cytolens.errors import InputError
from cytolens.features.ascent import Ascent
from cytolens.features.controls import Controls, make_controls
from cytolens.features.faithfulness import measure_faithfulness
from cytolens.features.natural import answers_at
from cytolens.records.features import Faithfulness, FeatureImages

STEPS = 12
SCORES = YARDSTICK.made_from.score["conv2"]


def made(channels: list[int]) -> FeatureImages:
    return images_made(
        NETWORK,
        layer="conv2",
        channels=channels,
        input_shape=SHAPE,
        prior=PRIOR,
        steps=STEPS,
        rng=0,
    )


MADE = made([SPOTS, FINE, COARSE])
CONTROLS = make_controls(
    NETWORK, MADE, SCORES, prior=PRIOR, ascent=Ascent(steps=STEPS), input_shape=SHAPE, rng=0
)


def judge(images: FeatureImages, **options: Any) -> Faithfulness:
    return measure_faithfulness(NETWORK, images, YARDSTICK, rng=0, **options)


def test_controls_are_of_the_first_images_and_as_many_rotations() -> None:
    assert CONTROLS.rows.tolist() == [0, 1, 2]
    assert CONTROLS.hold_only.shape == CONTROLS.wrong_channel.shape == (3, *SHAPE)
    two = make_controls(
        NETWORK, MADE, SCORES, prior=PRIOR, ascent=Ascent(steps=2), input_shape=SHAPE, count=2,
        rng=0,
    )  # fmt: skip
    assert len(two.hold_only) == len(two.wrong_channel) == len(two.rotated) == 2
    dead = replace(MADE, dead=np.array([True, False, False]))
    without = make_controls(
        NETWORK, dead, SCORES, prior=PRIOR, ascent=Ascent(steps=2), input_shape=SHAPE, rng=0
    )
    assert without.rows.tolist() == [1, 2]


def test_the_ascent_without_the_network_stays_near_the_start_and_the_wrong_channel_leaves() -> None:
    assert MADE.starts is not None
    own = np.arange(3)
    for images, least in ((CONTROLS.hold_only, 0.5), (CONTROLS.wrong_channel, 0.0)):
        alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, MADE.starts)]
        assert min(alike) > least
    reached = answers_at(NETWORK, YARDSTICK.layers, CONTROLS.wrong_channel).score["conv2"]
    started = answers_at(NETWORK, YARDSTICK.layers, MADE.starts).score["conv2"]
    others = np.roll(own, -1)
    assert (reached[own, others] > started[own, others]).all()  # up the channel that is not theirs
    assert (reached[own, own] < MADE.activation).all()


def test_rotations_are_orthogonal_directions_of_channels_in_their_deviations() -> None:
    scaled = CONTROLS.directions * SCORES.std(0)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    assert np.allclose(scaled @ scaled.T, np.eye(3), atol=1e-6)


def test_images_that_started_at_no_cell_have_no_controls() -> None:
    with pytest.raises(InputError, match="did not start at cells"):
        make_controls(NETWORK, shown(SHOWING, [0, 1, 2]), SCORES, prior=PRIOR, input_shape=SHAPE)


def test_an_image_no_better_than_its_start_does_not_predict_and_a_better_one_does() -> None:
    """A feature's own image, as if it had started at a cell of another kind, and at its own."""
    shift = CONTROLS.rotated[:, :, ::-1]  # rotated channels that say nothing of their cells
    poor = Controls("conv2", CONTROLS.rows, shift, shift, shift, CONTROLS.directions)
    from_other = replace(shown(SHOWING, [0, 1, 2]), starts=SHOWING[[1, 2, 0]])
    found = judge(from_other, controls=replace(poor, rotated=_noise(3)))
    assert found.predicts is not None
    assert found.predicts.all()
    assert found.estimates["above_start"].value > 0.3
    assert found.table["like_start"].max() < 0.95
    itself = replace(shown(SHOWING, [0, 1, 2]), starts=SHOWING)
    same = judge(itself, controls=replace(poor, rotated=_noise(3)))
    assert same.predicts is not None
    assert not same.predicts.any()
    assert same.estimates["above_start"].value == 0
    assert np.allclose(same.table["like_start"], 1, atol=1e-5)
    assert same.failures == ("", "", "")  # it is above chance, as its start is


def test_an_image_no_better_than_rotated_channels_does_not_predict() -> None:
    from_other = replace(shown(SHOWING, [0, 1, 2]), starts=SHOWING[[1, 2, 0]])
    eye = np.eye(3)  # rotations that are the channels themselves
    as_good = Controls("conv2", np.arange(3), SHOWING, SHOWING, cells_by_rank(3), eye)
    found = judge(from_other, controls=as_good)
    assert found.predicts is not None
    assert not found.predicts.any()
    assert found.estimates["rotation"].value > 0.9
    assert found.estimates["above_rotation"].value == pytest.approx(0, abs=0.05)


def test_without_controls_nothing_is_said_to_predict() -> None:
    found = judge(replace(shown(SHOWING, [0, 1, 2]), starts=SHOWING[[1, 2, 0]]))
    assert found.predicts is not None
    assert not found.predicts.any()


def test_every_comparison_is_told_in_both_representations() -> None:
    found = judge(MADE, controls=CONTROLS)
    for name in ("predictivity", "start_cell", "hold_only", "wrong_channel", "others"):
        for key in (name, f"{name}_by_wavelets"):
            assert np.isfinite(found.table[key]).all()
            assert 0 <= found.estimates[key].value <= 1
    for key in ("rotation", "above_start", "above_rotation", "own_best"):
        assert key in found.estimates
        assert f"{key}_by_wavelets" in found.estimates


def test_a_control_that_was_not_made_of_an_image_is_not_known() -> None:
    one = replace(
        CONTROLS, rows=np.array([1]), hold_only=CONTROLS.hold_only[1:2],
        wrong_channel=CONTROLS.wrong_channel[1:2],
    )  # fmt: skip
    found = judge(MADE, controls=one)
    assert np.isfinite(found.table["hold_only"]).tolist() == [False, True, False]
    assert found.estimates["hold_only"].value == found.table["hold_only"][1]
    again = made([FINE])
    stability = judge(MADE, again=again).table["stability"]
    assert np.isfinite(stability).tolist() == [False, True, False]
    with pytest.raises(InputError, match="other channels"):
        judge(made([FINE]), again=MADE)


def test_own_images_predict_their_channels_best_and_swapped_ones_do_not() -> None:
    right, wrong = shown(SHOWING, [0, 1, 2]), shown(SHOWING[[1, 2, 0]], [0, 1, 2])
    for end in ("", "_by_wavelets"):
        own = judge(right).estimates[f"own_best{end}"]
        assert own.value == 1
        assert own.null == pytest.approx(1 / 3)
        assert judge(wrong).estimates[f"own_best{end}"].value == 0
    others = judge(right).table["others"]
    assert (others < judge(right).table["predictivity"]).all()


def _noise(count: int) -> Any:
    return np.random.default_rng(1).random((count, *SHAPE), dtype=np.float32)
