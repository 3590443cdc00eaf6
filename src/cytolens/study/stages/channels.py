"""What the channels are for: which ones decide, what they answer to, and the atlas of the map."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cytolens.errors import SettingError
from cytolens.records.cells import Cells, Progress
from cytolens.records.features import Atlas, ChannelContext, ChannelRanking, Galleries
from cytolens.records.knowledge import Properties
from cytolens.records.layers import Activations, Layer
from cytolens.study.parts import Made, Parts
from cytolens.study.stage import Stage, Summary
from cytolens.study.stages.cells import Rows, properties_at
from cytolens.study.stages.classifier import layers_with_channels
from cytolens.study.stages.features import Ascents
from cytolens.study.stages.maps import Maps

if TYPE_CHECKING:
    from cytolens.classifier.model import Classifier

_RANKED_ON = 96  # cells: a forward pass per channel for each
_ABLATED = 64  # channels per layer, the strongest by gradient × activation
_FEWEST = 5  # cells on a tile of the atlas
_CORRELATES = 4  # properties per channel in the summary, the strongest


def ranking(
    network: "Classifier",
    cells: Cells,
    activations: Activations,
    layers: tuple[Layer, ...],
    held_out: Rows,
    *,
    seed: int,
    progress: Progress,
) -> Made[ChannelRanking, dict[str, ChannelRanking]]:
    """The channels of each layer by what the decision loses without them, on held-out cells."""
    from cytolens.features.ranking import rank_channels

    draw = np.random.default_rng(seed).permutation(held_out)[:_RANKED_ON]
    crops = cells.read(np.sort(draw))
    shown = layers_with_channels(layers)
    names = [layer.name for layer in shown]

    def of_layer(number: int) -> ChannelRanking:
        layer = shown[number]
        progress(number, len(shown), layer.name)
        return rank_channels(
            network.network,
            crops,
            activations[layer.name][held_out],
            layer=layer,
            ablated=_ABLATED,
            rng=seed,
        )

    ranked = yield Parts(names, of_layer)
    return dict(zip(names, ranked, strict=True))


def channels(
    network: "Classifier",
    cells: Cells,
    activations: Activations,
    layers: tuple[Layer, ...],
    held_out: Rows,
    features: Galleries,
    ranking: Mapping[str, ChannelRanking],
    properties: Properties,
    *,
    cards: int,
    seed: int,
    progress: Progress,
) -> dict[str, tuple[ChannelContext, ...]]:
    """What the first channels of each gallery answer to, on held-out cells; dead ones left out."""
    from cytolens.features.context import describe_channels

    by_name = {layer.name: layer for layer in layers}
    some, measured = cells.subset(held_out), properties_at(properties, cells, held_out)
    described: dict[str, tuple[ChannelContext, ...]] = {}
    for done, gallery in enumerate(features.channels):
        progress(done, len(features.channels), gallery.layer)
        layer = by_name[gallery.layer]
        answers = activations[layer.name][held_out]
        if answers.shape[1] != layer.channels:  # every neuron was kept
            answers = answers.reshape(len(answers), layer.channels, -1).mean(2)
        found = describe_channels(
            network.network,
            some,
            answers,
            layer=layer,
            channels=gallery.channels[~gallery.dead][:cards].tolist(),
            ranking=ranking[layer.name],
            properties=measured,
            rng=seed,
        )
        described[layer.name] = tuple(replace(c, best=held_out[c.best]) for c in found)
    return described


def atlas(
    network: "Classifier",
    cells: Cells,
    activations: Activations,
    layers: tuple[Layer, ...],
    main_layer: str,
    mapped: Rows,
    maps: Maps,
    ascents: Ascents,
    *,
    atlas: int,
    progress: Progress,
) -> Atlas | None:
    """The map of the layer shown as feature images of what the network sees at each place.

    It is made on t-SNE where there is one, else on the first map. It takes a number per channel
    and a tile with enough cells; None where it cannot be made.
    """
    from cytolens.features.atlas import make_atlas

    by_layer = maps.get("tsne") or next(iter(maps.values()))
    layer = next(found for found in layers if found.name == main_layer)
    features = activations.rows(main_layer, mapped)
    if atlas == 0 or layer.kind == "input" or len(mapped) < _FEWEST * atlas:
        return None
    if features.shape[1] != layer.channels:
        return None
    try:
        return make_atlas(
            network,
            by_layer[main_layer],
            features,
            layer=layer,
            grid=atlas,
            minimum=_FEWEST,
            labels=cells.labels[mapped],
            progress=progress,
            **ascents.options,
        )
    except SettingError:  # no tile has enough cells, or all cells are alike
        return None


def _summary_of_ranking(ranking: Mapping[str, ChannelRanking]) -> Summary:
    return Summary(
        layers={
            name: {
                "channel_groups": len(found.groups),
                "importance_agreement": found.agreement.as_dict(),
            }
            for name, found in ranking.items()
        }
    )


def _summary_of_channels(
    channels: Mapping[str, tuple[ChannelContext, ...]], layers: tuple[Layer, ...]
) -> Summary:
    return Summary(
        layers={
            layer.name: {
                "channels_shown": [_entries_of_channel(c) for c in channels.get(layer.name, ())]
            }
            for layer in layers
        }
    )


def _entries_of_channel(shown: ChannelContext) -> dict[str, Any]:
    strongest = list(shown.correlations.items())[:_CORRELATES]
    return {
        "channel": shown.channel,
        "importance": shown.importance,
        "ablation": shown.ablation,
        "stands_for": len(shown.members),
        "auc": dict(shown.auc),
        "correlates": [{"property": name, **found.as_dict()} for name, found in strongest],
    }


RANKING = Stage("ranking", "ranking the channels", ranking, summary=_summary_of_ranking)
CHANNELS = Stage(
    "channels", "describing the channels", channels, version=2, summary=_summary_of_channels
)
ATLAS = Stage("atlas", "making the atlas", atlas)
