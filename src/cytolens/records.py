"""The nouns: what flows from stage to stage, as frozen dataclasses over NumPy arrays.

Nothing here imports torch, reads a file or draws; every stage takes records and gives records.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytolens.statistics import Estimate

Index = slice | NDArray[np.int64] | NDArray[np.bool_]
Settings = dict[str, Any]
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is going on); every stage that can take long accepts one."""


class ImageSource(Protocol):
    """Crops that are read in batches: a file folder, a memory map, a Zarr array."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        ...

    def read(self, index: Index) -> NDArray[np.float32]:
        """The chosen crops, float32 (n, C, H, W), prepared (one size, scaled intensity)."""
        ...

    def read_raw(self, index: Index) -> NDArray[Any]:
        """The same crops at one size but in the file's own dtype and intensities."""
        ...

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W): True where a pixel was measured, False where it was padded."""
        ...


@dataclass(frozen=True)
class Preparation:
    """How crops of any size and bit depth become (C, H, W) float32. Recorded with every run.

    A crop is padded with ``background`` or cropped about its centre to ``size``, never rescaled.
    With ``intensity="dataset"`` each channel is mapped by (x - low) / (high - low) with the
    data set's own limits; ``"image"`` takes the limits of each crop's measured pixels;
    ``"none"`` keeps the file's numbers. Values are not clipped.
    """

    size: tuple[int, int]  # pixels
    intensity: str  # "dataset", "image" or "none"
    low: tuple[float, ...]  # per channel, in the file's units
    high: tuple[float, ...]
    background: tuple[float, ...]  # per channel, in the file's units
    dtype: str  # of the files


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Cells:
    """Single-cell crops with what is known of them; images are read in batches, on demand."""

    images: ImageSource
    labels: NDArray[np.int64]  # (N,), index into class_names
    class_names: tuple[str, ...]
    channel_names: tuple[str, ...]
    names: NDArray[np.str_]  # (N,), file name, or "file.npz[17]"
    preparation: Preparation
    original_sizes: NDArray[np.int64]  # (N, 2), height and width in pixels before padding
    groups: NDArray[np.str_] | None = None  # (N,), donor, plate, run …
    group_name: str | None = None
    covariates: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    pixel_size: float | None = None  # µm per pixel
    source: str = ""  # path, as given
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()  # what was taken for what; warnings

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of one prepared crop."""
        return self.images.shape[1:]

    def read(self, index: Index) -> NDArray[np.float32]:
        """Prepared crops (n, C, H, W), float32."""
        return self.images.read(index)

    def batches(self, size: int = 256) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All cells in order, a batch at a time: (slice of the cells, (n, C, H, W) float32)."""
        for start in range(0, len(self), size):
            chosen = slice(start, min(start + size, len(self)))
            yield chosen, self.images.read(chosen)

    def subset(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Cells":
        """The chosen cells, in the order given; images are still read on demand."""
        chosen = np.arange(len(self), dtype=np.int64)[index]
        return replace(
            self,
            images=SubsetImages(self.images, chosen),
            labels=self.labels[chosen],
            names=self.names[chosen],
            original_sizes=self.original_sizes[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            covariates={name: column[chosen] for name, column in self.covariates.items()},
        )


@dataclass(frozen=True)
class SubsetImages:
    """Some rows of another image source."""

    parent: ImageSource
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(cell, channel, height, width)."""
        return (len(self.index), *self.parent.shape[1:])

    def read(self, index: Index) -> NDArray[np.float32]:
        """Prepared crops, float32 (n, C, H, W)."""
        return self.parent.read(self.index[index])

    def read_raw(self, index: Index) -> NDArray[Any]:
        """Crops in the file's own dtype."""
        return self.parent.read_raw(self.index[index])

    def masks(self, index: Index) -> NDArray[np.bool_]:
        """(n, H, W), True where measured."""
        return self.parent.masks(self.index[index])


@dataclass(frozen=True)
class Split:
    """Which cells train, validate and test; no group is in two parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Checkpoint:
    """A network as data: weights by parameter name, and the JSON that rebuilds the module."""

    weights: Mapping[str, NDArray[Any]]
    spec: Settings


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on held-out cells."""

    measures: Mapping[str, Estimate]  # accuracy, balanced_accuracy, auc, calibration_error …
    confusion: NDArray[np.int64]  # (class, predicted class)
    reliability: NDArray[np.float64]  # (bin, 3): mean confidence, accuracy, number of cells
    n: int
    note: str = ""  # what the intervals are over


@dataclass(frozen=True)
class Layer:
    """A named place in the network.

    ``pre_activation`` and ``activation`` are (module name, call index, "input" or "output"):
    where the value before and after the non-linearity is taken. They coincide where there is none.
    """

    name: str
    kind: str  # "input", "conv", "linear", "pool", "norm", "block" …
    depth: int  # rank in forward order; the input is 0
    shape: tuple[int, ...]  # (C, H, W) or (F,)
    receptive_field: int | None  # pixels; None where it cannot be traced
    pre_activation: tuple[str, int, str]
    activation: tuple[str, int, str]

    @property
    def channels(self) -> int:
        """Number of channels, or of features of a dense layer."""
        return self.shape[0]


@dataclass(frozen=True)
class Activations:
    """Features (N, F) of every cell at every depth, in depth order; arrays may live on disk."""

    layers: tuple[Layer, ...]
    features: Mapping[str, Any]  # layer name -> array-like (N, F)
    reduction: str  # "mean", "max", "centre" or "flat"

    def __getitem__(self, layer: str) -> NDArray[np.float32]:
        """All features of one layer as an array (N, F), float32."""
        return np.asarray(self.features[layer][:], dtype=np.float32)

    def rows(self, layer: str, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (n, F) of some cells, without reading those of all, float32."""
        stored = self.features[layer]
        if np.array_equal(index, np.arange(stored.shape[0])):
            return self[layer]
        chosen = stored[index] if isinstance(stored, np.ndarray) else stored.oindex[index]
        return np.asarray(chosen, dtype=np.float32)

    def __iter__(self) -> Iterator[str]:
        return (layer.name for layer in self.layers)


@dataclass(frozen=True)
class Embedding:
    """A map: one place in the plane per cell."""

    layer: str
    method: str  # "tsne", "pca", "umap"
    coordinates: NDArray[np.float32]  # (N, 2)
    quality: Mapping[str, float]  # e.g. recall_10, kl_divergence, trustworthiness
    settings: Settings


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class FeatureImages:
    """Images made by optimisation, one per target."""

    layer: str
    targets: tuple[str, ...]  # "channel 5", "cluster 2", "G2 - Prophase" …
    channels: NDArray[np.int64]  # (K,), index of the target channel; -1 where it is a direction
    images: NDArray[np.float32]  # (K, C, H, W), in prepared intensities
    activation: NDArray[np.float32]  # (K,), objective reached on the image, untransformed
    natural: NDArray[np.float32]  # (K, 3): objective over cells: mean, s.d., maximum; or NaN
    activation_maps: NDArray[np.float32]  # (K, h, w), of the target on its own image, rectified
    history: NDArray[np.float32]  # (K, steps), objective by step
    dead: NDArray[np.bool_]  # (K,), the target never rises above zero, on any cell or image
    settings: Settings


@dataclass(frozen=True)
class ModulatedImages:
    """Feature images multiplied by up-scaled activation maps: only the salient parts remain."""

    layer: str
    targets: tuple[str, ...]
    images: NDArray[np.float32]  # (K, C, H, W)
    gain: NDArray[np.float32]  # (K, H, W), the up-scaled map, 0…1
    source: str  # "self", or the name of the cell
    settings: Settings


@dataclass(frozen=True)
class CellExplanation:
    """Why one cell is given its class: deciding channels, their modulated images, their sum."""

    cell: int
    name: str
    image: NDArray[np.float32]  # (C, H, W)
    true_class: str
    predicted_class: str
    probability: float
    layer: str
    channels: NDArray[np.int64]  # (K,), deciding channels, strongest first
    contributions: NDArray[np.float32]  # (K,), gradient × activation toward the predicted class
    modulated: ModulatedImages
    total: NDArray[np.float32]  # (C, H, W), contribution-weighted sum of the modulated images
    saliency: NDArray[np.float32]  # (H, W), where the evidence for the class lies, 0…1


@dataclass(frozen=True)
class KnownAnswer:
    """How well explanations find a feature that was planted, and that the classifier uses."""

    kind: str  # of the plant: "granule", "bar", "rim", "texture"
    setting: str  # "default", "low contrast", "small", "low contrast, small"
    size_um: float
    contrast: float  # over the nucleus, before the lens
    layer: str  # the deepest one that the saliency was taken from
    n: int  # held-out cells, planted, whose class rests on the plant
    measures: Mapping[str, Estimate]  # accuracy, drop, chance, pointing, gradcam_pointing, iou …
    ahead: Mapping[str, Estimate]  # by the name of a baseline's measure: ours minus it, paired
    images: NDArray[np.float32]  # (K, C, H, W), examples
    masks: NDArray[np.bool_]  # (K, H, W), where the plant is
    saliency: Mapping[str, NDArray[np.float32]]  # by method, (K, H, W), 0…1
    pixel_size: float  # µm


@dataclass(frozen=True)
class Simulation:
    """Simulated cells and the truth about them."""

    images: NDArray[np.uint16]  # (N, 1, H, W), camera counts
    labels: NDArray[np.int64]  # (N,)
    class_names: tuple[str, ...]
    masks: Mapping[str, NDArray[Any]]  # (N, H, W): nucleus, lobes (their number), cytoplasm, plant
    properties: Mapping[str, NDArray[Any]]  # per cell (N,)
    pixel_size: float  # µm
    settings: Settings


@dataclass(frozen=True)
class ChannelRanking:
    """Which channels of a layer decide, and which of them say the same."""

    layer: str
    importance: NDArray[np.float64]  # (C,), mean |gradient × activation|, in logits
    ablation: NDArray[np.float64]  # (C,), mean |change of the decision|, in logits; NaN: not taken
    agreement: Estimate  # rank correlation of the two, over channels
    groups: tuple[NDArray[np.int64], ...]  # near-duplicates, most important first, in and of groups
    threshold: float  # correlation that near-duplicates exceed pairwise

    @property
    def representatives(self) -> NDArray[np.int64]:
        """The most important channel of each group (G,), in the order of their importance."""
        return np.array([group[0] for group in self.groups], dtype=np.int64)

    def members(self, channel: int) -> NDArray[np.int64]:
        """The channels that say the same as this one, among them itself."""
        alone = np.array([channel], dtype=np.int64)
        return next((group for group in self.groups if channel in group), alone)


@dataclass(frozen=True)
class ChannelContext:
    """What a channel answers to, told by cells: the company that its feature image needs."""

    layer: str
    channel: int
    importance: float  # mean |gradient × activation|, in logits
    ablation: float  # mean |change of the decision| without it, in logits; NaN where not measured
    members: NDArray[np.int64]  # channels that it stands for, itself the first
    best: NDArray[np.int64]  # (k,), cells with the highest mean activation, none twice
    activation: NDArray[np.float32]  # (k,), theirs
    peaks: NDArray[np.float64]  # (k, 2), y and x of the strongest position, px; NaN if dense
    fields: NDArray[np.float64]  # (k, 4), top, left, height, width of what is seen there, px
    edges: NDArray[np.float64]  # (B + 1,), bins of the mean activation
    histogram: NDArray[np.float64]  # (class, B), density
    auc: Mapping[str, float]  # by class, against the rest
    correlations: Mapping[str, Estimate]  # Spearman's, by property, strongest first
    n: int  # cells that this was measured on


@dataclass(frozen=True)
class Atlas:
    """The plane of a map cut into tiles, each with the feature image of the mean activation there.

    Positions are (row, column) of a square grid over the map, row 0 at the largest y.
    """

    layer: str
    method: str  # of the map
    grid: int  # rows, and columns
    limits: tuple[float, float, float, float]  # left, right, bottom, top of the grid on the map
    positions: NDArray[np.int64]  # (K, 2)
    counts: NDArray[np.int64]  # (K,), cells on the tile
    shares: NDArray[np.float64]  # (K, class), of these, adding up to 1
    typical: NDArray[np.int64]  # (K,), the cell whose features are nearest to their mean
    images: FeatureImages  # K of them
    left_out: int  # cells on tiles with too few of them


@dataclass(frozen=True)
class Faithfulness:
    """How far the feature images of a layer can be believed; see `features.measure_faithfulness`.

    ``table`` has a number per image: ``predictivity`` and, for comparison, ``best_cell``,
    ``nine_best_cells``, ``unconstrained``, ``random_cell``; ``activation_ratio``,
    ``activation_ratio_in_views``, ``z``, ``selectivity``, ``stability``, ``natural_spectrum``,
    ``natural_path``, ``naturalness``.
    """

    layer: str
    channels: NDArray[np.int64]  # (K,)
    table: Mapping[str, NDArray[np.float64]]  # (K,) each
    estimates: Mapping[str, Estimate]  # means over images that are not silent
    failures: tuple[str, ...]  # (K,), why an image is not to be believed; empty where nothing is
    n: int  # held-out cells


@dataclass(frozen=True)
class Knowledge:
    """How well properties of the cells can be read from each layer, on held-out cells.

    A number that comes with a cell is judged by R², a category by the AUC ("measures").
    """

    layers: Mapping[str, Mapping[str, Estimate]]  # by layer, by property
    measures: Mapping[str, str]  # "r2" or "auc", by property
    counts: Mapping[str, int]  # cells whose value is known, by property
    by_cells: tuple[str, ...]  # properties for which cells, not groups, were held out
    left_out: Mapping[str, str]  # properties that could not be judged, and why


@dataclass(frozen=True)
class Alarm:
    """A nuisance that gives the label away, and that the network encodes."""

    nuisance: str
    kind: str  # "artefact", or "may be biology"
    same_as: tuple[str, ...]  # nuisances that order the cells as this one does
    label_from_nuisance: Estimate  # balanced accuracy on held-out cells
    encoded_at: str  # the layer that it is read from best
    encoded: Estimate  # R² or AUC there; null: of a network that knows the class alone
    measure: str  # "r2" or "auc", what `encoded` is
    performance: Estimate  # balanced accuracy of the network on the cells that could be matched
    performance_fixed: Estimate  # the same within strata of the nuisance
    matched: float  # share of the cells in strata with more than one class


@dataclass(frozen=True)
class Confounds:
    """What each nuisance alone says about the label, and which of them are alarming."""

    nuisances: Mapping[str, Estimate]  # balanced accuracy; null: of the largest among all of them
    kinds: Mapping[str, str]  # "artefact" or "may be biology", by nuisance
    alarms: tuple[Alarm, ...]  # the strongest first
    left_out: Mapping[str, str]  # nuisances that could not be judged, and why
    n: int  # cells


@dataclass(frozen=True)
class Suspects:
    """Cells whose label, or which themselves, deserve a second look; the first the most."""

    judged: NDArray[np.int64]  # (N,), cells looked at
    labels: NDArray[np.int64]  # (S,), cells whose label is doubted
    given: NDArray[np.int64]  # (S,), class
    suggested: NDArray[np.int64]  # (S,), class
    score: NDArray[np.float64]  # (S,), log odds of the suggested against the given class
    votes: Mapping[str, NDArray[np.float64]]  # (S,) probability of the given class, by voter
    odd: NDArray[np.int64]  # (O,), cells that are odd
    reasons: tuple[str, ...]  # (O,)
    oddness: NDArray[np.float64]  # (O,), robust standard deviations from the others
    remarks: tuple[str, ...] = ()  # what could not be looked for, and why


@dataclass(frozen=True)
class ClassSeparation:
    """How well a linear probe tells single classes apart at a layer, on cells held out from it."""

    layer: str
    by_class: Mapping[str, Estimate]  # balanced accuracy of a class against all others
    pairs: tuple[tuple[str, str], ...]
    by_pair: tuple[Estimate, ...]  # balanced accuracy, in the order of the pairs
    left_out: tuple[str, ...]  # classes of too few cells
    remark: str = ""  # what was not measured, and why


@dataclass(frozen=True)
class Onset:
    """From which depth on two classes, or a class and the rest, are apart."""

    classes: tuple[str, ...]  # two; or one, against the rest
    clear: str | None  # first layer from which on the interval stays above the null
    nine_tenths: str | None  # first layer with nine tenths of the way from chance to the best
    best: str | None  # the layer where they are furthest apart
    value: Estimate  # there

    @property
    def name(self) -> str:
        """Both classes, or the one and "rest"."""
        return " | ".join(self.classes if len(self.classes) > 1 else (*self.classes, "rest"))


@dataclass(frozen=True)
class Similarity:
    """Centred kernel alignment of layers over the same cells: 1 alike, 0 nothing in common."""

    layers: tuple[str, ...]
    value: NDArray[np.float64]  # (L, L)
    low: NDArray[np.float64]  # (L, L), of the 95 % interval
    high: NDArray[np.float64]
    null: NDArray[np.float64]  # (L, L), 95 % limit with cells permuted
    untrained: NDArray[np.float64]  # (4, L), with the same layer untrained: value, low, high, null
    control: NDArray[np.float64]  # (L, L), of the layers of the untrained network
    n: int  # cells

    def with_untrained(self, layer: str) -> Estimate:
        """The layer against the same before training."""
        value, low, high, null = self.untrained[:, self.layers.index(layer)]
        return Estimate(float(value), float(low), float(high), float(null))

    def between(self, layer: str, other: str) -> Estimate:
        """One layer against another; ``untrained`` is the same pair of the untrained network."""
        at = self.layers.index(layer), self.layers.index(other)
        return Estimate(
            *(float(part[at]) for part in (self.value, self.low, self.high, self.null)),
            untrained=float(self.control[at]),
        )


@dataclass(frozen=True)
class ClusterStability:
    """How sure clusters are, and whether gaps part them; see `embedding.measure_stability`."""

    jaccard: NDArray[np.float64]  # (K,), with the cluster most like it, mean over halves
    jaccard_null: float | None  # 95 % limit of it for a cloud without structure
    ari: Estimate  # of the partitions of a half and of all cells; interval over halves
    numbers: Mapping[str, int]  # in how many halves each number of clusters was chosen
    gap: NDArray[np.float64]  # (K,), towards the cluster it is least parted from, 0…1
    gap_null: NDArray[np.float64]  # (K,), 95 % limit of it where the density only falls
    parts: NDArray[np.int64]  # (K,), clusters that no gap divides are of one part
    halves: int  # of the cells, drawn at random
    size: int  # cells in each half

    @property
    def n_parts(self) -> int:
        """Number of parts that gaps divide the cells into."""
        return int(self.parts.max()) + 1 if len(self.parts) else 0


@dataclass(frozen=True)
class PlacedCells:
    """New cells on the maps of a run, each placed and judged as if it were alone."""

    names: NDArray[np.str_]  # (n,)
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]  # (n, class)
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

    @property
    def layers(self) -> tuple[str, ...]:
        """The depths at which cells were judged, in depth order."""
        return tuple(self.distances)

    @property
    def depths_odd(self) -> NDArray[np.int64]:
        """At how many depths each cell (n,) is odd."""
        return np.stack([self.odd[layer] for layer in self.layers]).sum(axis=0, dtype=np.int64)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Difference:
    """By how much a property tells some cells from others."""

    name: str
    auc: Estimate  # share of pairs in which a cell of these has more; null: of the largest of all

    @property
    def proven(self) -> bool:
        """Whether it is beyond what the largest of all properties reaches by chance."""
        return abs(self.auc.value - 0.5) > (self.auc.null or np.inf) - 0.5


@dataclass(frozen=True)
class ClusterDescription:
    """What distinguishes a cluster's cells from the others, in words and numbers."""

    name: str  # "larger, dimmer"; empty where nothing measured differs
    differences: tuple[Difference, ...]  # strongest first
    n: int  # its cells


@dataclass(frozen=True)
class ClassParts:
    """A class clustered on its own: are there sub-populations, and what are they?"""

    class_index: int
    cells: NDArray[np.int64]  # (n,), those of the class, among the mapped ones
    clusters: Clusters  # of these cells, in their order
    described: tuple[ClusterDescription, ...]  # each against the rest of the class


@dataclass(frozen=True)
class ClusterFlow:
    """Which clusters become which from layer to layer."""

    layers: tuple[str, ...]
    labels: NDArray[np.int64]  # (L, N), cluster of each cell; -1 for none
    order: tuple[NDArray[np.int64], ...]  # per layer, its clusters from top to bottom
    agreement: tuple[Estimate, ...]  # (L - 1,), adjusted mutual information with the next layer

    def to_next(self, layer: str) -> Estimate | None:
        """What the clusters of a layer have in common with those of the next; None of the last."""
        at = self.layers.index(layer) if layer in self.layers else len(self.agreement)
        return self.agreement[at] if at < len(self.agreement) else None
