"""Confound alarms in words, for the top of the report and for the chapter on knowledge."""

import shlex
from collections.abc import Sequence

import numpy as np

from cytolens.figures.labels import format_interval, format_number
from cytolens.images.file_names import pattern_of_part
from cytolens.records.contrast import Contrasts
from cytolens.records.knowledge import Alarm, Confounds, Equalised
from cytolens.report.results import Results

READ_BY = {"r2": "R²", "auc": "AUC"}
"""How well a property is read, by the key of the measure."""

_KINDS = {
    "artefact": "No biology of the cell should be behind it.",
    "off the cell": "It is measured off the cell: no biology by itself, though the cell's size or "
    "halo may reach it.",
    "may be biology": "It may be biology, if these classes are meant to differ in it.",
}
MOST_ALARMS = 5  # at the top of the report
_FEW_MATCHED = 0.05  # of the cells, which cannot speak for the rest
_IN_WORDS = {
    "all_off_cell": "all that is measured away from the cell",
    "outside": "the border outside of the cell",
    "frame": "a line or mark at the crop's frame",
    "border_spread": "unevenness of the border",
    "border_peak": "the brightest spot of the border",
    "corners": "a corner unlike the rest",
    "noise": "noise outside of the cell",
    "spikes": "spikes outside of the cell",
    "grid": "steps at every eighth pixel, as compression leaves them",
    "fine_detail": "fine detail off the cell",
    "darkest": "the darkest intensity",
    "levels": "the number of different intensities",
    "position_in_file": "the position in the file",
}


def alarm_sentences(results: Results) -> tuple[str, ...]:
    """The alarms for the top of the report, the strongest first."""
    found = results.read("confounds", Confounds)
    raised = () if found is None else found.alarms
    first = separate(raised)
    sentences = [
        " ".join(
            [alarm_sentence(alarm, results), *_joined(alarm, raised), *_paired(alarm, results)]
        )
        for alarm in first[:MOST_ALARMS]
    ]
    if len(first) > MOST_ALARMS:
        others = ", ".join(readable(alarm.nuisance) for alarm in first[MOST_ALARMS:])
        sentences.append(
            f"To a lesser degree also {others} alone: see the chapter on what else the network "
            "knows."
        )
    made_alike = results.read("equalised", Equalised)
    if made_alike is not None:
        sentences.append(what_remains(made_alike))
    return tuple(sentences)


def what_remains(found: Equalised) -> str:
    """What a network learns from crops that are alike in all but the cell."""
    anew, before = found.trained_anew, found.before
    if anew.no_interval is not None:
        verdict = "without an interval that is no more than a hint."
    elif anew.least <= 1 / found.n_classes:
        verdict = (
            "that is not clearly better than guessing: what raised the alarms may be all that "
            "there is to learn here."
        )
    elif found.change.most < 0:
        verdict = "the cell itself tells the classes, but part of the performance is lost."
    else:
        verdict = "no clear loss: the cell itself tells the classes."
    return (
        f"On crops made alike in all but the cell a new network reaches {format_interval(anew)} "
        f"instead of {format_number(before.value)}: {verdict} Balanced accuracies on "
        f"{len(found.cells):,} test cells; ground, border, position, brightness, sharpness and "
        "noise are made alike. The network of this study, which has never seen such crops, has "
        f"{format_number(found.asked_again.value)} on them."
    )


def shown_alarms(results: Results) -> list[Alarm]:
    """The alarms that have a sentence and a figure of their own, in the order of the sentences."""
    found = results.read("confounds", Confounds)
    return [] if found is None else separate(found.alarms)[:MOST_ALARMS]


def figure_of(alarm: Alarm) -> str:
    """The name of the figure that shows an alarm's nuisance."""
    return "alarm_" + "".join(c if c.isalnum() else "_" for c in alarm.nuisance)


def separate(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Alarms that do not go with another."""
    return [alarm for alarm in alarms if not alarm.goes_with]


def _paired(alarm: Alarm, results: Results) -> list[str]:
    """Which contrast pairs show an alarm's nuisance, or one that goes with it."""
    found = results.read("contrasts", Contrasts)
    names = {alarm.nuisance, *alarm.same_as}
    shown = [
        pairs.target.name
        for pairs in (() if found is None else found.pairs)
        if any(shift.name in names for shift in pairs.named)
    ]
    return [f"The pairs of {shown[0]} show it."] if shown else []


def _joined(alarm: Alarm, raised: Sequence[Alarm]) -> list[str]:
    """What goes with an alarm, so that it is the same finding."""
    others = [one for one in raised if one.goes_with == alarm.nuisance]
    if not others:
        return []
    listed = ", ".join(
        f"{readable(one.nuisance)} ({format_number(one.label_from_nuisance.value)}, in cells alike "
        f"in it {format_number(one.within)})"
        for one in others
    )
    return [f"The same finding: {listed}."]


def _answering(alarm: Alarm, results: Results) -> str:
    """The channel that the nuisance correlates with most, of those described."""
    found = [
        (abs(one.correlations[name].value), layer, one.channel, one.correlations[name])
        for layer, contexts in results.by_layer("channels", tuple).items()
        for one in contexts
        for name in (alarm.nuisance, *alarm.same_as)
        if name in one.correlations
        and abs(one.correlations[name].value) > (one.correlations[name].null or 0)
    ]
    if not found:
        return ""
    _, layer, channel, estimate = max(found, key=lambda entry: entry[0])
    return (
        f" Channel {channel} of {layer} answers to it (rank correlation "
        f"{format_interval(estimate)})."
    )


def alarm_sentence(alarm: Alarm, results: Results) -> str:
    """What gives the label away, that the network encodes it, and what is left without it."""
    name, null = readable(alarm.nuisance), alarm.label_from_nuisance.null
    before = alarm.encoded.untrained
    untrained = "" if before is None else f", before training {format_number(before)}"
    same = f" (or {', '.join(map(readable, alarm.same_as))})" if alarm.same_as else ""
    chance = "" if null is None else f", by chance at most {format_number(null)}"
    encodes = "The network encodes it"
    if not alarm.encoded.least > (alarm.encoded.null or 0):
        encodes = (
            "The network is no better than chance, so that it does not show whether it encodes it"
        )
    return (
        f"{name[:1].upper()}{name[1:]}{same} alone predicts the class: balanced accuracy "
        f"{format_interval(alarm.label_from_nuisance)}{chance}. {encodes} "
        f"({READ_BY[alarm.measure]} {format_interval(alarm.encoded)} at "
        f"{alarm.encoded_at}{untrained}). {_verdict(alarm, results)} {_KINDS[alarm.kind]}"
        f"{_answering(alarm, results)}{_way_to_split(alarm, results)}"
    )


def _way_to_split(alarm: Alarm, results: Results) -> str:
    """The option that keeps the values of a column, or of a part of the file names, together."""
    cells = results.cells
    if cells is None or alarm.nuisance == cells.group_name:
        return ""
    if alarm.nuisance in cells.covariates and alarm.kind == "artefact":
        return f" Split by it with --group '{alarm.nuisance}'."
    for name in (alarm.nuisance, *alarm.same_as):
        pattern = pattern_of_part(cells.names, name)
        if pattern is not None:
            return (
                " It may be the plate, donor or batch: split by it with "
                f"--group {shlex.quote(pattern)}."
            )
    return ""


def readable(name: str) -> str:
    """The name of a property or nuisance, as a reader sees it."""
    if name in _IN_WORDS:
        return _IN_WORDS[name]
    return name.replace("_", " ")


def _verdict(alarm: Alarm, results: Results) -> str:
    fixed, whole = alarm.performance_fixed, alarm.performance
    matched = f"{100 * alarm.matched:.0f} % of the cells have one"
    if not np.isfinite(fixed.value) or alarm.matched < _FEW_MATCHED:
        return (
            "It cannot be held fixed: the classes do not overlap in it, or too few cells have a "
            f"partner of another class that is alike in it ({matched}). These data cannot say "
            "whether the network uses it or the cell."
        )
    text = (
        f"In pairs of cells that are alike in it, the network's balanced accuracy is "
        f"{format_interval(fixed)} instead of {format_number(whole.value)} on all "
        f"{results.test_cells} ({matched}): "
    )
    if fixed.least <= 0.5:
        return text + "what is left is not clearly better than chance."
    if fixed.most < whole.value:
        return text + "part of its performance rests on it."
    return text + "no clear loss."
