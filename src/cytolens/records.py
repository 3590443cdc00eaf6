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
    method: str  # "hdbscan", "kmeans"
    labels: NDArray[np.int64]  # (N,), -1 where a cell belongs to none
    typical: tuple[NDArray[np.int64], ...]  # per cluster, cells nearest to its mean first
    table: NDArray[np.int64]  # (cluster, class): number of cells
    agreement: Mapping[str, Estimate]  # ari, nmi with the classes; null is from permuted labels
    settings: Settings

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
