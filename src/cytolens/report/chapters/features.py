"""The chapter on feature images: what each layer looks for, and how far to believe it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cytolens.figures.faithfulness import plot_faithfulness
from cytolens.figures.gallery import plot_feature_gallery, plot_feature_images
from cytolens.figures.labels import format_interval, format_number
from cytolens.records.classifier import Predictions
from cytolens.records.features import (
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    Galleries,
)
from cytolens.report.chapter import Chapter, Drawing, file_name
from cytolens.report.results import Results

_PRIORS = {
    "cells": "Each starts at a typical cell of those that drive it, changes as cells differ, "
    "keeps their texture, and climbs as high as the best cell.",
    "components": "Each is the mean cell changed along the cells' principal components.",
    "accentuation": "Each is a typical cell of those that drive it, exaggerated.",
    "spectrum": "Each has the amplitude spectrum of the cells.",
}
_MANY = 12  # images of a layer, more than the gallery by depth can show


def figures(results: Results) -> Iterator[Drawing]:
    """Feature images of classes and channels, and the numbers that say how far to believe them."""
    found, judged = results.galleries, results.by_layer("faithfulness", Faithfulness)
    if found is not None:
        yield from _images(results, found, judged)
    if judged:
        caption = (
            "How well likeness to a feature image predicts which cells drive its channel "
            "(0.5: guessing), compared with real cells, a random cell, and the image made without "
            "a prior. Below a random cell an image says nothing. Smaller panels: activation, "
            "selectivity, stability, naturalness."
        )
        plot = partial(plot_faithfulness, judged, results.layers)
        note = _faithfulness_note(next(iter(judged.values())), results.test_cells)
        yield Drawing("faithfulness", "How far to believe them", caption, plot, note)
    if found is not None:
        yield from _more_images(results, found)
    if found is not None:
        yield from _whole_layers(results, found)


def sentences(results: Results) -> tuple[str, ...]:
    """How far the feature images can be believed, compared with the nine best cells."""
    judged = results.by_layer("faithfulness", Faithfulness).values()
    found = [one for one in judged if "predictivity" in one.estimates]
    if not found:
        return ()
    ahead = sum(
        one.estimates["predictivity"].value >= one.estimates["nine_best_cells"].value
        for one in found
    )
    failed, total = _failed(found), sum(len(one.failures) for one in found)
    last = found[-1]
    return (
        f"At {last.layer}, likeness to a channel's feature image predicts which cells "
        f"drive it with an AUC of {format_interval(last.estimates['predictivity'])}; the nine best "
        "of the prior's cells together reach "
        f"{format_number(last.estimates['nine_best_cells'].value)}.",
        f"The images predict at least as well as the nine best cells at {ahead} of {len(found)} "
        f"depths; {failed} of {total} images fail a check, and are framed.",
    )


def prior_text(images: FeatureImages) -> str:
    """What the user's cells contributed to the images."""
    kind = (images.settings.get("prior") or {}).get("kind")
    return _PRIORS.get(kind or "", "Made in Fourier space, without a prior from the cells.")


def _class_images(results: Results, images: FeatureImages) -> Drawing:
    """Of the classes, or of the outputs where these are no classes."""
    plot = partial(plot_feature_images, images, **_crops(results))
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
    if found.channels:
        rankings = results.by_layer("ranking", ChannelRanking)
        plot = partial(
            plot_feature_gallery, found.channels, layers=results.layers, rankings=rankings,
            faithfulness=judged, **_crops(results),
        )  # fmt: skip
        caption = (
            "Each tile is an image made to excite one channel, from shallow to deep layers. Read "
            "it as a pattern that the channel prefers, one among possibly several. A large z means "
            "that no cell looks like this."
        )
        if judged:
            caption += " p says how well it predicts cells (AUC); framed images fail a check."
        note = _gallery_note(found.channels, ranked=bool(rankings), judged=list(judged.values()))
        yield Drawing("gallery", "Feature images by depth", caption, plot, note)


def _more_images(results: Results, found: Galleries) -> Iterator[Drawing]:
    """Several images of a channel, and images without a prior."""
    for images in found.kinds:
        columns = results.settings.get("kinds") or 4
        plot = partial(plot_feature_images, images, columns=columns, **_crops(results))
        caption = (
            "The cells that drive a channel are divided by their texture; each part gives an "
            "image, the largest first. Where the images of a channel differ, it answers to several "
            "things."
        )
        title = f"What else drives the channels of {images.layer}"
        name = f"kinds_{file_name(images.layer)}"
        yield Drawing(name, title, caption, plot, half=True, fold="Several images of a channel")
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
        "All tiles share one intensity scale. z: by how many standard deviations the excitation "
        "exceeds its mean over real cells. The grey bar is the receptive field: what one neuron "
        f"can see. {prior_text(galleries[0])} "
    )
    text += (
        f"{dead} of the {total} channels are dead: they rise above zero for no cell and no image. "
        if dead
        else f"None of the {total} channels is dead. "
    )
    if ranked:
        text += (
            "Rows begin with the channels whose removal changes the decision most; channels that "
            "rise and fall together are shown once (+3: three more such channels). "
        )
    if judged:
        failed = _failed(judged)
        text += (
            "p is the predictivity: the AUC with which likeness to the image separates the "
            "cells that drive the channel most from the lower half. "
        )
        text += (
            f"{failed} images are framed: they do not predict (no pred.), are weaker than the top "
            "decile of cells, or odder than 99 % of cells (odd)."
            if failed
            else "No image fails: each predicts, is no weaker than the top decile of cells, and no "
            "odder than cells can be."
        )
    return text.strip()


def _faithfulness_note(one: Faithfulness, cells: str) -> str:
    return (
        f"On {one.n:,} {cells}. Predictivity: how well likeness to the image separates the "
        "top decile of cells by activation from the lower half. Likeness is measured in a "
        "representation that the network has no part in (random filters, averaged over eight "
        "orientations). It is compared with the best and the nine best of the prior's cells, the "
        "image "
        "made without a prior, and a random cell. Activation is relative to the best of the "
        "prior's cells. Selectivity: share of the layer's other channels that the image drives "
        "less. "
        "Stability: cosine with the image made again with another seed from half of the cells. "
        "Naturalness: share of these cells that are as far from the prior's cells as the "
        "image, in spectrum or on the path through the network, whichever is less. Bands: 95 % "
        "intervals over images."
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
