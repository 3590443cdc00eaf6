"""The chapter on what else the network knows, its alarms, suspect labels and odd cells."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cytolens.figures.knowledge import CLASS, is_clear, plot_knowledge
from cytolens.figures.style import interval, number
from cytolens.figures.suspects import plot_suspects
from cytolens.numerics.estimates import Estimate
from cytolens.records.knowledge import Alarm, Confounds, Knowledge, Suspects
from cytolens.report.page import ReportTable
from cytolens.report.results import StudyResults

if TYPE_CHECKING:
    from cytolens.report.story import Chapter, Drawing

HEADING = "What else the network knows"
_MEASURES = {"r2": "R²", "auc": "AUC"}
_MOST_ALARMS = 3  # at the top of the report
_MOST_NAMED = 40  # suspects in the table
_FEW_MATCHED = 0.05


def chapter(results: StudyResults) -> "Chapter":
    """Properties by depth, what each nuisance gives away, and the cells to look at again."""
    drawings: list[Drawing] = []
    knowledge, suspects, cells = results.knowledge, results.suspects, results.cells
    if knowledge is not None and knowledge.measures and results.layers:
        plot = partial(plot_knowledge, results.layers, knowledge)
        title = "What can be read from each layer"
        drawings.append(("knowledge", title, of_knowledge(knowledge), plot, False))
    if suspects is not None and cells is not None and len(suspects.labels) + len(suspects.odd):
        plot = partial(plot_suspects, suspects, cells)
        title = "Suspect labels and odd cells"
        drawings.append(("suspects", title, of_suspects(suspects), plot, False))
    found = (confounds_table(results), suspects_table(results), odd_table(results))
    return "knowledge", HEADING, sentences(results), drawings, found


def of_knowledge(knowledge: Knowledge) -> str:
    """Caption of the heat map."""
    text = (
        "How well a linear probe reads each property of held-out cells: R² of a number (0: no "
        "better than the mean of other cells), AUC of a category (0.5: guessing). Grey where the "
        "95 % interval is not clear of what permuted values give. A triangle marks what the "
        "network has learnt to tell, or to forget, compared with itself before training; the rest "
        "is owed to the pixels and the architecture. That a property can be read does not say "
        "that the decision rests on it. "
    )
    most = max(knowledge.counts.values(), default=0)
    scarce = {name: n for name, n in knowledge.counts.items() if n < 0.9 * most}
    if scarce:
        fewest, others = min(scarce.values()), max(scarce.values())
        known = f"{fewest:,}" if fewest == others else f"{fewest:,} to {others:,}"
        names = ", ".join(map(_name, scarce))
        text += f"Known for {known} of {most:,} cells only, as in others no outline was found or "
        text += f"the table has no value: {names}. "
    if knowledge.by_cells:
        names = ", ".join(map(_name, knowledge.by_cells))
        text += (
            f"Judged on other cells of the same groups, as its values are bound to them: {names}. "
        )
    if knowledge.left_out:
        text += f"Left out: {_listed(knowledge.left_out)}."
    return text.strip()


def of_suspects(suspects: Suspects) -> str:
    """Caption of the thumbnails."""
    text = (
        f"Of {len(suspects.judged):,} cells, those whose label their likes deny, the surest first: "
        "below each the given and the likelier class, and bars for the probability of the given "
        "class by linear probe and neighbours from the first layer to the last (the line is one "
        "half), none of which has seen this cell's label. A label is wrong, or the cell is one "
        "that is easily taken for the other; on classes that overlap most are of the second kind. "
        "Odd cells differ from all classes by far in what is named."
    )
    return " ".join((text, *suspects.remarks))


def sentences(results: StudyResults) -> tuple[str, ...]:
    """What the network has learnt to tell besides the class, and alarms that are not at the top."""
    told: list[str] = []
    if results.knowledge is not None:
        gained = [
            (estimate.value - estimate.untrained, name, layer, estimate)
            for layer, read in results.knowledge.layers.items()
            for name, estimate in read.items()
            if name != CLASS
            and estimate.untrained is not None
            and is_clear(estimate, results.knowledge.measures[name])
            and estimate.low > estimate.untrained
        ]
        best: dict[str, tuple[str, Estimate]] = {}
        for _, name, layer, estimate in sorted(gained, key=lambda entry: -entry[0]):
            best.setdefault(name, (layer, estimate))
        listed = [
            f"{name.replace('_', ' ')} ({_MEASURES[results.knowledge.measures[name]]} "
            f"{interval(estimate)} at {layer}, untrained {number(estimate.untrained or 0)})"
            for name, (layer, estimate) in list(best.items())[:3]
        ]
        if listed:
            told.append(f"Training made most readable, besides the class: {'; '.join(listed)}.")
    if results.confounds is not None:
        told += [_sentence(alarm, results) for alarm in results.confounds.alarms[_MOST_ALARMS:]]
        if not results.confounds.alarms:
            told.append(
                f"No confound alarm: none of {len(results.confounds.nuisances)} nuisances both "
                "tells the class to an extent that matters and is encoded by the network."
            )
    return tuple(told)


def alarms(results: StudyResults) -> tuple[str, ...]:
    """The alarms for the top of the report, the strongest first."""
    if results.confounds is None:
        return ()
    raised = results.confounds.alarms
    told = [_sentence(alarm, results) for alarm in raised[:_MOST_ALARMS]]
    if len(raised) > _MOST_ALARMS:
        others = ", ".join(_name(alarm.nuisance) for alarm in raised[_MOST_ALARMS:])
        told.append(f"To a lesser degree also {others} alone: see “{HEADING}”.")
    return tuple(told)


def _sentence(alarm: Alarm, results: StudyResults) -> str:
    name, before = _name(alarm.nuisance), alarm.encoded.untrained
    untrained = "" if before is None else f", before training {number(before)}"
    same = f" (or {', '.join(map(_name, alarm.same_as))})" if alarm.same_as else ""
    null = alarm.label_from_nuisance.null
    chance = "" if null is None else f", by chance at most {number(null)}"
    return (
        f"{name[:1].upper()}{name[1:]}{same} alone tells the class: balanced accuracy "
        f"{interval(alarm.label_from_nuisance)}{chance}. The network encodes it "
        f"({_MEASURES[alarm.measure]} {interval(alarm.encoded)} at {alarm.encoded_at}{untrained}). "
        f"{_verdict(alarm, results)} {_kind(alarm)}"
    )


def _verdict(alarm: Alarm, results: StudyResults) -> str:
    fixed, whole = alarm.performance_fixed, alarm.performance
    matched = f"{100 * alarm.matched:.0f} % of the cells could be matched"
    if not np.isfinite(fixed.value) or alarm.matched < _FEW_MATCHED:
        return (
            f"Hardly any cell has a counterpart of another class in it ({matched}), so that these "
            "data cannot tell whether the network uses it or the cell."
        )
    text = (
        f"Where it is held fixed the network's balanced accuracy is {interval(fixed)} instead of "
        f"{number(whole.value)} on all held-out cells ({matched}): "
    )
    chance = 1 / max(2, 0 if results.cells is None else len(results.cells.class_names))
    if fixed.low <= chance:
        return text + "what is left is not clearly better than chance."
    if fixed.high < whole.value:
        return text + "part of what it does rests on it."
    return text + "no clear loss."


def _kind(alarm: Alarm) -> str:
    if alarm.kind == "artefact":
        return "No biology of the cell should be behind it."
    return "It may be biology, if these classes are meant to differ in it."


def confounds_table(results: StudyResults) -> ReportTable | None:
    """Every nuisance with what it alone says of the label."""
    found: Confounds | None = results.confounds
    if found is None or not found.nuisances:
        return None
    raised = {alarm.nuisance: alarm for alarm in found.alarms}
    merged = {name: alarm.nuisance for alarm in found.alarms for name in alarm.same_as}
    rows: list[tuple[str, ...]] = []
    for name, told in sorted(found.nuisances.items(), key=lambda entry: -entry[1].value):
        alarm = raised.get(name)
        said = "alarm" if alarm else f"as {_name(merged[name])}" if name in merged else "–"
        rows.append(
            (
                _name(name), found.kinds[name], said, interval(told),
                "–" if told.null is None else number(told.null),
                interval(alarm.performance_fixed) if alarm else "–",
                f"{100 * alarm.matched:.0f} %" if alarm else "–",
            )
        )  # fmt: skip
    header = (
        "nuisance", "kind", "alarm", "label from it alone", "by chance", "network, held fixed",
        "cells matched",
    )  # fmt: skip
    text = (
        f"Balanced accuracy of a histogram classifier on held-out cells or groups, {found.n:,} "
        "cells. By chance: the 95 % limit of the largest of all of them under permuted labels. An "
        "alarm asks for an interval above that, a quarter of the network's advantage over "
        "guessing, and a layer that encodes the nuisance beyond what the class tells of it."
    )
    if found.left_out:
        text += f" Not judged: {_listed(found.left_out)}."
    return ReportTable(
        "What gives the label away", header, tuple(rows), text, 3, folded=len(rows) > 12
    )


def suspects_table(results: StudyResults) -> ReportTable | None:
    """The first suspect labels by name."""
    found, cells = results.suspects, results.cells
    if found is None or cells is None or len(found.labels) == 0:
        return None
    rows = tuple(
        (str(cells.names[cell]), cells.class_names[given], cells.class_names[rather], number(score))
        for cell, given, rather, score in zip(
            found.labels[:_MOST_NAMED], found.given, found.suggested, found.score
        )
    )
    text = (
        f"The first {len(rows)} of {len(found.labels):,}; all of them are in suspects.csv. Log "
        "odds of the suggested against the given class."
    )
    header = ("cell", "given", "rather", "log odds")
    return ReportTable("Suspect labels", header, rows, text, 3, folded=True)


def odd_table(results: StudyResults) -> ReportTable | None:
    """The oddest cells by name."""
    found, cells = results.suspects, results.cells
    if found is None or cells is None or len(found.odd) == 0:
        return None
    rows = tuple(
        (str(cells.names[cell]), cells.class_names[cells.labels[cell]], reason, number(score, 1))
        for cell, reason, score in zip(found.odd[:_MOST_NAMED], found.reasons, found.oddness)
    )
    text = (
        f"The first {len(rows)} of {len(found.odd):,}. Robust standard deviations beyond the "
        "nearest class; 35 where there is nothing to compare."
    )
    header = ("cell", "class", "odd by", "how odd")
    return ReportTable("Odd cells", header, rows, text, 3, folded=True)


def _name(nuisance: str) -> str:
    return nuisance.replace("_", " ")


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{_name(name)} ({why})" for name, why in reasons.items())
