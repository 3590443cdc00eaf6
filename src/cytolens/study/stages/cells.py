"""The cells of a study, which of them are looked at, and what is measured on their crops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.resampling import drawn_evenly
from cytolens.records.cells import Cells, Duplicates, Progress, Split
from cytolens.records.knowledge import Properties
from cytolens.study.stage import Keep, Stage, Summary

Rows = NDArray[np.int64]

_SEED_OF_DUPLICATES = 0  # not that of the study: a run holds its split whatever the seed
_MOST_LISTED = 20  # pairs of duplicates in summary.json


def cells(
    data: Path,
    *,
    classes: list[str],
    channels: list[str],
    labels: str | None,
    group: str | None,
    size: int | None,
    intensity: str,
    background: str,
    pixel_size: float | None,
    masks: str,
    skip_bad: bool,
    relabel: str | None,
    limit: int | None,
    seed: int,
    window: int | None,
    blank: str,
    isolate: bool,
    progress: Progress,
) -> Cells:
    """The crops, read and checked, as a person decided; all, or an even draw of ``limit``."""
    from cytolens.images.isolation import isolated
    from cytolens.images.reading import read_cells

    with isolated(isolate):
        found = read_cells(
            data, classes=classes, channels=channels, labels=labels, group=group, size=size,
            intensity=intensity, background=background, pixel_size=pixel_size, masks=masks,
            skip_bad=skip_bad, relabel=relabel, window=window, blank=blank, progress=progress,
        )  # fmt: skip
    if limit is None or limit >= len(found):
        return found
    drawn = f"{limit} of these {len(found)} cells were drawn, evenly from the classes"
    some = found.subset(drawn_evenly(found.labels, limit, np.random.default_rng(seed)))
    return replace(some, remarks=(*some.remarks, drawn))


def together(cells: Cells, *, keep_together: bool, progress: Progress) -> Duplicates | None:
    """Crops of the same cell, which no split may part; None unless asked for."""
    if not keep_together:
        return None
    from cytolens.images.duplicates import find_duplicates

    return find_duplicates(cells, rng=_SEED_OF_DUPLICATES, progress=progress)


def duplicates(cells: Cells, together: Duplicates | None, *, progress: Progress) -> Duplicates:
    """Crops that show the same cell again."""
    from cytolens.images.duplicates import find_duplicates

    if together is not None:
        return together
    return find_duplicates(cells, rng=_SEED_OF_DUPLICATES, progress=progress)


def mapped(cells: Cells, *, map_cells: int, seed: int) -> Rows:
    """The cells on the maps: all, or a seeded draw of ``map_cells``."""
    return _draw(np.arange(len(cells)), map_cells, seed)


def held_out(split: Split, *, map_cells: int, seed: int) -> Rows:
    """Cells that no weight was fitted to (validation and test), at most ``map_cells``."""
    return _draw(np.sort(np.concatenate([split.validation, split.test])), map_cells, seed)


def properties(cells: Cells, mapped: Rows, held_out: Rows, *, progress: Progress) -> Properties:
    """What is measured, without any network, on the mapped and the held-out cells."""
    from cytolens.properties.acquisition import measure_acquisition
    from cytolens.properties.measurement import measure_cells

    chosen = np.union1d(mapped, held_out)
    some = cells.subset(chosen)
    values, checks = measure_cells(some, progress=progress)
    return Properties(chosen, values, checks, measure_acquisition(some, progress=progress))


def properties_at(
    properties: Properties, cells: Cells, chosen: Rows
) -> dict[str, NDArray[np.float64]]:
    """Measured properties, and columns of the table that are numbers, of the ``chosen`` cells."""
    rows = np.searchsorted(properties.cells, chosen)
    values = {name: column[rows] for name, column in properties.values.items()}
    given = {
        f"{name} (given)" if name in values else name: np.asarray(column, dtype=np.float64)[chosen]
        for name, column in cells.covariates.items()
        if np.asarray(column).dtype.kind in "biuf"
    }
    return {**values, **given}


def _summary(cells: Cells) -> Summary:
    left_out = sum(decision.label is None for decision in cells.decisions)
    counts = {name: int((cells.labels == i).sum()) for i, name in enumerate(cells.class_names)}
    entries = {
        "n": len(cells),
        "classes": list(cells.class_names),
        "per_class": counts,
        "channels": list(cells.channel_names),
        "size": list(cells.preparation.size),
        "pixel_size": cells.pixel_size,
        "group": cells.group_name,
        "groups": [] if cells.groups is None else sorted(set(cells.groups.tolist())),
        "skipped": [{"name": bad.name, "reason": bad.reason} for bad in cells.skipped],
        "relabelled": len(cells.decisions) - left_out,
        "left_out": left_out,
        "remarks": list(cells.remarks),
    }
    return Summary({"cells": entries})


def _summary_of_duplicates(duplicates: Duplicates, cells: Cells, split: Split) -> Summary:
    crossing = duplicates.across(split.test, split.train)
    shown = crossing if len(crossing) else duplicates.pairs
    entries = {
        "looked_at": len(duplicates.looked_at),
        "pairs": len(duplicates.pairs),
        "cells": len(np.unique(duplicates.pairs)),
        "of_two_classes": int((np.diff(cells.labels[duplicates.pairs], axis=1) != 0).sum()),
        "test": int(np.isin(split.test, duplicates.looked_at).sum()),
        "test_like_training": len(np.unique(crossing[:, 0])),
        "first": [[str(cells.names[cell]) for cell in pair] for pair in shown[:_MOST_LISTED]],
    }
    return Summary({"duplicates": entries})


def _relevant(settings: dict[str, Any]) -> dict[str, Any]:
    """The seed counts only where cells are drawn, a table of decisions by what it decides."""
    from cytolens.images.decisions import asked_changes

    seed = None if settings["limit"] is None else settings["seed"]
    path = settings["relabel"]
    relabel = None if path is None else sorted(asked_changes(path), key=str)
    return {**settings, "seed": seed, "relabel": relabel}


def _draw(cells: Rows, most: int, seed: int) -> Rows:
    if len(cells) <= most:
        return cells
    return np.sort(np.random.default_rng(seed).choice(cells, most, replace=False))


CELLS = Stage(
    "cells",
    "reading the cells",
    cells,
    keep=Keep(
        lambda folder, name, value, progress: folder.write_cells(value, progress),
        lambda folder, name: folder.read_cells(),
    ),
    summary=_summary,
    relevant=_relevant,
)
TOGETHER = Stage("together", "comparing crops before the split", together)
DUPLICATES = Stage(
    "duplicates", "looking for the same cell twice", duplicates, summary=_summary_of_duplicates
)
MAPPED = Stage("mapped", "choosing the cells on the maps", mapped, keep=None)
HELD_OUT = Stage("held_out", "choosing held-out cells", held_out, keep=None)
PROPERTIES = Stage("properties", "measuring the cells", properties, version=4)
