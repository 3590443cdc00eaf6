import numpy as np
import pytest
import torch
from optimised_networks import tiny
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from cytolens.activations.layers import resolve_layer
from cytolens.errors import InputError
from cytolens.features.context import correlate, describe_channels
from cytolens.features.ranking import rank_channels
from cytolens.images.arrays import cells_from_arrays
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.features import ChannelRanking

SIDE = 24


def spots(n: int = 60, *, rng: int = 0) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Cells with one bright pixel each, where that is (n, 2), and how bright."""
    draw = np.random.default_rng(rng)
    places = draw.integers(3, SIDE - 3, size=(n, 2))
    bright = draw.permutation(np.linspace(500, 4000, n))
    images = np.full((n, SIDE, SIDE), 10, dtype=np.uint16)
    images[np.arange(n), places[:, 0], places[:, 1]] = bright
    images[:, 0, 0] = np.arange(n)  # no two alike
    cells = cells_from_arrays(images, ["dim", "lit"] * (n // 2), size=SIDE, intensity="none")
    return cells, places, bright


def watcher() -> nn.Module:
    """Channel 0 answers to a pixel, channel 1 to its negative, channel 2 to nothing."""
    conv = nn.Conv2d(1, 3, 3, padding=1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1], conv.weight[1, 0, 1, 1] = 1, -1
        conv.bias.copy_(torch.tensor([0.0, 4100.0, 0.0]))
    relu, pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(conv, relu, pool, nn.Flatten(), nn.Linear(3, 2)).eval()


def unranked(layer: str, channels: int) -> ChannelRanking:
    nothing = np.zeros(channels)
    alone = tuple(np.array([[k] for k in range(channels)]))
    return ChannelRanking(layer, nothing, nothing, Estimate(0, 0, 0), alone, 0.9)


def described(properties: dict[str, np.ndarray] | None = None, **more):
    cells, places, bright = spots()
    model = watcher()
    layer = resolve_layer(model, cells.shape, "0")
    with torch.no_grad():
        features = model[:2](torch.from_numpy(cells.read(slice(None)))).mean((2, 3)).numpy()
    found = describe_channels(
        model, cells, features, layer=layer, channels=[0, 1, 2],
        ranking=unranked(layer.name, 3), properties=properties or {"given": bright}, rng=0, **more,
    )  # fmt: skip
    return cells, places, bright, features, found


def test_best_cells_peak_where_the_spot_is_and_the_field_is_about_it() -> None:
    _, places, bright, _, (first, *_) = described()
    assert first.best.tolist() == np.argsort(-bright)[:6].tolist()
    assert np.abs(first.peaks - (places[first.best] + 0.5)).max() == 0
    centre = first.fields[:, :2] + first.fields[:, 2:] / 2
    assert np.allclose(centre, first.peaks)
    assert np.allclose(first.fields[:, 2:], 3)
    assert np.all(np.diff(first.activation) <= 0)


def test_a_cell_stored_twice_is_shown_once() -> None:
    cells, _, bright = spots()
    twice = cells.subset(np.concatenate([np.arange(60), np.argsort(-bright)[:3]]))
    model = watcher()
    layer = resolve_layer(model, cells.shape, "0")
    with torch.no_grad():
        features = model[:2](torch.from_numpy(twice.read(slice(None)))).mean((2, 3)).numpy()
    (found,) = describe_channels(
        model, twice, features, layer=layer, channels=[0],
        ranking=unranked(layer.name, 3), properties={}, rng=0,
    )  # fmt: skip
    assert found.best.tolist() == np.argsort(-bright)[:6].tolist()
    assert found.correlations == {}


def test_histograms_are_densities_on_common_bins_and_auc_is_that_of_scikit_learn() -> None:
    cells, _, _, features, found = described(bins=10)
    for context in found[:2]:
        assert np.allclose((context.histogram * np.diff(context.edges)).sum(1), 1)
        for label, name in enumerate(cells.class_names):
            expected = roc_auc_score(cells.labels == label, features[:, context.channel])
            assert context.auc[name] == pytest.approx(expected)


def test_the_property_that_a_channel_follows_comes_first_and_noise_stays_in_the_null() -> None:
    _, _, bright = spots()
    noise = {f"noise {k}": np.random.default_rng(k).normal(size=60) for k in range(8)}
    *_, (up, down, silent) = described({**noise, "brightness": bright})
    assert next(iter(up.correlations)) == next(iter(down.correlations)) == "brightness"
    assert up.correlations["brightness"].value > 0.95
    assert down.correlations["brightness"].value < -0.95
    assert up.correlations["brightness"].low > up.correlations["brightness"].null
    assert silent.correlations == {}
    beyond = [abs(e.value) > e.null for name, e in up.correlations.items() if name != "brightness"]
    assert sum(beyond) <= 1


def test_correlations_are_spearmans_and_unknown_cells_do_not_count() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(150, 2))
    tied = np.round(values[:, 0] + draw.normal(size=150))
    holes = tied.copy()
    holes[::3] = np.nan
    few = np.where(np.arange(150) < 10, tied, np.nan)
    flat = np.ones(150)
    properties = {"tied": tied, "holes": holes, "few": few, "flat": flat}
    found, other = correlate(values, properties, rng=0)
    assert set(found) == {"tied", "holes"} == set(other)
    assert found["tied"].value == pytest.approx(spearmanr(values[:, 0], tied).statistic)
    known = np.isfinite(holes)
    assert found["holes"].value == pytest.approx(spearmanr(values[known, 0], tied[known]).statistic)
    assert found["tied"].low < found["tied"].value < found["tied"].high


def test_the_null_is_kept_under_permutation_however_many_properties_there_are() -> None:
    draw = np.random.default_rng(1)
    properties = {str(k): draw.normal(size=80) for k in range(12)}
    values = draw.normal(size=(80, 60))
    found = correlate(values, properties, resamples=20, permutations=200, rng=0)
    beyond = [max(abs(e.value) for e in one.values()) > one["0"].null for one in found]
    assert np.mean(beyond) < 0.15  # 5 % expected


def test_groups_widen_the_interval() -> None:
    draw = np.random.default_rng(2)
    groups = np.repeat(np.arange(6), 30).astype(str)
    shift = np.repeat(draw.normal(size=6), 30) * 2
    values = (shift + draw.normal(size=180))[:, None]
    other = {"x": shift + draw.normal(size=180)}
    (alone,) = correlate(values, other, rng=0)
    (grouped,) = correlate(values, other, groups=groups, rng=0)
    assert grouped["x"].high - grouped["x"].low > 1.3 * (alone["x"].high - alone["x"].low)


def test_a_dense_layer_has_no_places() -> None:
    cells, *_ = spots()
    model = watcher()
    layer = resolve_layer(model, cells.shape, "logits")
    with torch.no_grad():
        features = model(torch.from_numpy(cells.read(slice(None)))).numpy()
    (found,) = describe_channels(
        model, cells, features, layer=layer, channels=[1],
        ranking=unranked(layer.name, 2), properties={}, rng=0,
    )  # fmt: skip
    assert np.isnan(found.peaks).all()
    assert found.fields.tolist() == [[0, 0, SIDE, SIDE]] * 6


def test_features_of_other_cells_are_refused() -> None:
    cells, *_ = spots()
    model = watcher()
    layer = resolve_layer(model, cells.shape, "0")
    with pytest.raises(InputError, match="a row per cell"):
        describe_channels(
            model, cells, np.zeros((59, 3)), layer=layer, channels=[0],
            ranking=unranked("0", 3), properties={},
        )  # fmt: skip


def test_ranking_begins_with_what_the_decision_loses_most_without() -> None:
    model = tiny()
    crops = np.random.default_rng(0).random((30, 1, 16, 16), dtype=np.float32)
    layer = resolve_layer(model, (1, 16, 16), "conv2")
    with torch.no_grad():
        features = model[:3](torch.from_numpy(crops)).mean((2, 3)).numpy()
    found = rank_channels(model, crops, features, layer=layer, rng=0, threshold=1.0)
    order = found.representatives
    assert sorted(order.tolist()) == list(range(6))
    assert np.all(np.diff(found.ablation[order]) <= 0)
    assert found.agreement.low <= found.agreement.value <= found.agreement.high
    some = rank_channels(model, crops, features, layer=layer, ablated=2, rng=0, threshold=1.0)
    assert np.isnan(some.ablation).sum() == 4
    rest = some.representatives[2:]
    assert np.all(np.diff(some.importance[rest]) <= 0)
    flat = rank_channels(model, crops, np.zeros((30, 99)), layer=layer, rng=0)
    assert flat.representatives.tolist() == order.tolist()
