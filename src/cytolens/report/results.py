"""All that a study can have found; what is missing is left out of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Cells, Split
from cytolens.records.classifier import Evaluation
from cytolens.records.clusters import Clusters, Populations
from cytolens.records.features import (
    Atlas,
    CellExplanation,
    ChannelContext,
    ChannelRanking,
    Faithfulness,
    FeatureImages,
    ModulatedImages,
)
from cytolens.records.knowledge import Confounds, Knowledge, Suspects
from cytolens.records.layers import Layer
from cytolens.records.maps import Embedding
from cytolens.records.separation import ClassSeparation, Onset, Similarity

ByLayer = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class StudyResults:
    """The results of a study, stage by stage. Every field may be left at its default."""

    cells: Cells | None = None
    split: Split | None = None
    history: Sequence[Mapping[str, float]] = ()
    evaluation: Evaluation | None = None  # of the test cells
    baseline: Evaluation | None = None  # linear, on pixels, same cells
    folds: Mapping[str, Estimate] | None = None  # means over folds
    fold_evaluations: Mapping[str, Evaluation] = field(default_factory=dict[str, Evaluation])
    probabilities: NDArray[np.floating] | None = None  # (N, K), of all cells
    layers: tuple[Layer, ...] = ()
    main_layer: str | None = None  # the one that is shown large
    maps: Mapping[str, Mapping[str, Embedding]] = field(
        default_factory=dict[str, Mapping[str, Embedding]]
    )  # maps[method][layer]
    mapped: NDArray[np.int64] | None = None  # the cells on the maps and in clusters; None: all
    covariate: str | None = None  # that colours a map; None: the first that varies
    map_values: Mapping[str, NDArray[np.floating]] = field(
        default_factory=dict[str, NDArray[np.floating]]
    )  # by title, of the mapped cells: what else colours the map, such as a channel's activation
    clusters: Mapping[str, Clusters] = field(default_factory=dict[str, Clusters])  # by layer
    cluster_images: FeatureImages | None = None
    populations: Populations | None = None
    separation: ByLayer = field(default_factory=dict[str, Mapping[str, Estimate]])
    pairs: Mapping[str, ClassSeparation] = field(
        default_factory=dict[str, ClassSeparation]
    )  # by layer; empty for two classes
    onsets: Sequence[Onset] = ()  # of pairs and classes, the earliest first
    similarity: Similarity | None = None
    knowledge: Knowledge | None = None
    confounds: Confounds | None = None
    suspects: Suspects | None = None
    galleries: Sequence[FeatureImages] = ()  # in depth order
    class_images: FeatureImages | None = None
    rankings: Mapping[str, ChannelRanking] = field(default_factory=dict[str, ChannelRanking])
    contexts: Mapping[str, tuple[ChannelContext, ...]] = field(
        default_factory=dict[str, tuple[ChannelContext, ...]]
    )  # of the first channels of a gallery, by layer
    atlas: Atlas | None = None  # of the map that is shown large
    faithfulness: Mapping[str, Faithfulness] = field(default_factory=dict[str, Faithfulness])
    unconstrained: Sequence[FeatureImages] = ()  # the galleries without a prior, in their order
    kinds: Sequence[FeatureImages] = ()  # several images per channel, by kind of cell
    complexity: ByLayer = field(default_factory=dict[str, Mapping[str, Estimate]])
    complexity_trend: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    modulated: Sequence[ModulatedImages] = ()  # each of the gallery of its layer
    kept: ByLayer = field(default_factory=dict[str, Mapping[str, Estimate]])  # by modulation
    explanations: Sequence[CellExplanation] = ()
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    timings: Mapping[str, float] = field(default_factory=dict[str, float])  # seconds by stage
    summary: Mapping[str, Any] = field(default_factory=dict[str, Any])  # as in summary.json

    @property
    def mapped_cells(self) -> Cells | None:
        """The cells on the maps, in their order."""
        if self.cells is None or self.mapped is None:
            return self.cells
        return self.cells.subset(self.mapped)

    @property
    def mapped_probabilities(self) -> NDArray[np.floating] | None:
        """Predictions for the cells on the maps."""
        if self.probabilities is None or self.mapped is None:
            return self.probabilities
        return self.probabilities[self.mapped]

    @property
    def main_maps(self) -> Mapping[str, Embedding]:
        """The maps that are shown large: t-SNE where there is one, else the first method."""
        return self.maps.get("tsne") or next(iter(self.maps.values()), {})

    def gallery(self, layer: str) -> FeatureImages | None:
        """The feature images of a layer."""
        return next((images for images in self.galleries if images.layer == layer), None)
