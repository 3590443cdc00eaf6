"""The chapter on what matters in a cell: modulated feature images, and cells explained."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cytolens.figures.kept import plot_kept
from cytolens.figures.labels import format_interval
from cytolens.figures.modulation import plot_cell_explanation, plot_modulated
from cytolens.figures.origins import plot_from_cells
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.features import CellExplanation, FeatureImages, ModulatedImages, Modulation
from cytolens.report.began import began_text, gallery_title
from cytolens.report.chapter import Chapter, Drawing, file_name
from cytolens.report.page import first_sentence
from cytolens.report.results import Results

_BEGAN = "The cells that images of the explained cells began as"


def figures(results: Results) -> Iterator[Drawing]:
    """Cells explained; then modulated images, the deepest layer, which explains them, first."""
    found, cells = results.read("modulated", Modulation), results.cells
    if found is None:
        return
    galleries = results.galleries
    crops: dict[str, Any] = {}
    if cells is not None:
        crops = {"channel_names": cells.channel_names, "pixel_size": cells.pixel_size}
    for place, shown in enumerate(found.explanations):
        images = None if galleries is None else galleries.of(shown.layer)
        limits = None if images is None else images.settings.get("value_range")
        yield Drawing(
            f"explanation_{place + 1}",
            f"Why {shown.name} is classified as {shown.predicted_class}",
            _explanation_caption(shown),
            partial(
                plot_cell_explanation,
                shown,
                value_range=limits,
                crop_size=None if cells is None else tuple(cells.original_sizes[shown.cell]),
                **crops,
            ),
            _explanation_note(shown) + began_text(shown.began, _BEGAN),
            fold="" if place == 0 else "More cells explained",
        )
    began = _began(found.explanations)
    if began is not None:
        caption = (
            "Each column: a real cell that drives a channel, the image made from it that the "
            "figures before show modulated, and what was changed. What is not in the change is "
            "the cell's."
        )
        plot = partial(plot_from_cells, [began], **crops)
        yield Drawing("explained_starts", _BEGAN, caption, plot, fold="More cells explained")
    for place, modulated in enumerate(reversed(found.galleries)):
        images = None if galleries is None else galleries.of(modulated.layer)
        if galleries is None or images is None or len(images.targets) != len(modulated.targets):
            continue
        yield Drawing(
            f"modulated_{file_name(modulated.layer)}",
            f"Modulated feature images of {modulated.layer}",
            _modulated_caption(modulated, first=place == 0),
            partial(plot_modulated, images, modulated, padded=_padded(cells), **crops),
            kept_text(found.kept.get(modulated.layer, {}))
            + began_text(images, gallery_title(galleries)),
            fold="" if place == 0 else "Modulated images of the other layers",
        )
    if len(found.kept) > 0 and found.galleries and found.galleries[0].source == "self":
        caption = (
            "Share of a channel's activation in the salient part of its image, and in the same "
            "area of its activation map, of the brightest pixels, of those of strongest contrast, "
            "and in a random place. Where the brightest pixels hold as much, the salient part may "
            "be no more than brightness."
        )
        plot = partial(plot_kept, found.kept, results.layers)
        note = (
            "The gain is the up-scaled activation map; elsewhere the same gains are put in the "
            "order of the other. The salient part is in the order of what drives the channel: "
            "gradients along the path from the background to the image, over the input and the "
            "earlier convolutions. Kept: of the modulated image. The other two: mean over nine "
            "steps of a tenth of the pixels. 0 is plain background, 1 the whole image; channels "
            "that background drives as much are left out. Band: 95 % interval over channels."
        )
        yield Drawing("kept", "Is the salient part more than brightness?", caption, plot, note)


def _began(explanations: Sequence[CellExplanation]) -> FeatureImages | None:
    """The images of all explained cells that began as cells, each once."""
    found: FeatureImages | None = None
    for shown in explanations:
        if shown.began is None:
            continue
        known = [] if found is None else found.channels.tolist()
        new = [k for k, c in enumerate(shown.began.channels.tolist()) if c not in known]
        more = shown.began.of(new)
        found = more if found is None else found.joined(more)
    return found


def _padded(cells: Cells | None) -> bool:
    """Whether crops were padded."""
    if cells is None:
        return False
    return bool((cells.original_sizes < np.array(cells.shape[1:])).any())


def result(results: Results) -> str:
    """How much of the activation the parts that are kept hold, at the deepest layer."""
    found = results.read("modulated", Modulation)
    kept = {} if found is None else dict(found.kept)
    layer = next((one.layer for one in reversed(found.galleries)), "") if found else ""
    return first_sentence(f"At {layer}: {kept_text(kept[layer])}")[0] if layer in kept else ""


def kept_text(found: Mapping[str, Estimate]) -> str:
    """How much of the activation the salient parts hold, and the same area elsewhere."""
    part = "salient_" if "salient_kept" in found else ""
    if f"{part}kept" not in found:
        return ""
    share = {name: format_interval(estimate) for name, estimate in found.items()}
    itself = f"; where the activation map is, {share['kept']}" if part else ""
    return (
        f"The salient parts hold {share[f'{part}kept']} of the channels' activation (the same area "
        f"in a random place: {share['random_kept']}{itself}). Put in a tenth of the pixels at a "
        f"time, they bring back {share[f'{part}insertion']} of it on average "
        f"({share['random_insertion']}); {share[f'{part}deletion']} stays when they are taken out "
        f"({share['random_deletion']}).{_beside(found, part)}"
    )


def _beside(found: Mapping[str, Estimate], part: str) -> str:
    """How they do beside brightness and contrast, plainly."""
    said: list[str] = []
    for key, name in (("brightness", "the brightest pixels"), ("contrast", "strongest contrast")):
        more = found.get(f"{part}ahead_of_{key}")
        if more is None:
            continue
        way = "more than" if more.least > 0 else "about as much as"
        way = "less than" if more.most < 0 else way
        said.append(f"{way} the same area of {name} (difference {format_interval(more)})")
    return f" They hold {' and '.join(said)}." if said else ""


def _modulated_caption(images: ModulatedImages, *, first: bool) -> str:
    if not first:
        return "The same for a shallower layer, whose gain is finer. Read it as the figure before."
    source = (
        "its own activation map"
        if images.source == "self"
        else f"the activation map of {images.source}"
    )
    return (
        "What in each feature image excites its channel (contour; below, what is outside fades to "
        f"blue), and the gain: {source}, scaled up. Last the image times the gain, black where a "
        "channel answers to darkness. The gain is as coarse as the layer: its blur is no property "
        "of the feature. Dotted: padding begins."
    )


def _explanation_caption(shown: CellExplanation) -> str:
    wrong = shown.true_class != shown.predicted_class
    return (
        f"The {len(shown.channels)} channels of {shown.layer} that speak most for "
        f"{shown.predicted_class} in this cell, and where. "
        + ("Here the network is wrong: see what misled it. " if wrong else "")
        + "This is a linear account of one decision: channels act together, and without one the "
        "others may act differently."
    )


def _explanation_note(shown: CellExplanation) -> str:
    itself = any("itself" in target for target in shown.modulated.targets)
    made = (
        "the cell itself, modulated by the map of each channel"
        if itself
        else "their feature images, modulated by their maps of this cell"
    )
    if shown.began is None and not itself:
        made += " (they began as no cell)"
    return (
        "Channels are ranked by gradient × activation, for the predicted class against the others. "
        f"Saliency shows where they speak for it in this cell. Below: {made}. The sum weights them "
        "by their contributions, on an intensity scale of its own."
    )


CHAPTER = Chapter("modulated", "What matters in a cell", 90, figures, result=result)
