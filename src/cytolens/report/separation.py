"""The chapter on where the classes come apart: drawings, captions, tables and sentences."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cytolens.figures.depth import plot_separation
from cytolens.figures.pairs import MOST_ROWS, plot_pairs
from cytolens.figures.similarity import plot_similarity
from cytolens.figures.style import interval, measure_name, number
from cytolens.records.separation import Onset, Similarity
from cytolens.report.page import ReportTable
from cytolens.report.results import StudyResults
from cytolens.report.tables import layers_table
from cytolens.separation.measures import MEASURES

if TYPE_CHECKING:
    from cytolens.report.story import Chapter, Drawing


def chapter(results: StudyResults) -> "Chapter":
    """Where the classes come apart, which pairs first, and how alike the layers are."""
    drawings: list[Drawing] = []
    if results.separation and results.layers:
        plot = partial(plot_separation, results.layers, results.separation)
        title = "Separation of the classes, from the input to the logits"
        drawings.append(("separation", title, of_separation(results), plot, False))
    if results.pairs and results.layers:
        plot = partial(plot_pairs, results.layers, results.pairs, results.onsets)
        title = "Which classes come apart where"
        drawings.append(("pairs", title, of_pairs(results), plot, False))
    if results.similarity is not None and len(results.similarity.layers) > 1:
        plot = partial(plot_similarity, results.similarity)
        title = "How alike the layers are"
        drawings.append(("similarity", title, of_similarity(results.similarity), plot, False))
    heading = "Where the classes come apart"
    found = (layers_table(results), measures_table(results), onsets_table(results))
    return "separation", heading, sentences(results), drawings, found


def of_separation(results: StudyResults) -> str:
    """Caption of the separation curves."""
    grouped = results.cells is not None and results.cells.groups is not None
    known = dict.fromkeys(key for found in results.separation.values() for key in found)
    text = (
        "Measured in the features of held-out cells, not on the maps. Bands are 95 % intervals; "
        "the dashed line is the 95 % limit for permuted labels, below which (where lower is "
        "better: above which) nothing was found. The untrained network has the same architecture "
        "with random weights: what it reaches is owed to the architecture and the pixels, only "
        "the gap to it was learnt. "
    )
    if grouped:
        text += "No cell is judged by cells of its own group. "
    gaps = [
        f"{measure_name(key).lower()} of {name}"
        for name, found in results.separation.items()
        for key, estimate in found.items()
        if not np.isfinite(estimate.value)
    ]
    if gaps:
        more = f" and {len(gaps) - 4} more" if len(gaps) > 4 else ""
        text += (
            f"Not defined, as all or nearly all cells look the same there: {', '.join(gaps[:4])}"
            f"{more}. "
        )
    return text + " ".join(MEASURES[key].text for key in known if key in MEASURES)


def of_pairs(results: StudyResults) -> str:
    """Caption of the heat map of pairs."""
    one = next(iter(results.pairs.values()))
    text = (
        "Balanced accuracy on held-out cells of a linear probe that knows only the two classes "
        "(above: one class and all others); 0.5 is chance, higher is better. Grey numbers: the 95 "
        "% interval does not lie above the 95 % limit of permuted labels. The orange bar marks "
        "the layer from which on it always does; rows are sorted by it, the first to come apart "
        "at the top."
    )
    drawn = len([onset for onset in results.onsets if len(onset.classes) == 2])
    if drawn > MOST_ROWS:
        text += f" The first {MOST_ROWS} of {drawn} pairs are drawn."
    if one.left_out:
        text += f" Too few cells: {', '.join(one.left_out)}."
    return text + (f" {one.remark[0].upper()}{one.remark[1:]}." if one.remark else "")


def of_similarity(found: Similarity) -> str:
    """Caption of the alignment of layers."""
    return (
        f"Centred kernel alignment (CKA) on {found.n:,} held-out cells: 1 where two layers place "
        "the cells alike up to rotation and scale, 0 where they have nothing in common; debiased, "
        "so that wide layers of few cells do not look alike. Neither high nor low is better. "
        "Below: each layer against the next, and against itself before training, with 95 % "
        "intervals; the dashed line is the 95 % limit with the cells of one layer permuted. Layers "
        "that hardly differ from themselves untrained learnt little that moves the cells."
    )


def sentences(results: StudyResults) -> tuple[str, ...]:
    """From where on classes are apart, which first and last; what training has moved."""
    told: list[str] = []
    pairs = [onset for onset in results.onsets if len(onset.classes) == 2]
    if len(pairs) == 1:
        told.append(_onset(pairs[0]))
    elif pairs:
        told.append(_several(pairs))
    found = results.similarity
    if found is not None and np.isfinite(found.untrained[0]).any():
        moved = found.layers[int(np.nanargmin(found.untrained[0]))]
        text = (
            f"Training has moved the cells most at {moved}: its alignment with itself untrained is "
            f"{interval(found.with_untrained(moved))}."
        )
        steps = np.diag(found.value, 1)
        if np.isfinite(steps).any():
            place = int(np.nanargmin(steps))
            step = found.between(*found.layers[place : place + 2])
            text += (
                f" The largest change from one layer to the next is from {found.layers[place]} to "
                f"{found.layers[place + 1]} (alignment {interval(step)}; untrained "
                f"{number(np.nan if step.untrained is None else step.untrained)})."
            )
        told.append(text)
    return tuple(told)


def onsets_table(results: StudyResults) -> ReportTable | None:
    """From where on each class and each pair is apart."""
    if len(results.onsets) < 2:  # of two classes the text says all of it
        return None
    rows = tuple(
        (
            onset.name,
            onset.clear or "–",
            onset.nine_tenths or "–",
            onset.best or "–",
            interval(onset.value),
            _control(onset.value.null),
            _control(onset.value.untrained),
        )
        for onset in results.onsets
    )
    header = (
        "classes", "clear from", "nine tenths at", "best at", "there", "permuted", "untrained",
    )  # fmt: skip
    text = (
        "Balanced accuracy of a linear probe. Clear: from there to the logits the interval lies "
        "above permuted labels. Nine tenths: of the way from 0.5 to the best."
    )
    return ReportTable("Which classes come apart where", header, rows, text, folded=len(rows) > 12)


def measures_table(results: StudyResults) -> ReportTable | None:
    """Every measure of every layer with its interval and controls."""
    if not results.separation:
        return None
    rows = tuple(
        (
            name,
            measure_name(key),
            interval(estimate),
            _control(estimate.null),
            _control(estimate.untrained),
        )
        for name, found in results.separation.items()
        for key, estimate in found.items()
    )
    header = ("layer", "measure", "value", "null", "untrained")
    return ReportTable("Separation in numbers", header, rows, "", 2, folded=True)


def _onset(onset: Onset) -> str:
    first, second = onset.classes
    if onset.clear is None:
        return (
            f"At no depth up to the last does a linear probe tell {first} and {second} clearly "
            f"apart (at best {interval(onset.value)}, at {onset.best or 'no layer'})."
        )
    return (
        f"A linear probe tells {first} and {second} apart from {onset.clear} on; nine tenths of "
        f"the way from chance to its best ({interval(onset.value)} at {onset.best}) is there at "
        f"{onset.nine_tenths}."
    )


def _several(pairs: Sequence[Onset]) -> str:
    clear = [onset for onset in pairs if onset.clear is not None]
    if not clear:
        return f"Of {len(pairs)} pairs of classes none is clearly apart at the last layer."
    first = clear[0]
    text = (
        f"First apart are {' and '.join(first.classes)}, from {first.clear} on (at best "
        f"{interval(first.value)}, at {first.best})"
    )
    if len(clear) > 1:
        last = clear[-1]
        text += (
            f"; last are {' and '.join(last.classes)}, from {last.clear} on (at best "
            f"{interval(last.value)}, at {last.best})"
        )
    never = [" and ".join(onset.classes) for onset in pairs if onset.clear is None]
    if never:
        listed = "; ".join(never[:3]) + (" …" if len(never) > 3 else "")
        text += f". Never clearly to the last layer: {listed}"
    return text + "."


def _control(value: float | None) -> str:
    return "–" if value is None else number(value)
