"""Feature images, what is made of them, and the numbers that say how far to trust them."""

from collections.abc import Mapping
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Settings
from cytolens.records.shown import notebook, record

_PER_IMAGE = (
    "channels", "images", "activation", "natural", "activation_maps", "history", "dead", "starts",
    "similarity",
)  # fmt: skip


@record
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
    starts: NDArray[np.float32] | None = None  # (K, C, H, W), the cells they began as; None: none
    similarity: NDArray[np.float32] | None = None  # (K,), with the nearest cell; None: not known

    @property
    def likeness_to_start(self) -> NDArray[np.float32]:
        """(K,): Pearson's correlation of each image with the cell that it began as; NaN if none."""
        if self.starts is None:
            return np.full(len(self.images), np.nan, np.float32)
        both = [pixels.reshape(len(pixels), -1) for pixels in (self.images, self.starts)]
        made, start = (rows - rows.mean(1, keepdims=True) for rows in both)
        size = np.linalg.norm(made, axis=1) * np.linalg.norm(start, axis=1)
        return ((made * start).sum(1) / np.maximum(size, 1e-9)).astype(np.float32)

    def of(self, rows: list[int]) -> "FeatureImages":
        """Some of the images, in this order."""
        held = {name: getattr(self, name) for name in _PER_IMAGE}
        kept = {name: None if values is None else values[rows] for name, values in held.items()}
        return replace(self, targets=tuple(self.targets[row] for row in rows), **kept)

    def joined(self, more: "FeatureImages") -> "FeatureImages":
        """These images and ``more`` of the same layer; what only one of them knows is left out."""
        steps = min(self.history.shape[1], more.history.shape[1])
        ends = [replace(one, history=one.history[:, :steps]) for one in (self, more)]
        held = {name: [getattr(one, name) for one in ends] for name in _PER_IMAGE}
        both = {
            name: None if own is None or other is None else np.concatenate([own, other])
            for name, (own, other) in held.items()
        }
        return replace(self, targets=self.targets + more.targets, **both)

    def _repr_html_(self) -> str:
        return notebook(self, self.images)


@record
class FieldImages:
    """Neurons of a layer on what they see, and the patches of cells that drive them most."""

    layer: str
    made: FeatureImages  # images (K, C, f, g), cut to the field, without a prior
    likely: FeatureImages | None  # the same neurons, within the variation of such patches
    patches: NDArray[np.float32]  # (K, M, C, f, g), of M cells, the strongest first
    reached: NDArray[np.float32]  # (K, M), activation of the neuron there
    n: int  # cells that were looked at

    def ratio(self, images: FeatureImages) -> NDArray[np.float32]:
        """(K,): activation on images over that on the strongest patch; NaN where that is 0."""
        best = self.reached[:, 0]
        known = np.where(best > 0, best, np.nan)
        return (images.activation / known).astype(np.float32)

    def _repr_html_(self) -> str:
        return notebook(self, self.made.images)


@record
class ModulatedImages:
    """Feature images multiplied by up-scaled activation maps: only the salient parts remain."""

    layer: str
    targets: tuple[str, ...]
    images: NDArray[np.float32]  # (K, C, H, W)
    gain: NDArray[np.float32]  # (K, H, W), the up-scaled map, 0…1
    source: str  # "self", or the name of the cell
    settings: Settings
    salient: NDArray[np.float32] | None = None
    """(K, H, W), the same gains in the order of what drives the channel, pixel by pixel, 0…1."""

    def _repr_html_(self) -> str:
        return notebook(self, self.images)


@record
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
    began: FeatureImages | None = None
    """The channels' feature images before they were modulated, where they began as cells."""

    def _repr_html_(self) -> str:
        return notebook(self, np.stack([self.image, self.total]))


@record
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


@record
class ChannelRanking:
    """Which channels of a layer decide, and which of them are near-duplicates."""

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
        """The near-duplicates of this channel, including itself."""
        alone = np.array([channel], dtype=np.int64)
        return next((group for group in self.groups if channel in group), alone)


@record
class ChannelContext:
    """What a channel responds to, shown by cells, to be read together with its feature image."""

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


@record
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


@record
class Faithfulness:
    """How far the feature images of a layer can be believed; see `features.measure_faithfulness`.

    ``table`` has a number per image: ``predictivity`` and, for comparison, ``start_cell``,
    ``hold_only``, ``wrong_channel``, ``others``, ``best_cell``, ``nine_best_cells``,
    ``driving_cells``, ``unconstrained``, ``random_cell``, each again with ``_by_wavelets``;
    ``like_start``, ``like_nearest_cell``, ``activation_ratio``, ``activation_ratio_in_views``,
    ``z``, ``selectivity``, ``stability``, ``natural_spectrum``, ``natural_path``, ``naturalness``.
    """

    layer: str
    channels: NDArray[np.int64]  # (K,)
    table: Mapping[str, NDArray[np.float64]]  # (K,) each
    estimates: Mapping[str, Estimate]  # means over images that are not silent
    failures: tuple[str, ...]  # (K,), why an image is not to be believed; empty where nothing is
    n: int  # held-out cells
    predicts: NDArray[np.bool_] | None = None  # (K,), more than its start cell and the rotations


@record
class Galleries:
    """All feature images of a study; tuples are in depth order."""

    channels: tuple[FeatureImages, ...]  # of the channels that matter most, near-duplicates once;
    # made with the prior only from where a neuron sees as much as a cell
    unconstrained: tuple[FeatureImages, ...]  # the same channels without a prior
    kinds: tuple[FeatureImages, ...]  # several of each of the first channels, by kind of cell
    classes: FeatureImages | None  # one per class against the others, or per output
    clusters: FeatureImages | None  # one per cluster of the layer shown
    fields: tuple[FieldImages, ...] = ()  # of the layers before, a neuron on what it sees
    twins: Mapping[str, str] = field(default_factory=dict[str, str])  # "conv5/13": "conv3/2", ...
    # channels that rise and fall with one of an earlier layer, by that one

    def of(self, layer: str) -> FeatureImages | None:
        """The gallery of one layer."""
        return next((images for images in self.channels if images.layer == layer), None)


@record
class Fall:
    """From which depth on a description explains less than it has to (`features.complexity`)."""

    layer: str | None  # the first below; None: it never falls below
    earliest: str | None  # the first whose interval reaches below; None: none does
    latest: str | None  # the first whose interval lies below; None: none does
    known: bool  # whether there are intervals
    untrained: str | None  # the first of the network before training


@record
class Complexity:
    """How much of what the channels of a layer say of cells a simple description explains.

    Shares of the variance over held-out cells; ``untrained`` is that of the network before
    training. By layer, in depth order, and by description
    (`features.descriptions.DESCRIPTIONS`), each of which holds those before it; or by earlier
    layer.
    """

    layers: Mapping[str, Mapping[str, Estimate]]
    gaps: Mapping[str, Mapping[str, Estimate]]  # trained minus untrained, on the same cells
    random: Mapping[str, Mapping[str, float]]  # by layer: random filters with its receptive field
    earlier: Mapping[str, Mapping[str, Estimate]]  # by layer: explained by each layer before it
    channels: Mapping[str, Mapping[str, NDArray[np.float64]]]  # by layer: of each channel, (C,)
    falls: Mapping[str, Fall]  # by description, and by layer that explains
    known_from: int  # training cells
    n: int  # held-out cells


@record
class Modulation:
    """Modulated feature images by depth, and the cells that they explain."""

    galleries: tuple[ModulatedImages, ...]  # in depth order
    kept: Mapping[str, Mapping[str, Estimate]]  # by layer: how much activation the kept parts keep
    explanations: tuple[CellExplanation, ...]
