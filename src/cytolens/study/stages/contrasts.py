"""Contrast pairs of a study: cells with less and with more of what the network looks for."""

from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.clusters import Clusters
from cytolens.records.contrast import ContrastPairs, Contrasts, Target
from cytolens.records.features import ChannelRanking
from cytolens.records.knowledge import Properties
from cytolens.records.layers import Activations, Layer
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import Stage, Summary, as_entries
from cytolens.study.stages.cells import Rows
from cytolens.study.stages.classifier import layers_with_channels
from cytolens.study.stages.features import Appearance, Ascents, prior_of

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier
    from cytolens.features.contrast.judging import Judge
    from cytolens.features.contrast.subject import Subject

Judged = tuple[list[ContrastPairs], tuple[Estimate, ...]]
"""The pairs of some targets, and how good the judges of their edits are."""

_TOGETHER = 16  # targets whose pairs are one part; one by one where edits are made, which take long

_MOST_CLASSES = 4  # classes that are contrasted with the others, or other outputs
_MOST_CLUSTERS = 2  # of the layer that is shown large, likewise


def contrasts(
    network: "Classifier",
    cells: Cells,
    split: Split,
    layers: tuple[Layer, ...],
    activations: Activations,
    main_layer: str,
    mapped: Rows,
    clusters: Mapping[str, Clusters],
    properties: Properties,
    ranking: Mapping[str, ChannelRanking],
    appearance: Appearance,
    ascents: Ascents,
    *,
    targets: list[str],
    pairs: int,
    judges: int,
    epochs: int | None,
    seed: int,
    device: str | None,
    progress: Progress,
) -> Made[Judged, Contrasts | None]:
    """Pairs for the ``targets`` named; or for classes, clusters, and channels from deep to shallow.

    None where none are asked for, or there are too few cells to draw them from.
    """
    from cytolens.features.contrast.judging import train_judges
    from cytolens.features.contrast.pairs import pairs_of, targets_in_steps
    from cytolens.features.contrast.subject import FEWEST, prepare_subject
    from cytolens.features.contrast.targets import find_target

    named = [
        find_target(text, layers, network.class_names, classes=network.gives_classes)
        for text in targets
    ]
    held_out = np.sort(np.concatenate([split.validation, split.test]))
    if not pairs or len(split.train) < FEWEST or len(held_out) < FEWEST:
        return None
    prior = ascents.prior or prior_of("cells", cells, split, appearance)
    known = split.train[prior.rows]

    @cache
    def subject() -> "Subject":
        return prepare_subject(
            network,
            layers_with_channels(layers) + layers[-1:],
            cells,
            prior=prior,
            known=known,
            held_out=held_out,
            properties=_of_all(properties, len(cells)),
            rng=seed,
        )

    @cache
    def trained() -> "tuple[Judge, ...]":
        if not judges:
            return ()
        return train_judges(
            cells,
            split,
            count=judges,
            known=prior.crops,
            held_out=subject().asked,
            epochs=epochs,
            seed=seed,
            device=device,
            progress=progress,
        )

    main = next(layer for layer in layers if layer.name == main_layer)
    found = clusters.get(main_layer)
    of_clusters = ()
    if found is not None:
        of_clusters = _of_clusters(main, activations.rows(main_layer, mapped), found)
    chosen = named or _targets(network, layers, ranking, of_clusters)[:pairs]
    together = 1 if judges else _TOGETHER
    starts = range(0, len(chosen), together)

    @cache
    def stepped() -> frozenset[int]:
        return targets_in_steps(subject(), chosen)

    def of_target(number: int) -> ContrastPairs:
        progress(number, len(chosen), chosen[number].name)
        return pairs_of(
            subject(), chosen[number], number,
            in_steps=number in stepped(), judges=trained(), test=split.test, seed=seed,
        )  # fmt: skip

    def of_some(part: int) -> Judged:
        some = range(starts[part], min(starts[part] + together, len(chosen)))
        return [of_target(number) for number in some], tuple(one.accuracy for one in trained())

    made = list((yield Parts([f"from {chosen[start].name} on" for start in starts], of_some)))
    pairs_made = tuple(chain.from_iterable(found for found, _ in made))
    return Contrasts(pairs_made, made[0][1] if made else (), n_training=len(known))


def _of_clusters(
    layer: Layer, features: NDArray[np.float32], found: Clusters
) -> tuple[Target, ...]:
    """The largest clusters of the layer that is shown large, where they differ from the mean."""
    from cytolens.features.contrast.targets import cluster_targets
    from cytolens.features.directions import whitened_directions

    if found.n < 2 or features.shape[1] != layer.channels:
        return ()
    members = [np.flatnonzero(found.labels == k) for k in range(found.n)]
    largest = sorted(range(found.n), key=lambda k: -len(members[k]))[:_MOST_CLUSTERS]
    directions = whitened_directions(features, [members[k] for k in largest])
    return cluster_targets(layer, directions, numbers=largest)


def _targets(
    network: "Classifier",
    layers: tuple[Layer, ...],
    ranking: Mapping[str, ChannelRanking],
    clusters: tuple[Target, ...],
) -> list[Target]:
    """Classes, clusters; then of every layer its first channel, the deepest first, and so on."""
    from cytolens.features.contrast.targets import channel_target, targets_of_outputs

    outputs = targets_of_outputs(network, layers[-1])
    found = [*outputs[:_MOST_CLASSES], *clusters]
    shown = [layer for layer in reversed(layers_with_channels(layers)) if layer.name in ranking]
    chosen = {layer.name: ranking[layer.name].representatives for layer in shown}
    for place in range(max((len(channels) for channels in chosen.values()), default=0)):
        found += [
            channel_target(layer, int(chosen[layer.name][place]))
            for layer in shown
            if place < len(chosen[layer.name])
        ]
    return found


def _of_all(properties: Properties, n: int) -> dict[str, Any]:
    """Each property of all ``n`` cells, NaN where it was not measured."""
    columns: dict[str, Any] = {}
    for name, values in properties.values.items():
        columns[name] = np.full(n, np.nan)
        columns[name][properties.cells] = values
    return columns


def _summary(contrasts: Contrasts | None) -> Summary:
    if contrasts is None:
        return Summary()
    return Summary(
        {
            "contrast_pairs": [_entries(pairs) for pairs in contrasts.pairs],
            "judges": [judge.as_dict() for judge in contrasts.judges],
        }
    )


def _entries(pairs: ContrastPairs) -> dict[str, Any]:
    """What is said of one target."""
    edits, series = pairs.edits, pairs.series
    return {
        "target": pairs.target.name,
        "layer": pairs.target.layer,
        "described": pairs.fit.as_dict(),
        "questions": pairs.questions,
        "answered": {name: as_entries(found) for name, found in pairs.answers.items()},
        "controls": as_entries(pairs.controls),
        "shifts": [
            {
                "property": shift.name,
                **shift.natural.as_dict(),
                "edited": None if shift.made is None else shift.made.value,
                "named": shift.named,
            }
            for shift in pairs.shifts
        ],
        "series": None
        if series is None
        else {
            "series": series.n,
            "order": as_entries(series.order),
            "unmatched": as_entries(series.unmatched),
            "apart": series.apart,
        },
        "edits": None
        if edits is None
        else {
            side: {
                "way": edits.ways[k],
                "network": float(np.median(edits.own[:, k])),
                "judges": np.median(edits.judged[:, k], axis=0).tolist(),
                "pixels": float(np.median(edits.changed[:, k])),
                "accepted": int(edits.accepted[:, k].sum()),
                "cells": len(edits.cells),
            }
            for k, side in enumerate(("less", "more"))
        },
    }


CONTRASTS = Stage(
    "contrasts", "pairing cells with less and with more", contrasts, version=5, summary=_summary
)
