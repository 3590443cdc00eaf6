"""What the numbers say: the answer in sentences, and what speaks against believing it."""

from dataclasses import dataclass

import numpy as np

from cytolens.figures.style import interval, measure_name, number
from cytolens.numerics.estimates import Estimate
from cytolens.records.classifier import Evaluation
from cytolens.report import knowledge
from cytolens.report.page import Fact
from cytolens.report.results import StudyResults

_PREFERRED = ("probe_accuracy", "knn_accuracy", "silhouette")


@dataclass(frozen=True)
class Rise:
    """How a measure of separation rises from the input to its best layer."""

    measure: str
    first: Estimate  # at the input, or the shallowest layer measured
    best: Estimate
    best_layer: str
    onset: str | None  # first layer with nine tenths of the rise; None where there is no clear rise
    onset_depth: int
    depths: int


def rise_of_separation(results: StudyResults) -> Rise | None:
    """The rise of the first measure at hand: linear probe, nearest neighbours, silhouette.

    A rise is clear when the interval of the best layer lies above the value at the input.
    """
    for measure in _PREFERRED:
        found = [
            (layer, results.separation[layer.name][measure])
            for layer in results.layers
            if measure in results.separation.get(layer.name, {})
            and np.isfinite(results.separation[layer.name][measure].value)
        ]
        if len(found) < 2:
            continue
        first = found[0][1]
        best_layer, best = max(found, key=lambda entry: entry[1].value)
        goal = first.value + 0.9 * (best.value - first.value)
        onset = next(layer for layer, estimate in found if estimate.value >= goal)
        clear = best.low > first.value and best.value > first.value
        return Rise(
            measure, first, best, best_layer.name, onset.name if clear else None, onset.depth,
            found[-1][0].depth,
        )  # fmt: skip
    return None


def question(results: StudyResults) -> str:
    """What was asked, of which cells."""
    cells = results.cells
    if cells is None:
        return ""
    names = list(cells.class_names)
    listed = f"{len(names)} classes"
    if len(names) <= 6:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
    channels = ", ".join(cells.channel_names[:4]) + (" …" if len(cells.channel_names) > 4 else "")
    text = f"Can a network tell {listed} apart from single-cell crops ({channels}), and by what?"
    text += f" {len(cells):,} cells"
    if cells.groups is not None:
        text += f" from {len(np.unique(cells.groups)):,} groups ({cells.group_name or 'group'})"
    return text + "."


def answer(results: StudyResults) -> tuple[str, ...]:
    """What came out, as sentences."""
    told: list[str] = []
    test, baseline = results.evaluation, results.baseline
    key = _headline_measure(test)
    if test is not None and key is not None:
        estimate = test.measures[key]
        told.append(
            f"On {test.n:,} held-out cells the network reaches a {_lower(key)} of "
            f"{interval(estimate)}."
        )
        if baseline is not None and key in baseline.measures:
            other = baseline.measures[key]
            told.append(
                f"A linear model on the same pixels reaches "
                f"{interval(other)}{_than(estimate, other)}."
            )
    if results.folds and key is not None and key in results.folds:
        told.append(
            f"With a network trained for each held-out fold the mean is "
            f"{interval(results.folds[key])}."
        )
    rise = rise_of_separation(results)
    if rise is not None and rise.onset is not None:
        told.append(
            f"Along the network {_lower(rise.measure)} rises from {number(rise.first.value)} to "
            f"{interval(rise.best)} at {rise.best_layer}; nine tenths of that rise is there at "
            f"{rise.onset} (depth {rise.onset_depth} of {rise.depths})."
        )
    elif rise is not None:
        told.append(
            f"At no depth do the held-out classes come apart clearly better than at the input "
            f"({_lower(rise.measure)} {number(rise.first.value)} there, at best "
            f"{interval(rise.best)})."
        )
    return tuple(told)


def images(results: StudyResults) -> tuple[str, ...]:
    """How far the feature images can be believed, beside the nine best cells."""
    found = [one for one in results.faithfulness.values() if "predictivity" in one.estimates]
    if not found:
        return ()
    ahead = [
        one.layer
        for one in found
        if one.estimates["predictivity"].value >= one.estimates["nine_best_cells"].value
    ]
    failed = sum(1 for one in found for failure in one.failures if failure)
    total = sum(len(one.failures) for one in found)
    last = found[-1]
    return (
        f"At {last.layer} likeness to a channel's feature image tells which held-out cells drive "
        f"it with an AUC of {interval(last.estimates['predictivity'])}; the nine best training "
        f"cells together with {number(last.estimates['nine_best_cells'].value)}.",
        f"The images predict at least as well as the nine best cells at {len(ahead)} of "
        f"{len(found)} depths; {failed} of {total} images fail a check, and are framed.",
    )


def channels(results: StudyResults) -> tuple[str, ...]:
    """What the first channel of each described layer goes along with, the deepest layer first."""
    told: list[str] = []
    for name, found in reversed(list(results.contexts.items())):
        if not found or not found[0].auc:
            continue
        first = found[0]
        group, auc = max(first.auc.items(), key=lambda entry: np.nan_to_num(entry[1]))
        text = (
            f"{name}: the decision changes most ({number(first.ablation)} logits) without channel "
            f"{first.channel}, which answers to {group} (AUC {number(auc)})"
        )
        beyond = [
            f"{key.replace('_', ' ')} {interval(estimate)}"
            for key, estimate in first.correlations.items()
            if abs(estimate.value) > (estimate.null or 0)
        ][:2]
        text += f" and goes along with {' and '.join(beyond)}" if beyond else ""
        told.append(text + ".")
    return tuple(told[:3])


def facts(results: StudyResults) -> tuple[Fact, ...]:
    """The numbers of the headline."""
    found: list[Fact] = []
    test, baseline = results.evaluation, results.baseline
    for key in ("balanced_accuracy", "auc"):
        if test is not None and key in test.measures:
            estimate = test.measures[key]
            note = f"95 % {number(estimate.low)} to {number(estimate.high)}"
            if baseline is not None and key in baseline.measures:
                note += f"; linear {number(baseline.measures[key].value)}"
            found.append(Fact(measure_name(key), number(estimate.value), note))
    if results.folds and "balanced_accuracy" in results.folds:
        mean = results.folds["balanced_accuracy"]
        note = f"balanced accuracy, 95 % {number(mean.low)} to {number(mean.high)}"
        found.append(Fact("Mean of folds", number(mean.value), note))
    rise = rise_of_separation(results)
    if rise is not None and rise.onset is not None:
        note = f"depth {rise.onset_depth} of {rise.depths}, by {_lower(rise.measure)}"
        found.append(Fact("Classes come apart by", rise.onset, note))
    if results.cells is not None:
        counts = np.bincount(results.cells.labels, minlength=len(results.cells.class_names))
        note = f"{len(counts)} classes of {counts.min():,} to {counts.max():,}"
        found.append(Fact("Cells", f"{len(results.cells):,}", note))
    return tuple(found)


def warnings(results: StudyResults) -> tuple[str, ...]:
    """What to keep in mind before believing the answer, most serious first."""
    return (
        *knowledge.alarms(results),
        *_about_the_classifier(results),
        *_about_the_cells(results),
        *_about_the_network(results),
    )


def _about_the_classifier(results: StudyResults) -> list[str]:
    test, baseline = results.evaluation, results.baseline
    if test is None:
        return []
    found: list[str] = []
    balanced = test.measures.get("balanced_accuracy")
    chance = 1 / max(len(test.confusion), 1)
    if balanced is not None and balanced.low <= chance:
        found.append(
            "The network is not clearly better than chance (balanced accuracy "
            f"{interval(balanced)}, chance {number(chance)}): the images below explain a network "
            "that may have learnt nothing."
        )
    other = None if baseline is None else baseline.measures.get("balanced_accuracy")
    if balanced is not None and other is not None and balanced.low <= other.high:
        found.append(
            "The network is not clearly better than a linear model on pixels: their intervals "
            f"overlap (balanced accuracy {interval(balanced)} against {interval(other)})."
        )
    calibration = test.measures.get("calibration_error")
    if calibration is not None and calibration.low > 0.1:
        found.append(
            f"Stated confidence is not to be taken at its word (calibration error "
            f"{interval(calibration)})."
        )
    if test.n < 100:
        found.append(f"Only {test.n} cells were held out; all intervals are wide.")
    return found


def _about_the_cells(results: StudyResults) -> list[str]:
    cells, found = results.cells, list[str]()
    if cells is None:
        return found
    if cells.groups is None:
        found.append(
            "No groups (donor, plate, day) are known: cells of one donor may be among both "
            "training and test cells, and other donors may be told apart less well than these "
            "numbers say."
        )
    elif results.split is not None:
        held_out = len(np.unique(cells.groups[results.split.test]))
        if held_out < 3:
            found.append(
                f"The test cells come from {held_out} {cells.group_name or 'group'}"
                f"{'' if held_out == 1 else 's'} only: how other ones fare is hardly tested."
            )
    counts = np.bincount(cells.labels, minlength=len(cells.class_names))
    if counts.min() > 0 and counts.max() > 3 * counts.min():
        small, large = (
            cells.class_names[int(counts.argmin())],
            cells.class_names[int(counts.argmax())],
        )
        found.append(
            f"The classes differ in size ({large} {counts.max():,}, {small} {counts.min():,}): go "
            "by balanced accuracy, not accuracy."
        )
    size_told = None if results.confounds is not None else _size_tells(results)
    if size_told is not None:
        found.append(
            "The size of the crops alone tells the classes apart with an AUC of "
            f"{number(size_told)}: what the network has learnt may in part be size."
        )
    return found


def _about_the_network(results: StudyResults) -> list[str]:
    dead = sum(int(images.dead.sum()) for images in results.galleries)
    shown = sum(len(images.targets) for images in results.galleries)
    if shown and dead > 0.25 * shown:
        return [
            f"{dead} of the {shown} channels looked at are dead: they never respond to any cell."
        ]
    return []


def _size_tells(results: StudyResults) -> float | None:
    """AUC of the crops' area for two classes, if above 0.7. Source: Mann & Whitney 1947."""
    cells = results.cells
    if cells is None or len(cells.class_names) != 2:
        return None
    area = cells.original_sizes.prod(axis=1).astype(float)
    if len(np.unique(area)) < 3:
        return None
    _, inverse, count = np.unique(area, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]  # mean rank of ties
    second = cells.labels == 1
    n = int(second.sum())
    auc = (rank[second].sum() - n * (n + 1) / 2) / max(n * (len(area) - n), 1)
    auc = max(auc, 1 - auc)
    return float(auc) if auc > 0.7 else None


def _headline_measure(test: Evaluation | None) -> str | None:
    known = ("balanced_accuracy", "accuracy", "auc")
    return None if test is None else next((key for key in known if key in test.measures), None)


def _than(estimate: Estimate, other: Estimate) -> str:
    if estimate.low > other.high:
        return "; the network is better, the intervals do not overlap"
    if estimate.high < other.low:
        return "; the network is worse, the intervals do not overlap"
    return "; the intervals overlap"


def _lower(key: str) -> str:
    name = measure_name(key)
    return name if name.isupper() else name[0].lower() + name[1:]
