"""How far the classes come apart by depth, which pairs first, and how alike the depths are."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.layers import Activations
from cytolens.records.separation import ClassSeparation, Gain, Pairs, Similarity
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows

Measured = Mapping[str, Mapping[str, Estimate]]
"""By layer and measure."""


def separation(
    activations: Activations,
    untrained: Activations,
    cells: Cells,
    held_out: Rows,
    *,
    permutations: int,
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, Estimate]]:
    """How far the classes come apart at every depth, on cells held out from training."""
    from cytolens.separation.separation import measure_separation

    found: dict[str, dict[str, Estimate]] = {}
    for done, name in enumerate(activations):
        progress(done, len(activations.layers), name)
        found[name] = measure_separation(
            activations.rows(name, held_out),
            cells.labels[held_out],
            groups=None if cells.groups is None else cells.groups[held_out],
            untrained=untrained[name],
            permutations=permutations,
            name=f"features of {name}",
            rng=seed,
        )
    return found


def pairs(
    activations: Activations,
    untrained: Activations,
    cells: Cells,
    held_out: Rows,
    separation: Measured,
    *,
    permutations: int,
    seed: int,
    progress: Progress,
) -> Pairs:
    """Which classes are apart from which at every depth, and from which depth on.

    Two classes make one pair, which ``separation`` has measured already: no layers. Of more than
    twelve classes the pairs are those closest at the layer before the logits.
    """
    from cytolens.separation.pairwise import (
        MOST_PAIRS,
        closest_pairs,
        find_onset,
        find_onsets,
        measure_pairs,
    )

    labels = cells.labels[held_out]
    present = [cells.class_names[int(index)] for index in np.unique(labels)]
    names = list(activations)
    if len(present) < 3:
        curve = {name: separation[name]["probe_accuracy"] for name in names}
        return Pairs({}, (find_onset(tuple(present), curve),))
    chosen = None
    if len(present) * (len(present) - 1) > 2 * MOST_PAIRS:
        deepest = activations.rows(names[-2:][0], held_out)
        chosen = closest_pairs(deepest, labels, class_names=cells.class_names, most=MOST_PAIRS)
    found: dict[str, ClassSeparation] = {}
    for done, name in enumerate(names):
        progress(done, len(names), name)
        found[name] = measure_pairs(
            activations.rows(name, held_out),
            labels,
            class_names=cells.class_names,
            name=name,
            pairs=chosen,
            groups=None if cells.groups is None else cells.groups[held_out],
            untrained=untrained[name],
            permutations=permutations,
            rng=seed,
        )
    return Pairs(found, find_onsets(list(found.values())))


def gains(
    activations: Activations,
    untrained: Activations,
    cells: Cells,
    held_out: Rows,
    *,
    permutations: int,
    seed: int,
) -> dict[str, Gain]:
    """Layer against layer: how much better the classes are told there, on the same cells."""
    from cytolens.separation.gains import measure_gains

    return measure_gains(
        {name: activations.rows(name, held_out) for name in activations},
        cells.labels[held_out],
        groups=None if cells.groups is None else cells.groups[held_out],
        untrained={name: untrained[name] for name in activations},
        permutations=permutations,
        rng=seed,
    )


def similarity(
    activations: Activations,
    untrained: Activations,
    cells: Cells,
    held_out: Rows,
    *,
    permutations: int,
    seed: int,
) -> Similarity:
    """How alike the depths are, and each to the same before training, on held-out cells."""
    from cytolens.separation.similarity import measure_similarity

    return measure_similarity(
        {name: activations.rows(name, held_out) for name in activations},
        untrained={name: untrained[name] for name in activations},
        groups=None if cells.groups is None else cells.groups[held_out],
        permutations=permutations,
        rng=seed,
    )


def _summary_of_separation(separation: Measured) -> Summary:
    return Summary(
        layers={name: {"separation": as_entries(found)} for name, found in separation.items()}
    )


def _summary_of_pairs(pairs: Pairs) -> Summary:
    onsets = [
        {
            "classes": list(onset.classes),
            "clear": onset.clear,
            "nine_tenths": onset.nine_tenths,
            "best": onset.best,
            **onset.value.as_dict(),
        }
        for onset in pairs.onsets
    ]
    layers = {
        name: {
            "separation_by_class": as_entries(found.by_class),
            "separation_by_pair": [
                {"classes": list(pair), **estimate.as_dict()}
                for pair, estimate in zip(found.pairs, found.by_pair, strict=True)
            ],
        }
        for name, found in pairs.layers.items()
    }
    return Summary({"onsets": onsets}, layers)


def _summary_of_gains(gains: Mapping[str, Gain]) -> Summary:
    layers: dict[str, dict[str, Any]] = {}
    for name, gain in gains.items():
        known = {
            "over_first": gain.over_first,
            "over_previous": gain.over_previous,
            "over_untrained": gain.over_untrained,
        }
        entries = {key: each.as_dict() for key, each in known.items() if each is not None}
        layers[name] = {"gain": {**entries, "clear": gain.clear}}
    return Summary(layers=layers)


def _summary_of_similarity(similarity: Similarity) -> Summary:
    names = similarity.layers
    layers: dict[str, dict[str, Any]] = {}
    for name, following in zip(names, (*names[1:], None), strict=True):
        entry = {"before_training": similarity.with_untrained(name).as_dict()}
        if following is not None:
            entry["next"] = similarity.between(name, following).as_dict()
        layers[name] = {"similarity": entry}
    study = {
        "layers": list(names),
        "n": similarity.n,
        "value": similarity.value.tolist(),
        "low": similarity.low.tolist(),
        "high": similarity.high.tolist(),
        "null": similarity.null.tolist(),
        "untrained": similarity.control.tolist(),
    }
    return Summary({"similarity": study}, layers)


SEPARATION = Stage(
    "separation", "measuring separation", separation, version=3, summary=_summary_of_separation
)
PAIRS = Stage("pairs", "measuring pairs of classes", pairs, version=2, summary=_summary_of_pairs)
GAINS = Stage("gains", "comparing layer with layer", gains, summary=_summary_of_gains)
SIMILARITY = Stage(
    "similarity", "comparing the layers", similarity, version=2, summary=_summary_of_similarity
)
