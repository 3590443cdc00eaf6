"""The chapter on what else the network knows: properties, confounds, suspect labels, odd cells."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from cytolens.figures.equalised import plot_equalised
from cytolens.figures.extremes import plot_extremes
from cytolens.figures.knowledge import CLASS, is_clear, plot_knowledge
from cytolens.figures.labels import format_interval, format_number
from cytolens.figures.suspects import plot_suspects
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.knowledge import Confounds, Equalised, Knowledge, Properties, Suspects
from cytolens.report.alarms import (
    MOST_ALARMS,
    READ_BY,
    alarm_sentence,
    figure_of,
    readable,
    separate,
    shown_alarms,
)
from cytolens.report.chapter import Chapter, Drawing
from cytolens.report.page import ReportTable
from cytolens.report.results import Results

_MOST_NAMED = 40  # suspects in the table
_HAND_BACK = (
    "To decide, edit suspects.csv in a spreadsheet: use 'no' leaves a cell out, another label "
    "changes its class. Then hand it back: cytolens run RUN --relabel suspects.csv."
)


def figures(results: Results) -> Iterator[Drawing]:
    """Properties by depth, and the cells that deserve a second look."""
    knowledge, suspects = results.read("knowledge", Knowledge), results.read("suspects", Suspects)
    if knowledge is not None and knowledge.measures and results.layers:
        changed = (
            "Triangles mark what training has changed; the rest comes from the pixels and the "
            "architecture."
        )
        caption = (
            f"How well a linear probe reads each property of {results.test_cells}: R² of a "
            "number (0: guessing), AUC of a category (0.5: guessing). "
            f"{changed if knowledge.compared else 'What training has changed cannot be said.'} "
            "That a property can be read does not mean that the decision uses it."
        )
        plot = partial(plot_knowledge, results.layers, knowledge)
        title = "What can be read from each layer"
        yield Drawing(
            "knowledge", title, caption, plot, _knowledge_note(knowledge),
            front=3, brief=partial(plot, brief=True),
        )  # fmt: skip
    cells = results.cells
    if suspects is not None and cells is not None and len(suspects.labels) + len(suspects.odd):
        caption = (
            "Cells whose neighbours mostly have another label, the clearest first; and odd cells. "
            f"Looked at were {len(suspects.judged):,} cells, in the features. Odd cells differ "
            "from all classes by far; the line is around what was taken for the cell. A suspect "
            "label may be wrong, or the cell may only look like the other class."
        )
        note = (
            "Below each suspect stand the given and the likelier class, and bars for the "
            "probability of the given class by linear probe and neighbours, from the first layer "
            "to the last (the line is one half). None of them has seen this cell's label. Where "
            "classes overlap, most suspects are cells that look like the other class. "
            + " ".join(suspects.remarks)
        )
        plot = partial(plot_suspects, suspects, cells)
        title = "Suspect labels and odd cells"
        yield Drawing(
            "suspects", title, caption, plot, note.strip(),
            front=5, brief=partial(plot, brief=True),
        )  # fmt: skip
    yield from _alarms(results)


def _alarms(results: Results) -> Iterator[Drawing]:
    """The crops at the ends of what each alarm is about, and the map coloured by it."""
    cells, measured = results.cells, results.read("properties", Properties)
    if cells is None or measured is None:
        return
    embedding = results.main_maps.get(results.main_layer or "")
    for alarm in shown_alarms(results):
        values = {**measured.values, **measured.acquisition}.get(alarm.nuisance)
        if values is None or np.ndim(values) != 1:
            continue
        of_all = np.full(len(cells), np.nan)
        of_all[measured.cells] = values
        name = readable(alarm.nuisance)
        caption = (
            f"The crops of each class with the least and the most of {name}, with its value, and "
            "the map coloured by it. If the ends look alike but for the cell, it is the cell that "
            "differs; if they differ off the cell, so may all that the network has learnt."
        )
        plot = partial(plot_extremes, name, of_all, cells, embedding, results.mapped)
        title = f"An alarm: {name}"
        yield Drawing(figure_of(alarm), title, caption, plot, fold="What the alarms are about")
    made_alike = results.read("equalised", Equalised)
    if made_alike is not None:
        caption = (
            "Each cell on the same even ground, in the middle, equally bright, equally sharp and "
            "equally noisy, and what lies off it replaced. What a network still learns from such "
            "crops, it learns from the cell."
        )
        note = (
            f"Trained on {made_alike.n_trained:,} crops, judged on {len(made_alike.cells):,} that "
            "are none of them. Brightness and texture finer than 2 px are lost too, also where "
            "they are biology, so less may be left than the cell tells. The network of the study "
            "has never seen such crops; what it loses may be for want of habit."
        )
        plot = partial(plot_equalised, made_alike, cells)
        title = "Crops made alike in all but the cell"
        yield Drawing("equalised", title, caption, plot, note, fold="What the alarms are about")


def tables(results: Results) -> Iterable[ReportTable | None]:
    """Every nuisance; the first suspect labels; the oddest cells."""
    confounds, suspects = results.read("confounds", Confounds), results.read("suspects", Suspects)
    yield None if confounds is None else confounds_table(confounds)
    if suspects is not None and results.cells is not None:
        yield _suspects_table(suspects, results.cells)
        yield _odd_table(suspects, results.cells)


def sentences(results: Results) -> tuple[str, ...]:
    """What training made readable apart from the class, and alarms that are not at the top."""
    found: list[str] = []
    knowledge = results.read("knowledge", Knowledge)
    if knowledge is not None:
        listed = [
            f"{readable(name)} ({READ_BY[knowledge.measures[name]]} {format_interval(estimate)} "
            f"at {layer}, untrained {format_number(estimate.untrained)})"
            for name, layer, estimate in _gained(knowledge)[:3]
        ]
        if listed:
            found.append(f"Apart from the class, training made most readable: {'; '.join(listed)}.")
    confounds = results.read("confounds", Confounds)
    if confounds is not None:
        found += [
            alarm_sentence(alarm, results) for alarm in separate(confounds.alarms)[MOST_ALARMS:]
        ]
        if not confounds.alarms:
            found.append(
                f"No confound alarm: none of {len(confounds.nuisances)} nuisances both gives the "
                "class away to an extent that matters and is encoded by the network."
            )
        limit = least_heard(confounds)
        if limit is not None:
            found.append(
                f"With {confounds.n:,} cells, a nuisance that alone tells the class with a "
                f"balanced accuracy below about {format_number(limit)} cannot be heard."
            )
    return tuple(found)


def least_heard(found: Confounds) -> float | None:
    """The balanced accuracy that a nuisance must have for its interval to lie above chance's limit.

    The limit by chance and the usual half width of an interval below its value.
    """
    widths = [one.value - one.low for one in found.nuisances.values()]
    limits = [one.null for one in found.nuisances.values() if one.null is not None]
    return max(limits) + float(np.median(widths)) if limits else None


def confounds_table(found: Confounds) -> ReportTable | None:
    """Every nuisance with what it alone says of the label."""
    if not found.nuisances:
        return None
    raised = {alarm.nuisance: alarm for alarm in found.alarms}
    merged = {name: alarm.nuisance for alarm in found.alarms for name in alarm.same_as}
    rows: list[tuple[str, ...]] = []
    for name, alone in sorted(found.nuisances.items(), key=lambda entry: -entry[1].value):
        alarm = raised.get(name)
        raises = "alarm" if alarm else f"as {readable(merged[name])}" if name in merged else "–"
        rows.append(
            (
                readable(name), found.kinds[name], raises, format_interval(alone),
                format_number(alone.null),
                format_interval(alarm.performance_fixed) if alarm else "–",
                f"{100 * alarm.matched:.0f} %" if alarm else "–",
            )
        )  # fmt: skip
    header = (
        "nuisance", "kind", "alarm", "label from it alone", "by chance", "network, held fixed",
        "cells matched",
    )  # fmt: skip
    text = (
        f"Balanced accuracy of a histogram classifier on cells or groups held out from it, "
        f"{found.n:,} cells. By chance: the 95 % limit of the largest of all of them under "
        "permuted labels. An "
        "alarm needs an interval above that, a quarter of the network's advantage over guessing, "
        "and a layer that encodes the nuisance beyond what the class says of it; or at all, where "
        "what is measured off the cell does nearly as well as the network. Held fixed: balanced "
        "accuracy in pairs of cells that differ by at most a tenth of the s.d. in the nuisance, "
        "and by two tenths in what all that is measured off the cell says of the class."
    )
    if found.left_out:
        text += f" Not judged: {_reasons(found.left_out)}."
    title = "What gives the label away"
    return ReportTable(title, header, tuple(rows), text, 3, folded=len(rows) > 12)


def _gained(knowledge: Knowledge) -> list[tuple[str, str, Estimate]]:
    """Properties that training made readable, each at the layer of its largest gain; most first."""
    gained = [
        (gain.value, name, layer, estimate)
        for layer, read in knowledge.layers.items()
        for name, estimate in read.items()
        if name != CLASS
        and is_clear(estimate, knowledge.measures[name])
        and (gain := knowledge.gain(layer, name)) is not None
        and gain.known
        and gain.low > 0
    ]
    best: dict[str, tuple[str, str, Estimate]] = {}
    for _, name, layer, estimate in sorted(gained, key=lambda entry: -entry[0]):
        best.setdefault(name, (name, layer, estimate))
    return list(best.values())


def _knowledge_note(knowledge: Knowledge) -> str:
    text = (
        "R² 0 is no better than the mean of other cells. Grey: the 95 % interval is not clear of "
        "what permuted values give. "
    )
    if knowledge.compared:
        text += (
            "A triangle up: the trained network encodes it better than the untrained one, by a "
            "difference whose 95 % interval, on the same cells, lies above zero; a triangle down: "
            "below. "
        )
    most = max(knowledge.counts.values(), default=0)
    scarce = {name: n for name, n in knowledge.counts.items() if n < 0.9 * most}
    if scarce:
        fewest, others = min(scarce.values()), max(scarce.values())
        known = f"{fewest:,}" if fewest == others else f"{fewest:,} to {others:,}"
        text += (
            f"Known for {known} of {most:,} cells only, as no outline was found in the others or "
            f"the table has no value: {', '.join(map(readable, scarce))}. "
        )
    if knowledge.by_cells:
        text += (
            "Judged on other cells of the same groups, as the values are bound to the groups: "
            f"{', '.join(map(readable, knowledge.by_cells))}. "
        )
    if knowledge.left_out:
        text += f"Left out: {_reasons(knowledge.left_out)}."
    return text.strip()


def _suspects_table(found: Suspects, cells: Cells) -> ReportTable | None:
    rows = tuple(
        (
            str(cells.names[cell]),
            cells.class_names[given],
            cells.class_names[rather],
            format_number(score),
        )
        for cell, given, rather, score in zip(
            found.labels[:_MOST_NAMED], found.given, found.suggested, found.score
        )
    )
    text = (
        f"The first {len(rows)} of {len(found.labels):,}; all of them are in suspects.csv. Log "
        "odds of the likelier against the given class. " + _HAND_BACK
    )
    header = ("cell", "given", "likelier", "log odds")
    return ReportTable("Suspect labels", header, rows, text, 3, folded=True) if rows else None


def _odd_table(found: Suspects, cells: Cells) -> ReportTable | None:
    rows = tuple(
        (
            str(cells.names[cell]),
            cells.class_names[cells.labels[cell]],
            reason,
            format_number(score, 1),
        )
        for cell, reason, score in zip(found.odd[:_MOST_NAMED], found.reasons, found.oddness)
    )
    text = (
        f"The first {len(rows)} of {len(found.odd):,}. Robust standard deviations beyond the "
        "nearest class; 35 where there is nothing to compare. " + _HAND_BACK
    )
    header = ("cell", "class", "odd by", "how odd")
    return ReportTable("Odd cells", header, rows, text, 3, folded=True) if rows else None


def _reasons(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{readable(name)} ({why})" for name, why in reasons.items())


CHAPTER = Chapter("knowledge", "What else the network knows", 50, figures, tables, sentences)
