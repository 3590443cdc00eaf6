import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import make_cells

from cytolens.classifier.splitting import describe_split, held_out_parts, joined, split_cells
from cytolens.errors import SettingError


def plain(labels, groups=None):
    return make_cells(np.zeros((len(labels), 1, 4, 4)), labels, groups=groups)


def parts(split):
    return split.train, split.validation, split.test


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=3, max_size=9),
    seed=st.integers(0, 1000),
)
def test_groups_are_never_cut_and_every_part_has_every_class(counts, seed):
    table = np.array(counts)
    labels = np.concatenate([np.repeat([0, 1], row) for row in table])
    groups = np.repeat(np.arange(len(table)), table.sum(1))
    order = np.random.default_rng(seed).permutation(len(labels))
    cells = plain(labels[order], groups[order])
    split = split_cells(cells, rng=seed)
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(cells)))
    owners = [set(cells.groups[part]) for part in parts(split)]
    assert sum(map(len, owners)) == len(table)
    assert all(set(cells.labels[part]) == {0, 1} for part in parts(split))


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(10, 200), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_without_groups_each_part_keeps_the_class_shares(counts, seed):
    cells = plain(np.repeat(np.arange(len(counts)), counts))
    split = split_cells(cells, validation=0.15, test=0.2, rng=seed)
    for code, count in enumerate(counts):
        held = int((cells.labels[split.test] == code).sum())
        assert abs(held - 0.2 * count) <= 1
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(cells)))


def test_same_seed_same_split():
    cells = plain(np.arange(60) % 3)
    one, same, other = (split_cells(cells, rng=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test, same.test)
    assert not np.array_equal(one.test, other.test)


def test_test_groups_are_those_with_the_whole_s_class_shares():
    labels = np.concatenate([np.repeat([0, 1], row) for row in [(9, 1), (1, 9), (5, 5), (5, 5)]])
    cells = plain(labels, np.repeat(list("abcd"), 10))
    split = split_cells(cells, rng=0)
    assert set(cells.groups[split.test]) < {"c", "d"}


def test_two_groups_are_too_few_and_the_way_out_is_named():
    with pytest.raises(SettingError, match="at least three"):
        split_cells(plain(np.arange(40) % 2, np.arange(40) // 20), rng=0)


def test_one_group_is_split_by_cells_and_the_remark_says_what_that_means():
    cells = plain(np.arange(40) % 2, np.zeros(40, dtype=int))
    split = split_cells(cells, rng=0)
    assert "speak of it alone" in describe_split(cells, split)


def test_a_class_that_lives_in_one_group_only_is_refused():
    labels = np.r_[np.zeros(30), np.ones(10)].astype(int)
    with pytest.raises(SettingError, match="gives every class"):
        split_cells(plain(labels, np.repeat(list("abcd"), 10)), rng=0)


@pytest.mark.parametrize("fields", [3, 4, 7])
def test_groups_of_one_class_each_are_held_out_from_every_class(fields):
    labels = np.repeat(np.arange(2), 15 * fields)
    groups = np.arange(len(labels)) // 15
    cells = make_cells(np.zeros((len(labels), 1, 4, 4)), labels, groups=groups)
    split = split_cells(cells, rng=0)
    for part in (split.train, split.validation, split.test):
        assert set(labels[part]) == {0, 1}


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.5, 0.5), (0.2, -0.1)])
def test_shares_out_of_range_are_refused(shares):
    with pytest.raises(SettingError, match="together below 1"):
        split_cells(plain(np.arange(40) % 2), validation=shares[0], test=shares[1])


def test_the_description_names_the_held_out_groups():
    cells = plain(np.arange(60) % 2, np.repeat(list("abc"), 20))
    split = split_cells(cells, rng=0)
    assert f"test: {cells.groups[split.test][0]}" in describe_split(cells, split)


def test_folds_by_group_hold_out_each_group_once():
    cells = plain(np.arange(60) % 2, np.repeat(list("abc"), 20))
    folds = held_out_parts(cells, "group")
    assert list(folds) == ["a", "b", "c"]
    assert all(set(cells.groups[index]) == {name} for name, index in folds.items())


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 6), sizes=st.lists(st.integers(2, 30), min_size=6, max_size=12))
def test_numbered_folds_cut_no_group_and_none_is_empty(count, sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    cells = plain(np.arange(len(groups)) % 2, groups)
    folds = list(held_out_parts(cells, count, rng=0).values())
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(cells)))
    assert min(map(len, folds)) > 0
    assert sum(len(set(cells.groups[index])) for index in folds) == len(sizes)


def test_numbered_folds_without_groups_are_stratified():
    cells = plain(np.repeat([0, 1], [50, 25]))
    for index in held_out_parts(cells, 5, rng=0).values():
        assert np.array_equal(np.bincount(cells.labels[index]), [10, 5])


@pytest.mark.parametrize("folds", ["donor", 1, 500, "group"])
def test_impossible_folds_are_refused(folds):
    with pytest.raises(SettingError, match="folds"):
        held_out_parts(plain(np.arange(40) % 2), folds)


@pytest.mark.parametrize("seed", range(5))
def test_cells_that_belong_together_are_in_one_part(seed: int):
    cells = plain(np.arange(200) % 2)
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 200, (60, 2))
    split = split_cells(cells, together=pairs, rng=seed)
    part = np.empty(200, dtype=int)
    for k, index in enumerate((split.train, split.validation, split.test)):
        part[index] = k
        assert set(cells.labels[index]) == {0, 1}
    assert np.array_equal(part[pairs[:, 0]], part[pairs[:, 1]])
    assert sum(map(len, (split.train, split.validation, split.test))) == 200


def test_groups_that_share_a_cell_are_held_out_together():
    cells = plain(np.arange(60) % 2, np.repeat(list("abcdef"), 10))
    whole = joined(cells, np.array([[0, 15]]))
    assert sorted(set(whole.groups)) == ["a + b", "c", "d", "e", "f"]
    split = split_cells(cells, together=np.array([[0, 15]]), rng=0)
    assert (0 in split.test) == (15 in split.test)
    assert (0 in split.train) == (15 in split.train)
    alone = joined(plain(np.arange(6) % 2), np.array([[0, 4]]))
    assert len(set(alone.groups)) == 5


def test_a_split_without_pairs_is_as_it_was():
    cells = plain(np.arange(100) % 2)
    same = split_cells(cells, together=np.empty((0, 2), dtype=np.int64), rng=3)
    assert np.array_equal(same.test, split_cells(cells, rng=3).test)
