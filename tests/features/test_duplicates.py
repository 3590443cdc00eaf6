import numpy as np
import pytest

from cytolens.errors import InputError, SettingError
from cytolens.features.duplicates import find_twins, group_duplicates


def independent(n: int = 400, channels: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, channels))


def test_copies_are_found_and_the_most_important_stands_for_them() -> None:
    features = independent()
    noise = 0.1 * np.random.default_rng(1).normal(size=400)
    features = np.column_stack([features, 3 * features[:, 1] + 7, features[:, 1] + noise])
    importance = np.array([1, 2, 9, 4, 5, 3, 8, 0.5])
    groups = group_duplicates(features, importance)
    assert [group.tolist() for group in groups] == [[2], [6, 1, 7], [4], [3], [5], [0]]


def test_every_channel_is_in_one_group() -> None:
    features = independent() @ np.random.default_rng(2).normal(size=(6, 30))
    groups = group_duplicates(features, np.zeros(30), threshold=0.5)
    assert sorted(np.concatenate(groups).tolist()) == list(range(30))
    assert 1 < len(groups) < 30


def test_every_pair_of_a_group_correlates_above_the_threshold() -> None:
    steps = np.random.default_rng(3).normal(size=(500, 12))
    chain = np.cumsum(steps, axis=1)  # neighbours are alike, ends are not
    for group in group_duplicates(chain, np.arange(12), threshold=0.8):
        assert np.corrcoef(chain[:, group].T).min() >= 0.8


def test_opposite_channels_and_dead_ones_are_no_duplicates() -> None:
    features = independent(channels=2)
    silent = np.zeros((400, 2))
    features = np.column_stack([features, -features[:, 0], silent, np.full(400, 3.3)])
    assert [len(group) for group in group_duplicates(features, np.zeros(6))] == [1] * 6


def test_without_any_moving_channel_all_stand_alone() -> None:
    groups = group_duplicates(np.ones((5, 3)), [0.0, 2.0, 1.0])
    assert [group.tolist() for group in groups] == [[1], [2], [0]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingError, match=r"\(0, 1\]"):
        group_duplicates(independent(), np.zeros(6), threshold=1.5)
    with pytest.raises(InputError, match="give"):
        group_duplicates(independent(), np.zeros(5))


def test_a_twin_is_named_with_the_earlier_channel_that_it_is_most_like() -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((200, 3))
    near = x + 0.2 * draw.standard_normal((200, 3))  # correlation about .98
    features = {"a": x, "b": np.column_stack([near[:, 1], draw.standard_normal(200)]), "c": near}
    shown = {"a": [0, 1], "b": [0, 1], "c": [1, 2]}
    assert find_twins(features, shown) == {"b/0": "a/1", "c/1": "a/1"}


def test_what_rises_where_another_falls_and_what_is_constant_have_no_twins() -> None:
    x = np.random.default_rng(0).standard_normal((200, 1))
    features = {"a": x, "b": -x, "c": 0 * x, "d": 0 * x}
    assert find_twins(features, {name: [0] for name in features}) == {}
    assert find_twins({"a": np.column_stack([x, x])}, {"a": [0, 1]}) == {}  # of one layer
