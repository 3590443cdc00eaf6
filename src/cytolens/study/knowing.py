"""What else the network knows: properties by depth, confounds, suspect labels and odd cells."""

import csv
import io
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.knowledge.confounds import find_confounds
from cytolens.knowledge.knowledge import measure_knowledge
from cytolens.knowledge.suspects import find_suspects
from cytolens.properties.measurement import measure_cells
from cytolens.records.cells import Cells, Progress
from cytolens.records.knowledge import Confounds, Knowledge, Suspects
from cytolens.records.layers import Activations
from cytolens.store.csv_text import safe_csv_cell

Columns = dict[str, NDArray[Any]]

CLASS = "class"  # what the class itself is called among the properties
_FILE_NAME = "file name"
_FEW = 10  # whole numbers of so few values in the table are categories: plates, days
_MOST_LISTED = 100  # suspects in summary.json, of each list
_MOST_PARTS = 6  # of a file name, that are judged
_BATCHES = {
    "plate", "batch", "day", "date", "donor", "patient", "well", "run", "slide", "operator",
    "replicate", "experiment", "instrument",
}  # fmt: skip
_MAY_BE_BIOLOGY = ("crop_size", "total_brightness", "focus", "background")  # of tight crops
_ARTEFACTS = ("padding_share", "offset_x", "offset_y")


def measure(cells: Cells, chosen: NDArray[np.int64], progress: Progress) -> dict[str, Any]:
    """What is measured on the ``chosen`` cells, and what tells whether they are whole cells."""
    values, checks = measure_cells(cells.subset(chosen), progress=progress)
    return {"cells": chosen, "values": values, "checks": checks}


def properties_at(
    measured: Mapping[str, Any], cells: Cells, chosen: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Measured properties, and columns of the table that are numbers, of the ``chosen`` cells."""
    rows = np.searchsorted(measured["cells"], chosen)
    values = {name: column[rows] for name, column in measured["values"].items()}
    given = {
        f"{name} (given)" if name in values else name: np.asarray(column, dtype=np.float64)[chosen]
        for name, column in cells.covariates.items()
        if np.asarray(column).dtype.kind in "biuf"
    }
    return {**values, **given}


def what_it_knows(
    measured: Mapping[str, Any],
    cells: Cells,
    acts: Activations,
    untrained: Activations,
    *,
    held_out: NDArray[np.int64],
    permutations: int,
    seed: int,
    progress: Progress,
) -> Knowledge:
    """How well properties, columns of the table and the class can be read from each layer."""
    seen = cells.subset(held_out)
    known: Columns = {CLASS: np.array(cells.class_names, dtype=np.str_)[seen.labels]}
    known |= {
        name: column
        for name, column in properties_at(measured, cells, held_out).items()
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
        {name: acts.rows(name, held_out) for name in acts},
        known,
        groups=seen.groups,
        untrained={name: untrained[name] for name in untrained},
        permutations=permutations,
        rng=seed,
        progress=progress,
    )


def alarming(
    measured: Mapping[str, Any],
    cells: Cells,
    acts: Activations,
    untrained: Activations,
    probabilities: NDArray[np.floating],
    *,
    held_out: NDArray[np.int64],
    seed: int,
) -> Confounds:
    """Nuisances that give the label away and that the network encodes.

    Labels are told from nuisances on all cells measured, which takes no network; what the network
    encodes and how it does is judged on held-out cells, at all depths but the input's.
    """
    seen = cells.subset(measured["cells"])
    found, artefacts = nuisances_of(measured, seen)
    inner = [layer.name for layer in acts.layers if layer.kind != "input"] or list(acts)
    return find_confounds(
        found,
        seen.labels,
        features={name: acts.rows(name, held_out) for name in inner},
        held_out=np.searchsorted(measured["cells"], held_out),
        predicted=probabilities[held_out].argmax(axis=1),
        groups=seen.groups,
        untrained={name: untrained[name] for name in inner},
        artefacts=artefacts,
        file_names=tuple(name for name in found if name.startswith(_FILE_NAME)),
        rng=seed,
    )


def nuisances_of(measured: Mapping[str, Any], cells: Cells) -> tuple[Columns, tuple[str, ...]]:
    """What might give the label of the measured cells away, and what of it is no biology.

    Size of the crop, total brightness, padding, background, focus, position, the group, columns
    of the table named like a plate, day or other batch, and parts of the file names.
    """
    found: Columns = {name: measured["values"][name] for name in (*_MAY_BE_BIOLOGY, *_ARTEFACTS)}
    if cells.groups is not None:
        found[cells.group_name or "group"] = cells.groups
    for name, column in cells.covariates.items():
        if name not in found and _BATCHES & set(re.findall("[a-z]+", name.lower())):
            found[name] = np.asarray(column).astype(np.str_)
    found |= {name: column for name, column in name_parts(cells.names).items() if name not in found}
    return found, tuple(name for name in found if name not in _MAY_BE_BIOLOGY)


def name_parts(names: NDArray[np.str_]) -> Columns:
    """The parts of file names (N,) that vary, "file name part 3": words, or numbers.

    A name is cut wherever letters, digits and other signs meet. Where the names are not built
    alike, how they are built is a part of its own, and the others are left out. Places in an
    array ("cells.npz[17]") say nothing of a cell.
    """
    stems = [PurePath(re.sub(r"\[\d+\]$", "", str(name))).stem for name in names]
    cut = [re.findall(r"\d+|[^\W\d_]+", stem) for stem in stems]
    build = np.array(["".join("9" if part.isdigit() else "a" for part in parts) for parts in cut])
    if len(np.unique(build)) > 1:
        return {f"{_FILE_NAME} pattern": build}
    parts: Columns = {}
    for place, column in enumerate(np.array(cut, dtype=np.str_).reshape(len(cut), -1).T):
        distinct = len(np.unique(column))
        if distinct < 2 or len(parts) == _MOST_PARTS:
            continue
        number = column[0].isdigit() and distinct > _FEW
        parts[f"{_FILE_NAME} part {place + 1}"] = column.astype(np.float64) if number else column
    return parts


def suspects(
    measured: Mapping[str, Any],
    cells: Cells,
    acts: Activations,
    probabilities: NDArray[np.floating],
    *,
    held_out: NDArray[np.int64],
    seed: int,
    progress: Progress,
) -> Suspects:
    """Suspect labels and odd cells among all that were measured, by all depths but the ends.

    Of the logits the network's own probabilities tell, for cells that it was not trained on.
    """
    judged = measured["cells"]
    inner = [layer.name for layer in acts.layers[:-1] if layer.kind != "input"]
    return find_suspects(
        {name: acts.rows(name, judged) for name in inner or list(acts)},
        cells.labels[judged],
        judged=judged,
        probabilities=np.where(np.isin(judged, held_out)[:, None], probabilities[judged], np.nan),
        properties=measured["values"],
        checks=measured["checks"],
        rng=seed,
        progress=progress,
    )


def layer_entries(layer: str, knowledge: Knowledge) -> dict[str, Any]:
    """``layers[].knows`` of summary.json: each property's estimate and what it is."""
    return {
        name: {"measure": knowledge.measures[name], **estimate.as_dict()}
        for name, estimate in knowledge.layers.get(layer, {}).items()
    }


def study_entries(confounds: Confounds, suspects: Suspects, cells: Cells) -> dict[str, Any]:
    """``alarms``, ``nuisances`` and ``suspects`` of summary.json."""
    doubted = zip(suspects.labels, suspects.given, suspects.suggested, suspects.score)
    strange = zip(suspects.odd, suspects.reasons, suspects.oddness)
    return {
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
            }
            for alarm in confounds.alarms
        ],
        "nuisances": {name: told.as_dict() for name, told in confounds.nuisances.items()},
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


def suspects_table(suspects: Suspects, cells: Cells) -> str:
    """suspects.csv: every suspect label, then every odd cell, the first the most."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    voters = list(suspects.votes)
    header = ["cell", "name", "list", "given", "suggested", "score", "reason", *voters]
    table.writerow(map(safe_csv_cell, header))
    names, classes = cells.names, cells.class_names
    for k, (cell, score) in enumerate(zip(suspects.labels, suspects.score)):
        votes = [f"{suspects.votes[voter][k]:.4f}" for voter in voters]
        given, rather = classes[suspects.given[k]], classes[suspects.suggested[k]]
        row = [cell, names[cell], "label", given, rather, f"{score:.4f}", "", *votes]
        table.writerow(map(safe_csv_cell, row))
    for cell, reason, score in zip(suspects.odd, suspects.reasons, suspects.oddness):
        given = classes[cells.labels[cell]]
        blank = [""] * len(voters)
        row = [cell, names[cell], "odd", given, "", f"{score:.4f}", reason, *blank]
        table.writerow(map(safe_csv_cell, row))
    return text.getvalue()
