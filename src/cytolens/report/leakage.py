"""The same cell among training and test cells, in words."""

import numpy as np

from cytolens.records.cells import Cells, Duplicates, Split
from cytolens.records.classifier import TrainedNetwork
from cytolens.report.results import Results

_NAMED = 2  # pairs in the sentence


def leakage_sentences(results: Results) -> tuple[str, ...]:
    """How many test cells have the same cell among the training cells, and what to do."""
    cells, split = results.cells, results.read("split", Split)
    found = results.read("duplicates", Duplicates)
    if cells is None or split is None or found is None:
        return ()
    crossing = found.across(split.test, split.train)
    test = int(np.isin(split.test, found.looked_at).sum())
    if not len(crossing):
        return _two_classes(found, cells)
    drawn = "" if len(found.looked_at) == len(cells) else " that were compared"
    pairs = "; ".join(f"{cells.names[a]} ~ {cells.names[b]}" for a, b in crossing[:_NAMED])
    network = results.read("classifier", TrainedNetwork)
    of_all = network is None or network.seen == "no"
    stated = network is not None and of_all and not network.history  # by --trained-on: no split
    advice = "" if stated else " Keep them together with --keep-together."
    others = "training cells" if of_all else "cells that the linear model and the probes learn from"
    return (
        f"{len(np.unique(crossing[:, 0])):,} of the {test:,} test cells{drawn} are near-duplicates "
        f"of {others}, e.g. {pairs}: {'the' if of_all else 'their'} numbers are too good.{advice}",
        *_two_classes(found, cells),
    )


def _two_classes(found: Duplicates, cells: Cells) -> tuple[str, ...]:
    unlike = found.pairs[cells.labels[found.pairs[:, 0]] != cells.labels[found.pairs[:, 1]]]
    if not len(unlike):
        return ()
    a, b = unlike[0]
    return (
        f"{len(unlike):,} pairs of near-duplicates have two classes, e.g. {cells.names[a]} ~ "
        f"{cells.names[b]}: one label of each is wrong, or the cell changed.",
    )
