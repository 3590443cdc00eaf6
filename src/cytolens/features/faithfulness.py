"""How far feature images can be believed, in numbers, on cells that had no part in making them.

A feature image may be a texture that no cell shows, or be made by other means than the network
uses on real cells (Geirhos et al. 2023, arXiv:2306.04719), and examples may explain better
(Borowski et al. 2021, arXiv:2010.12606). So each image is measured: what it predicts,
compared with the best real cells; how strongly its channel answers, and whether
other channels answer too; whether a second run gives the same image; and how
unusual it is among cells.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import nn

from cytolens.activations.capture import network_of
from cytolens.classifier.model import Classifier
from cytolens.errors import InputError
from cytolens.features.comparison import (
    Comparison,
    drawn_predictivity,
    measure_predictivity,
    prepare_comparison,
)
from cytolens.features.natural import Answers, answers_at
from cytolens.features.priors import Prior
from cytolens.features.transforms import Transforms, draw_views, transform
from cytolens.numerics.estimates import Rng, generator, mean_of, mean_of_both
from cytolens.numerics.intervals import SHARE
from cytolens.numerics.resampling import resample_weights
from cytolens.records.features import Faithfulness, FeatureImages
from cytolens.records.layers import Layer
from cytolens.records.shown import record

BEST = 9  # natural cells that are taken together
VIEWS = 16  # random views that activation is averaged over
NEIGHBOURS = 5  # the distance to the fifth nearest cell says how odd an image is
RESAMPLES = 200  # of the held-out cells
ODD = 0.01  # an image is unnatural if fewer than this share of real cells are as odd


@record
class Yardstick:
    """Cells, and the network's answers to them, that feature images are compared with."""

    layers: tuple[Layer, ...]
    prior: Prior
    made_from: Answers  # to the prior's cells
    held_out: Answers  # to cells that neither the network nor the prior has seen
    comparison: Comparison
    points: NDArray[np.float32]  # (n, F), the prior's cells in the comparison
    held_out_points: NDArray[np.float32]  # (m, F)
    held_out_crops: NDArray[np.float32]  # (m, C, H, W)
    groups: NDArray[np.generic] | None = None  # (m,), of the held-out cells


def prepare_yardstick(
    model: nn.Module | Classifier,
    layers: Sequence[Layer],
    *,
    prior: Prior,
    held_out: NDArray[np.float32],
    groups: NDArray[np.generic] | None = None,
) -> Yardstick:
    """Everything that feature images of these layers are compared with, made once.

    ``held_out`` (m, C, H, W): prepared crops that neither trained the network nor made the prior;
    at least 20, or an InputError is raised. ``groups`` (m,): what intervals over cells are over.
    """
    network = network_of(model)
    if len(held_out) < 20:
        raise InputError(f"{len(held_out)} held-out cells came; faithfulness takes at least 20")
    comparison, points = prepare_comparison(prior)
    return Yardstick(
        layers=tuple(layers),
        prior=prior,
        made_from=answers_at(network, layers, prior.crops),
        held_out=answers_at(network, layers, held_out),
        comparison=comparison,
        points=points,
        held_out_points=comparison(held_out),
        held_out_crops=held_out,
        groups=groups,
    )


def measure_faithfulness(
    model: nn.Module | Classifier,
    images: FeatureImages,
    yardstick: Yardstick,
    *,
    unconstrained: FeatureImages | None = None,
    again: FeatureImages | None = None,
    rng: Rng = None,
) -> Faithfulness:
    """How far the feature images of one layer's channels can be believed.

    ``unconstrained``: images of the same channels without a prior; ``again``: the same images
    made with another seed and from other cells. Per image (K,), see `records.Faithfulness`:

    - ``predictivity`` on the held-out cells (see `comparison`), and the same for the ``best_cell``
      of the prior's cells, the mean of the ``nine_best_cells`` in the comparing representation,
      the ``unconstrained`` image, and a ``random_cell``;
    - ``activation_ratio``: activation over that of the best cell, and ``_in_views`` the mean over
      random views; ``z``: s.d. above the mean held-out cell;
    - ``selectivity``: share of the layer's other channels that the image drives less, in z;
    - ``stability``: cosine between the image and the one made again, in the comparison;
    - ``natural_spectrum``, ``natural_path``: share of held-out cells that are at least as far
      from their fifth nearest of the prior's cells, in radial power spectrum, and in the texture
      of the activations on the way to the layer (Geirhos et al. 2023, section 4); ``naturalness``
      is the smaller of the two.

    Estimates are means over images with intervals from resampling images; those of
    ``predictivity`` and what it is compared with are over images and held-out cells, or their
    groups (`mean_of_both`). An image fails, with a
    reason, if it does not predict (AUC not above chance by two s.e.), is weaker than the top
    decile of cells, or is odder than 99 % of cells.

    >>> from cytolens.activations.layers import resolve_layer
    >>> from cytolens.features.optimisation import Ascent, feature_images
    >>> from cytolens.features.priors import fit_prior
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2))
    >>> cells = np.random.default_rng(0).random((60, 1, 16, 16)).astype(np.float32)
    >>> prior = fit_prior(cells[:40], rng=0)
    >>> made = feature_images(
    ...     network, layer="0", channels=[0, 2], input_shape=(1, 16, 16), prior=prior,
    ...     ascent=Ascent(steps=4), rng=0,
    ... )
    >>> layers = [resolve_layer(network, (1, 16, 16), "0")]
    >>> yardstick = prepare_yardstick(network, layers, prior=prior, held_out=cells[40:])
    >>> found = measure_faithfulness(network, made, yardstick, rng=0)
    >>> found.n, len(found.failures), found.table["predictivity"].shape
    (20, 2, (2,))
    """
    network = network_of(model)
    layer = next((layer for layer in yardstick.layers if layer.name == images.layer), None)
    if layer is None:
        known = ", ".join(layer.name for layer in yardstick.layers)
        raise InputError(f"images of '{images.layer}' came; the yardstick is of: {known}")
    channels, draw = images.channels, generator(rng)
    if (channels < 0).any():
        raise InputError(f"images of '{images.layer}' include directions; faithfulness is measured"
                         " for channels")  # fmt: skip
    for name, made in (("unconstrained", unconstrained), ("again", again)):
        if made is not None and made.channels.tolist() != channels.tolist():
            raise InputError(f"{name}: images of other channels came; give those of the same")
    cells = yardstick.made_from.score[layer.name][:, channels]  # (n, K)
    outside = yardstick.held_out.score[layer.name]  # (m, C)
    own = answers_at(network, yardstick.layers, images.images)
    rows = np.arange(len(channels), dtype=np.int64)
    reached = own.score[layer.name][rows, channels]
    mean, deviation = outside.mean(0), np.maximum(outside.std(0), 1e-9)
    z_all = (own.score[layer.name] - mean) / deviation  # (K, C)
    z = z_all[rows, channels]
    best = cells.max(0)
    order = np.argsort(-cells, axis=0, kind="stable")
    points = yardstick.comparison(images.images)
    random = draw.integers(len(cells), size=len(channels))
    candidates = {
        "predictivity": points,
        "best_cell": yardstick.points[order[0]],
        "nine_best_cells": yardstick.points[order[:BEST]].mean(0),
        "random_cell": yardstick.points[random],
    }
    if unconstrained is not None:
        candidates["unconstrained"] = yardstick.comparison(unconstrained.images)
    table: dict[str, NDArray[np.float64]] = {}
    error = np.full(len(channels), np.nan)
    for name, candidate in candidates.items():
        found = [
            measure_predictivity(candidate[k], yardstick.held_out_points, outside[:, channels[k]])
            for k in rows
        ]
        table[name] = np.array([value for value, _ in found])
        if name == "predictivity":
            error = np.array([one for _, one in found])
    lively = outside.std(0) > 1e-9
    table["activation_ratio"] = _ratio(reached, best)
    in_views = _in_views(network, layer, images, draw)
    table["activation_ratio_in_views"] = _ratio(in_views, best)
    table["z"] = z
    others = np.maximum(lively.sum() - 1, 1)
    below = ((z_all < z[:, None]) & lively).sum(1) / others
    table["selectivity"] = np.where(lively.sum() > 1, below, np.nan)
    if again is not None:
        table["stability"] = _cosine(points, yardstick.comparison(again.images))
    spectra = [_spectrum(x) for x in (yardstick.prior.crops, yardstick.held_out_crops)]
    table["natural_spectrum"] = _commonness(_spectrum(images.images), *spectra)
    early = [one.name for one in yardstick.layers if one.depth < layer.depth] or [layer.name]
    paths = [
        np.concatenate([each.texture[name] for name in early], axis=1)
        for each in (own, yardstick.made_from, yardstick.held_out)
    ]
    table["natural_path"] = _commonness(*paths)
    table["naturalness"] = np.minimum(table["natural_spectrum"], table["natural_path"])
    alive = ~images.dead & np.isfinite(table["predictivity"])
    estimates = {name: mean_of(values[alive], rng=draw) for name, values in table.items()}
    weights = resample_weights(
        len(outside), groups=yardstick.groups, resamples=RESAMPLES, rng=draw
    )  # the same cells for all images
    for name, candidate in candidates.items():
        drawn = [
            drawn_predictivity(
                candidate[k], yardstick.held_out_points, outside[:, channels[k]], weights
            )
            for k in rows[alive]
        ]
        estimates[name] = mean_of_both(
            table[name][alive],
            np.array(drawn).reshape(len(drawn), len(weights)).T,
            grouped=yardstick.groups is not None,
            within=SHARE,
        )
    return Faithfulness(
        layer=layer.name,
        channels=channels,
        table=table,
        estimates=estimates,
        failures=tuple(
            _failure(table, error, int(k), float(np.quantile(cells[:, k], 0.9)), float(reached[k]))
            if alive[k]
            else "silent"
            for k in rows
        ),
        n=len(outside),
    )


def _failure(
    table: Mapping[str, NDArray[np.float64]],
    error: NDArray[np.float64],
    k: int,
    top_decile: float,
    reached: float,
) -> str:
    """Why an image should not be trusted; empty if there is no reason."""
    if table["predictivity"][k] - 2 * error[k] <= 0.5:
        return "does not predict"
    if reached < top_decile:
        return "weak"
    return "unnatural" if table["naturalness"][k] < ODD else ""


def _ratio(value: NDArray[np.floating], best: NDArray[np.floating]) -> NDArray[np.float64]:
    wanted = best > 0
    return np.where(wanted, value / np.where(wanted, best, 1), np.nan).astype(np.float64)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return ((a * b).sum(1) / np.maximum(length, 1e-12)).astype(np.float64)


def _in_views(
    model: nn.Module, layer: Layer, images: FeatureImages, draw: np.random.Generator
) -> NDArray[np.float64]:
    """Mean activation (K,) over random views like those of the optimisation."""
    seeds = [torch.Generator().manual_seed(int(draw.integers(2**62))) for _ in images.channels]
    views = draw_views(seeds, VIEWS)
    paper = torch.tensor(images.settings["background"], dtype=torch.float32)[:, None, None]
    tensors = torch.from_numpy(images.images)
    rows = np.arange(len(images.channels))
    total = np.zeros(len(rows))
    for step in range(VIEWS):
        seen = transform(tensors, views[step].float(), Transforms(), paper).numpy()
        total += answers_at(model, [layer], seen).score[layer.name][rows, images.channels]
    return total / VIEWS


def _spectrum(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the mean power in rings of frequency, (N, C · rings)."""
    height, width = images.shape[2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    count = max(4, min(height, width) // 4)
    ring = np.minimum((frequency / 0.5 * count).astype(int), count - 1).ravel()
    size = np.bincount(ring, minlength=count)
    rows: list[NDArray[np.float64]] = []
    for start in range(0, len(images), 256):
        part = images[start : start + 256]
        power = np.abs(np.fft.rfft2(part - part.mean((2, 3), keepdims=True))) ** 2
        flat = power.reshape(*power.shape[:2], -1)
        sums = np.stack([flat[..., ring == k].sum(-1) for k in range(count)], axis=-1)
        rows.append(np.log(sums / size + 1e-12).reshape(len(part), -1))
    return np.concatenate(rows)


def _commonness(
    images: NDArray[np.floating], cells: NDArray[np.floating], outside: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Share of the cells outside that are at least as far from the cells as each image is."""
    mean, deviation = cells.mean(0), cells.std(0)
    deviation = np.maximum(deviation, 1e-3 * deviation.max() + 1e-12)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(cells)))
    near.fit((cells - mean) / deviation)
    far_images, far_cells = (
        np.asarray(near.kneighbors((points - mean) / deviation)[0])[:, -1]
        for points in (images, outside)
    )
    return (far_cells[None] >= far_images[:, None]).mean(1)
