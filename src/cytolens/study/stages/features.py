"""Feature images of a study: what is made, how far to believe it, and what it says of cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.clusters import Clusters
from cytolens.records.features import (
    ChannelRanking,
    FeatureImages,
    FieldImages,
    Galleries,
)
from cytolens.records.layers import Activations, Layer
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import Stage, Summary
from cytolens.study.stages.cells import Rows
from cytolens.study.stages.classifier import layers_with_channels

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.features.ascent import Ascent
    from cytolens.features.priors import Prior

Layers = tuple[Layer, ...]
Images = FeatureImages | FieldImages | None
Appearance = dict[str, NDArray[Any]]
"""The arrays of a `Prior` by name, but for its crops."""

_BLOCK = 64  # channels whose images are made together
_PRIOR_CELLS = 1000  # training cells that the prior rests on
_LAYERS_WITH_KINDS, _CHANNELS_WITH_KINDS = 1, 4  # the deepest layer, its first channels
_MOST_OUTPUTS = 16  # that images are made of, where they are no classes
_NATURAL_CELLS = 512  # cells whose activations a feature image is compared with
_SEARCHED_CELLS = 256  # of these, for the patches that drive a neuron


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

    def alike(self, images: FeatureImages) -> "Ascents":
        """As these images were made: with the prior, or without."""
        made = (images.settings.get("prior") or {}).get("kind")
        own = None if self.prior is None else self.prior.as_settings["kind"]
        return self if made == own else self.without_prior()

    def repeated(self, half: Rows | None) -> "Ascents":
        """The same with another seed, and with a prior from these of its cells."""
        prior = self.prior if half is None or self.prior is None else self.prior.of(half)
        return replace(self, prior=prior, seed=self.seed + 1)


def appearance(cells: Cells, split: Split, *, seed: int, progress: Progress) -> Appearance:
    """What training cells look like: a prior but for their crops, which are read again."""
    from cytolens.features.priors import fit_prior
    from cytolens.images.preparation import prepared_background

    found = fit_prior(
        cells.subset(split.train),
        background=prepared_background(cells.preparation),
        n_cells=_PRIOR_CELLS,
        rng=seed,
        progress=progress,
    )
    names = [field.name for field in fields(found) if field.name not in ("kind", "crops")]
    return {name: getattr(found, name) for name in names}


def prior_of(kind: str, cells: Cells, split: Split, appearance: Appearance) -> "Prior":
    """The prior from training cells."""
    from cytolens.features.priors import Prior

    crops = cells.read(split.train[appearance["rows"]])
    return Prior(kind=kind, crops=crops, **appearance)


def ascents(
    cells: Cells,
    split: Split,
    appearance: Appearance,
    *,
    prior: str,
    parametrisation: str,
    steps: int | None,
    seed: int,
    device: str | None,
) -> Ascents:
    """How all feature images of the study are made."""
    from cytolens.features.ascent import Ascent

    held_out = np.concatenate([split.validation, split.test])
    draw = np.random.default_rng(seed).permutation(held_out)[:_NATURAL_CELLS]
    ascent, fitted = Ascent() if steps is None else Ascent(steps=steps), None
    if prior == "none":
        paper = appearance["background"]
        ascent = replace(ascent, background=paper, parametrisation=parametrisation)
    else:
        fitted = prior_of(prior, cells, split, appearance)
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
    held_out: Rows,
    *,
    gallery: int,
    kinds: int,
    progress: Progress,
) -> Made[Images, Galleries]:
    """Feature images by depth, of the classes, and of the clusters of the layer shown.

    A prior makes images of whole cells, and is used from where a neuron sees as much as a cell.
    Before that neurons have images on what they see, and those of whole crops have no prior.
    """
    from cytolens.features.duplicates import find_twins

    shown = layers_with_channels(layers)
    chosen = {la.name: ranking[la.name].representatives[: gallery or None].tolist() for la in shown}
    deepest = [layer.name for layer in shown[-_LAYERS_WITH_KINDS:]]
    wanted: list[_Wanted] = []
    for layer in shown:
        several = kinds if layer.name in deepest else 0
        wanted += _of_layer(network, layer, chosen[layer.name], ascents, kinds=several)
    main = next(layer for layer in layers if layer.name == main_layer)
    of_outputs = _class_images if network.gives_classes else _output_images
    found = clusters[main_layer]

    def of_clusters() -> FeatureImages | None:
        rows = activations.rows(main_layer, mapped)
        return _cluster_images(network, rows, found, main, ascents)

    wanted += [
        _Wanted("classes", layers[-1].name, lambda: of_outputs(network, layers[-1], ascents)),
        _Wanted("clusters", main_layer, of_clusters),
    ]

    def one(number: int) -> Images:
        progress(number, len(wanted), str(wanted[number]))
        return wanted[number].make()

    made = yield Parts(list(map(str, wanted)), one)
    by_kind: dict[str, dict[str, list[Any]]] = {}
    for part, images in zip(wanted, made, strict=True):
        by_kind.setdefault(part.kind, {}).setdefault(part.layer, []).append(images)
    joined: dict[str, dict[str, Any]] = {
        kind: {layer: _joined(blocks) for layer, blocks in by_layer.items()}
        for kind, by_layer in by_kind.items()
    }
    plain, small = joined["unconstrained"], joined.get("on fields", {})
    whole = {**plain, **joined.get("cells", {})}
    whole |= {name: images for name, images in small.items() if isinstance(images, FeatureImages)}
    answers = {la.name: _by_channel(activations, la, held_out) for la in shown}
    return Galleries(
        channels=tuple(whole.values()),
        unconstrained=tuple(plain.values()),
        kinds=tuple(joined.get("kinds", {}).values()),
        classes=joined["classes"][layers[-1].name],
        clusters=joined["clusters"][main_layer],
        fields=tuple(images for images in small.values() if isinstance(images, FieldImages)),
        twins=find_twins(answers, chosen),
    )


@dataclass(frozen=True)
class _Wanted:
    """Images that are made apart from all others."""

    kind: str
    layer: str
    make: Callable[[], Images]

    def __str__(self) -> str:
        return f"{self.layer}, {self.kind}"


def _of_layer(
    network: "Classifier", layer: Layer, channels: list[int], ascents: Ascents, *, kinds: int
) -> list[_Wanted]:
    """The images of a layer's channels, by blocks of them."""
    name, free = layer.name, ascents.without_prior()
    blocks = [channels[first : first + _BLOCK] for first in range(0, len(channels), _BLOCK)]

    def of_blocks(kind: str, way: Ascents) -> list[_Wanted]:
        return [_Wanted(kind, name, partial(way.of_channels, network, name, b)) for b in blocks]

    wanted = of_blocks("unconstrained", free)
    if _sees_less_than_a_cell(layer, ascents):
        make = partial(_field_images, network, layer, channels, ascents)
        wanted.append(_Wanted("on fields", name, make))
    else:
        wanted += of_blocks("cells", ascents)
    if kinds > 1 and ascents.prior is not None:
        first = channels[:_CHANNELS_WITH_KINDS]
        make = partial(ascents.of_channels, network, name, first, variants=kinds)
        wanted.append(_Wanted("kinds", name, make))
    return wanted


def _joined(blocks: Sequence[Any]) -> Any:
    """The images of several blocks of channels as one."""
    if len(blocks) == 1:
        return blocks[0]
    images: FeatureImages = reduce(FeatureImages.joined, blocks)
    starts = [block.settings["start"] for block in blocks]
    if all(isinstance(start, list) for start in starts):  # the cell that each image began as
        images = replace(images, settings={**images.settings, "start": [*chain(*starts)]})
    return images


def _by_channel(activations: Activations, layer: Layer, rows: Rows) -> NDArray[np.float32]:
    """The mean activation (n, channel) of some cells, however the run has reduced the layer."""
    found = activations[layer.name][rows]
    if found.shape[1] == layer.channels:
        return found
    return found.reshape(len(found), layer.channels, -1).mean(2)


def _sees_less_than_a_cell(layer: Layer, ascents: Ascents) -> bool:
    """Whether the layer's neurons have images on what they see."""
    from cytolens.features.fields import cell_side, covers_a_cell

    prior = ascents.prior
    return prior is not None and not covers_a_cell(layer, cell_side(prior.crops, prior.background))


def _field_images(
    network: "Classifier", layer: Layer, channels: list[int], ascents: Ascents
) -> FieldImages | FeatureImages:
    """Neurons of the layer on what they see; whole cells where none sees the inside of a crop."""
    from cytolens.features.fields import field_images

    assert ascents.prior is not None
    try:
        return field_images(
            network, layer, channels, prior=ascents.prior, cells=ascents.cells[:_SEARCHED_CELLS],
            ascent=ascents.ascent, patches=2, rng=ascents.seed, device=ascents.device,
        )  # fmt: skip
    except InputError:
        return ascents.of_channels(network, layer.name, channels)


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


def _summary_of_features(features: Galleries, layers: Layers) -> Summary:
    dead = {g.layer: g.channels[g.dead].tolist() for g in features.channels}
    twins = {la.name: {k: v for k, v in features.twins.items() if k.startswith(f"{la.name}/")}
             for la in layers}  # fmt: skip
    return Summary(
        layers={
            la.name: {"dead_channels": dead.get(la.name, []), "twins": twins[la.name]}
            for la in layers
        }
    )


APPEARANCE = Stage("appearance", "learning what cells look like", appearance)
ASCENTS = Stage("ascents", "preparing feature images", ascents, version=3, keep=None)
FEATURES = Stage(
    "features", "making feature images", features, version=4, summary=_summary_of_features
)
