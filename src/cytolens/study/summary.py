"""summary.json: the study in numbers. The keys are stable; docs/summary.md describes them."""

from collections.abc import Mapping
from typing import Any

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells
from cytolens.records.classifier import Evaluation
from cytolens.records.features import ChannelContext, ChannelRanking, Faithfulness, FeatureImages
from cytolens.records.knowledge import Confounds, Knowledge, Suspects
from cytolens.records.layers import Layer
from cytolens.records.separation import Similarity
from cytolens.study import apart, clustering, knowing

_CORRELATES = 4  # properties per channel, the strongest


def summarise(
    *,
    cells: Cells,
    evaluation: Mapping[str, Any],
    folds: Mapping[str, Any] | None,
    layers: tuple[Layer, ...],
    maps: Mapping[str, Mapping[str, Any]],
    clusters: Mapping[str, Any],
    populations: Mapping[str, Any],
    separation: Mapping[str, Mapping[str, Estimate]],
    pairs: Mapping[str, Any],
    similarity: Similarity,
    knowledge: Knowledge,
    confounds: Confounds,
    suspects: Suspects,
    galleries: tuple[FeatureImages, ...],
    rankings: Mapping[str, ChannelRanking],
    contexts: Mapping[str, tuple[ChannelContext, ...]],
    faithfulness: Mapping[str, Faithfulness],
    kept: Mapping[str, Mapping[str, Estimate]],
    complexity: Mapping[str, Any],
    timings: Mapping[str, float],
    versions: Mapping[str, str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The mapping that is written as ``summary.json``; estimates as value, low, high, controls."""
    dead = {g.layer: g.channels[g.dead].tolist() for g in galleries}
    return {
        "format": 1,
        "cells": _cells(cells),
        "classifier": {
            "test": {"n": evaluation["test"].n, **_measures(evaluation["test"])},
            "baseline": _measures(evaluation["baseline"]),
            **({} if folds is None else {"folds": _folds(folds)}),
        },
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "depth": layer.depth,
                "shape": list(layer.shape),
                "channels": layer.channels,
                "receptive_field": layer.receptive_field,
                "separation": _estimates(separation.get(layer.name, {})),
                **apart.layer_entries(layer.name, pairs["layers"], similarity),
                "knows": knowing.layer_entries(layer.name, knowledge),
                "complexity": _estimates(complexity["layers"].get(layer.name, {})),
                "faithfulness": _faithfulness(faithfulness.get(layer.name)),
                "modulation": _estimates(kept.get(layer.name, {})),
                "dead_channels": dead.get(layer.name, []),
                **_ranking(rankings.get(layer.name)),
                "channels_shown": [_channel(shown) for shown in contexts.get(layer.name, ())],
                "clusters": clustering.layer_entries(
                    clusters[layer.name], populations["flow"].to_next(layer.name)
                )
                if layer.name in clusters
                else {},
            }
            for layer in layers
        ],
        **apart.study_entries(pairs["onsets"], similarity),
        **knowing.study_entries(confounds, suspects, cells),
        **clustering.study_entries(populations, cells.class_names),
        "complexity_trend": _estimates(complexity["trend"]),
        "maps": [
            {"layer": layer, "method": method, "quality": dict(embedding.quality)}
            for method, by_layer in maps.items()
            for layer, embedding in by_layer.items()
        ],
        "timings": dict(timings),
        "versions": dict(versions),
        "settings": dict(settings),
    }


def _cells(cells: Cells) -> dict[str, Any]:
    counts = {name: int((cells.labels == i).sum()) for i, name in enumerate(cells.class_names)}
    groups = [] if cells.groups is None else sorted(set(cells.groups.tolist()))
    return {
        "n": len(cells),
        "classes": list(cells.class_names),
        "per_class": counts,
        "channels": list(cells.channel_names),
        "size": list(cells.preparation.size),
        "pixel_size": cells.pixel_size,
        "group": cells.group_name,
        "groups": groups,
        "skipped": [{"name": bad.name, "reason": bad.reason} for bad in cells.skipped],
        "remarks": list(cells.remarks),
    }


def _ranking(ranking: ChannelRanking | None) -> dict[str, Any]:
    if ranking is None:
        return {}
    return {
        "channel_groups": len(ranking.groups),
        "importance_agreement": ranking.agreement.as_dict(),
    }


_BESIDE = ("best_cell", "nine_best_cells", "unconstrained", "random_cell")


def _faithfulness(found: Faithfulness | None) -> dict[str, Any]:
    """Means over images; beside the predictivity of the images that of cells."""
    if found is None:
        return {}
    entries = _estimates({k: v for k, v in found.estimates.items() if k not in _BESIDE})
    beside = {k: found.estimates[k].value for k in _BESIDE if k in found.estimates}
    entries["predictivity"] = {**entries["predictivity"], **beside}
    images = [
        {
            "channel": int(channel),
            "failure": failure or None,
            **{name: float(values[k]) for name, values in found.table.items()},
        }
        for k, (channel, failure) in enumerate(zip(found.channels, found.failures, strict=True))
    ]
    return {**entries, "held_out_cells": found.n, "images": images}


def _channel(shown: ChannelContext) -> dict[str, Any]:
    strongest = list(shown.correlations.items())[:_CORRELATES]
    return {
        "channel": shown.channel,
        "importance": shown.importance,
        "ablation": shown.ablation,
        "stands_for": len(shown.members),
        "auc": dict(shown.auc),
        "correlates": [{"property": name, **found.as_dict()} for name, found in strongest],
    }


def _estimates(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.as_dict() for name, estimate in estimates.items()}


def _measures(evaluation: Evaluation) -> dict[str, Any]:
    return _estimates(evaluation.measures)


def _folds(folds: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_estimates(folds["measures"]),
        "per_fold": {
            name: {m: e.value for m, e in evaluation.measures.items()}
            for name, evaluation in zip(folds["names"], folds["evaluations"], strict=True)
        },
    }
