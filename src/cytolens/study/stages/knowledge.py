"""What else the network knows: properties by depth, confounds, suspect labels and odd cells."""

import re
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.images.file_names import name_parts
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Duplicates, Progress, Split
from cytolens.records.classifier import Predictions
from cytolens.records.knowledge import Confounds, Equalised, Knowledge, Properties, Suspects
from cytolens.records.layers import Activations
from cytolens.study.stage import Stage, Summary
from cytolens.study.stages.cells import Rows, properties_at

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.classifier.training import TrainingSettings

Columns = dict[str, NDArray[Any]]

CLASS = "class"  # what the class itself is called among the properties
_FILE_NAME = "file name"
_FEW = 10  # whole numbers of so few values in the table are categories: plates, days
_MOST_LISTED = 100  # suspects in summary.json, of each list
_MOST_OUTLINED = 16  # odd cells, the first
_MOST_SHOWN = 8  # equalised crops of each class
_LEAST_HALVED = 32  # pixels: equalised crops from here on are trained on at half size
_BATCHES = {
    "plate", "batch", "day", "date", "donor", "patient", "well", "run", "slide", "operator",
    "replicate", "experiment", "instrument",
}  # fmt: skip
_MAY_BE_BIOLOGY = ("crop_size", "total_brightness", "focus", "background")  # of tight crops
_ARTEFACTS = ("padding_share", "offset_x", "offset_y")
_OF_NO_CELL = (
    "corners",
    "stripes",
    "levels",
)  # of the acquisition; a cell's halo has no part in it
_ORDER = "position_in_file"
_LEAST_MIXED = 0.2  # of the changes of class along the file that a random order would have


def knowledge(
    properties: Properties,
    cells: Cells,
    activations: Activations,
    untrained: Activations,
    held_out: Rows,
    *,
    permutations: int,
    seed: int,
    progress: Progress,
) -> Knowledge:
    """How well properties, columns of the table and the class can be read from each layer."""
    from cytolens.knowledge.knowledge import measure_knowledge

    seen = cells.subset(held_out)
    known: Columns = {CLASS: np.array(cells.class_names, dtype=np.str_)[seen.labels]}
    known |= {
        name: column
        for name, column in properties_at(properties, cells, held_out).items()
        if name not in seen.covariates
    }
    if seen.groups is not None:
        known[f"{seen.group_name or 'group'}"] = seen.groups
    for name, column in seen.covariates.items():
        array = np.asarray(column)
        few = array.dtype.kind in "iu" and len(np.unique(array)) <= _FEW
        known[f"{name} (given)" if name in known else name] = (
            array.astype(np.str_) if few else array
        )
    return measure_knowledge(
        {name: activations.rows(name, held_out) for name in activations},
        known,
        groups=seen.groups,
        untrained={name: untrained[name] for name in untrained},
        permutations=permutations,
        rng=seed,
        progress=progress,
    )


def confounds(
    properties: Properties,
    cells: Cells,
    activations: Activations,
    untrained: Activations,
    evaluation: Predictions | None,
    held_out: Rows,
    *,
    seed: int,
) -> Confounds | None:
    """Nuisances that give the label away and that the network encodes.

    Labels are predicted from nuisances on all cells measured, which takes no network. What the
    network encodes and how it does is judged on held-out cells, at all depths but the input's.
    None for a network that gives no classes: nothing can be said of how it does.
    """
    if evaluation is None:
        return None
    from cytolens.knowledge.confounds import find_confounds

    seen = cells.subset(properties.cells)
    found, artefacts = nuisances_of(properties, seen)
    inner = [la.name for la in activations.layers if la.kind != "input"] or list(activations)
    return find_confounds(
        found,
        seen.labels,
        features={name: activations.rows(name, held_out) for name in inner},
        held_out=np.searchsorted(properties.cells, held_out),
        predicted=evaluation.probabilities[held_out].argmax(axis=1),
        probabilities=evaluation.probabilities[held_out],
        groups=seen.groups,
        untrained={name: untrained[name] for name in inner},
        artefacts=artefacts,
        file_names=tuple(name for name in found if name.startswith((_FILE_NAME, _ORDER))),
        off_cell=(*properties.acquisition, *_ARTEFACTS),
        rng=seed,
    )


def equalised(
    confounds: Confounds | None,
    cells: Cells,
    network: "Classifier",
    split: Split,
    together: Duplicates | None,
    *,
    equalised: int,
    epochs: int | None,
    seed: int,
    device: str | None,
    progress: Progress,
) -> Equalised | None:
    """The network on crops that are alike in all but the cell, and one trained on such crops.

    None where there is no alarm. A network of the user's is asked again; the one that is trained is
    the reference network, on the split of the study, or where that trains nothing on a fresh one.
    """
    if confounds is None or not confounds.alarms or not equalised:
        return None
    from cytolens.classifier.evaluation import compare, evaluate
    from cytolens.classifier.model import predict
    from cytolens.classifier.splitting import split_cells
    from cytolens.classifier.training import train
    from cytolens.images.sources import with_crops
    from cytolens.properties.equalising import equalise

    if len(np.unique(cells.labels[split.train])) < len(cells.class_names):
        pairs = None if together is None else together.pairs
        split = split_cells(cells, together=pairs, rng=seed)
    parts = _drawn(split, equalised, seed)
    rows = np.sort(np.concatenate(list(parts.values())))
    chosen = cells.subset(rows)
    crops = equalise(chosen, rng=seed, progress=progress)
    alike = with_crops(chosen, crops)
    places = {name: np.searchsorted(rows, part) for name, part in parts.items()}
    small, settings = trained_on(alike, crops, epochs)
    made = train(
        small,
        split=Split(**places),
        settings=settings,
        rng=seed,
        device=device,
        progress=progress,
    )
    test, judged = parts["test"], alike.subset(places["test"])
    labels = cells.labels[test]
    groups = None if cells.groups is None else cells.groups[test]
    before = predict(network, cells.subset(test), device=device)
    anew = predict(made.model, small.subset(places["test"]), device=device)
    key = "balanced_accuracy"
    as_it_is, again, trained = (
        evaluate(answers, labels, groups=groups, rng=seed).measures[key]
        for answers in (before, predict(network, judged, device=device), anew)
    )
    change = compare(anew, before, labels, groups=groups, rng=seed)[key]
    shown = np.concatenate([np.flatnonzero(labels == k)[:_MOST_SHOWN] for k in np.unique(labels)])
    return Equalised(
        test, len(cells.class_names), len(parts["train"]), as_it_is, again, trained, change,
        test[shown], judged.read(shown),
    )  # fmt: skip


def trained_on(
    alike: Cells, crops: NDArray[np.float32], epochs: int | None
) -> "tuple[Cells, TrainingSettings]":
    """What a new network is trained on, and how: the equalised ``crops`` of cells at half size.

    They hold nothing finer. The first layers get as many channels as those at that size had.
    """
    from cytolens.classifier.augmentation import suited_to
    from cytolens.classifier.training import TrainingSettings
    from cytolens.images.sources import with_crops
    from cytolens.properties.equalising import halve

    settings = TrainingSettings() if epochs is None else TrainingSettings(epochs=epochs)
    if min(alike.shape[1:]) < _LEAST_HALVED:
        return alike, settings
    usual = suited_to(alike.preparation, grouped=alike.groups is not None)
    views = replace(usual, shift=usual.shift / 2)
    settings = replace(settings, width=2 * settings.width, augmentation=views)
    return with_crops(alike, halve(crops)), settings


def _drawn(split: Split, most: int, seed: int) -> dict[str, Rows]:
    """The parts of a split, each drawn in the same proportion, to at most so many cells."""
    parts = {name: getattr(split, name) for name in ("train", "validation", "test")}
    share = min(1.0, most / max(sum(map(len, parts.values())), 1))
    draw = np.random.default_rng(seed)
    return {
        name: np.sort(draw.permutation(part)[: max(round(share * len(part)), 1)])
        for name, part in parts.items()
    }


def suspects(
    properties: Properties,
    cells: Cells,
    activations: Activations,
    evaluation: Predictions | None,
    held_out: Rows,
    *,
    seed: int,
    progress: Progress,
) -> Suspects:
    """Suspect labels and odd cells among all that were measured, by all depths but the ends.

    In place of the logits the network's own probabilities vote, for cells that it was not trained
    on, where it gives classes.
    """
    from cytolens.knowledge.suspects import find_suspects
    from cytolens.properties.wholeness import find_regions

    judged, own = properties.cells, None
    if evaluation is not None:
        known = np.isin(judged, held_out)[:, None]
        own = np.where(known, evaluation.probabilities[judged], np.nan)
    inner = [layer.name for layer in activations.layers[:-1] if layer.kind != "input"]
    found = find_suspects(
        {name: activations.rows(name, judged) for name in inner or list(activations)},
        cells.labels[judged],
        judged=judged,
        probabilities=own,
        properties=properties.values,
        checks=properties.checks,
        rng=seed,
        progress=progress,
    )
    shown = found.odd[:_MOST_OUTLINED]
    return replace(found, outlined=find_regions(cells, shown, like=judged))


def nuisances_of(properties: Properties, cells: Cells) -> tuple[Columns, tuple[str, ...]]:
    """What might give the label of the measured cells away, and what of it is no biology.

    Size of the crop, total brightness, padding, background, focus, position, what is measured away
    from the cell (`properties.acquisition`), the group, columns of the table named like a plate,
    day or other batch, parts of the file names, and the position in the file where its classes are
    mixed: in a file that is sorted by class, it is the class.
    """
    found: Columns = {name: properties.values[name] for name in (*_MAY_BE_BIOLOGY, *_ARTEFACTS)}
    found |= properties.acquisition
    biology = {*_MAY_BE_BIOLOGY, *properties.acquisition} - set(_OF_NO_CELL)
    shares = np.bincount(cells.labels) / max(len(cells), 1)
    by_chance = (len(cells) - 1) * (1 - (shares**2).sum())
    if np.count_nonzero(np.diff(cells.labels)) > _LEAST_MIXED * by_chance:
        found[_ORDER] = properties.cells.astype(np.float64)
    if cells.groups is not None:
        found[cells.group_name or "group"] = cells.groups
    for name, column in cells.covariates.items():
        if name not in found and _BATCHES & set(re.findall("[a-z]+", name.lower())):
            found[name] = np.asarray(column).astype(np.str_)
    found |= {name: column for name, column in name_parts(cells.names).items() if name not in found}
    return found, tuple(name for name in found if name not in biology)


def _summary_of_knowledge(knowledge: Knowledge) -> Summary:
    return Summary(
        layers={
            layer: {
                "knows": {
                    name: {
                        "measure": knowledge.measures[name],
                        **estimate.as_dict(),
                        **_gain(knowledge.gain(layer, name)),
                    }
                    for name, estimate in found.items()
                }
            }
            for layer, found in knowledge.layers.items()
        }
    )


def _gain(estimate: Estimate | None) -> dict[str, Any]:
    return {} if estimate is None else {"gain": estimate.as_dict()}


def _summary_of_confounds(confounds: Confounds | None) -> Summary:
    if confounds is None:
        return Summary({"alarms": None, "nuisances": None})
    return Summary(
        {
            "alarms": [
                {
                    "nuisance": alarm.nuisance,
                    "kind": alarm.kind,
                    "same_as": list(alarm.same_as),
                    "label_from_nuisance": alarm.label_from_nuisance.as_dict(),
                    "encoded_at": alarm.encoded_at,
                    "encoded": {"measure": alarm.measure, **alarm.encoded.as_dict()},
                    "performance": alarm.performance.as_dict(),
                    "performance_fixed": alarm.performance_fixed.as_dict(),
                    "matched": alarm.matched,
                    "goes_with": alarm.goes_with or None,
                    "within": alarm.within,
                }
                for alarm in confounds.alarms
            ],
            "nuisances": {name: found.as_dict() for name, found in confounds.nuisances.items()},
        }
    )


def _summary_of_equalised(equalised: Equalised | None) -> Summary:
    if equalised is None:
        return Summary({"equalised": None})
    return Summary(
        {
            "equalised": {
                "n": len(equalised.cells),
                "n_trained": equalised.n_trained,
                "before": equalised.before.as_dict(),
                "asked_again": equalised.asked_again.as_dict(),
                "trained_anew": equalised.trained_anew.as_dict(),
                "change": equalised.change.as_dict(),
            }
        }
    )


def _summary_of_suspects(suspects: Suspects, cells: Cells) -> Summary:
    doubted = zip(suspects.labels, suspects.given, suspects.suggested, suspects.score)
    strange = zip(suspects.odd, suspects.reasons, suspects.oddness)
    return Summary(
        {
            "suspects": {
                "judged": len(suspects.judged),
                "n_labels": len(suspects.labels),
                "n_odd": len(suspects.odd),
                "labels": [
                    {
                        "name": str(cells.names[cell]),
                        "given": cells.class_names[given],
                        "suggested": cells.class_names[rather],
                        "score": float(score),
                    }
                    for cell, given, rather, score in islice(doubted, _MOST_LISTED)
                ],
                "odd": [
                    {"name": str(cells.names[cell]), "reason": reason, "score": float(score)}
                    for cell, reason, score in islice(strange, _MOST_LISTED)
                ],
                "remarks": list(suspects.remarks),
            },
        }
    )


def suspects_table(suspects: Suspects, cells: Cells) -> list[list[Any]]:
    """Rows of suspects.csv: every suspect label, then every odd cell, the first the most.

    Each cell has one row. ``use`` and ``label`` are for a person to change; ``given`` is the class
    in the data. Earlier decisions on other cells come last: a table handed back has them all.
    """
    voters = list(suspects.votes)
    table: list[list[Any]] = [
        ["cell", "name", "use", "label", "list", "given", "suggested", "score", "reason", *voters]
    ]
    names, classes = cells.names.tolist(), cells.class_names
    decided = {decision.name: decision for decision in cells.decisions}
    reasons = dict(zip(suspects.odd.tolist(), suspects.reasons))
    blank = [""] * len(voters)

    def about(cell: int, kind: str) -> list[Any]:
        name, label = names[cell], classes[cells.labels[cell]]
        given = decided[name].given if name in decided else label
        return [cell, name, "yes", label, kind, given]

    for k, (cell, score) in enumerate(zip(suspects.labels, suspects.score)):
        votes = [f"{suspects.votes[voter][k]:.4f}" for voter in voters]
        rather = classes[suspects.suggested[k]]
        table.append(
            [*about(cell, "label"), rather, f"{score:.4f}", reasons.get(int(cell), ""), *votes]
        )
    doubted = set(suspects.labels.tolist())
    for cell, reason, score in zip(suspects.odd, suspects.reasons, suspects.oddness):
        if cell not in doubted:
            table.append([*about(cell, "odd"), "", f"{score:.4f}", reason, *blank])
    listed = {row[1] for row in table}
    cell_of = {name: cell for cell, name in enumerate(names)}
    for name in (name for name in decided if name not in listed):
        given, label = decided[name].given, decided[name].label
        use = "no" if label is None else "yes"
        cell = cell_of.get(name, "")
        table.append([cell, name, use, label or given, "decided", given, "", "", "", *blank])
    return table


KNOWLEDGE = Stage(
    "knowledge",
    "reading properties from the layers",
    knowledge,
    version=3,
    summary=_summary_of_knowledge,
)
CONFOUNDS = Stage(
    "confounds", "looking for confounds", confounds, version=6, summary=_summary_of_confounds
)
EQUALISED = Stage(
    "equalised",
    "asking again with crops alike in all but the cell",
    equalised,
    version=3,
    summary=_summary_of_equalised,
)
SUSPECTS = Stage(
    "suspects",
    "looking for suspect labels and odd cells",
    suspects,
    version=2,
    summary=_summary_of_suspects,
)
