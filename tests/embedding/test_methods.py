import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from cytolens.clusters.clustering import cluster
from cytolens.embedding import methods as methods_module
from cytolens.embedding.landmarks import choose_landmarks
from cytolens.embedding.methods import METHODS, Made, Start, embed, layer_neighbours
from cytolens.embedding.placing import placed_recall, placer
from cytolens.embedding.reference import Reference
from cytolens.errors import InputError, MissingExtra, SettingError
from cytolens.records.layers import Activations, Layer
from cytolens.separation.separation import measure_separation

Array = NDArray[np.float32]


def blobs(n: int, *, classes: int = 3, dimensions: int = 8, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = 12 * np.eye(classes, dimensions)
    return (rng.normal(size=(n, dimensions)) + centres[labels]).astype(np.float32), labels


@pytest.fixture(scope="module")
def stack() -> dict[str, Array]:
    """Five depths of 240 cells in three blobs, each a little further from the last."""
    deepest, _ = blobs(240)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, *deepest.shape))
    layers = {"logits": deepest[:, :3], "pre_softmax": deepest}
    for depth in (2, 1):
        layers[f"conv{depth}"] = (deepest + 0.7 * noise[depth] * (3 - depth)).astype(np.float32)
    layers["input"] = np.concatenate([layers["conv1"]] * 40, axis=1)
    return dict(reversed(layers.items()))


@pytest.fixture(scope="module")
def maps(stack: dict[str, Array]):
    return embed(stack, rng=0, threads=1)


def test_every_depth_gets_a_map_in_depth_order(maps, stack):
    assert list(maps) == list(stack)
    for layer, found in maps.items():
        assert found.layer == layer
        assert found.method == "tsne"
        assert found.coordinates.shape == (240, 2)
        assert found.coordinates.dtype == np.float32
        assert np.isfinite(found.coordinates).all()
        assert set(found.quality) >= {"recall_10", "trustworthiness", "kl_divergence"}


def test_a_map_of_blobs_recovers_them(maps):
    _, labels = blobs(240)
    for layer in ("conv2", "pre_softmax"):
        places = maps[layer].coordinates
        means = np.stack([places[labels == name].mean(axis=0) for name in range(3)])
        nearest = ((places[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == labels).mean() > 0.99


def test_the_chain_starts_at_the_pre_softmax_layer_and_goes_both_ways(maps):
    origins = {layer: found.settings["started_from"] for layer, found in maps.items()}
    assert origins == {
        "input": "conv1",
        "conv1": "conv2",
        "conv2": "pre_softmax",
        "pre_softmax": None,
        "logits": "pre_softmax",
    }


def test_neighbouring_depths_look_alike(maps):
    for layer, found in maps.items():
        if layer != "pre_softmax":
            assert found.settings["displacement"] < 0.1


def test_chained_maps_are_on_average_as_good_as_those_made_alone(maps, stack):
    layers = ("conv1", "conv2", "logits")
    alone = [embed({name: stack[name]}, rng=0, threads=1)[name] for name in layers]
    recall = np.mean([found.quality["recall_10"] for found in alone])
    assert np.mean([maps[name].quality["recall_10"] for name in layers]) > recall - 0.02


def test_pixels_are_reduced_first_and_the_settings_say_so(maps):
    assert maps["input"].settings["reduced_to"] == 50
    assert maps["conv1"].settings["reduced_to"] is None


def test_the_same_seed_gives_the_same_bytes_and_leaves_global_randomness_alone(
    stack: dict[str, Array], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(methods_module, "FIRST", ((30, 12), (30, 1)))
    some = {name: stack[name] for name in ("conv2", "pre_softmax")}
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    twice = [embed(some, rng=3, threads=2) for _ in range(2)]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for layer in some:
        np.testing.assert_array_equal(twice[0][layer].coordinates, twice[1][layer].coordinates)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"umap", "pacmap"}))
def test_every_method_keeps_its_contract(method: str, stack):
    done: list[tuple[int, int, str]] = []
    chosen = ["conv2", "pre_softmax"]
    found = embed(stack, method=method, layers=chosen, rng=0, progress=lambda *at: done.append(at))
    assert list(found) == chosen
    assert all(map_.method == method for map_ in found.values())
    assert found["conv2"].quality["trustworthiness"] > 0.8
    assert [at[0] for at in done] == [0, 1, 2]


def test_activations_are_accepted():
    features, _ = blobs(40)
    places = [Layer(name, "conv", depth, (8,), None, ("", 0, ""), ("", 0, ""))
              for depth, name in enumerate(("conv1", "pre_softmax"))]  # fmt: skip
    acts = Activations(tuple(places), {"conv1": features, "pre_softmax": features}, "mean")
    assert list(embed(acts, method="pca", rng=0)) == ["conv1", "pre_softmax"]


def test_a_function_of_ones_own_makes_maps_too():
    def first_two(features: Array, start: Start) -> Made:
        return Made(features[:, :2], {"mine": 1.0}, {})

    features, _ = blobs(30)
    found = embed({"layer": features}, method=first_two, rng=0)["layer"]
    assert found.method == "first_two"
    assert found.quality["mine"] == 1


def test_principal_components_agree_with_scikit_learn_up_to_sign(stack):
    found = embed(stack, method="pca", rng=0)
    oracle = PCA(2).fit(stack["conv1"])
    expected = oracle.transform(stack["conv1"])
    np.testing.assert_allclose(
        np.abs(found["conv1"].coordinates), np.abs(expected), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        found["conv1"].settings["explained_variance_ratio"],
        oracle.explained_variance_ratio_,
        rtol=1e-4,
    )


def test_an_initial_map_sets_the_orientation():
    features, _ = blobs(80)
    first = embed({"a": features}, rng=0)["a"].coordinates
    angle = 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    again = embed({"a": features}, initial=first @ turn, rng=0)["a"]
    assert again.settings["started_from"] == "initial"
    assert again.settings["displacement"] < 0.15
    with pytest.raises(InputError, match="initial map"):
        embed({"a": features}, initial=np.zeros((3, 2)), rng=0)


def test_a_missing_umap_is_named_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'cytolens\[umap\]'"):
        embed({"a": blobs(30)[0]}, method="umap", rng=0)


def test_umap_is_called_by_its_documented_interface(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, object]] = []

    class UMAP:
        def __init__(self, *, n_neighbors, min_dist, init, random_state, n_jobs):
            asked.append({"n_neighbors": n_neighbors, "init": init, "n_jobs": n_jobs})

        def fit_transform(self, features):
            return features[:, :2]

    library = ModuleType("umap")
    library.UMAP = UMAP  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "umap", library)
    features, _ = blobs(12)
    embed({"a": features, "pre_softmax": features}, method="umap", rng=0)
    assert [call["n_neighbors"] for call in asked] == [11, 11]
    for call in asked:
        assert call["init"].shape == (12, 2)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_layer_of_silence_gets_a_map_without_quality_and_the_chain_goes_on():
    features, _ = blobs(60)
    found = embed({"conv1": features, "conv2": np.zeros((60, 4)), "pre_softmax": features}, rng=0)
    assert not found["conv2"].coordinates.any()
    assert found["conv2"].quality == {}
    assert found["conv2"].settings["constant_features"]
    assert found["conv1"].settings["started_from"] == "pre_softmax"


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.repeat(x[:10], 6, axis=0),  # every cell six times
        lambda x: np.where(np.arange(len(x))[:, None] < 40, 0, x),  # most cells silent
        lambda x: x[:, :1],  # one-dimensional logits
        lambda x: x[:5],
        lambda x: x[:7],
        lambda x: 1e-12 * x,
        lambda x: 1e12 * x,
    ],
)
def test_degenerate_features_still_give_a_finite_map(change: Callable[[Array], Array]):
    features = change(blobs(60)[0])
    found = embed({"a": features}, rng=0)["a"]
    assert np.isfinite(found.coordinates).all()
    assert np.ptp(found.coordinates, axis=0).min() > 0
    assert all(np.isfinite(value) for value in found.quality.values())


def test_a_map_that_collapses_is_no_map_and_starts_no_other():
    alike, features = np.eye(30, dtype=np.float32), blobs(30)[0]
    found = embed({"a": features, "b": alike, "c": features}, rng=0)
    assert not found["b"].coordinates.any()
    assert found["b"].settings["collapsed"]
    assert not found["b"].quality
    assert found["a"].settings["started_from"] == "c"


def test_what_cannot_be_mapped_is_said_in_one_line():
    features, _ = blobs(20)
    with pytest.raises(InputError, match="at least 3 cells, got 2"):
        embed({"a": features[:2]}, rng=0)
    with pytest.raises(InputError, match="layer b has 19 cells where others have 20"):
        embed({"a": features, "b": features[:19]}, rng=0, method="pca")
    broken = features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="a: 1 of 20 cells have NaN"):
        embed({"a": broken}, rng=0)
    with pytest.raises(SettingError, match="choose one of: tsne, pca, umap"):
        embed({"a": features}, method="isomap", rng=0)
    with pytest.raises(SettingError, match="layer 'c' is unknown"):
        embed({"a": features}, layers=["c"], rng=0)
    with pytest.raises(SettingError, match="no layers"):
        embed({"a": features}, layers=[], rng=0)


@pytest.mark.parametrize(
    "given", [np.asarray, lambda x: x.astype(np.float64), lambda x: x.tolist(), pd.DataFrame]
)
def test_a_plain_array_gives_one_map_the_same_as_under_a_layers_name(given):
    features, _ = blobs(60)
    found = embed(given(features), rng=0, threads=1)
    named = embed({"conv1": features}, rng=0, threads=1)["conv1"]
    assert found.layer == "features"
    assert embed(given(features), name="mine", method="pca").layer == "mine"
    np.testing.assert_array_equal(found.coordinates, named.coordinates)


@pytest.mark.parametrize(
    "given", [5.0, [1.0, 2, 3], np.zeros((6, 2, 2)), np.zeros((6, 0)), [[1], [2, 3]], [["a", "b"]]]
)
def test_what_is_no_matrix_of_numbers_is_said_in_one_line(given):
    for call in (embed, cluster, lambda x: measure_separation(x, [0, 1, 0, 1, 0, 1])):
        with pytest.raises(InputError, match=r"an array \(cells, features\)") as caught:
            call(given)
        assert "\n" not in str(caught.value)


def test_the_cosine_map_is_the_euclidean_one_of_rows_of_unit_length():
    features, _ = blobs(60)
    features = features * np.random.default_rng(0).uniform(0.1, 9, (60, 1)).astype(np.float32)
    cosine = embed(features, metric="cosine", rng=0, threads=1)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    plain = embed((features / lengths).astype(np.float32), rng=0, threads=1)
    np.testing.assert_allclose(cosine.coordinates, plain.coordinates, atol=1e-3)
    assert cosine.quality["recall_10"] == pytest.approx(plain.quality["recall_10"], abs=0.01)
    assert cosine.settings["metric"] == "cosine"
    assert plain.settings["metric"] == "euclidean"
    zeros = features.copy()
    zeros[:3] = 0  # of no direction
    assert np.isfinite(embed(zeros, metric="cosine", rng=0).coordinates).all()


def test_the_perplexity_can_be_set_and_what_the_cells_do_not_allow_is_said():
    features, _ = blobs(100)
    small, large = (embed(features, perplexity=p, rng=0, threads=1) for p in (5, 33))
    assert (small.settings["perplexity"], large.settings["perplexity"]) == (5, 33)
    assert not np.allclose(small.coordinates, large.coordinates)
    near = {"features": layer_neighbours(features)}  # 90 of each, more than needed
    again = embed(features, perplexity=5, neighbours=near, rng=0, threads=1)
    np.testing.assert_array_equal(again.coordinates, small.coordinates)
    assert embed(features[:31], rng=0).settings["perplexity"] == 10  # the default gives way
    for perplexity, message in ((34, "at most 33, a third"), (1, "at least 2"), (np.nan, "at")):
        with pytest.raises(SettingError, match=message):
            embed(features, perplexity=perplexity, rng=0)
    with pytest.raises(SettingError, match="of t-SNE"):
        embed(features, method="pca", perplexity=5)
    with pytest.raises(SettingError, match="choose one of: euclidean, cosine"):
        embed(features, metric="manhattan")


def test_a_callback_sees_every_layers_map_on_its_way():
    features, _ = blobs(40)
    seen = []
    embed({"a": features, "b": features}, rng=0, callback=lambda *at: seen.append(at))
    assert [layer for layer, done, *_ in seen if done == 0] == ["b", "a"]
    assert all(done < total and places.shape == (40, 2) for _, done, total, places in seen)


def test_new_cells_are_placed_on_a_cosine_map_by_direction_alone():
    features, _ = blobs(90)
    map_ = embed(features, metric="cosine", rng=0, threads=1)
    place = placer(Reference(features), map_)
    found = place.place(features[:20] * np.float32(7))
    np.testing.assert_allclose(found, place.place(features[:20]), atol=1e-3)
    kept = [placed_recall(place, scale * features[:20], found) for scale in (1, 7)]
    np.testing.assert_allclose(*kept)


def test_more_cells_than_landmarks_are_placed_on_the_landmarks_map():
    features, labels = blobs(600)
    stack = {"conv1": features, "pre_softmax": features + 0.1}
    found = embed(stack, landmarks=200, rng=0)
    alone = embed(stack, rng=0)
    for layer, map_ in found.items():
        assert map_.settings["landmarks"] == 200
        assert map_.settings["displacement" if layer == "conv1" else "perplexity"] is not None
        assert map_.quality["trustworthiness"] > alone[layer].quality["trustworthiness"] - 0.06
        means = np.stack([map_.coordinates[labels == k].mean(axis=0) for k in range(3)])
        nearest = ((map_.coordinates[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == labels).mean() > 0.99
    assert "landmarks" not in embed(stack, method="pca", landmarks=200, rng=0)["conv1"].settings


def test_neighbours_found_before_give_the_same_map():
    features, _ = blobs(150)
    known = {"a": layer_neighbours(features)}
    given = embed({"a": features}, neighbours=known, rng=0, threads=1)["a"]
    found = embed({"a": features}, rng=0, threads=1)["a"]
    np.testing.assert_array_equal(given.coordinates, found.coordinates)


def test_landmarks_hold_the_cells_that_are_far_from_all():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 6)).astype(np.float32)
    features[:5] += 40
    chosen = choose_landmarks(features, 500, rng=rng)
    assert len(np.unique(chosen)) == 500
    assert (np.diff(chosen) > 0).all()
    assert np.intersect1d(chosen, np.arange(5)).size > 0
    np.testing.assert_array_equal(choose_landmarks(features, 9000, rng=rng), np.arange(5000))
