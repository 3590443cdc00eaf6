from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from cytolens.embedding import reference as module
from cytolens.embedding.affinities import neighbour_affinities
from cytolens.embedding.methods import embed
from cytolens.embedding.placing import Field, Placer, placed_recall, placer
from cytolens.embedding.reference import Reference, in_blocks
from cytolens.errors import InputError
from cytolens.records.maps import Embedding


def blobs(n: int, f: int = 12, seed: int = 0, *, kinds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = 6 * np.random.default_rng(99).normal(size=(kinds, f))
    labels = rng.integers(kinds, size=n)
    return (centres[labels] + rng.normal(size=(n, f)) + 20).astype(np.float32), labels


def a_map(x: np.ndarray, method: str = "tsne") -> Embedding:
    return embed({"layer": x}, method=method, rng=0)["layer"]


@pytest.fixture(scope="module")
def digits() -> tuple[Placer, np.ndarray, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)[:800]
    return placer(Reference(x[::2]), a_map(x[::2])), x[1::2], y[:800:2], y[1:800:2]


def same_alone_and_among_others(work, new: np.ndarray) -> None:
    """Whether ``work`` gives each row of ``new`` the same bytes in any company."""
    whole = work(new)
    order = np.random.default_rng(5).permutation(len(new))
    np.testing.assert_array_equal(work(new[order]), whole[order])
    for size in (1, 2, 3, 7, 64):
        for start in (0, 11, len(new) - size):
            rows = slice(start, start + size)
            np.testing.assert_array_equal(work(new[rows].copy()), whole[rows])


@pytest.mark.parametrize("f", [1, 2, 3, 8, 9, 33, 150])
def test_neighbours_are_the_same_alone_and_among_others(f: int):
    x, _ = blobs(700, f)
    reference = Reference(x[:500])
    same_alone_and_among_others(lambda new: reference.nearest(new, 12)[0], x[500:])
    same_alone_and_among_others(lambda new: reference.nearest(new, 12)[1], x[500:])


def test_neighbours_are_those_of_scikit_learn():
    x, _ = blobs(700)
    indices, distances = Reference(x[:500]).nearest(x[500:], 9)
    wide = x.astype(np.float64)
    expected, others = NearestNeighbors(n_neighbors=9).fit(wide[:500]).kneighbors(wide[500:])
    np.testing.assert_array_equal(indices, others)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_equally_near_cells_come_in_the_order_of_their_index():
    x = np.repeat(blobs(20)[0], 30, axis=0)  # every cell thirty times
    x = x[np.random.default_rng(1).permutation(len(x))]
    new = blobs(50, seed=3)[0]
    indices, distances = Reference(x).nearest(new, 40)
    assert (np.diff(distances) >= 0).all()
    tied = np.diff(distances) == 0
    assert tied.any()
    assert (np.diff(indices)[tied] > 0).all()
    nearest = ((new[0] - x).astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_array_equal(indices[0], np.argsort(nearest, kind="stable")[:40])
    same_alone_and_among_others(lambda some: Reference(x).nearest(some, 40)[0], new)


def test_a_large_reference_is_searched_by_lists_and_as_exactly(monkeypatch: pytest.MonkeyPatch):
    x, _ = blobs(4200, 6)
    x[100:400] = x[50]  # duplicates, more than a list
    exact = Reference(x[:4000]).nearest(x[4000:], 12)
    monkeypatch.setattr(module, "EXACT_UP_TO", 1000)
    large = Reference(x[:4000])
    found = large.nearest(x[4000:], 12)
    assert (found[0] == exact[0]).mean() > 0.99
    same_alone_and_among_others(lambda new: large.nearest(new, 12)[0], x[4000:])


def test_far_cells_have_neighbours_too():
    x, _ = blobs(300)
    far = np.full((3, 12), 1e6, dtype=np.float32)
    far[1] *= -1
    indices, distances = Reference(x).nearest(far, 5)
    expected = ((far[2].astype(np.float64) - x) ** 2).sum(axis=1)
    np.testing.assert_array_equal(np.sort(expected)[:5] ** 0.5, distances[2])
    assert indices.max() < 300


def test_affinities_have_the_perplexity_asked_for():
    distances = np.sort(np.random.default_rng(0).gamma(3, size=(50, 60)), axis=1)
    p = neighbour_affinities(distances, 20)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(-(p * np.log(p)).sum(axis=1)), 20, rtol=1e-6)
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(neighbour_affinities(np.full((2, 8), 3.0), 5), 1 / 8)


def test_the_field_is_the_log_of_the_summed_kernel():
    rng = np.random.default_rng(0)
    coordinates = 8 * rng.normal(size=(400, 2))
    field = Field.of(coordinates)
    at = 8 * rng.normal(size=(60, 2))
    between = at[:, None] - coordinates
    kernel = 1 / (1 + (between**2).sum(axis=2))
    no_pull = np.zeros((60, 1, 2))
    given = field.objective(at[:, 0], at[:, 1], no_pull, np.zeros((60, 1)))
    np.testing.assert_allclose(given, np.log(kernel.sum(axis=1)), atol=0.005)


def test_a_settled_cell_is_where_its_objective_is_least(digits):
    place, new, _, _ = digits
    assert place.field is not None
    indices, distances = place.reference.nearest(new, 60)
    weights, near = neighbour_affinities(distances, 20), place.coordinates[indices]
    made = place.field.settle(near, weights)
    least = place.field.objective(made[:, 0], made[:, 1], near, weights)
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        x, y = made[:, 0] + 0.3 * np.cos(angle), made[:, 1] + 0.3 * np.sin(angle)
        aside = place.field.objective(x, y, near, weights)
        assert (aside > least - 1e-4).mean() > 0.97


def test_a_place_is_the_same_alone_and_among_others(digits):
    place, new, _, _ = digits
    same_alone_and_among_others(place.place, new)
    np.testing.assert_array_equal(place.place(new, threads=1), place.place(new, threads=3))


def test_placed_cells_lie_with_their_neighbours_and_their_class(digits):
    place, new, classes, own = digits
    made = place.place(new)
    assert placed_recall(place, new, made).mean() > 0.5  # by chance 10 of 400
    here = Reference(place.coordinates.astype(np.float32)).nearest(made, 10)[0]
    there = place.reference.nearest(new, 10)[0]
    on_map, in_features = (
        np.mean([np.bincount(classes[row]).argmax() == given for row, given in zip(rows, own)])
        for rows in (here, there)
    )
    assert on_map > in_features - 0.03


def test_a_cell_of_the_map_is_placed_where_it_is(digits):
    place, _, _, _ = digits
    made = place.place(place.reference.features)
    off = np.linalg.norm(made - place.coordinates, axis=1)
    assert np.median(off) < 0.02 * np.ptp(place.coordinates)


def test_duplicates_in_the_reference_do_no_harm():
    x = np.repeat(blobs(40)[0], 10, axis=0)
    place = placer(Reference(x), replace(a_map(x, "pca"), method="tsne"))
    assert place.scheme == "t-SNE"
    new = np.concatenate([x[::10], blobs(60, seed=4)[0]])
    assert np.isfinite(place.place(new)).all()
    same_alone_and_among_others(place.place, new)


def test_principal_components_are_projected_exactly():
    x, _ = blobs(900, 20)
    place = placer(Reference(x[:600]), a_map(x[:600], "pca"))
    assert place.scheme == "projection"
    made = place.place(x[600:])
    pca = PCA(2).fit(x[:600].astype(np.float64))
    expected = pca.transform(x[600:].astype(np.float64))
    signs = np.sign((made * expected).sum(axis=0))
    np.testing.assert_allclose(made * signs, expected, atol=2e-4)
    np.testing.assert_allclose(place.place(x[:600]), place.coordinates, atol=2e-4)
    same_alone_and_among_others(place.place, x[600:])


def test_any_other_map_takes_the_mean_of_the_neighbours():
    x, _ = blobs(400)
    made = replace(a_map(x[:300], "pca"), method="umap")
    place = placer(Reference(x[:300]), made)
    assert place.scheme == "mean of neighbours"
    assert placed_recall(place, x[300:], place.place(x[300:])).mean() > 0.05
    same_alone_and_among_others(place.place, x[300:])


def test_a_map_without_extent_has_one_place():
    x = np.ones((50, 4), dtype=np.float32)
    for method in ("tsne", "pca", "umap"):
        flat = Embedding("dead", method, np.zeros((50, 2), dtype=np.float32), {}, {})
        assert not placer(Reference(x), flat).place(blobs(5, 4)[0]).any()


def test_a_map_of_three_cells_takes_new_ones():
    x, _ = blobs(3, 4)
    tiny = Embedding("few", "tsne", np.eye(3, 2, dtype=np.float32), {}, {})
    assert np.isfinite(placer(Reference(x), tiny).place(blobs(5, 4)[0])).all()


def test_no_cells_are_placed_nowhere(digits):
    place, new, _, _ = digits
    assert place.place(new[:0]).shape == (0, 2)
    assert in_blocks(len, new, size=300) == [300, 100]


def test_what_does_not_fit_together_is_said(digits):
    place, new, _, _ = digits
    with pytest.raises(InputError, match="5 features where the reference has 64"):
        place.place(new[:, :5])
    with pytest.raises(InputError, match="NaN"):
        place.place(np.full((2, 64), np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="cells on the map"):
        placer(Reference(new), Embedding("l", "tsne", np.zeros((7, 2), dtype=np.float32), {}, {}))
