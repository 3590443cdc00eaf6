"""Maps of the feature space, and new cells placed on them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Settings
from cytolens.records.shown import record


@record
class Embedding:
    """A map: one place in the plane per cell."""

    layer: str
    method: str  # "tsne", "pca", "umap"
    coordinates: NDArray[np.float32]  # (N, 2)
    quality: Mapping[str, float]  # e.g. recall_10, kl_divergence, trustworthiness
    settings: Settings


@record
class NovelCells:
    """New cells judged by one number over all depths."""

    scores: NDArray[np.float64]  # (n,), in standard deviations of held-out cells
    p_values: NDArray[np.float64]  # (n,), share of held-out cells with a number as large
    odd: NDArray[np.bool_]  # (n,)
    share: Estimate  # of new cells that are odd
    clean: Estimate  # of held-out cells of the run that are
    expected: float  # what the threshold is set for
    with_energy: bool  # whether the logits were known


@record
class Answered:
    """What the network of a run, and the cell of the run nearest to each, say of new cells."""

    class_names: tuple[str, ...]  # of the run's cells
    probabilities: NDArray[np.float64] | None  # (n, class); None where the network gives no classes
    outputs: Mapping[str, NDArray[np.float64]]  # by name, (n,), of a network that gives none
    nearest: NDArray[np.str_]  # (n,), of the training cells, in the features of the main layer
    nearest_class: NDArray[np.int64]  # (n,), its class

    @property
    def likely(self) -> NDArray[np.int64]:
        """The predicted class of each cell (n,); without predictions that of the nearest cell."""
        if self.probabilities is None:
            return self.nearest_class
        return self.probabilities.argmax(axis=1)


@record
class PlacedCells:
    """New cells on the maps of a run, each placed and judged as if it were alone."""

    names: NDArray[np.str_]  # (n,)
    answered: Answered
    places: Mapping[str, Mapping[str, NDArray[np.float32]]]  # [method][layer], (n, 2)
    kept: Mapping[str, Mapping[str, Estimate]]  # [method][layer], recall@10 of the placed cells
    schemes: Mapping[str, Mapping[str, str]]  # [method][layer], how places were found
    distances: Mapping[str, NDArray[np.float64]]  # by layer, to the tenth nearest training cell
    percentiles: Mapping[str, NDArray[np.float64]]  # by layer, among held-out cells of the run
    odd: Mapping[str, NDArray[np.bool_]]  # by layer, farther than nearly all of these
    share: Mapping[str, Estimate]  # by layer, of new cells that are odd; "any": at any depth
    clean: Mapping[str, Estimate]  # the same of held-out cells of the run
    expected: float  # share of odd cells at a depth that the thresholds are set for
    calibrated_on: tuple[int, int, int]  # training, threshold-setting and clean cells
    overall: "NovelCells"  # by one number over all depths

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the run."""
        return self.answered.class_names

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Of the classes, (n, class); None where the network gives no classes."""
        return self.answered.probabilities

    @property
    def layers(self) -> tuple[str, ...]:
        """The depths at which cells were judged, in depth order."""
        return tuple(self.distances)

    @property
    def depths_odd(self) -> NDArray[np.int64]:
        """At how many depths each cell (n,) is odd."""
        return np.stack([self.odd[layer] for layer in self.layers]).sum(axis=0, dtype=np.int64)
