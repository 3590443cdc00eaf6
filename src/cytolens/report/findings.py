"""What the numbers say: the answer in sentences, and what speaks against believing it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cytolens.figures.labels import format_interval, format_number, format_range, measure_name
from cytolens.numerics.auc import area_under_curve
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Split
from cytolens.records.classifier import Evaluation, Folds, Predictions, TrainedNetwork
from cytolens.records.features import Complexity, Faithfulness
from cytolens.records.knowledge import Confounds, Equalised
from cytolens.records.maps import Embedding
from cytolens.records.separation import Gain
from cytolens.report.alarms import alarm_sentences, figure_of, shown_alarms, what_remains
from cytolens.report.growth import ALL_TOGETHER, growth_of_complexity
from cytolens.report.leakage import leakage_sentences
from cytolens.report.page import Fact
from cytolens.report.results import Results

_PROBE = "probe_accuracy"


@dataclass(frozen=True)
class Rise:
    """How well a linear probe separates the classes, from the input to its best layer."""

    first: Estimate  # at the input, or the shallowest layer measured
    best: Estimate
    best_layer: str
    gain: Estimate  # of the best layer over the first, paired
    onset: str | None  # first layer with nine tenths of the rise; None where there is no clear rise
    onset_depth: int
    depths: int


def rise_of_separation(results: Results) -> Rise | None:
    """The rise of the linear probe's balanced accuracy; None where fewer than two layers have it.

    It is clear where the best layer's gain over the first is, on the same cells and corrected for
    the number of layers.
    """
    measured, gains = results.nested("separation", Estimate), results.by_layer("gains", Gain)
    found = [
        (layer, measured[layer.name][_PROBE])
        for layer in results.layers
        if layer.name in gains
        and _PROBE in measured.get(layer.name, {})
        and np.isfinite(measured[layer.name][_PROBE].value)
    ]
    if len(found) < 2:
        return None
    first = found[0][1]
    best_layer, best = max(found, key=lambda entry: entry[1].value)
    goal = first.value + 0.9 * (best.value - first.value)
    onset = next(layer for layer, estimate in found if estimate.value >= goal)
    gain = gains[best_layer.name]
    return Rise(
        first, best, best_layer.name, gain.over_first, onset.name if gain.clear else None,
        onset.depth, found[-1][0].depth,
    )  # fmt: skip


def question(results: Results) -> str:
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


def answer(results: Results) -> tuple[str, ...]:
    """What came out, as sentences."""
    sentences = [*_of_held_out_groups(results), *_of_the_network(results)]
    rise = rise_of_separation(results)
    if rise is not None and rise.onset is not None:
        start, best = format_number(rise.first.value), format_number(rise.best.value)
        sentences.append(
            f"Along the network the balanced accuracy of a linear probe rises from {start} to "
            f"{best} at {rise.best_layer}, by {format_interval(rise.gain)} on the same cells; nine "
            f"tenths of that rise is reached at {rise.onset} (depth {rise.onset_depth} of "
            f"{rise.depths})."
        )
    elif rise is not None and rise.gain.no_interval is not None:
        sentences.append(
            "Along the network the balanced accuracy of a linear probe goes from "
            f"{format_number(rise.first.value)} to {format_interval(rise.best)} at "
            f"{rise.best_layer}: whether it rises in new groups cannot be said."
        )
    elif rise is not None:
        sentences.append(
            "At no depth are the classes clearly better separated than at the input (balanced "
            f"accuracy of a linear probe {format_number(rise.first.value)} there; at best "
            f"{format_interval(rise.gain)} more on the same cells, at {rise.best_layer})."
        )
    complexity = results.read("complexity", Complexity)
    if complexity is not None and all(
        found[ALL_TOGETHER].known for found in complexity.gaps.values() if ALL_TOGETHER in found
    ):
        sentences.append(growth_of_complexity(complexity))
    return tuple(sentence for sentence in sentences if sentence)


def folds_by_group(results: Results) -> Folds | None:
    """The networks that were each tested on groups held out from them; None where there are none.

    What they reach is the number that comes first: one test group says little of another.
    """
    cells = results.cells
    return None if cells is None or cells.groups is None else results.read("folds", Folds)


def tested_groups(results: Results) -> str:
    """ " of one donor only": of how many groups the test cells are, where they are fewer than 3."""
    cells, split = results.cells, results.read("split", Split)
    if cells is None or cells.groups is None or split is None:
        return ""
    count, noun = len(np.unique(cells.groups[split.test])), cells.group_name or "group"
    return {1: f" of one test {noun} only", 2: f" of two test {noun}s only"}.get(count, "")


def _of_held_out_groups(results: Results) -> list[str]:
    """What networks reach on the groups that they have not seen."""
    folds, cells = folds_by_group(results), results.cells
    key = None if folds is None else _headline_measure(folds.measures)
    if folds is None or cells is None or key is None:
        return []
    noun = cells.group_name or "group"
    return [
        f"On held-out groups ({noun}) a network reaches a {_lower(key)} of "
        f"{format_interval(folds.measures[key])}, the mean of {len(folds.names)} networks, none of "
        "which has seen the groups that it is tested on."
    ]


def _of_the_network(results: Results) -> list[str]:
    """What the explained network reaches on its test cells, and a linear model on the same."""
    test, baseline, ahead = _evaluations(results)
    key = None if test is None else _headline_measure(test.measures)
    if test is None or key is None:
        return []
    estimate, few = test.measures[key], tested_groups(results)
    whose = "the network" if folds_by_group(results) is None else "the one network explained below"
    found = [
        f"On {test.n:,} {results.test_cells}{few}, the {_lower(key)} of {whose} is "
        f"{format_interval(estimate)}."
    ]
    if baseline is not None and key in baseline.measures:
        other = baseline.measures[key]
        found.append(
            f"A linear model on the same pixels reaches "
            f"{format_interval(other)}{_than(ahead.get(key))}."
        )
    folds = None if folds_by_group(results) is not None else results.read("folds", Folds)
    if folds is not None and key in folds.measures:
        found.append(
            f"With a network trained for each held-out fold the mean is "
            f"{format_interval(folds.measures[key])}."
        )
    return found


def facts(results: Results) -> tuple[Fact, ...]:
    """The numbers of the headline."""
    found: list[Fact] = []
    (test, baseline, _), folds = _evaluations(results), results.read("folds", Folds)
    by_group = folds_by_group(results)
    if by_group is not None and results.cells is not None:
        noun = results.cells.group_name or "group"
        for key in ("balanced_accuracy", "auc"):
            if key in by_group.measures:
                mean = by_group.measures[key]
                note = f"{format_range(mean)}; mean of {len(by_group.names)} networks"
                name = f"{measure_name(key)}, held-out {noun}s"
                found.append(Fact(name, format_number(mean.value), note))
    few = tested_groups(results)
    for key in ("balanced_accuracy", "auc"):
        if test is not None and key in test.measures:
            estimate = test.measures[key]
            note = f"{format_range(estimate)};{few}" if few else format_range(estimate)
            if baseline is not None and key in baseline.measures:
                note += f"; linear {format_number(baseline.measures[key].value)}"
            found.append(Fact(measure_name(key), format_number(estimate.value), note))
    if by_group is None and folds is not None and "balanced_accuracy" in folds.measures:
        mean = folds.measures["balanced_accuracy"]
        note = f"balanced accuracy, {format_range(mean)}"
        found.append(Fact("Mean of folds", format_number(mean.value), note))
    rise = rise_of_separation(results)
    if rise is not None and rise.onset is not None:
        note = f"depth {rise.onset_depth} of {rise.depths}, by a linear probe"
        found.append(Fact("Classes come apart by", rise.onset, note))
    if results.cells is not None:
        counts = np.bincount(results.cells.labels, minlength=len(results.cells.class_names))
        note = f"{len(counts)} classes of {counts.min():,} to {counts.max():,}"
        found.append(Fact("Cells", f"{len(results.cells):,}", note))
    return tuple(found)


def warnings(results: Results) -> tuple[str, ...]:
    """What to keep in mind before believing the answer, most serious first."""
    return (
        *_about_the_training(results),
        *leakage_sentences(results),
        *alarm_sentences(results),
        *_about_the_classifier(results),
        *_about_the_cells(results),
        *_about_the_network(results),
        *_about_a_first_look(results),
    )


def leads(results: Results) -> dict[str, str]:
    """The figures that warnings lead to, by the warning."""
    found = dict(zip(alarm_sentences(results), map(figure_of, shown_alarms(results))))
    made_alike = results.read("equalised", Equalised)
    return found if made_alike is None else found | {what_remains(made_alike): "equalised"}


def _about_the_training(results: Results) -> list[str]:
    """Whether the network has seen the test cells, and what a trial of it has shown."""
    network = results.read("classifier", TrainedNetwork)
    return [] if network is None else list(network.doubts)


def _about_the_classifier(results: Results) -> list[str]:
    test, _, ahead = _evaluations(results)
    if test is None:
        return []
    found: list[str] = []
    balanced = test.measures.get("balanced_accuracy")
    chance = 1 / max(len(test.confusion), 1)
    if balanced is not None and balanced.least <= chance:
        found.append(
            "The network is not clearly better than chance (balanced accuracy "
            f"{format_interval(balanced)}, chance {format_number(chance)}): the images below "
            "explain a network that may have learnt nothing."
        )
    difference = ahead.get("balanced_accuracy")
    if difference is not None and difference.no_interval is not None:
        found.append(
            f"The test cells are of {difference.no_interval}: how the network and a linear model "
            "compare on new groups cannot be said from them."
            if difference.no_interval[0].isdigit()
            else "How the network and a linear model compare on new groups cannot be said: a class "
            "is in one group only."
        )
    elif difference is not None and not difference.low > 0:
        found.append(
            "The network is not clearly better than a linear model on pixels (balanced accuracy "
            f"of the network minus that of the linear model: {format_interval(difference)})."
        )
    calibration = test.measures.get("calibration_error")
    if calibration is not None and calibration.least > 0.1:
        found.append(
            f"The network's confidence does not match how often it is right (calibration error "
            f"{format_interval(calibration)})."
        )
    if test.n < 100:
        found.append(f"Only {test.n} cells were tested; all intervals are wide.")
    return found


def _about_the_cells(results: Results) -> list[str]:
    cells, split, found = results.cells, results.read("split", Split), list[str]()
    if cells is None:
        return found
    if cells.groups is None:
        found.append(
            "No groups (donor, plate, day) are known: cells of one donor may be among both "
            "training and test cells, and the network may do worse on other donors than these "
            "numbers say."
        )
    elif split is not None:
        held_out = len(np.unique(cells.groups[split.test]))
        if held_out < 3:
            found.append(
                f"The test cells come from {held_out} {cells.group_name or 'group'}"
                f"{'' if held_out == 1 else 's'} only: performance on others is hardly tested."
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
    judged = results.read("confounds", Confounds) is not None
    size_auc = None if judged else _auc_of_size(results)
    if size_auc is not None:
        found.append(
            "The size of the crops alone separates the classes with an AUC of "
            f"{format_number(size_auc)}: what the network has learnt may in part be size."
        )
    return found


def _about_the_network(results: Results) -> list[str]:
    channels = () if results.galleries is None else results.galleries.channels
    dead = sum(int(images.dead.sum()) for images in channels)
    shown = sum(len(images.targets) for images in channels)
    found: list[str] = []
    if shown and dead > 0.25 * shown:
        found.append(
            f"{dead} of the {shown} channels looked at are dead: they never respond to any cell."
        )
    judged = results.by_layer("faithfulness", Faithfulness).values()
    compared = [one for one in judged if "above_start" in one.estimates]
    earned = [one.predicts for one in compared if one.predicts is not None]
    if earned and sum(map(len, earned)) > 2 * sum(int(one.sum()) for one in earned):
        count, total = sum(int(one.sum()) for one in earned), sum(map(len, earned))
        found.append(
            f"Of {total} feature images of whole cells {count or 'none'} clearly "
            f"{'says' if count == 1 else 'say'} more of which cells drive the channel than both "
            "the cell that the image began as and images of rotated channels: read the images as "
            "such cells, exaggerated."
        )
    alike = [layer.name for layer in results.layers if _all_alike(results, layer.name)]
    if alike:
        found.append(
            f"All cells are alike at {', '.join(alike)}: nothing can be mapped or told apart there."
        )
    return found


def _about_a_first_look(results: Results) -> list[str]:
    """What a study with ``--quick`` has left out."""
    if not results.settings.get("quick"):
        return []
    names = {
        "limit": "{} cells at most",
        "epochs": "{} epochs of training",
        "depths": "{} depths",
        "gallery": "feature images of {} channels a layer",
        "pairs": "{} targets with pairs",
    }
    asked = {name: value for name, value in results.settings.items() if value is not None}
    if asked.get("layers"):
        asked.pop("depths", None)  # those named are looked at
    own = bool(asked.get("model"))  # which is trained neither here nor without --quick
    if own:
        asked.pop("epochs", None)
    said = [text.format(asked[name]) for name, text in names.items() if name in asked]
    if asked.get("equalised") == 0:
        said.append("no network trained on crops made alike")
    if asked.get("folds") == "none" and not own:
        said.append("no network for each held-out group")
    if asked.get("figures") == "main":
        said.append("no figures on demand")
    return [
        f"This is a first look (--quick): {', '.join(said)}. The same command "
        "without --quick looks at everything."
    ]


def _all_alike(results: Results, layer: str) -> bool:
    """Whether a layer gives the same for all cells, by its maps."""
    maps = [by_layer.get(layer) for by_layer in results.nested("maps", Embedding).values()]
    return any(found is not None and "constant_features" in found.settings for found in maps)


def _auc_of_size(results: Results) -> float | None:
    """AUC of the crops' area for two classes, if above 0.7."""
    cells = results.cells
    if cells is None or len(cells.class_names) != 2:
        return None
    area = cells.original_sizes.prod(axis=1).astype(float)
    if len(np.unique(area)) < 3:
        return None
    auc = area_under_curve(area[cells.labels == 1], area[cells.labels == 0])
    auc = max(auc, 1 - auc)
    return auc if auc > 0.7 else None


def _evaluations(
    results: Results,
) -> tuple[Evaluation | None, Evaluation | None, Mapping[str, Estimate]]:
    """Of the network and of the linear baseline, on the test cells; the one minus the other."""
    found = results.read("evaluation", Predictions)
    return (None, None, {}) if found is None else (found.test, found.baseline, found.ahead)


def _headline_measure(measures: Mapping[str, Estimate]) -> str | None:
    known = ("balanced_accuracy", "accuracy", "auc")
    return next((key for key in known if key in measures), None)


def _than(difference: Estimate | None) -> str:
    """What the paired difference says: the network minus the linear model, on the same cells."""
    if difference is None:
        return ""
    text = f"; the network minus that is {format_interval(difference)}"
    if not difference.known:
        return text
    if difference.low > 0:
        return f"{text}, so it is better"
    return f"{text}, so it is worse" if difference.high < 0 else f"{text}, so neither is better"


def _lower(key: str) -> str:
    name = measure_name(key)
    return name if name.isupper() else name[0].lower() + name[1:]
