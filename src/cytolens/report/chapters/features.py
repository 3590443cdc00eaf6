"""The chapter on feature images: what each layer looks for, and how far to believe it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cytolens.figures.faithfulness import plot_faithfulness
from cytolens.figures.fields import plot_field_images
from cytolens.figures.gallery import plot_feature_gallery, plot_feature_images
from cytolens.figures.labels import format_interval, format_number
from cytolens.figures.origins import plot_from_cells
from cytolens.records.classifier import Predictions
from cytolens.records.features import (
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    Galleries,
)
from cytolens.report.began import gallery_title
from cytolens.report.chapter import Chapter, Drawing, file_name
from cytolens.report.results import Results

_PRIORS = {
    "cells": "Each starts at a typical cell of those that drive it, changes as cells differ, "
    "keeps their texture, and climbs as high as the best cell.",
    "components": "Each is the mean cell changed along the cells' principal components.",
    "accentuation": "Each is a typical cell of those that drive it, exaggerated.",
    "spectrum": "Each has the amplitude spectrum of the cells.",
}
_RIVALS = {
    "start_cell": "the cells they began as:",
    "rotation": "images of rotated channels:",
    "driving_cells": "the mean of the driving cells:",
}
_TWINS = (
    "Channels of later layers that rise and fall with one of an earlier layer over cells "
    "(correlation above 0.9) are shown there only, and named."
)
_MANY = 12  # images of a layer, more than the gallery by depth can show


def figures(results: Results) -> Iterator[Drawing]:
    """Feature images of classes and channels, and the numbers that say how far to believe them."""
    found, judged = results.galleries, results.by_layer("faithfulness", Faithfulness)
    if found is not None:
        yield from _images(results, found, judged)
    if judged:
        caption = (
            "How well likeness to a feature image tells the cells that drive its channel (0.5: "
            "guessing). The image began as such a cell, so only what exceeds that cell, and "
            "images of rotated channels, comes from the channel. Bands: 95 % intervals. Smaller "
            "panels: one check each."
        )
        plot = partial(plot_faithfulness, judged, results.layers)
        note = _faithfulness_note(next(iter(judged.values())), results.test_cells)
        yield Drawing("faithfulness", "How far to believe them", caption, plot, note)
    if found is not None:
        yield from _more_images(results, found)
    if found is not None:
        yield from _whole_layers(results, found)


def sentences(results: Results) -> tuple[str, ...]:
    """How far the feature images can be believed, compared with the cells that they began as."""
    judged = results.by_layer("faithfulness", Faithfulness).values()
    found = [one for one in judged if "predictivity" in one.estimates]
    if not found:
        return ()
    last = found[-1]
    failed, total = _failed(found), sum(len(one.failures) for one in found)
    rivals = [
        f"{text} {format_number(last.estimates[name].value)}"
        for name, text in _RIVALS.items()
        if name in last.estimates
    ]
    against = f" ({'; '.join(rivals)})" if rivals else ""
    text = (
        f"At {last.layer}, likeness to a channel's feature image tells the cells that drive it "
        f"with an AUC of {format_interval(last.estimates['predictivity'])}{against}."
    )
    return (
        text,
        f"{_predicting(found)}; {failed} of {total} images fail a check, and are framed.",
    )


def prior_text(images: FeatureImages) -> str:
    """What the user's cells contributed to the images."""
    kind = (images.settings.get("prior") or {}).get("kind")
    return _PRIORS.get(kind or "", "Made in Fourier space, without a prior from the cells.")


def _predicting(judged: Sequence[Faithfulness]) -> str:
    """How many images say more of their channel than the cells and the rotations."""
    known = [one.predicts for one in judged if one.predicts is not None]
    if not known or not any("above_start" in one.estimates for one in judged):
        return "Whether an image predicts more than real cells was not measured"
    count, total = sum(int(one.sum()) for one in known), sum(len(one) for one in known)
    which = "No image" if count == 0 else f"{count} of {total} images"
    verb = "predict" if count > 1 else "predicts"
    return (
        f"{which} {verb} more, in both representations, than the cell that it began as and than "
        "images of rotated channels"
    )


def _class_images(results: Results, images: FeatureImages) -> Drawing:
    """Of the classes, or of the outputs where these are no classes."""
    if images.starts is None:
        plot = partial(plot_feature_images, images, **_crops(results))
    else:
        plot = partial(plot_from_cells, [images], least_columns=4, **_crops(results))
    title = "Feature images of the classes"
    caption = (
        "Each image is made so that one class gains over the others (z: standard deviations above "
        "real cells). It shows what the network asks for, not what a typical cell of the class "
        "looks like."
    )
    if results.read("evaluation", Predictions) is None:
        title = "Feature images of the outputs"
        caption = (
            "Each image is made so that one output of the network rises (z: standard deviations "
            "above real cells). It shows what the network asks for, not what a typical cell looks "
            "like."
        )
    note = f"{prior_text(images)}{_range(images)}"
    return Drawing("class_images", title, caption, plot, note)


def _images(
    results: Results, found: Galleries, judged: Mapping[str, Faithfulness]
) -> Iterator[Drawing]:
    if found.classes is not None:
        yield _class_images(results, found.classes)
    rankings = results.by_layer("ranking", ChannelRanking)
    shared: dict[str, Any] = {
        "layers": results.layers, "rankings": rankings, **_crops(results),
    }  # fmt: skip
    if found.fields:
        yield _on_fields(found, shared)
    on_fields = {one.layer for one in found.fields}
    whole = [images for images in found.channels if images.layer not in on_fields]
    if not whole:
        return
    note = _gallery_note(whole, ranked=bool(rankings), judged=list(judged.values()))
    if all(images.starts is None for images in whole):
        plot = partial(plot_feature_gallery, whole, faithfulness=judged, **shared)
        caption = (
            "Each tile is an image made to excite one channel, from shallow to deep layers. Read "
            "it as a pattern that the channel prefers, one among possibly several. A large z means "
            "that no cell looks like this."
        )
        if judged:
            caption += " p says how well likeness to it tells cells (AUC)."
    else:
        free = {images.layer: images for images in found.unconstrained}
        plot = partial(
            plot_from_cells, whole, unconstrained=free, faithfulness=judged, twins=found.twins,
            **shared,
        )  # fmt: skip
        caption = (
            "Each column: a cell that drives a channel, the image made from it, what was changed, "
            "and an image made without cells. An image is like the cells that it was made from, so "
            "that it predicts them anyway: compare its p with its cell's (p image|cell; ✓ where it "
            "says more)."
        )
    yield Drawing("gallery", gallery_title(found), caption, plot, note)


def _on_fields(found: Galleries, shared: Mapping[str, Any]) -> Drawing:
    """Layers whose neurons see less than a cell."""
    caption = (
        "What a neuron sees, several times enlarged, by layer: patches of cells that drive it "
        "most; then images made for it, within the variation of such patches (prior) and freely "
        "(no prior). ×: activation relative to the strongest patch. Patches are real; images may "
        "exaggerate."
    )
    note = (
        "Layers whose receptive field is smaller than a typical cell. A tile is as wide as the "
        "field. All tiles share one intensity scale. "
        f"Patches: of {found.fields[0].n:,} cells, one of each cell, the strongest that "
        "see no border and do not look the same in any of eight orientations. Prior: along the "
        "principal components of patches, within their ellipsoid. r: pixel correlation of each "
        "image with the most similar patch, over eight orientations. +3: three more channels of "
        f"the layer are like this one. {_TWINS}"
    )
    plot = partial(plot_field_images, found.fields, twins=found.twins, **shared)
    return Drawing("fields", "Feature images by depth: what a neuron sees", caption, plot, note)


def _more_images(results: Results, found: Galleries) -> Iterator[Drawing]:
    """Several images of a channel, and images without a prior."""
    for images in found.kinds:
        columns = results.settings.get("kinds") or 4
        plot = partial(plot_feature_images, images, columns=columns, **_crops(results))
        if images.starts is not None:
            plot = partial(
                plot_from_cells,
                [images],
                columns=columns * max(1, 8 // columns),
                **_crops(results),
            )
        caption = (
            "The cells that drive a channel are divided by their texture; each part gives an "
            "image, the largest first. Where the images of a channel differ, it answers to several "
            "things."
        )
        title = f"What else drives the channels of {images.layer}"
        name = f"kinds_{file_name(images.layer)}"
        yield Drawing(name, title, caption, plot, half=True, fold="Several images of a channel")
    if found.clusters is not None and found.clusters.starts is not None:
        plot = partial(plot_from_cells, [found.clusters], least_columns=6, **_crops(results))
        caption = (
            "The image of each cluster, made in the direction from the mean of all cells to that "
            "of the cluster, with the cell that it began as and what was changed."
        )
        title = f"How the images of the clusters of {found.clusters.layer} were made"
        yield Drawing("cluster_images", title, caption, plot, fold="Images of the clusters")
    if found.unconstrained:
        plot = partial(
            plot_feature_gallery, found.unconstrained, layers=results.layers, **_crops(results)
        )
        caption = (
            "The same channels with images as they are usually made. They reach higher "
            "activations with patterns that no cell shows: judge them by the predictivity above."
        )
        note = "Made in Fourier space, between the cells' darkest and brightest intensity."
        title = "The same without a prior"
        yield Drawing("unconstrained", title, caption, plot, note, fold="Images without a prior")


def _whole_layers(results: Results, found: Galleries) -> Iterator[Drawing]:
    fields = {layer.name: layer.receptive_field for layer in results.layers}
    for images in found.channels:
        if len(images.targets) > _MANY:
            plot = partial(
                plot_feature_images, images, receptive_field=fields.get(images.layer), columns=12,
                **_crops(results),
            )  # fmt: skip
            if images.starts is not None:
                plot = partial(plot_from_cells, [images], layers=results.layers, **_crops(results))
            caption = (
                f"All {len(images.targets)} feature images made for {images.layer}. Read them as "
                "in the gallery by depth."
            )
            title = f"All feature images of {images.layer}"
            name = f"gallery_{file_name(images.layer)}"
            yield Drawing(name, title, caption, plot, fold="All images, layer by layer")


def _crops(results: Results) -> dict[str, Any]:
    """What drawings of images need to know of the crops."""
    cells = results.cells
    if cells is None:
        return {}
    return {"channel_names": cells.channel_names, "pixel_size": cells.pixel_size}


def _gallery_note(
    galleries: Sequence[FeatureImages], *, ranked: bool, judged: Sequence[Faithfulness]
) -> str:
    total = sum(len(images.targets) for images in galleries)
    dead = sum(int(images.dead.sum()) for images in galleries)
    text = (
        "Cells and images share one intensity scale. z: by how many standard deviations the "
        "excitation exceeds its mean over real cells. r: pixel correlation with the most similar "
        f"of the prior's cells, over eight orientations. {prior_text(galleries[0])} "
    )
    text += (
        f"{dead} of the {total} channels are dead: they rise above zero for no cell and no image. "
        if dead
        else f"None of the {total} channels is dead. "
    )
    if ranked:
        text += (
            "Rows begin with the channels whose removal changes the decision most; channels that "
            f"rise and fall together are shown once (+3: three more such channels). {_TWINS} "
        )
    if judged:
        failed = _failed(judged)
        text += (
            "p: the AUC with which likeness separates the cells that drive the channel most from "
            "the lower half. ✓: clearly above the cell that the image began as and above images of "
            "rotated channels, in two representations. "
        )
        text += (
            f"{failed} images are framed: they are at chance, weaker than the top decile of cells, "
            "or odder than 99 % of cells (odd)."
            if failed
            else "No image fails: each is above chance, no weaker than the top decile of cells, "
            "and no odder than cells can be."
        )
    return text.strip()


def _faithfulness_note(one: Faithfulness, cells: str) -> str:
    return (
        f"On {one.n:,} {cells}. Predictivity: how well likeness separates the top decile of cells "
        "by activation from the lower half. Likeness is measured in two representations that the "
        "network has no part in: random filters, averaged over eight orientations, and scattering "
        "coefficients. It is compared with the cell that each image began as, the same ascent "
        "without the network's part, the image of another channel from the same cell, images of "
        "randomly rotated channels (for the cells that drive these), the mean of the other "
        "channels' images, the mean of the top decile of the prior's cells, and the image made "
        "without a prior; controls are of three channels of each layer. Dotted grey: by chance. "
        "Intervals of so few controls may leave their panel. "
        "Activation is relative to the best of the prior's cells. Selectivity: share of the "
        "layer's other channels that the image drives less. Stability: cosine with the image made "
        "again with another seed from half of the cells. Naturalness: share of these cells that "
        "are as far from the prior's cells as the image, in spectrum or on the path through the "
        "network, whichever is less."
    )


def _failed(judged: Sequence[Faithfulness]) -> int:
    return sum(1 for found in judged for failure in found.failures if failure)


def _range(images: FeatureImages) -> str:
    limits = np.asarray(images.settings.get("value_range", ()), dtype=float).reshape(-1)
    if limits.shape != (2,):  # several image channels, each with a range of its own
        return ""
    low, high = map(format_number, limits.tolist())
    return f" Intensities stay within those of the cells ({low} to {high})."


CHAPTER = Chapter("features", "What each layer looks for", 70, figures, sentences=sentences)
