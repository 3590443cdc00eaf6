"""How far feature images can be believed, in numbers, on cells that had no part in making them.

A feature image may be a texture that no cell shows, or be made by other means than the network
uses on real cells (Geirhos et al. 2023, arXiv:2306.04719), and examples may explain better
(Borowski et al. 2021, arXiv:2010.12606). So each image is measured: what likeness to it says of
which cells drive its channel, compared with the cell that it started from, with images made
without its channel, and with real cells; how strongly its channel answers, and whether other
channels answer too; whether a second run gives the same image; and how unusual it is among cells.
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
from cytolens.features.comparison import REPRESENTATIONS, described, prepare_comparison
from cytolens.features.controls import Controls
from cytolens.features.natural import Answers, answers_at
from cytolens.features.predictivity import Judged, Space, draw_held_out, judge
from cytolens.features.priors import Prior
from cytolens.features.transforms import Transforms, draw_views, transform
from cytolens.numerics.estimates import Estimate, Rng, generator, mean_of
from cytolens.records.cells import Progress
from cytolens.records.features import Faithfulness, FeatureImages
from cytolens.records.layers import Layer
from cytolens.records.shown import record

VIEWS = 16  # random views that activation is averaged over
NEIGHBOURS = 5  # the distance to the fifth nearest cell says how odd an image is
ODD = 0.01  # an image is unnatural if fewer than this share of real cells are as odd


@record
class Yardstick:
    """Cells, and the network's answers to them, that feature images are compared with."""

    layers: tuple[Layer, ...]
    prior: Prior
    made_from: Answers  # to the prior's cells
    held_out: Answers  # to cells that neither the network nor the prior has seen
    spaces: Mapping[str, Space]  # by representation, see `comparison`
    held_out_crops: NDArray[np.float32]  # (m, C, H, W)
    groups: NDArray[np.generic] | None = None  # (m,), of the held-out cells


def prepare_yardstick(
    model: nn.Module | Classifier,
    layers: Sequence[Layer],
    *,
    prior: Prior,
    held_out: NDArray[np.float32],
    groups: NDArray[np.generic] | None = None,
    known: Mapping[str, NDArray[np.float32]] | None = None,
    progress: Progress | None = None,
) -> Yardstick:
    """Everything that feature images of these layers are compared with, made once.

    ``held_out`` (m, C, H, W): prepared crops that neither trained the network nor made the prior;
    at least 20, or an InputError is raised. ``groups`` (m,): what intervals over cells are over.
    ``known``: the prior's cells, then those held out, by representation as `comparison.described`
    gives them, where that is done.
    """
    network = network_of(model)
    if len(held_out) < 20:
        raise InputError(f"{len(held_out)} held-out cells came; faithfulness takes at least 20")
    spaces: dict[str, Space] = {}
    for done, name in enumerate(REPRESENTATIONS):
        if progress is not None:
            progress(done, len(REPRESENTATIONS), f"describing cells by {name}")
        both = np.concatenate([prior.crops, held_out])
        found = described(prior, both, name) if known is None else known[name]
        comparison, points = prepare_comparison(prior, name, known=found[: len(prior.crops)])
        away = comparison.standardised(found[len(prior.crops) :])
        spaces[name] = Space(comparison, points, away)
    return Yardstick(
        layers=tuple(layers),
        prior=prior,
        made_from=answers_at(network, layers, prior.crops),
        held_out=answers_at(network, layers, held_out),
        spaces=spaces,
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
    controls: Controls | None = None,
    rng: Rng = None,
) -> Faithfulness:
    """How far the feature images of one layer's channels can be believed.

    ``unconstrained``: images of the same channels without a prior; ``again``: the same images, or
    some of them, made with another seed and from other cells; ``controls``: see `make_controls`.
    Per image (K,), see `records.Faithfulness`:

    - ``predictivity`` on the held-out cells (see `comparison`), and the same for the
      ``start_cell`` of the image, for ``hold_only`` and the ``wrong_channel`` among the controls,
      the mean of the ``others`` (images of other channels), the ``best_cell`` of the prior's
      cells, the mean of the ``nine_best_cells`` and of the top decile (``driving_cells``) in the
      comparing representation, the ``unconstrained`` image, and a ``random_cell``. Each again
      with ``_by_wavelets`` at its end, in the second representation;
    - ``like_start``, ``like_nearest_cell``: pixel correlation with the start cell, and with the
      prior's cell that is most like the image in any orientation;
    - ``activation_ratio``: activation over that of the best cell, and ``_in_views`` the mean over
      random views; ``z``: s.d. above the mean held-out cell;
    - ``selectivity``: share of the layer's other channels that the image drives less, in z;
    - ``stability``: cosine between the image and the one made again, in the comparison; NaN where
      it was not made again;
    - ``natural_spectrum``, ``natural_path``: share of held-out cells that are at least as far
      from their fifth nearest of the prior's cells, in radial power spectrum, and in the texture
      of the activations on the way to the layer (Geirhos et al. 2023, section 4); ``naturalness``
      is the smaller of the two.

    Estimates are means over images with intervals from resampling images; those of
    ``predictivity`` and what it is compared with are over images and held-out cells, or their
    groups (`mean_of_both`). There are more, in both representations: ``rotation``, the
    predictivity of images of rotated channels for the cells that drive these; ``above_start``,
    ``above_hold_only``, ``above_wrong_channel`` and ``above_rotation``, by how much the images
    exceed these, paired;
    ``own_best``, the share of channels whose own image predicts most of all the layer's, its
    ``null`` being chance.

    ``predicts``: the image's predictivity is above that of its start cell and of the rotations by
    two standard errors over cells, in both representations. An image fails, with a reason, if it
    is at chance (AUC not above one half by two s.e.), is weaker than the top decile of cells, or
    is odder than 99 % of cells.

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
    if unconstrained is not None and unconstrained.channels.tolist() != channels.tolist():
        raise InputError("unconstrained: images of other channels came; give those of the same")
    if again is not None and not set(again.channels.tolist()) <= set(channels.tolist()):
        raise InputError("again: images of other channels came; give those of the same")
    cells = yardstick.made_from.score[layer.name][:, channels]  # (n, K)
    outside = yardstick.held_out.score[layer.name]  # (m, C)
    own = answers_at(network, yardstick.layers, images.images)
    rows = np.arange(len(channels), dtype=np.int64)
    reached = own.score[layer.name][rows, channels]
    mean, deviation = outside.mean(0), np.maximum(outside.std(0), 1e-9)
    z_all = (own.score[layer.name] - mean) / deviation  # (K, C)
    z = z_all[rows, channels]
    best = cells.max(0)
    random = draw.integers(len(cells), size=len(channels))
    held = draw_held_out(outside, yardstick.groups, draw)
    judged = {
        name: judge(
            space, images, cells, held,
            unconstrained=unconstrained, controls=controls, random=random, rng=draw,
        )
        for name, space in yardstick.spaces.items()
    }  # fmt: skip
    table, compared = _by_representation(judged)
    error = judged["filters"].errors
    lively = outside.std(0) > 1e-9
    table["activation_ratio"] = _ratio(reached, best)
    in_views = _in_views(network, layer, images, draw)
    table["activation_ratio_in_views"] = _ratio(in_views, best)
    table["z"] = z
    others = np.maximum(lively.sum() - 1, 1)
    below = ((z_all < z[:, None]) & lively).sum(1) / others
    table["selectivity"] = np.where(lively.sum() > 1, below, np.nan)
    if again is not None:
        compare = yardstick.spaces["filters"].compare
        same = [channels.tolist().index(channel) for channel in again.channels.tolist()]
        table["stability"] = np.full(len(channels), np.nan)
        table["stability"][same] = _cosine(compare(images.images[same]), compare(again.images))
    if images.starts is not None:
        table["like_start"] = _pixels_alike(images.images, images.starts)
    if images.similarity is not None:
        table["like_nearest_cell"] = images.similarity.astype(np.float64)
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
    estimates |= compared
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
        predicts=np.logical_and.reduce([found.ahead for found in judged.values()]),
    )


def _by_representation(
    judged: Mapping[str, Judged],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Estimate]]:
    """The numbers of all representations; those of the second end with its name."""
    table: dict[str, NDArray[np.float64]] = {}
    estimates: dict[str, Estimate] = {}
    for name, found in judged.items():
        end = "" if name == "filters" else f"_by_{name}"
        table |= {f"{key}{end}": values for key, values in found.table.items()}
        estimates |= {f"{key}{end}": estimate for key, estimate in found.estimates.items()}
    return table, estimates


def _pixels_alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pearson's correlation (K,) over the pixels of each pair; as they stand, not turned."""
    first, second = (x.reshape(len(x), -1) for x in (a, b))
    return _cosine(first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True))


def _failure(
    table: Mapping[str, NDArray[np.float64]],
    error: NDArray[np.float64],
    k: int,
    top_decile: float,
    reached: float,
) -> str:
    """Why an image should not be trusted; empty if there is no reason."""
    if table["predictivity"][k] - 2 * error[k] <= 0.5:
        return "at chance"
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
