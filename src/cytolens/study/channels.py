"""What the channels are for: which ones decide, what they answer to, and the atlas of the map."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.classifier.model import Classifier
from cytolens.features.atlas import make_atlas
from cytolens.features.context import describe_channels
from cytolens.features.ranking import rank_channels
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import Atlas, ChannelContext, ChannelRanking, FeatureImages
from cytolens.records.layers import Activations, Layer
from cytolens.records.maps import Embedding
from cytolens.study.settings import StudySettings

_RANKED_ON = 96  # cells: a forward pass per channel for each
_ABLATED = 64  # channels per layer, the strongest by gradient × activation
_FEWEST = 5  # cells on a tile of the atlas


def rank_layers(
    model: Classifier,
    cells: Cells,
    acts: Activations,
    *,
    layers: tuple[Layer, ...],
    held_out: NDArray[np.int64],
    seed: int,
    progress: Progress,
) -> dict[str, ChannelRanking]:
    """The channels of each layer by what the decision loses without them, on held-out cells."""
    draw = np.random.default_rng(seed).permutation(held_out)[:_RANKED_ON]
    crops = cells.read(np.sort(draw))
    ranked: dict[str, ChannelRanking] = {}
    for done, layer in enumerate(layers):
        progress(done, len(layers), layer.name)
        ranked[layer.name] = rank_channels(
            model.network,
            crops,
            acts[layer.name][held_out],
            layer=layer,
            ablated=_ABLATED,
            rng=seed,
        )
    return ranked


def describe_layers(
    model: Classifier,
    cells: Cells,
    acts: Activations,
    *,
    galleries: tuple[FeatureImages, ...],
    layers: tuple[Layer, ...],
    rankings: Mapping[str, ChannelRanking],
    properties: Mapping[str, NDArray[np.float64]],
    held_out: NDArray[np.int64],
    settings: StudySettings,
    progress: Progress,
) -> dict[str, tuple[ChannelContext, ...]]:
    """The context of the first channels of each gallery, on held-out cells; dead ones left out."""
    by_name = {layer.name: layer for layer in layers}
    some = cells.subset(held_out)
    described: dict[str, tuple[ChannelContext, ...]] = {}
    for done, gallery in enumerate(galleries):
        progress(done, len(galleries), gallery.layer)
        layer = by_name[gallery.layer]
        features = acts[layer.name][held_out]
        if features.shape[1] != layer.channels:  # every neuron was kept
            features = features.reshape(len(features), layer.channels, -1).mean(2)
        found = describe_channels(
            model.network,
            some,
            features,
            layer=layer,
            channels=gallery.channels[~gallery.dead][: settings.cards].tolist(),
            ranking=rankings[layer.name],
            properties=properties,
            rng=settings.seed,
        )
        described[layer.name] = tuple(replace(c, best=held_out[c.best]) for c in found)
    return described


def atlas_of_main_map(
    model: Classifier,
    acts: Activations,
    maps: Mapping[str, Mapping[str, Embedding]],
    *,
    layers: tuple[Layer, ...],
    labels: NDArray[np.int64],
    mapped: NDArray[np.int64],
    grid: int,
    options: Mapping[str, Any],
) -> Atlas | None:
    """The atlas of the last mapped layer before the logits; None where it cannot be made.

    ``labels`` are those of the mapped cells. It is made on t-SNE where there is one, else on the
    first map, and needs a number per channel and a tile with enough cells.
    """
    by_layer = maps.get("tsne") or next(iter(maps.values()))
    able = [layer for layer in layers[:-1] if layer.name in by_layer and layer.kind != "input"]
    if grid == 0 or not able:
        return None
    layer = able[-1]
    features = acts[layer.name][mapped]
    if features.shape[1] != layer.channels or len(mapped) < _FEWEST * grid:
        return None
    return make_atlas(
        model.network,
        by_layer[layer.name],
        features,
        layer=layer,
        grid=grid,
        minimum=_FEWEST,
        labels=labels,
        **options,
    )
