"""How well the classes separate, and how similar the layers are."""

from collections.abc import Mapping
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.shown import record


@record
class ClassSeparation:
    """How well a linear probe separates single classes at a layer, on cells held out from it."""

    layer: str
    by_class: Mapping[str, Estimate]  # balanced accuracy of a class against all others
    pairs: tuple[tuple[str, str], ...]
    by_pair: tuple[Estimate, ...]  # balanced accuracy, in the order of the pairs
    left_out: tuple[str, ...]  # classes of too few cells
    remark: str = ""  # what was not measured, and why
    clear_by_class: Mapping[str, bool] = field(default_factory=dict[str, bool])
    clear_by_pair: tuple[bool, ...] = ()
    """Whether the interval lies above the null, corrected for the number of classes and pairs."""


@record
class Gain:
    """How much better a linear probe separates the classes at a layer than at others.

    Differences of balanced accuracy, paired: both layers answer for the same held-out cells.
    """

    layer: str
    over_first: Estimate  # than at the first layer, the input where it was measured
    over_previous: Estimate  # than at the layer before
    over_untrained: Estimate | None  # than at the same layer before training
    clear: bool  # over the first: above 0 once corrected for the number of layers


@record
class Onset:
    """From which depth on two classes, or a class and the rest, are separated."""

    classes: tuple[str, ...]  # two; or one, against the rest
    clear: str | None  # first layer from which on the interval stays above the null (corrected)
    nine_tenths: str | None  # first layer with nine tenths of the way from chance to the best
    best: str | None  # the layer where they are furthest apart
    value: Estimate  # there

    @property
    def name(self) -> str:
        """Both classes, or the one and "rest"."""
        return " | ".join(self.classes if len(self.classes) > 1 else (*self.classes, "rest"))


@record
class Similarity:
    """Centred kernel alignment of layers over the same cells: 1 identical, 0 nothing in common."""

    layers: tuple[str, ...]
    value: NDArray[np.float64]  # (L, L)
    low: NDArray[np.float64]  # (L, L), of the 95 % interval
    high: NDArray[np.float64]
    null: NDArray[np.float64]  # (L, L), 95 % limit with cells permuted
    untrained: NDArray[np.float64]  # (4, L), with the same layer untrained: value, low, high, null
    control: NDArray[np.float64]  # (L, L), of the layers of the untrained network
    n: int  # cells
    no_interval: str | None = None  # why there are no intervals

    def with_untrained(self, layer: str) -> Estimate:
        """The layer against the same before training."""
        value, low, high, null = self.untrained[:, self.layers.index(layer)]
        return Estimate(
            float(value), float(low), float(high), float(null), no_interval=self.no_interval
        )

    def between(self, layer: str, other: str) -> Estimate:
        """One layer against another; ``untrained`` is the same pair of the untrained network."""
        at = self.layers.index(layer), self.layers.index(other)
        return Estimate(
            *(float(part[at]) for part in (self.value, self.low, self.high, self.null)),
            untrained=float(self.control[at]),
            no_interval=None if layer == other else self.no_interval,
        )


@record
class Pairs:
    """Which classes are separated at every depth, and from which depth on."""

    layers: Mapping[str, ClassSeparation]  # by layer; empty for two classes
    onsets: tuple[Onset, ...]  # of pairs and classes, the earliest first
