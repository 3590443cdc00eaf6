"""What a channel answers to, shown by cells: its best cells, classes and correlated properties."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from cytolens.activations.capture import network_of
from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError
from cytolens.numerics.auc import area_under_curve
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator
from cytolens.numerics.intervals import CORRELATION
from cytolens.numerics.resampling import resample_weights
from cytolens.records.cells import Cells
from cytolens.records.features import ChannelContext, ChannelRanking
from cytolens.records.layers import Layer

Floats = NDArray[np.float64]


def describe_channels(
    model: nn.Module | Classifier,
    cells: Cells,
    features: NDArray[np.floating],
    *,
    layer: Layer,
    channels: Sequence[int],
    ranking: ChannelRanking,
    properties: Mapping[str, NDArray[np.floating]],
    shown: int = 6,
    bins: int | None = None,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
) -> tuple[ChannelContext, ...]:
    """The context of each of ``channels``, measured on ``cells`` (best held-out ones).

    ``features`` (N, C): the activation of each cell and channel of ``layer``, averaged over
    positions. Best cells are those with the highest, none of them with the very features of
    another (the same crop stored twice). On each the peak of the activation map is looked up, and
    what the neuron there sees: a square of the size of the receptive field about the peak's place
    in the crop, which is where the network samples it as far as its windows are centred.

    Histograms: ``bins`` bins over the channel's range on all cells (by default the root of the
    number of cells per class, from 8 to 24), density per class. AUC: of the activation for each
    class against the rest (Mann & Whitney 1947). Correlations: see `correlate`; ``properties``
    (N,) by name, NaN where unknown.

    Raises InputError when the arrays do not belong to the cells.
    """
    network = network_of(model)
    if not len(channels):
        return ()
    if features.shape != (len(cells), layer.channels):
        raise InputError(
            f"features of shape {features.shape} came for {len(cells)} cells and the "
            f"{layer.channels} channels of {layer.name}; give a row per cell, a column per channel"
        )
    chosen = np.array(list(channels), dtype=np.int64)
    values = np.asarray(features[:, chosen], dtype=np.float64)  # (N, K)
    found = correlate(
        values, properties, groups=cells.groups, resamples=resamples,
        permutations=permutations, rng=rng,
    )  # fmt: skip
    _, first = np.unique(features, axis=0, return_index=True)
    first = np.sort(first)
    best = [first[np.argsort(-column[first], kind="stable")][:shown] for column in values.T]
    places = _peaks(network, cells, layer, chosen, best)
    classes = range(len(cells.class_names))
    bins = bins or int(np.clip(np.sqrt(len(cells) / len(classes)), 8, 24))
    contexts: list[ChannelContext] = []
    for k, channel in enumerate(chosen.tolist()):
        column = values[:, k]
        edges = np.histogram_bin_edges(column, bins=bins)
        own = [column[cells.labels == label] for label in classes]
        contexts.append(
            ChannelContext(
                layer=layer.name,
                channel=channel,
                importance=float(ranking.importance[channel]),
                ablation=float(ranking.ablation[channel]),
                members=ranking.members(channel),
                best=best[k],
                activation=column[best[k]].astype(np.float32),
                peaks=places[k],
                fields=_fields(places[k], layer, cells.shape[1:]),
                edges=edges,
                histogram=np.stack([_density(values_of, edges) for values_of in own]),
                auc={
                    cells.class_names[label]: area_under_curve(
                        column[cells.labels == label], column[cells.labels != label]
                    )
                    for label in classes
                },
                correlations=found[k],
                n=len(cells),
            )
        )
    return tuple(contexts)


def correlate(
    values: NDArray[np.floating],
    properties: Mapping[str, NDArray[np.floating]],
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = 500,
    permutations: int = 200,
    rng: Rng = None,
) -> tuple[dict[str, Estimate], ...]:
    """Spearman's correlation of each column of ``values`` (N, K) with each property (N,).

    Per column a mapping, the strongest first. The 95 % interval is over the cells, or over
    ``groups`` (N,), which keep the ranks that they have among all cells.
    ``null`` is the upper 95 % limit of the largest |correlation| over *all*
    properties when cells are permuted, so that looking at many properties is accounted for
    (Westfall & Young 1993, single-step maxT).

    Cells where a property is NaN do not count for it; properties with fewer than 20 known cells or
    one value only are left out; where the column is constant the mapping is empty.
    """
    draw = generator(rng)
    n, k = values.shape
    known = {
        name: np.isfinite(column)
        for name, column in properties.items()
        if np.isfinite(column).sum() >= 20 and np.ptp(column[np.isfinite(column)]) > 0
    }
    moving = np.ptp(values, axis=0) > 0 if n else np.zeros(k, dtype=bool)
    if not known or not moving.any():
        return tuple({} for _ in range(k))
    weights = resample_weights(n, groups=groups, resamples=resamples, rng=draw)
    found: list[dict[str, Estimate]] = [{} for _ in range(k)]
    shuffled = np.stack([draw.permutation(n) for _ in range(permutations)])
    ranks = _unit(rankdata(values, axis=0))
    largest = np.zeros((permutations, k))
    estimates: dict[str, tuple[Floats, Floats]] = {}
    for name, mask in known.items():
        x = _unit(rankdata(properties[name][mask]))
        y = _unit(rankdata(values[mask], axis=0))
        value = x @ y / len(x)
        sampled = _weighted_correlation(weights[:, mask], x, y)
        estimates[name] = (value, sampled)
        by_chance = np.abs(np.einsum("i,pik->pk", x, ranks[shuffled[:, mask]])) / len(x)
        largest = np.maximum(largest, by_chance)
    null = np.percentile(largest, 95, axis=0)
    for column in np.flatnonzero(moving).tolist():
        order = sorted(estimates, key=lambda name: -abs(float(estimates[name][0][column])))
        for name in order:
            value, sampled = estimates[name]
            found[column][name] = estimate_from(
                float(value[column]), sampled[:, column],
                grouped=groups is not None, within=CORRELATION, null=float(null[column]),
            )  # fmt: skip
    return tuple(found)


def _unit(ranks: NDArray[np.floating]) -> Floats:
    """Mean 0 and standard deviation 1 along the first axis; zeros where constant."""
    centred = np.asarray(ranks, np.float64) - ranks.mean(0)
    deviation = centred.std(0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _weighted_correlation(weights: NDArray[np.floating], x: Floats, y: Floats) -> Floats:
    """Pearson's correlation (R, K) of x (n,) and y (n, K) under each row of weights (R, n).

    0 where all that has weight is equal.
    """
    total = weights.sum(1, keepdims=True)
    mean_x, mean_y = (weights @ x)[:, None] / total, weights @ y / total
    variance_x = (weights @ (x * x))[:, None] / total - mean_x**2
    variance_y = weights @ (y * y) / total - mean_y**2
    shared = weights @ (x[:, None] * y) / total - mean_x * mean_y
    size = np.sqrt(np.maximum(variance_x, 0) * np.maximum(variance_y, 0))
    return np.clip(np.where(size > 1e-6, shared / np.maximum(size, 1e-6), 0), -1, 1)


def _peaks(
    model: nn.Module,
    cells: Cells,
    layer: Layer,
    channels: NDArray[np.int64],
    best: Sequence[NDArray[np.int64]],
) -> list[Floats]:
    """Place (y, x), in pixels of the crop, of the strongest position on each best cell (k, 2)."""
    if len(layer.shape) != 3:
        return [np.full((len(own), 2), np.nan) for own in best]
    looked, inverse = np.unique(np.concatenate(best), return_inverse=True)
    maps = capture_maps(model, cells.read(looked), layer)[:, channels]  # (M, K, h, w)
    height, width = maps.shape[2:]
    at = maps.reshape(*maps.shape[:2], -1).argmax(-1)  # (M, K)
    y = (at // width + 0.5) * cells.shape[1] / height
    x = (at % width + 0.5) * cells.shape[2] / width
    places = np.stack([y, x], axis=-1)
    ends = np.cumsum([len(own) for own in best])[:-1]
    return [places[rows, k] for k, rows in enumerate(np.split(inverse, ends))]


def _fields(peaks: Floats, layer: Layer, size: tuple[int, ...]) -> Floats:
    """Top, left, height, width (k, 4) of what is seen at each peak, inside the crop."""
    height, width = size
    field = layer.receptive_field
    whole = np.tile([0.0, 0.0, float(height), float(width)], (len(peaks), 1))
    if field is None or np.isnan(peaks).any():
        return whole
    low = np.maximum(peaks - field / 2, 0)
    high = np.minimum(peaks + field / 2, [height, width])
    return np.concatenate([low, high - low], axis=1)


def _density(values: Floats, edges: Floats) -> Floats:
    counts = np.histogram(values, bins=edges)[0].astype(np.float64)
    return counts / (max(len(values), 1) * np.diff(edges))
