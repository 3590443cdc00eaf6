"""Feature images of a study: what is made, how far to believe it, and what it says of cells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.clusters import Clusters
from cytolens.records.features import (
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    Galleries,
)
from cytolens.records.layers import Activations, Layer
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows
from cytolens.study.stages.classifier import layers_with_channels

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.features.ascent import Ascent
    from cytolens.features.priors import Prior

Layers = tuple[Layer, ...]

_PRIOR_CELLS = 1000  # training cells that the prior rests on
_JUDGED_ON = 600  # held-out cells
_LAYERS_WITH_KINDS, _CHANNELS_WITH_KINDS = 2, 4  # the deepest layers, their first channels
_MOST_OUTPUTS = 16  # that images are made of, where they are no classes
_NATURAL_CELLS = 512  # cells whose activations a feature image is compared with


@dataclass(frozen=True, eq=False)
class Ascents:
    """How all feature images of a study are made.

    ``cells`` (n, C, H, W) are held-out crops: the yardstick that activations are compared with.
    """

    prior: "Prior | None"  # rests on the cells that the network was trained on
    ascent: "Ascent"
    cells: NDArray[np.float32]
    seed: int
    device: str | None

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of `feature_images`."""
        return {
            "prior": self.prior, "ascent": self.ascent, "cells": self.cells,
            "rng": self.seed, "device": self.device,
        }  # fmt: skip

    def of_channels(
        self, network: "Classifier", layer: str, channels: list[int], *, variants: int = 1
    ) -> FeatureImages:
        """Images of some channels of a layer, of each as many as ``variants``."""
        from cytolens.features.optimisation import feature_images

        ascent = replace(self.ascent, variants=variants)
        options: dict[str, Any] = {**self.options, "ascent": ascent}
        return feature_images(network, layer=layer, channels=channels, **options)

    def of_directions(
        self, network: "Classifier", layer: str, directions: NDArray[np.floating], names: list[str]
    ) -> FeatureImages | None:
        """Images of directions (K, channel) in the activation space of a layer.

        None where one of them points nowhere, since its cells are like all others.
        """
        from cytolens.features.objectives import direction
        from cytolens.features.optimisation import feature_images

        if not np.linalg.norm(directions, axis=1).all():
            return None
        toward = direction(layer, directions, names=names)
        return feature_images(network, objective=toward, **self.options)

    def without_prior(self) -> "Ascents":
        """The same as everyone makes them: Fourier space between the cells' intensities."""
        if self.prior is not None:
            return replace(self, prior=self.prior.named("range"))
        return replace(self, ascent=replace(self.ascent, regularisers={}))

    def repeated(self, half: Rows | None) -> "Ascents":
        """The same with another seed, and with a prior from these of its cells."""
        prior = self.prior if half is None or self.prior is None else self.prior.of(half)
        return replace(self, prior=prior, seed=self.seed + 1)


def ascents(
    cells: Cells,
    split: Split,
    *,
    prior: str,
    parametrisation: str,
    steps: int | None,
    seed: int,
    device: str | None,
) -> Ascents:
    """How all feature images of the study are made."""
    from cytolens.features.ascent import Ascent
    from cytolens.features.priors import fit_prior
    from cytolens.images.preparation import prepared_background

    paper = prepared_background(cells.preparation)
    held_out = np.concatenate([split.validation, split.test])
    draw = np.random.default_rng(seed).permutation(held_out)[:_NATURAL_CELLS]
    ascent, fitted = Ascent() if steps is None else Ascent(steps=steps), None
    if prior == "none":
        ascent = replace(ascent, background=paper, parametrisation=parametrisation)
    else:
        learnt_from = cells.subset(split.train)
        fitted = fit_prior(learnt_from, prior, background=paper, n_cells=_PRIOR_CELLS, rng=seed)
    return Ascents(fitted, ascent, cells.read(np.sort(draw)), seed, device)


def features(
    network: "Classifier",
    activations: Activations,
    layers: tuple[Layer, ...],
    main_layer: str,
    mapped: Rows,
    clusters: Mapping[str, Clusters],
    ranking: Mapping[str, ChannelRanking],
    ascents: Ascents,
    *,
    gallery: int,
    kinds: int,
    seed: int,
    progress: Progress,
) -> Galleries:
    """Feature images by depth, of the classes, and of the clusters of the layer shown."""
    from cytolens.classifier.model import untrained

    shown = layers_with_channels(layers)
    before = untrained(network, ascents.cells, rng=seed)
    free = ascents.without_prior()
    with_prior: list[FeatureImages] = []
    unconstrained: list[FeatureImages] = []
    controls: list[FeatureImages] = []
    of_kinds: list[FeatureImages] = []
    total = 3 * len(shown) + 2
    for done, layer in enumerate(shown):
        name = layer.name
        progress(3 * done, total, name)
        channels = ranking[name].representatives[: gallery or None].tolist()
        with_prior.append(ascents.of_channels(network, name, channels))
        progress(3 * done + 1, total, f"{name}, unconstrained")
        unconstrained.append(free.of_channels(network, name, channels))
        progress(3 * done + 2, total, f"{name}, untrained")
        controls.append(free.of_channels(before, name, channels))
        if kinds > 1 and ascents.prior is not None and layer in shown[-_LAYERS_WITH_KINDS:]:
            first = channels[:_CHANNELS_WITH_KINDS]
            of_kinds.append(ascents.of_channels(network, name, first, variants=kinds))
    progress(total - 2, total, "classes")
    of_outputs = _class_images if network.gives_classes else _output_images
    classes = of_outputs(network, layers[-1], ascents)
    progress(total - 1, total, "clusters")
    main = next(layer for layer in layers if layer.name == main_layer)
    found = clusters[main_layer]
    of_clusters = _cluster_images(
        network, activations.rows(main_layer, mapped), found, main, ascents
    )
    return Galleries(
        channels=tuple(with_prior),
        unconstrained=tuple(unconstrained),
        untrained=tuple(controls),
        kinds=tuple(of_kinds),
        classes=classes,
        clusters=of_clusters,
    )


def faithfulness(
    network: "Classifier",
    cells: Cells,
    split: Split,
    layers: tuple[Layer, ...],
    features: Galleries,
    ascents: Ascents,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, Faithfulness]:
    """How far the images of each gallery can be believed, on held-out cells, by layer.

    Stability is between images with another seed and from two halves of the prior's cells.
    """
    from cytolens.features.faithfulness import measure_faithfulness, prepare_yardstick
    from cytolens.features.priors import fit_prior
    from cytolens.images.preparation import prepared_background

    prior = ascents.prior or fit_prior(
        cells.subset(split.train),
        background=prepared_background(cells.preparation),
        n_cells=_PRIOR_CELLS,
        rng=seed,
    )
    draw = np.random.default_rng(seed)
    held_out = np.concatenate([split.validation, split.test])
    held_out = np.sort(draw.permutation(held_out)[:_JUDGED_ON])
    shown = layers_with_channels(layers)
    progress(0, len(shown) + 1, "what the network answers to cells")
    yardstick = prepare_yardstick(
        network, shown,
        prior=prior, held_out=cells.read(held_out),
        groups=None if cells.groups is None else cells.groups[held_out],
    )  # fmt: skip
    half = None
    if ascents.prior is not None:
        half = np.sort(draw.permutation(len(prior.crops))[: max(10, len(prior.crops) // 2)])
    again = ascents.repeated(half)
    judged: dict[str, Faithfulness] = {}
    pairs = zip(features.channels, features.unconstrained, strict=True)
    for done, (images, plain) in enumerate(pairs):
        progress(done + 1, len(shown) + 1, images.layer)
        made = again.of_channels(network, images.layer, images.channels.tolist())
        judged[images.layer] = measure_faithfulness(
            network, images, yardstick, unconstrained=plain, again=made, rng=seed
        )
    return judged


def _class_images(network: "Classifier", logits: Layer, ascents: Ascents) -> FeatureImages:
    """One image per class: its logit minus the mean of the others."""
    classes = network.class_names
    n = len(classes)
    names = [f"{name} - others" for name in classes]
    if n == 2:
        names = [f"{a} - {b}" for a, b in (classes, classes[::-1])]
    made = ascents.of_directions(network, logits.name, (np.eye(n) * n - 1) / (n - 1), names)
    assert made is not None  # every class differs from the mean of the others
    return made


def _output_images(network: "Classifier", outputs: Layer, ascents: Ascents) -> FeatureImages | None:
    """One image for each of the first labels or values; None of an embedding.

    Its dimensions mean nothing one by one.
    """
    if network.outputs == "embedding" or len(outputs.shape) != 1:
        return None
    n = min(len(network.class_names), _MOST_OUTPUTS)
    directions = np.eye(outputs.channels)[:n]
    return ascents.of_directions(network, outputs.name, directions, list(network.class_names[:n]))


def _cluster_images(
    network: "Classifier",
    features: NDArray[np.float32],
    found: Clusters,
    layer: Layer,
    ascents: Ascents,
) -> FeatureImages | None:
    """One image per cluster: the direction from the mean of all cells to that of the cluster."""
    from cytolens.features.directions import whitened_directions

    if found.n < 2 or features.shape[1] != layer.channels:  # one cluster points nowhere
        return None
    members = [np.flatnonzero(found.labels == k) for k in range(found.n)]
    directions = whitened_directions(features, members)
    names = [f"cluster {k}" for k in range(found.n)]
    return ascents.of_directions(network, layer.name, directions, names)


_COMPARED = ("best_cell", "nine_best_cells", "unconstrained", "random_cell")


def _entries_of_faithfulness(found: Faithfulness) -> dict[str, Any]:
    """Means over images; next to the predictivity of the images, that of cells."""
    entries = as_entries({k: v for k, v in found.estimates.items() if k not in _COMPARED})
    compared = {k: found.estimates[k].value for k in _COMPARED if k in found.estimates}
    entries["predictivity"] = {**entries["predictivity"], **compared}
    images = [
        {
            "channel": int(channel),
            "failure": failure or None,
            **{name: float(values[k]) for name, values in found.table.items()},
        }
        for k, (channel, failure) in enumerate(zip(found.channels, found.failures, strict=True))
    ]
    return {**entries, "held_out_cells": found.n, "images": images}


def _summary_of_features(features: Galleries, layers: Layers) -> Summary:
    dead = {g.layer: g.channels[g.dead].tolist() for g in features.channels}
    return Summary(layers={la.name: {"dead_channels": dead.get(la.name, [])} for la in layers})


def _summary_of_faithfulness(faithfulness: Mapping[str, Faithfulness], layers: Layers) -> Summary:
    entries = {name: _entries_of_faithfulness(found) for name, found in faithfulness.items()}
    return Summary(layers={la.name: {"faithfulness": entries.get(la.name, {})} for la in layers})


ASCENTS = Stage("ascents", "fitting the prior", ascents, keep=None)
FEATURES = Stage(
    "features", "making feature images", features, version=2, summary=_summary_of_features
)
FAITHFULNESS = Stage(
    "faithfulness",
    "judging the feature images",
    faithfulness,
    version=2,
    summary=_summary_of_faithfulness,
)
