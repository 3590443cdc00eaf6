"""Which feature images a study makes, and of what; the making itself is in ``features``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.activations.maps import capture_maps
from cytolens.classifier.model import Classifier, untrained
from cytolens.errors import SettingError
from cytolens.features.ascent import Ascent
from cytolens.features.complexity import complexity_of, measure_complexity, rank_correlation
from cytolens.features.directions import whitened_directions
from cytolens.features.faithfulness import measure_faithfulness, prepare_yardstick
from cytolens.features.insertion import measure_kept
from cytolens.features.modulation import explain_cell, modulate
from cytolens.features.objectives import direction
from cytolens.features.optimisation import feature_images
from cytolens.features.priors import fit_prior
from cytolens.features.saliency import explaining_layer
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.clusters import Clusters
from cytolens.records.features import (
    CellExplanation,
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    ModulatedImages,
)
from cytolens.records.layers import Activations, Layer
from cytolens.study.settings import StudySettings

_PRIOR_CELLS = 1000  # training cells that the prior rests on
_JUDGED_ON = 600  # held-out cells
_LAYERS_WITH_KINDS, _CHANNELS_WITH_KINDS = 2, 4  # the deepest layers, their first channels
_NATURAL_CELLS = 512  # cells whose activations a feature image is compared with


def gallery_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Layers whose channels are shown: all with channels of their own but input and logits."""
    return tuple(la for la in layers[:-1] if la.kind not in ("input", "pool", "norm"))


def image_options(
    model: Classifier, cells: Cells, split: Split, settings: StudySettings
) -> dict[str, Any]:
    """What all feature images of a study have in common, as arguments of ``feature_images``.

    ``cells`` among them are held-out cells: the yardstick that activations are compared with. The
    prior rests on the cells that the network was trained on.
    """
    held_out = np.concatenate([split.validation, split.test])
    draw = np.random.default_rng(settings.seed).permutation(held_out)[:_NATURAL_CELLS]
    options: dict[str, Any] = {
        "input_shape": model.input_shape,
        "cells": cells.read(np.sort(draw)),
        "rng": settings.seed,
        "device": settings.device,
    }
    paper = prepared_background(cells.preparation)
    ascent = Ascent() if settings.steps is None else Ascent(steps=settings.steps)
    if settings.prior == "none":
        ascent = replace(ascent, background=paper, parametrisation=settings.parametrisation)
    else:
        learnt_from = cells.subset(split.train)
        options["prior"] = fit_prior(
            learnt_from, settings.prior, background=paper, n_cells=_PRIOR_CELLS, rng=settings.seed
        )
    return {**options, "ascent": ascent}


def feature_galleries(
    model: Classifier,
    *,
    acts: Activations,
    clusters: Mapping[str, Clusters],
    rankings: Mapping[str, ChannelRanking],
    layers: tuple[Layer, ...],
    mapped: NDArray[np.int64],
    settings: StudySettings,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Feature images by depth, of ``classes`` and of ``clusters``.

    ``galleries``: of the channels that matter most, near-duplicates shown once. ``unconstrained``:
    the same without a prior, and ``untrained``: the same of the network before training. ``kinds``:
    several images of each of the first channels, for the kinds of cells that drive it.
    """
    shown = gallery_layers(layers)
    before = untrained(model, rng=settings.seed)
    free = without_prior(options)
    galleries: list[FeatureImages] = []
    unconstrained: list[FeatureImages] = []
    controls: list[FeatureImages] = []
    kinds: list[FeatureImages] = []
    total = 3 * len(shown) + 2
    for done, layer in enumerate(shown):
        progress(3 * done, total, layer.name)
        channels = rankings[layer.name].representatives[: settings.gallery or None].tolist()
        of: dict[str, Any] = {"layer": layer.name, "channels": channels}
        galleries.append(feature_images(model.network, **of, **options))
        progress(3 * done + 1, total, f"{layer.name}, unconstrained")
        unconstrained.append(feature_images(model.network, **of, **free))
        progress(3 * done + 2, total, f"{layer.name}, untrained")
        controls.append(feature_images(before.network, **of, **free))
        if settings.kinds > 1 and "prior" in options and layer in shown[-_LAYERS_WITH_KINDS:]:
            of["channels"] = channels[:_CHANNELS_WITH_KINDS]
            several = {**options, "ascent": replace(options["ascent"], variants=settings.kinds)}
            kinds.append(feature_images(model.network, **of, **several))
    progress(total - 2, total, "classes")
    classes = class_images(model, layers[-1], options)
    progress(total - 1, total, "clusters")
    last = shown[-1]
    of_clusters = cluster_images(model, acts, clusters[last.name], last, mapped, options)
    return {
        "galleries": tuple(galleries),
        "unconstrained": tuple(unconstrained),
        "untrained": tuple(controls),
        "kinds": tuple(kinds),
        "classes": classes,
        "clusters": of_clusters,
    }


def without_prior(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same images as everyone makes them: Fourier space between the cells' intensities."""
    free = dict(options)
    if "prior" in free:
        free["prior"] = free["prior"].named("range")
        return free
    free["ascent"] = replace(free["ascent"], regularisers={})
    return free


def judge_galleries(
    model: Classifier,
    cells: Cells,
    split: Split,
    *,
    features: Mapping[str, Any],
    layers: tuple[Layer, ...],
    options: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> dict[str, Faithfulness]:
    """How far the images of each gallery can be believed, on held-out cells, by layer.

    Stability is between images with another seed and from two halves of the prior's cells.
    """
    prior = options.get("prior") or fit_prior(
        cells.subset(split.train),
        background=prepared_background(cells.preparation),
        n_cells=_PRIOR_CELLS,
        rng=seed,
    )
    draw = np.random.default_rng(seed)
    held_out = np.concatenate([split.validation, split.test])
    held_out = np.sort(draw.permutation(held_out)[:_JUDGED_ON])
    shown = gallery_layers(layers)
    progress(0, len(shown) + 1, "what the network answers to cells")
    yardstick = prepare_yardstick(model.network, shown, prior=prior, held_out=cells.read(held_out))
    again: dict[str, Any] = {**options, "rng": seed + 1}
    if "prior" in options:
        half = np.sort(draw.permutation(len(prior.crops))[: max(10, len(prior.crops) // 2)])
        again["prior"] = prior.of(half)
    judged: dict[str, Faithfulness] = {}
    pairs = zip(features["galleries"], features["unconstrained"], strict=True)
    for done, (images, plain) in enumerate(pairs):
        progress(done + 1, len(shown) + 1, images.layer)
        channels = images.channels.tolist()
        made = feature_images(model.network, layer=images.layer, channels=channels, **again)
        judged[images.layer] = measure_faithfulness(
            model.network, images, yardstick, unconstrained=plain, again=made, rng=seed
        )
    return judged


def class_images(model: Classifier, logits: Layer, options: Mapping[str, Any]) -> FeatureImages:
    """One image per class: its logit minus the mean of the others."""
    n = len(model.class_names)
    directions = (np.eye(n) * n - 1) / (n - 1)
    names = [f"{name} - others" for name in model.class_names]
    if n == 2:
        names = [f"{a} - {b}" for a, b in (model.class_names, model.class_names[::-1])]
    toward = direction(logits.name, directions, names=names)
    return feature_images(model.network, objective=toward, **options)


def cluster_images(
    model: Classifier,
    acts: Activations,
    found: Clusters,
    layer: Layer,
    mapped: NDArray[np.int64],
    options: Mapping[str, Any],
) -> FeatureImages | None:
    """One image per cluster: the direction from the mean of all cells to that of the cluster."""
    features = acts[layer.name][mapped]
    if found.n < 2 or features.shape[1] != layer.channels:  # one cluster points nowhere
        return None
    directions = whitened_directions(
        features, [np.flatnonzero(found.labels == k) for k in range(found.n)]
    )
    names = [f"cluster {k}" for k in range(found.n)]
    toward = direction(layer.name, directions, names=names)
    return feature_images(model.network, objective=toward, **options)


def complexity_by_depth(
    features: Mapping[str, Any], layers: tuple[Layer, ...], *, rng: int
) -> dict[str, Any]:
    """``layers[name][measure]`` with the untrained control, and ``trend[measure]`` with depth.

    Of the unconstrained images: a prior from the cells makes all images as complex as cells are.
    """
    by_name = {layer.name: layer for layer in layers}
    measured: dict[str, Any] = {}
    depths: list[NDArray[np.float64]] = []
    values: list[dict[str, NDArray[np.float64]]] = []
    for trained, control in zip(features["unconstrained"], features["untrained"], strict=True):
        layer = by_name[trained.layer]
        alive = trained.images[~trained.dead]
        if len(alive) == 0:
            continue
        options: dict[str, Any] = {
            "receptive_field": layer.receptive_field,
            "background": trained.settings["background"],
        }
        before = control.images[~control.dead]
        measured[layer.name] = measure_complexity(
            alive, untrained=before if len(before) else None, rng=rng, **options
        )
        values.append(complexity_of(alive, **options))
        depths.append(np.full(len(alive), layer.depth, dtype=np.float64))
    trend = {
        name: rank_correlation(
            np.concatenate(depths), np.concatenate([value[name] for value in values]), rng=rng
        )
        for name in (values[0] if len(values) > 1 else {})
    }
    return {"layers": measured, "trend": trend}


def modulated_galleries(
    model: Classifier,
    cells: Cells,
    *,
    chosen: NDArray[np.int64],
    galleries: tuple[FeatureImages, ...],
    layers: tuple[Layer, ...],
    source: int | None,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """``galleries``: ModulatedImages by depth; ``explanations``: the chosen cells explained.

    ``kept``, by layer: how much of their channels' activation the images' own kept parts keep.

    ``source`` is the cell whose activation maps modulate, or None for each image's own.
    """
    by_name = {layer.name: layer for layer in layers}
    spatial = [g for g in galleries if len(by_name[g.layer].shape) == 3]
    modulated: list[ModulatedImages] = []
    kept: dict[str, dict[str, Estimate]] = {}
    for gallery in spatial:
        if source is None:
            modulated.append(modulate(gallery))
            if not gallery.dead.all():
                kept[gallery.layer] = measure_kept(
                    model.network, gallery, modulated[-1], rng=options["rng"]
                )
            continue
        crop = cells.read(np.array([source]))
        maps = capture_maps(model.network, crop, by_name[gallery.layer])[0, gallery.channels]
        modulated.append(modulate(gallery, source=str(cells.names[source]), activation_maps=maps))
    layer = explaining_layer([by_name[g.layer] for g in spatial], model.input_shape[1])
    explanations: list[CellExplanation] = []
    if layer is not None:
        gallery = next(g for g in spatial if g.layer == layer.name)
        explanations = explain_cells(model, cells, chosen, layer, gallery, options, progress)
    return {"galleries": tuple(modulated), "explanations": tuple(explanations), "kept": kept}


def explain_cells(
    model: Classifier,
    cells: Cells,
    chosen: NDArray[np.int64],
    layer: Layer,
    gallery: FeatureImages,
    options: Mapping[str, Any],
    progress: Progress,
) -> list[CellExplanation]:
    """The chosen cells explained; feature images that the gallery lacks are made."""

    def explain(index: int, images: FeatureImages) -> CellExplanation:
        return explain_cell(
            model.network,
            cells.read(np.array([index]))[0],
            layer=layer,
            class_names=model.class_names,
            cell=index,
            name=str(cells.names[index]),
            true_class=cells.class_names[cells.labels[index]],
            features=images,
            references=options["cells"][:64],
        )

    first = [explain(index, gallery) for index in chosen.tolist()]
    deciding = {channel for found in first for channel in found.channels.tolist()}
    missing = sorted(deciding - set(gallery.channels.tolist()))
    if not missing:
        return first
    progress(0, 1, f"{len(missing)} more channels of {layer.name}")
    more = feature_images(model.network, layer=layer.name, channels=missing, **options)
    images = replace(
        gallery,
        channels=np.concatenate([gallery.channels, more.channels]),
        images=np.concatenate([gallery.images, more.images]),
    )
    return [explain(index, images) for index in chosen.tolist()]


def find_cell(cells: Cells, name: str) -> int:
    """The cell of that name, or of that number. Raises SettingError where there is none."""
    found = np.flatnonzero(cells.names == name)
    if len(found) == 0 and name.isdigit() and int(name) < len(cells):
        return int(name)
    if len(found) != 1:
        raise SettingError(
            f"--source '{name}' is no cell of this run; give 'self', a file name such as "
            f"'{cells.names[0]}', or a number below {len(cells)}"
        )
    return int(found[0])


def representative_cells(
    cells: Cells, split: Split, probabilities: NDArray[np.float32], per_class: int
) -> NDArray[np.int64]:
    """Test cells to explain: of each class the surest that are right, and one that is wrong."""
    test = split.test
    predicted = probabilities[test].argmax(1)
    chosen: list[int] = []
    for label in range(len(cells.class_names)):
        own = test[(cells.labels[test] == label) & (predicted == label)]
        order = np.argsort(-probabilities[own, label], kind="stable")
        chosen += own[order[:per_class]].tolist()
    wrong = test[predicted != cells.labels[test]]
    if per_class and len(wrong):
        chosen.append(int(wrong[probabilities[wrong].max(1).argmax()]))
    return np.array(chosen, dtype=np.int64)
