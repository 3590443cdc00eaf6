"""How far classes come apart by depth, which pairs first, and how alike the depths are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress
from cytolens.records.layers import Activations
from cytolens.records.separation import ClassSeparation, Onset, Similarity
from cytolens.separation.pairwise import (
    MOST_PAIRS,
    closest_pairs,
    find_onset,
    find_onsets,
    measure_pairs,
)
from cytolens.separation.separation import measure_separation
from cytolens.separation.similarity import measure_similarity


def separation_by_depth(
    acts: Activations,
    before: Activations,
    cells: Cells,
    held_out: NDArray[np.int64],
    *,
    permutations: int,
    seed: int,
    progress: Progress,
) -> dict[str, dict[str, Estimate]]:
    """How far the classes come apart at every depth, by layer and measure."""
    found: dict[str, dict[str, Estimate]] = {}
    for done, name in enumerate(acts):
        progress(done, len(acts.layers), name)
        found[name] = measure_separation(
            acts.rows(name, held_out),
            cells.labels[held_out],
            groups=None if cells.groups is None else cells.groups[held_out],
            untrained=before[name],
            permutations=permutations,
            name=f"features of {name}",
            rng=seed,
        )
    return found


def pairs_by_depth(
    acts: Activations,
    before: Activations,
    cells: Cells,
    held_out: NDArray[np.int64],
    separation: Mapping[str, Mapping[str, Estimate]],
    *,
    permutations: int,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """``layers``: ClassSeparation by layer; ``onsets``: of pairs and classes, earliest first.

    Of two classes there is one pair, which ``separation`` has measured already: no layers. Of
    more than twelve the pairs are those closest at the layer before the logits.
    """
    labels = cells.labels[held_out]
    present = [cells.class_names[int(index)] for index in np.unique(labels)]
    names = list(acts)
    if len(present) < 3:
        curve = {name: separation[name]["probe_accuracy"] for name in names}
        return {"layers": {}, "onsets": (find_onset(tuple(present), curve),)}
    pairs = None
    if len(present) * (len(present) - 1) > 2 * MOST_PAIRS:
        deepest = names[-2:][0]
        pairs = closest_pairs(
            acts.rows(deepest, held_out), labels, class_names=cells.class_names, most=MOST_PAIRS
        )
    found: dict[str, ClassSeparation] = {}
    for done, name in enumerate(names):
        progress(done, len(names), name)
        found[name] = measure_pairs(
            acts.rows(name, held_out),
            labels,
            class_names=cells.class_names,
            layer=name,
            pairs=pairs,
            groups=None if cells.groups is None else cells.groups[held_out],
            untrained=before[name],
            permutations=permutations,
            rng=seed,
        )
    return {"layers": found, "onsets": find_onsets(list(found.values()))}


def similarity_of_depths(
    acts: Activations,
    before: Activations,
    cells: Cells,
    held_out: NDArray[np.int64],
    *,
    permutations: int,
    seed: int,
) -> Similarity:
    """How alike the depths of the network are, and each to the same before training."""
    return measure_similarity(
        {name: acts.rows(name, held_out) for name in acts},
        untrained={name: before[name] for name in acts},
        groups=None if cells.groups is None else cells.groups[held_out],
        permutations=permutations,
        rng=seed,
    )


def layer_entries(
    layer: str, pairs: Mapping[str, ClassSeparation], similarity: Similarity
) -> dict[str, Any]:
    """What ``summary.json`` says of a layer: its classes, its pairs, its likeness to others."""
    entries: dict[str, Any] = {}
    if layer in pairs:
        found = pairs[layer]
        entries["separation_by_class"] = {
            name: estimate.as_dict() for name, estimate in found.by_class.items()
        }
        entries["separation_by_pair"] = [
            {"classes": list(pair), **estimate.as_dict()}
            for pair, estimate in zip(found.pairs, found.by_pair, strict=True)
        ]
    if layer in similarity.layers:
        likeness = {"before_training": similarity.with_untrained(layer).as_dict()}
        place = similarity.layers.index(layer) + 1
        if place < len(similarity.layers):
            likeness["next"] = similarity.between(layer, similarity.layers[place]).as_dict()
        entries["similarity"] = likeness
    return entries


def study_entries(onsets: tuple[Onset, ...], similarity: Similarity) -> dict[str, Any]:
    """What ``summary.json`` says of all layers together."""
    return {
        "onsets": [
            {
                "classes": list(onset.classes),
                "clear": onset.clear,
                "nine_tenths": onset.nine_tenths,
                "best": onset.best,
                **onset.value.as_dict(),
            }
            for onset in onsets
        ],
        "similarity": {
            "layers": list(similarity.layers),
            "n": similarity.n,
            "value": similarity.value.tolist(),
            "low": similarity.low.tolist(),
            "high": similarity.high.tolist(),
            "null": similarity.null.tolist(),
            "untrained": similarity.control.tolist(),
        },
    }
