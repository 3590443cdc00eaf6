"""What to read from each figure, and how far to believe it: one function per caption."""

from collections.abc import Mapping, Sequence

import numpy as np

from cytolens.figures.style import interval, measure_name, number
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.classifier import Evaluation
from cytolens.records.features import (
    Atlas,
    CellExplanation,
    ChannelContext,
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    ModulatedImages,
)

_SCALED = {
    "dataset": "Intensities are on one scale for the whole data set, so brightness can be "
    "compared.",
    "image": "Each crop was scaled by its own limits: brightness cannot be compared between crops.",
    "none": "Intensities are those of the files.",
}


def cells(shown: Cells) -> str:
    """Caption of the example crops."""
    prepared = shown.preparation
    height, width = prepared.size
    text = (
        f"Crops drawn at random from each class, not chosen. {_SCALED.get(prepared.intensity, '')} "
        f"Each was padded or cropped about its centre to {height} × {width} px, never rescaled; "
        "the range shown ends at the 0.5 and 99.8 percentiles. Look for what differs between the "
        "rows by eye: what a network finds beyond that needs the controls further down."
    )
    if shown.pixel_size is None:
        text += " The pixel size is not known, so the scale bar is in pixels."
    return text


def training(epochs: int) -> str:
    """Caption of the training curves."""
    return (
        f"{epochs} epochs; the weights of the marked one were kept. Validation cells were not "
        "trained on but chose the epoch, so judge by the test cells. A training curve that goes on "
        "improving while the validation curve turns back is overfitting."
    )


def measures(test: Evaluation, *, baseline: bool, folds: int) -> str:
    """Caption of the dot chart of measures."""
    text = (
        f"Measured on {test.n:,} cells that neither training nor the choice of the epoch has seen; "
        f"bars are 95 % intervals{f' ({test.note})' if test.note else ''}."
    )
    if folds:
        text += (
            f" Folds: {folds} networks, each tested on a part held out from its training; light "
            "dots are single folds. They say how a newly trained network would fare, and are not "
            "the network explained below."
        )
    if baseline:
        text += (
            " The linear baseline sees the same pixels and the same split: only what the network "
            "has above it needs features."
        )
    return text


def confusion(test: Evaluation) -> str:
    """Caption of the confusion matrix."""
    counts = np.asarray(test.confusion)
    off = counts - np.diag(np.diag(counts))
    if off.sum() == 0:
        return (
            "Rows are the given classes, shares add up to 100 % along a row. No test cell is wrong."
        )
    return (
        "Rows are the given classes, shares add up to 100 % along a row; numbers are test cells. "
        f"{off.sum():,} of {counts.sum():,} are wrong, and some of those may be wrongly labelled."
    )


def reliability(test: Evaluation) -> str:
    """Caption of the reliability diagram."""
    error = test.measures.get("calibration_error")
    text = (
        "Points on the dashed line: of the cells predicted with, say, 80 % confidence, 80 % are "
        "right. Below it the network is overconfident. Bars are 95 % (Wilson) intervals; bins of "
        "few cells say little."
    )
    return text + (f" Mean gap (calibration error) {interval(error)}." if error is not None else "")


def class_images(images: FeatureImages) -> str:
    """Caption of the feature images of the classes."""
    return (
        "Made so that one class gains over the other. They show what the network asks for, not "
        f"what a typical cell looks like (z: standard deviations above real cells). {prior(images)}"
        + (f" {_range(images)}" if _range(images) else "")
    )


def prior(images: FeatureImages) -> str:
    """What the user's cells had to say about the images."""
    kind = (images.settings.get("prior") or {}).get("kind")
    return {
        "cells": "Each starts at a typical cell of those that drive it, changes as cells differ, "
        "keeps their texture, and climbs as high as the best cell.",
        "components": "Each is the mean cell changed along the cells' principal components.",
        "accentuation": "Each is a typical cell of those that drive it, exaggerated.",
        "spectrum": "Each has the amplitude spectrum of the cells.",
    }.get(kind or "", "Made in Fourier space, without a prior from the cells.")


def gallery(
    galleries: Sequence[FeatureImages],
    *,
    ranked: bool = False,
    judged: Sequence[Faithfulness] = (),
) -> str:
    """Caption of the gallery by depth; ``ranked``: by what the decision loses without them."""
    total = sum(len(images.targets) for images in galleries)
    dead = sum(int(images.dead.sum()) for images in galleries)
    text = (
        "Each tile is an image made to excite one channel, from shallow to deep layers; all tiles "
        "share one intensity scale. z is by how many standard deviations its excitation exceeds "
        "the mean over real cells: large values mean that no cell looks like this. The grey bar "
        "is the receptive field: what one neuron can see. "
    )
    text += f"{prior(galleries[0])} " if galleries else ""
    text += (
        f"{dead} of the {total} channels are dead: they rise above zero for no cell and no image. "
        if dead
        else f"None of the {total} channels is dead. "
    )
    if ranked:
        text += (
            "Rows begin with the channels that the decision loses most without; channels that "
            "rise and fall together are shown once (+3: three more alike). "
        )
    if judged:
        failed = sum(1 for found in judged for failure in found.failures if failure)
        text += (
            "p is the predictivity: the AUC with which likeness to the image tells the held-out "
            "cells that drive the channel most from the lower half. "
            + (
                f"{failed} images are framed: they do not predict (no pred.), are weaker than the "
                "top decile of cells, or odder than 99 % of cells (odd). "
                if failed
                else "No image fails: each predicts, is no weaker than the top decile of cells, "
                "and no odder than cells can be. "
            )
        )
    return text + "Read a tile as a pattern that the channel prefers, one among possibly several."


def faithfulness(found: Sequence[Faithfulness]) -> str:
    """Caption of faithfulness by depth."""
    return (
        f"On {found[0].n:,} held-out cells. Predictivity: how well likeness to the image, in a "
        "representation that the network has no part in (random filters, averaged over eight "
        "orientations), tells the top decile of cells by activation from the lower half; beside "
        "it the best and the nine best training cells, the image made without a prior, a random "
        "cell. Activation is relative to the best training cell; selectivity is the share of the "
        "layer's other channels that the image drives less; stability the cosine with the image "
        "made again with another seed from half of the cells; naturalness the share of held-out "
        "cells that are as far from the training cells as the image, in spectrum or on the way "
        "through the network, whichever is less. Bands: 95 % intervals over images."
    )


def kinds() -> str:
    """Caption of several images per channel."""
    return (
        "The cells that drive a channel, parted by their texture; an image for each part, the "
        "largest first. Where the images of a channel differ, it answers to several things."
    )


def unconstrained() -> str:
    """Caption of the gallery without a prior."""
    return (
        "The same channels, in Fourier space between the cells' darkest and brightest intensity, "
        "as feature images are usually made. They reach higher activations, by what no cell "
        "shows: read them with the predictivity above. Complexity is measured on these."
    )


def atlas(shown: Atlas) -> str:
    """Caption of the activation atlas."""
    return (
        f"The map of {shown.layer} cut into {shown.grid} × {shown.grid} tiles. Left, the image "
        "made to call forth what the cells of a tile have in common, against all cells; right, at "
        "the same place, the cell nearest to their mean. Tiles grow with the number of cells; the "
        "frame has the colour of the class that most belong to, the strip beneath shows the shares "
        f"of all. {shown.left_out:,} cells lie on tiles with too few of them and are not shown. "
        "Neighbouring images that change step by step follow what the network grades; the left "
        "images are the network's exaggeration, the right ones are what there is."
    )


def channel_cards(
    shown: Sequence[ChannelContext], ranking: ChannelRanking | None, *, first: bool = True
) -> str:
    """Caption of the cards of a layer; those after the first refer to it."""
    text = "Read as the figure before. "
    if first:
        text = (
            f"Measured on {shown[0].n:,} cells held out from training. Without it: by how many "
            "logits the decision changes when the channel is set to its mean over cells; grad. × "
            "act.: the same to first order. + n alike: other channels that rise and fall with it. "
            "Best cells are those with the highest mean activation; the box is what the neuron "
            "sees at its strongest place. Correlations within the grey band are no larger than the "
            "largest of all properties under permutation; a correlation beyond it suggests a name, "
            "but brightness, size and focus go along with much else. "
        )
    if ranking is None:
        return text
    alike, channels = len(ranking.groups), len(ranking.importance)
    text += f"The {channels} channels fall into {alike} groups of like ones. "
    if np.isfinite(ranking.agreement.value):
        text += (
            "Rank correlation of the two kinds of importance over channels: "
            f"{interval(ranking.agreement)}."
        )
    return text


def kept(found: Mapping[str, Estimate]) -> str:
    """What is left of the activation in the parts that modulation keeps."""
    if "kept" not in found:
        return ""
    return (
        f" The parts that are kept hold {interval(found['kept'])} of the channels' activation "
        f"(gain pushed to a random place: {interval(found['random_kept'])}); put in a tenth of "
        f"the pixels at a time, on average {interval(found['insertion'])} of it "
        f"({interval(found['random_insertion'])}), and {interval(found['deletion'])} stays when "
        f"they are taken out ({interval(found['random_deletion'])})."
    )


def layer_gallery(images: FeatureImages) -> str:
    """Caption of all feature images of one layer."""
    return (
        f"All {len(images.targets)} feature images made for {images.layer}, read as in the gallery."
    )


def complexity(trend: Mapping[str, Estimate]) -> str:
    """Caption of the complexity curves."""
    text = (
        "How complex the feature images of each layer are (mean and 95 % interval over channels), "
        "with the same measure for the untrained network. Only a rise that the untrained network "
        "does not share was learnt; a growing receptive field alone already allows larger patterns."
    )
    known = [(measure_name(k).lower(), e) for k, e in trend.items() if np.isfinite(e.value)]
    if known:
        listed = ", ".join(f"{name} {interval(e)}{_chance(e)}" for name, e in known)
        text += f" Rank correlation with depth: {listed}."
    return text


def modulated(images: ModulatedImages, *, first: bool = True) -> str:
    """Caption of a modulated gallery; those after the first refer to it."""
    if not first:
        return "Read as the figure before, for a layer less deep and with a finer gain."
    of = (
        "its own activation map"
        if images.source == "self"
        else f"the activation map of {images.source}"
    )
    return (
        f"Each feature image multiplied by {of}, scaled up to the crop (the gain): what is left is "
        "the part that excites the channel, the rest fades to background. The gain is as coarse as "
        "the layer, so its blur is no property of the feature."
    )


def explanation(shown: CellExplanation) -> str:
    """Caption of an explained cell."""
    right = shown.true_class == shown.predicted_class
    itself = any("itself" in target for target in shown.modulated.targets)
    made = (
        "the cell itself, modulated by the map of each"
        if itself
        else "their feature images, modulated by their maps of this cell"
    )
    wrong = "" if right else " Here the network is wrong: read it as what misled it."
    return (
        f"The {len(shown.channels)} channels of {shown.layer} that speak most for "
        f"{shown.predicted_class} rather than the other classes, by gradient × activation. "
        f"Saliency is where they do so in this cell. Below: {made}; the sum weighs them by their "
        f"contributions, on a grey scale of its own.{wrong} This is a linear account of one "
        "decision: channels act together, and without one the others may act differently."
    )


def _chance(estimate: Estimate) -> str:
    return "" if estimate.null is None else f" (by chance up to {number(estimate.null)})"


def _range(images: FeatureImages) -> str:
    limits = np.asarray(images.settings.get("value_range", ()), dtype=float).reshape(-1)
    if limits.shape != (2,):  # several image channels, each with a range of its own
        return ""
    return (
        f"Intensities stay within those of the cells ({number(limits[0])} to {number(limits[1])})."
    )
