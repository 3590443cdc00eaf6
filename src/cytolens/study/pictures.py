"""Which feature images a study makes, and of what; the making itself is in ``features``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.activations import capture_maps
from cytolens.classifier import Classifier, untrained
from cytolens.errors import SettingError
from cytolens.features import (
    complexity_of,
    explain_cell,
    feature_images,
    measure_complexity,
    measure_importance,
    modulate,
    rank_correlation,
)
from cytolens.records import (
    Activations,
    CellExplanation,
    Cells,
    Clusters,
    FeatureImages,
    Layer,
    ModulatedImages,
    Progress,
    Split,
)
from cytolens.study.settings import StudySettings

_NATURAL_CELLS = 512  # cells whose activations a feature image is compared with


def gallery_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Layers whose channels are shown: all with channels of their own but input and logits."""
    return tuple(la for la in layers[:-1] if la.kind not in ("input", "pool", "norm"))


def background(cells: Cells) -> NDArray[np.float64]:
    """Prepared intensity of the background, per image channel (C,).

    Where each crop has limits of its own that is 0, as its darkest pixel.
    """
    prep = cells.preparation
    values, low, high = (np.array(v) for v in (prep.background, prep.low, prep.high))
    if prep.intensity == "none":
        return values
    return (values - low) / (high - low) if prep.intensity == "dataset" else np.zeros(len(values))


def image_options(
    model: Classifier, cells: Cells, split: Split, settings: StudySettings
) -> dict[str, Any]:
    """What all feature images of a study have in common, as arguments of ``feature_images``.

    ``cells`` among them are held-out cells: they give the range of intensities and the yardstick
    that activations are compared with.
    """
    held_out = np.concatenate([split.validation, split.test])
    draw = np.random.default_rng(settings.seed).permutation(held_out)[:_NATURAL_CELLS]
    options: dict[str, Any] = {
        "input_shape": model.input_shape,
        "background": background(cells),
        "parametrisation": settings.parametrisation,
        "cells": cells.read(np.sort(draw)),
        "rng": settings.seed,
        "device": settings.device,
    }
    return options if settings.steps is None else {**options, "steps": settings.steps}


def feature_galleries(
    model: Classifier,
    *,
    acts: Activations,
    clusters: Mapping[str, Clusters],
    layers: tuple[Layer, ...],
    mapped: NDArray[np.int64],
    settings: StudySettings,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """``galleries`` and ``untrained`` by depth, ``classes``, ``clusters``: FeatureImages each."""
    shown = gallery_layers(layers)
    before = untrained(model, rng=settings.seed)
    galleries: list[FeatureImages] = []
    controls: list[FeatureImages] = []
    total = 2 * len(shown) + 2
    for done, layer in enumerate(shown):
        progress(2 * done, total, layer.name)
        matter = measure_importance(model.network, options["cells"], layer=layer)
        channels = np.argsort(-matter, kind="stable")[: settings.gallery or None].tolist()
        galleries.append(
            feature_images(model.network, layer=layer.name, channels=channels, **options)
        )
        progress(2 * done + 1, total, f"{layer.name}, untrained")
        controls.append(
            feature_images(before.network, layer=layer.name, channels=channels, **options)
        )
    progress(total - 2, total, "classes")
    classes = class_images(model, layers[-1], options)
    progress(total - 1, total, "clusters")
    last = shown[-1]
    of_clusters = cluster_images(model, acts, clusters[last.name], last, mapped, options)
    return {
        "galleries": tuple(galleries),
        "untrained": tuple(controls),
        "classes": classes,
        "clusters": of_clusters,
    }


def class_images(model: Classifier, logits: Layer, options: Mapping[str, Any]) -> FeatureImages:
    """One image per class: its logit minus the mean of the others."""
    n = len(model.class_names)
    directions = (np.eye(n) * n - 1) / (n - 1)
    names = [f"{name} - others" for name in model.class_names]
    if n == 2:
        names = [f"{a} - {b}" for a, b in (model.class_names, model.class_names[::-1])]
    return feature_images(
        model.network, layer=logits.name, directions=directions, names=names, **options
    )


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
    if found.n == 0 or features.shape[1] != layer.channels:
        return None
    spread = features.std(0)
    spread = np.maximum(spread, 0.01 * spread.max() + 1e-12)
    centre = features.mean(0)
    means = np.stack([features[found.labels == k].mean(0) - centre for k in range(found.n)])
    directions = means / spread**2  # whitened, so that loud channels do not drown the others
    directions /= np.linalg.norm(directions, axis=1, keepdims=True) + 1e-12
    names = [f"cluster {k}" for k in range(found.n)]
    return feature_images(
        model.network, layer=layer.name, directions=directions, names=names, **options
    )


def complexity_by_depth(
    features: Mapping[str, Any], layers: tuple[Layer, ...], *, rng: int
) -> dict[str, Any]:
    """``layers[name][measure]`` with the untrained control, and ``trend[measure]`` with depth."""
    by_name = {layer.name: layer for layer in layers}
    measured: dict[str, Any] = {}
    depths: list[NDArray[np.float64]] = []
    values: list[dict[str, NDArray[np.float64]]] = []
    for trained, control in zip(features["galleries"], features["untrained"], strict=True):
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

    ``source`` is the cell whose activation maps modulate, or None for each image's own.
    """
    by_name = {layer.name: layer for layer in layers}
    spatial = [g for g in galleries if len(by_name[g.layer].shape) == 3]
    modulated: list[ModulatedImages] = []
    for gallery in spatial:
        if source is None:
            modulated.append(modulate(gallery))
            continue
        crop = cells.read(np.array([source]))
        maps = capture_maps(model.network, crop, by_name[gallery.layer])[0, gallery.channels]
        modulated.append(modulate(gallery, source=str(cells.names[source]), activation_maps=maps))
    layer = explaining_layer([by_name[g.layer] for g in spatial], model.input_shape[1])
    explanations: list[CellExplanation] = []
    if layer is not None:
        gallery = next(g for g in spatial if g.layer == layer.name)
        explanations = explain_cells(model, cells, chosen, layer, gallery, options, progress)
    return {"galleries": tuple(modulated), "explanations": tuple(explanations)}


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


def explaining_layer(candidates: Sequence[Layer], height: int) -> Layer | None:
    """The deepest layer whose receptive field is at most a quarter of the crop's height.

    A position of a deeper layer answers to much of the cell, and says little of where: on cells
    that differ by a planted granule alone, the peak of the saliency hit it in 1.00, 1.00, 0.90,
    0.62, 0.32, 0.12 of 40 cells at conv1 … conv6 of the reference network on 32 px crops
    (tests/study/test_known_answers.py has the experiment).
    """
    fine = [c for c in candidates if c.receptive_field and 4 * c.receptive_field <= height]
    return fine[-1] if fine else next(iter(candidates), None)


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
