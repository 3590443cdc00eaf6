import numpy as np
import pytest

from cytolens.clusters.clustering import cluster
from cytolens.clusters.gaps import gap_of, measure_gaps, parts_of
from cytolens.clusters.methods import METHODS


def blobs(n: int = 300, k: int = 3, apart: float = 15, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return rng.normal(size=(n, 6)) + apart * np.eye(k, 6)[labels], labels


def stability(features, *, method: str = "kmeans", halves: int = 8, rng: int = 0, **options):
    labels = np.zeros(len(features), dtype=int)
    found = cluster(
        features, labels, name="conv3", method=method, halves=halves, rng=rng, threads=1,
        resamples=2, permutations=2, **options,
    )  # fmt: skip
    return found.stability


@pytest.mark.parametrize("method", list(METHODS))
def test_blobs_far_apart_are_stable_and_parted_by_gaps(method: str):
    found = stability(blobs()[0], method=method, halves=3)
    assert found.numbers == {"3": 3}
    assert found.ari.value > 0.99 > found.ari.null
    assert (found.jaccard > 0.99).all()
    assert (found.gap > found.gap_null).all()
    assert found.n_parts == 3


@pytest.mark.parametrize(
    ("method", "shape"),
    [(m, s) for m in METHODS for s in ("gaussian", "long", "rod", "exponential") if m != "gmm"]
    + [("gmm", "gaussian"), ("gmm", "rod")],
)
def test_a_continuum_cut_in_pieces_is_said_to_be_one(method: str, shape: str):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        cells = rng.normal(size=(300, 4))
        if shape == "long":
            cells *= [9, 2, 1, 1]
        if shape == "rod":
            cells[:, 0] = 25 * rng.random(300)
        if shape == "exponential":
            cells = rng.exponential(size=(300, 4))
        found = stability(cells, method=method, rng=seed, halves=2)
        assert found.n_parts <= 1


def test_a_gaussian_is_no_more_stable_than_clouds_like_it():
    cells = np.random.default_rng(0).normal(size=(400, 5)) * [4, 3, 2, 1, 1]
    found = stability(cells)
    assert found.ari.value <= found.ari.null
    assert found.jaccard.mean() <= found.jaccard_null


def test_how_often_each_number_is_chosen_says_how_sure_it_is():
    unsure = stability(np.random.default_rng(0).normal(size=(300, 8)), halves=5)
    assert sum(unsure.numbers.values()) == 5
    assert len(unsure.numbers) > 1
    assert stability(blobs()[0], n_clusters=3, halves=1).numbers == {}  # nothing was chosen


def test_pieces_of_one_lump_are_of_one_part_and_other_lumps_of_others():
    cells, lump = blobs(600, k=2)
    labels = np.where(lump == 1, 2, cells[:, 2] > 0)  # the first lump is cut in two
    half = np.arange(600) < 300
    gap, limit = measure_gaps(cells[half], labels[half], cells[~half])
    np.testing.assert_array_equal(parts_of(gap > limit), [0, 0, 1])


def test_clusters_on_a_line_are_neighbours_only_of_the_next():
    rng = np.random.default_rng(0)
    rod = np.column_stack([rng.random(2000) * 30, rng.normal(size=2000)])
    labels = (rod[:, 0] // 10).astype(int)
    gap, limit = measure_gaps(rod[:1000], labels[:1000], rod[1000:])
    assert parts_of(gap > limit).max() == 0


def test_the_gap_is_none_where_density_falls_and_whole_where_the_border_is_empty():
    falling = np.random.default_rng(0).exponential(size=2000)
    assert gap_of(falling) < 0.04
    assert gap_of(falling + 100) > 0.9
    assert gap_of(np.full(20, 3.0)) == 1
    assert gap_of(np.zeros(20)) == 0
    for scale in (1e-6, 1e6):
        assert gap_of(falling * scale) == pytest.approx(gap_of(falling))


def test_the_same_seed_gives_the_same_stability_and_another_seed_another():
    cells = blobs(apart=3)[0]
    first, same, other = (stability(cells, rng=seed, halves=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.jaccard, same.jaccard)
    assert (first.ari, first.numbers) == (same.ari, same.numbers)
    assert first.ari != other.ari


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(
    "cells",
    [
        np.zeros((30, 3)),
        np.repeat([[0.0, 1], [1, 0]], 15, axis=0),
        np.arange(5.0)[:, None],
        np.random.default_rng(0).normal(size=(60, 1)),
    ],
    ids=["constant", "duplicates", "five", "one feature"],
)
def test_degenerate_features_have_a_stability_that_makes_sense(method: str, cells):
    found = stability(cells, method=method, halves=3)
    assert len(found.jaccard) == len(found.gap) == len(found.parts)
    assert ((found.jaccard >= 0) & (found.jaccard <= 1) | np.isnan(found.jaccard)).all()
