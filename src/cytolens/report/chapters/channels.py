"""The chapter on what the channels are for: the atlas, and cards of the first channels."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from cytolens.figures.atlas import plot_atlas
from cytolens.figures.channels import plot_channel_cards
from cytolens.figures.labels import format_interval, format_number
from cytolens.figures.origins import largest_change, plot_from_cells
from cytolens.records.features import Atlas, ChannelContext, ChannelRanking
from cytolens.report.began import began_text, gallery_title
from cytolens.report.chapter import Chapter, Drawing, file_name
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

_MOST_SENTENCES = 3
_BEGAN = "The cells that images of the atlas of {} began as"


def figures(results: Results) -> Iterator[Drawing]:
    """The activation atlas, and the cards of each described layer, the deepest first."""
    atlas, cells = results.read("atlas", Atlas), results.mapped_cells
    if atlas is not None and cells is not None:
        caption = (
            f"The map of {atlas.layer} in tiles. Left: an image of what the cells of a tile have "
            "in common; right: the cell nearest to their mean. Where neighbouring images change "
            "step by step, the network grades a property. The left images exaggerate; the right "
            "ones are real cells."
        )
        title, plot = f"Activation atlas of {atlas.layer}", partial(plot_atlas, atlas, cells)
        yield Drawing("atlas", title, caption, plot, _atlas_note(atlas))
        if atlas.images.starts is not None:
            places = tuple(name.removeprefix("tile ") for name in atlas.images.targets)
            yield Drawing(
                "atlas_starts",
                _BEGAN.format(atlas.layer),
                "Each column: a real cell that drives the direction of a tile (row, column), the "
                "image made from it, and what was changed. r: likeness to the nearest real cell. "
                "What is not in the change is the cell's.",
                partial(
                    plot_from_cells,
                    [replace(atlas.images, targets=places)],
                    channel_names=cells.channel_names,
                    pixel_size=cells.pixel_size,
                ),
                fold="Where the images of the atlas began",
            )
    first = True
    for name, contexts in _described(results):
        drawing = _cards(results, name, contexts, first=first)
        if drawing is not None:
            yield drawing
            first = False


def tables(results: Results) -> Iterable[ReportTable | None]:
    """How many channels are distinct, and how the two measures of importance agree."""
    rankings = results.by_layer("ranking", ChannelRanking)
    rows: list[tuple[str, ...]] = []
    for name, ranking in rankings.items():
        first = int(ranking.representatives[0])
        rows.append(
            (
                name,
                f"{len(ranking.importance):,}",
                f"{len(ranking.groups):,}",
                str(first),
                format_number(float(ranking.ablation[first])),
                format_number(float(ranking.importance[first])),
                format_interval(ranking.agreement),
            )
        )
    if not rows:
        return
    header = (
        "layer", "channels", "groups of similar ones", "most important", "without it (logits)",
        "gradient × activation", "agreement of the two",
    )  # fmt: skip
    text = (
        "Similar: activations over cells that correlate pairwise above "
        f"{next(iter(rankings.values())).threshold:g}. Agreement: rank correlation over channels, "
        "with its 95 % interval."
    )
    yield ReportTable("What the decision rests on", header, tuple(rows), text)


def sentences(results: Results) -> tuple[str, ...]:
    """What the first channel of each described layer correlates with, the deepest layer first."""
    found: list[str] = []
    for name, contexts in _described(results):
        first = contexts[0]
        if not first.auc:
            continue
        group, auc = max(first.auc.items(), key=lambda entry: np.nan_to_num(entry[1]))
        text = (
            f"{name}: the decision changes most ({format_number(first.ablation)} logits) without "
            f"channel {first.channel}, which answers to {group} (AUC {format_number(auc)})"
        )
        beyond = [
            f"{key.replace('_', ' ')} {format_interval(estimate)}"
            for key, estimate in first.correlations.items()
            if abs(estimate.value) > (estimate.null or 0)
        ][:2]
        found.append(text + (f" and correlates with {' and '.join(beyond)}." if beyond else "."))
    return tuple(found[:_MOST_SENTENCES])


def _described(results: Results) -> list[tuple[str, tuple[ChannelContext, ...]]]:
    """Layers with described channels, the deepest first."""
    found = results.by_layer("channels", tuple)
    return [(name, contexts) for name, contexts in reversed(list(found.items())) if contexts]


def _cards(
    results: Results, name: str, contexts: tuple[ChannelContext, ...], *, first: bool
) -> Drawing | None:
    cells, galleries = results.cells, results.galleries
    images = None if galleries is None else galleries.of(name)
    if cells is None or images is None or galleries is None:
        return None
    on_field = next((one for one in galleries.fields if one.layer == name), None)
    if on_field is not None:
        images = replace(on_field.likely or on_field.made, settings=on_field.made.settings)
    fields = {layer.name: layer.receptive_field for layer in results.layers}
    field = fields.get(name)
    whole = field is None or field >= max(cells.shape[1:])
    plot = partial(plot_channel_cards, contexts, images, cells, whole_field=whole)
    caption = (
        "Each row is a channel: how much the decision rests on it, its feature image, the cells "
        "that drive it most, and its activation by class. On the right stand the properties it "
        "correlates with: one outside the grey band suggests a name; but brightness, size and "
        "focus correlate with many other properties."
    )
    if not first:
        caption = (
            f"The same for the channels of {name}. Read it as the figure before, whose note "
            "explains the numbers."
        )
    note = _cards_note(contexts[0].n, results.test_cells) if first else ""
    if images.starts is not None:
        note += (
            f"{began_text(images, gallery_title(galleries))} Change: orange is brighter "
            "than the cell, purple darker; full colour at "
            f"{format_number(largest_change([images]), 2)} of intensity."
        )
    if on_field is not None:
        size = on_field.made.images.shape[-1]
        note = f"{note} The image is of the {size} pixels that a neuron sees, enlarged.".strip()
    ranking = results.by_layer("ranking", ChannelRanking).get(name)
    if ranking is not None:
        note = f"{note} {_ranking_note(ranking)}".strip()
    title = f"What the channels of {name} are for"
    return Drawing(
        f"channels_{file_name(name)}", title, caption, plot, note,
        front=4 if first else 0, brief=partial(plot, brief=True),
        fold="" if first else "Cards of the other layers",
    )  # fmt: skip


def _cards_note(n: int, cells: str) -> str:
    return (
        f"Measured on {n:,} {cells}. Without it: by how many logits the "
        "decision changes when the channel is set to its mean over cells; grad. × act.: the same "
        "to first order. + n alike: other channels that rise and fall with it. Best cells have the "
        "highest mean activation; the box is what the neuron sees at its strongest place. "
        "Correlations within the grey band are no larger than the largest of all properties under "
        "permutation."
    )


def _ranking_note(ranking: ChannelRanking) -> str:
    groups, channels = len(ranking.groups), len(ranking.importance)
    text = f"The {channels} channels fall into {groups} groups of similar ones."
    if np.isfinite(ranking.agreement.value):
        text += (
            " Rank correlation of the two kinds of importance over channels: "
            f"{format_interval(ranking.agreement)}."
        )
    return text


def _atlas_note(atlas: Atlas) -> str:
    return (
        f"The map is cut into {atlas.grid} × {atlas.grid} tiles. The image is made from the mean "
        "activation of a tile's cells, against all cells. Tiles grow with the number of cells; the "
        "frame has the colour of the most frequent class, and the strip below shows the shares of "
        f"all. {atlas.left_out:,} cells lie on tiles with too few of them and are not shown."
        + began_text(atlas.images, _BEGAN.format(atlas.layer))
    )


CHAPTER = Chapter("channels", "What the channels are for", 80, figures, tables, sentences)
