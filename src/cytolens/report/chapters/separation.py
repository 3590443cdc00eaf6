"""The chapter on where the classes come apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from cytolens.figures.depth import plot_separation
from cytolens.figures.labels import (
    format_interval,
    format_number,
    measure_name,
    with_intervals,
)
from cytolens.figures.pairs import MOST_ROWS, plot_pairs
from cytolens.figures.similarity import plot_similarity
from cytolens.numerics.estimates import Estimate
from cytolens.records.clusters import Clusters
from cytolens.records.layers import Unseen
from cytolens.records.separation import Gain, Onset, Pairs, Similarity
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportTable
from cytolens.report.results import Results
from cytolens.separation.measures import MEASURES

ByLayer = Mapping[str, Mapping[str, Estimate]]


def figures(results: Results) -> Iterator[Drawing]:
    """Where the classes come apart, which pairs first, and how alike the layers are."""
    measured, pairs = _separation(results), results.read("pairs", Pairs)
    several = pairs is not None and len(pairs.onsets) > 1 and bool(pairs.layers)
    if measured and results.layers:
        caption = (
            f"How far the classes come apart at each depth, {_with_intervals(measured)}, in the "
            f"features of {results.test_cells}. Only the gap to the untrained network was learnt; "
            "the rest comes from the pixels and the architecture. On the wrong side of the dashed "
            "line (permuted labels) nothing was found."
        )
        plot = partial(plot_separation, measured, results.layers)
        title = "Separation of the classes, from the input to the logits"
        yield Drawing(
            "separation", title, caption, plot, separation_note(results),
            front=0 if several else 1, brief=partial(plot, brief=True),
        )  # fmt: skip
    if pairs is not None and pairs.layers and results.layers:
        caption = (
            "Balanced accuracy of a linear probe for pairs of classes; 0.5 is chance. In the whole "
            "figure also each class against the rest. From the orange bar on, two classes are "
            "clearly apart at every depth; rows are sorted by it. Grey numbers are not above "
            "permuted labels."
        )
        plot = partial(plot_pairs, results.layers, pairs.layers, pairs.onsets)
        title = "Which classes come apart where"
        yield Drawing(
            "pairs", title, caption, plot, pairs_note(pairs),
            front=int(several), brief=partial(plot, brief=True),
        )  # fmt: skip
    found = results.read("similarity", Similarity)
    if found is not None and len(found.layers) > 1:
        caption = (
            f"Alignment (CKA) of the layers on {found.n:,} {results.test_cells}: 1 where two "
            "layers "
            "place the cells alike, 0 where they have nothing in common. Neither is better. A "
            "layer that hardly differs from itself untrained has learnt little that moves the "
            "cells."
        )
        note = (
            "Centred kernel alignment ignores rotation and scale. It is debiased, so that wide "
            "layers of few cells do not look alike. Below: each layer against the next, and "
            f"against itself before training, {with_intervals([found.no_interval])}; the dashed "
            "line is the 95 % limit with the cells of one layer permuted."
        )
        plot = partial(plot_similarity, found)
        yield Drawing("similarity", "How alike the layers are", caption, plot, note)


def tables(results: Results) -> Iterable[ReportTable | None]:
    """The layers, every measure of each, and from where on classes are apart."""
    yield _layers_table(results)
    yield measures_table(_separation(results))
    yield gains_table(tuple(results.by_layer("gains", Gain).values()))
    pairs = results.read("pairs", Pairs)
    yield None if pairs is None else onsets_table(pairs.onsets)


def sentences(results: Results) -> tuple[str, ...]:
    """From where on classes are apart, which first and last; what training has moved."""
    found: list[str] = []
    pairs, similarity = results.read("pairs", Pairs), results.read("similarity", Similarity)
    onsets = [] if pairs is None else [onset for onset in pairs.onsets if len(onset.classes) == 2]
    if len(onsets) == 1:
        found.append(_one_pair(onsets[0]))
    elif onsets:
        found.append(_several_pairs(onsets))
    if similarity is not None and np.isfinite(similarity.untrained[0]).any():
        found.append(_what_moved(similarity))
    return tuple(found)


def separation_note(results: Results) -> str:
    """What each measure is, and where there is none."""
    measured = _separation(results)
    text = (
        "The dashed line is the 95 % limit for permuted labels. The untrained network has the "
        "same architecture with random weights. "
    )
    if results.cells is not None and results.cells.groups is not None:
        text += "No cell is judged by cells of its own group. "
    gaps = [
        f"{measure_name(key).lower()} of {name}"
        for name, found in measured.items()
        for key, estimate in found.items()
        if not np.isfinite(estimate.value)
    ]
    if gaps:
        more = f" and {len(gaps) - 4} more" if len(gaps) > 4 else ""
        listed = ", ".join(gaps[:4])
        text += f"Not defined, as nearly all cells look the same there: {listed}{more}. "
    known = dict.fromkeys(key for found in measured.values() for key in found)
    return text + " ".join(MEASURES[key].text for key in known if key in MEASURES)


def pairs_note(pairs: Pairs) -> str:
    """How the heat map was measured, and what is missing from it."""
    one = next(iter(pairs.layers.values()))
    text = (
        "The probe sees only the two classes, and is tested on cells held out from it. A number "
        "is grey "
        "where its 95 % interval does not lie above the 95 % limit of permuted labels."
    )
    drawn = len([onset for onset in pairs.onsets if len(onset.classes) == 2])
    if drawn > MOST_ROWS:
        text += f" The first {MOST_ROWS} of {drawn} pairs are drawn."
    if one.left_out:
        text += f" Too few cells: {', '.join(one.left_out)}."
    return text + (f" {one.remark[0].upper()}{one.remark[1:]}." if one.remark else "")


def measures_table(measured: ByLayer) -> ReportTable | None:
    """Every measure of every layer with its interval and controls."""
    rows = tuple(
        (
            name,
            measure_name(key),
            format_interval(estimate),
            format_number(estimate.null),
            format_number(estimate.untrained),
        )
        for name, found in measured.items()
        for key, estimate in found.items()
    )
    header = ("layer", "measure", "value", "null", "untrained")
    return ReportTable("Separation in numbers", header, rows, "", 2, folded=True) if rows else None


def gains_table(gains: Sequence[Gain]) -> ReportTable | None:
    """Layer against layer, on the same cells."""
    if len(gains) < 2:
        return None
    rows = tuple(
        (
            gain.layer,
            format_interval(gain.over_first) + (" *" if gain.clear else ""),
            format_interval(gain.over_previous) if place else "–",
            format_interval(gain.over_untrained),
        )
        for place, gain in enumerate(gains)
    )
    first = gains[0].layer
    header = ("layer", f"than at {first}", "than at the layer before", "than untrained")
    text = (
        "By how much the balanced accuracy of a linear probe is higher. Paired: both answer for "
        f"the same cells. A star: clearly better than at {first}, corrected for the number of "
        "layers."
    )
    return ReportTable("Layer against layer", header, rows, text, 2, folded=True)


def onsets_table(onsets: Sequence[Onset]) -> ReportTable | None:
    """From where on each class and each pair is apart; of two classes the text says it all."""
    if len(onsets) < 2:
        return None
    rows = tuple(
        (
            onset.name,
            onset.clear or "–",
            onset.nine_tenths or "–",
            onset.best or "–",
            format_interval(onset.value),
            format_number(onset.value.null),
            format_number(onset.value.untrained),
        )
        for onset in onsets
    )
    header = (
        "classes", "clear from", "nine tenths at", "best at", "there", "permuted", "untrained",
    )  # fmt: skip
    text = (
        "Balanced accuracy of a linear probe. Clear: from there to the logits the interval, "
        "corrected for the number of rows, lies above permuted labels. "
        "Nine tenths: of the way from 0.5 to the best."
    )
    return ReportTable("Which classes come apart where", header, rows, text, folded=len(rows) > 12)


def _with_intervals(measured: ByLayer) -> str:
    return with_intervals([e.no_interval for found in measured.values() for e in found.values()])


def _separation(results: Results) -> ByLayer:
    return results.nested("separation", Estimate)


def _layers_table(results: Results) -> ReportTable | None:
    """Every layer in depth order with its size and how well the classes separate there."""
    if not results.layers:
        return None
    measured, clusters = _separation(results), results.by_layer("clusters", Clusters)
    shown = () if results.galleries is None else results.galleries.channels
    dead = {images.layer: int(images.dead.sum()) for images in shown}
    measures = list(dict.fromkeys(key for found in measured.values() for key in found))[:4]
    header = ["layer", "kind", "depth", "shape", "receptive field", *map(measure_name, measures)]
    header += ["clusters"] * bool(clusters) + ["dead"] * bool(dead)
    rows: list[tuple[str, ...]] = []
    for layer in results.layers:
        field = "–" if layer.receptive_field is None else f"{layer.receptive_field:,} px"
        row = [layer.name, layer.kind, str(layer.depth), " × ".join(map(str, layer.shape)), field]
        found = measured.get(layer.name, {})
        row += [format_number(found[key].value) if key in found else "–" for key in measures]
        if clusters:
            row.append(str(clusters[layer.name].n) if layer.name in clusters else "–")
        if dead:
            row.append(str(dead.get(layer.name, "–")))
        rows.append(tuple(row))
    text = "Dead: of the channels that feature images were made for." if dead else ""
    unseen = results.sequence("unseen_layers", Unseen)
    for reason in dict.fromkeys(part.reason for part in unseen):
        names = [part.name for part in unseen if part.reason == reason]
        text += f" Not looked at: {', '.join(names)} ({reason})."
    title = "The network, layer by layer"
    return ReportTable(title, tuple(header), tuple(rows), text, 2, folded=len(rows) > 20)


def _one_pair(onset: Onset) -> str:
    first, second = onset.classes
    if onset.value.no_interval is not None:
        return (
            f"From where on {first} and {second} are apart cannot be said of new groups: a linear "
            f"probe reaches {format_interval(onset.value)} at {onset.best or 'no layer'}."
        )
    if onset.clear is None:
        return (
            f"A linear probe does not clearly separate {first} and {second} at the last layer (at "
            f"best {format_interval(onset.value)}, at {onset.best or 'no layer'})."
        )
    return (
        f"A linear probe separates {first} and {second} from {onset.clear} on. Nine tenths of the "
        f"way from chance to its best ({format_interval(onset.value)} at {onset.best}) is reached "
        f"at {onset.nine_tenths}."
    )


def _several_pairs(pairs: Sequence[Onset]) -> str:
    clear = [onset for onset in pairs if onset.clear is not None]
    nothing = {onset.value.no_interval for onset in pairs}
    if not clear and None not in nothing:
        reasons = ", ".join(sorted(map(str, nothing)))
        return (
            "From where on classes are apart cannot be said of new groups (no interval: "
            f"{reasons})."
        )
    if not clear:
        return f"Of {len(pairs)} pairs of classes none is clearly apart at the last layer."
    if len(clear) == len(pairs) > 1 and len({onset.clear for onset in clear}) == 1:
        best = min(clear, key=lambda onset: onset.value.value)
        return (
            f"All {len(pairs)} pairs of classes are clearly apart from {clear[0].clear} on. Least "
            f"apart at their best are {' and '.join(best.classes)} "
            f"({format_interval(best.value)}, at {best.best})."
        )
    text = f"The first to come apart are {_pair(clear[0])}"
    if len(clear) > 1:
        text += f"; the last are {_pair(clear[-1])}"
    never = [" and ".join(onset.classes) for onset in pairs if onset.clear is None]
    if never:
        listed = "; ".join(never[:3]) + (" …" if len(never) > 3 else "")
        text += f". Not clearly apart at the last layer: {listed}"
    return text + "."


def _pair(onset: Onset) -> str:
    return (
        f"{' and '.join(onset.classes)}, from {onset.clear} on (at best "
        f"{format_interval(onset.value)}, at {onset.best})"
    )


def _what_moved(found: Similarity) -> str:
    moved = found.layers[int(np.nanargmin(found.untrained[0]))]
    text = (
        f"Training has moved the cells most at {moved}: its alignment with itself untrained is "
        f"{format_interval(found.with_untrained(moved))}."
    )
    steps = np.diag(found.value, 1)
    if np.isfinite(steps).any():
        place = int(np.nanargmin(steps))
        step = found.between(*found.layers[place : place + 2])
        text += (
            f" The largest change from one layer to the next is from {found.layers[place]} to "
            f"{found.layers[place + 1]} (alignment {format_interval(step)}; untrained "
            f"{format_number(step.untrained)})."
        )
    return text


CHAPTER = Chapter("separation", "Where the classes come apart", 40, figures, tables, sentences)
