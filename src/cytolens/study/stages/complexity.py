"""How much of what each layer says of cells simple descriptions of the crops explain."""

from typing import TYPE_CHECKING

import numpy as np

from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.features import Complexity
from cytolens.records.layers import Layer
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.classifier import layers_with_channels

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier

_FEWEST = 20  # cells to learn from, and to judge on
_SMALLEST = 8  # pixels
Layers = tuple[Layer, ...]


def complexity(
    network: "Classifier",
    cells: Cells,
    split: Split,
    layers: Layers,
    *,
    seed: int,
    device: str | None,
    progress: Progress,
) -> Complexity | None:
    """The share that simple descriptions explain, by depth; None for too few cells or pixels.

    Where the network brought was trained on none of the cells, the validation cells stand for
    those that are learnt from.
    """
    from cytolens.features.complexity import measure_complexity

    held_out = np.concatenate([split.validation, split.test])
    known = split.train
    if len(known) < _FEWEST:
        known, held_out = split.validation, split.test
    shown = layers_with_channels(layers)
    few = min(len(known), len(held_out)) < _FEWEST
    if few or not shown or min(cells.shape[1:]) < _SMALLEST:
        return None
    return measure_complexity(
        network, cells.subset(known), cells.subset(np.sort(held_out)),
        layers=shown, rng=seed, device=device, progress=progress,
    )  # fmt: skip


def _summary(complexity: Complexity | None, layers: Layers) -> Summary:
    found = complexity
    if found is None:
        return Summary({"complexity": {}}, {layer.name: {"complexity": {}} for layer in layers})
    falls = {
        name: {
            "layer": fall.layer,
            "earliest": fall.earliest,
            "latest": fall.latest,
            "before_training": fall.untrained,
        }
        for name, fall in found.falls.items()
    }
    entries = {
        name: {
            "explained": as_entries(shares),
            "over_untrained": as_entries(found.gaps[name]),
            "random_filters": dict(found.random[name]),
            "by_layer": as_entries(found.earlier[name]),
        }
        for name, shares in found.layers.items()
    }
    return Summary(
        {
            "complexity": {
                "first_below": falls, "known_from": found.known_from, "held_out_cells": found.n,
            }
        },
        {layer.name: {"complexity": entries.get(layer.name, {})} for layer in layers},
    )  # fmt: skip


COMPLEXITY = Stage("complexity", "measuring complexity", complexity, version=3, summary=_summary)
