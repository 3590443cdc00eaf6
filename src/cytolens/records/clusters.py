"""Clusters: what they are, how stable they are, and how they pass from layer to layer."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Settings
from cytolens.records.features import FeatureImages
from cytolens.records.shown import record


@record
class Clusters:
    """Groups of cells found at a layer."""

    layer: str
    method: str  # "kmeans", "gmm", "hdbscan", "leiden"
    labels: NDArray[np.int64]  # (N,), -1 where a cell belongs to none
    typical: tuple[NDArray[np.int64], ...]  # per cluster, cells nearest to its mean first
    table: NDArray[np.int64]  # (cluster, class): number of cells
    agreement: Mapping[str, Estimate]  # ari, nmi, purity with the classes; null: permuted labels
    settings: Settings
    stability: "ClusterStability | None" = None  # where it was asked for
    groups: "ClusterGroups | None" = None  # where there are groups

    @property
    def n(self) -> int:
        """Number of clusters, without the cells that belong to none."""
        return len(self.typical)


@record
class ClusterStability:
    """How sure clusters are, and whether gaps divide them; see `clusters.stability`."""

    jaccard: NDArray[np.float64]  # (K,), with the cluster most like it, mean over halves
    jaccard_null: float | None  # 95 % limit of it for a cloud without structure
    ari: Estimate  # of the partitions of a half and of all cells; interval over halves
    numbers: Mapping[str, int]  # in how many halves each number of clusters was chosen
    gap: NDArray[np.float64]  # (K,), towards the cluster it is least divided from, 0…1
    gap_null: NDArray[np.float64]  # (K,), 95 % limit of it where the density only falls
    parts: NDArray[np.int64]  # (K,), clusters that no gap divides are of one part
    halves: int  # of the cells, drawn at random
    size: int  # cells in each half

    @property
    def n_parts(self) -> int:
        """Number of parts that gaps divide the cells into."""
        return int(self.parts.max()) + 1 if len(self.parts) else 0


@record
class ClusterGroups:
    """How far clusters are groups (donors, plates), beyond what their classes explain."""

    names: tuple[str, ...]
    table: NDArray[np.int64]  # (cluster, group): number of cells
    agreement: Mapping[str, Estimate]  # ari, nmi, purity; null: groups permuted within classes
    expected: NDArray[np.float64]  # (cluster,), share of the largest group, mean under permutation
    null: NDArray[np.float64]  # (cluster,), its 95 % limit, for all clusters together

    @property
    def main(self) -> NDArray[np.int64]:
        """The group that most cells of each cluster are of, (K,)."""
        return np.asarray(self.table.argmax(axis=1), dtype=np.int64)

    @property
    def share(self) -> NDArray[np.float64]:
        """Its share of the cluster, (K,)."""
        return self.table.max(axis=1) / np.maximum(self.table.sum(axis=1), 1)

    @property
    def dominated(self) -> NDArray[np.bool_]:
        """(K,), clusters that are mostly one group: half of what is left to pure, and no chance."""
        half_way = self.share >= (1 + self.expected) / 2
        return half_way & (self.share > self.null)


@record
class Difference:
    """How well a property distinguishes some cells from the others."""

    name: str
    auc: Estimate  # share of pairs in which a cell of these has more; null: of the largest of all

    @property
    def proven(self) -> bool:
        """Whether it is beyond what the largest of all properties reaches by chance."""
        return abs(self.auc.value - 0.5) > (self.auc.null or np.inf) - 0.5


@record
class ClusterDescription:
    """What distinguishes a cluster's cells from the others, in words and numbers."""

    name: str  # "larger, dimmer"; empty where nothing measured differs
    differences: tuple[Difference, ...]  # strongest first
    n: int  # its cells


@record
class ClassParts:
    """A class clustered on its own: are there sub-populations, and what are they?"""

    class_index: int
    cells: NDArray[np.int64]  # (n,), those of the class, among the mapped ones
    clusters: Clusters  # of these cells, in their order
    described: tuple[ClusterDescription, ...]  # each against the rest of the class


@record
class ClusterFlow:
    """How clusters pass into each other from layer to layer."""

    layers: tuple[str, ...]
    labels: NDArray[np.int64]  # (L, N), cluster of each cell; -1 for none
    order: tuple[NDArray[np.int64], ...]  # per layer, its clusters from top to bottom
    agreement: tuple[Estimate, ...]  # (L - 1,), adjusted mutual information with the next layer

    def to_next(self, layer: str) -> Estimate | None:
        """What the clusters of a layer have in common with those of the next; None of the last."""
        at = self.layers.index(layer) if layer in self.layers else len(self.agreement)
        return self.agreement[at] if at < len(self.agreement) else None


@record
class Populations:
    """What the clusters of the layer shown are, and the parts of each class there."""

    layer: str
    described: tuple[ClusterDescription, ...]  # each cluster against all other cells
    classes: tuple[ClassParts, ...]  # each class clustered on its own
    images: FeatureImages | None  # of these parts, in their order; None where none can be made
    flow: ClusterFlow  # of clusters from layer to layer
    own: NDArray[np.float64] | None = (
        None  # (K,), share of the cells most like an image of its part
    )
