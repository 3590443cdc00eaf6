"""What else can be read from a layer, confounds, and suspect cells."""

from collections.abc import Mapping
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate
from cytolens.records.shown import record


@record
class Knowledge:
    """How well properties of the cells can be read from each layer, on held-out cells.

    A number that comes with a cell is judged by R², a category by the AUC ("measures").
    """

    layers: Mapping[str, Mapping[str, Estimate]]  # by layer, by property
    measures: Mapping[str, str]  # "r2" or "auc", by property
    counts: Mapping[str, int]  # cells whose value is known, by property
    by_cells: tuple[str, ...]  # properties for which cells, not groups, were held out
    left_out: Mapping[str, str]  # properties that could not be judged, and why
    gains: Mapping[str, Mapping[str, Estimate]] = field(  # over the untrained network, paired
        default_factory=dict[str, Mapping[str, Estimate]]
    )

    def gain(self, layer: str, name: str) -> Estimate | None:
        """How much better a property is read than before training; None where that is unknown."""
        return self.gains.get(layer, {}).get(name)

    @property
    def compared(self) -> bool:
        """Whether anything can be said of what training has changed."""
        return any(one.known for gained in self.gains.values() for one in gained.values())


@record
class Alarm:
    """A nuisance that predicts the label, and that the network encodes."""

    nuisance: str
    kind: str  # "artefact", "off the cell" or "may be biology"
    same_as: tuple[str, ...]  # nuisances that order the cells as this one does
    label_from_nuisance: Estimate  # balanced accuracy on held-out cells
    encoded_at: str  # the layer that it is read from best
    encoded: Estimate  # R² or AUC there; null: of a network that knows the class alone
    measure: str  # "r2" or "auc", what `encoded` is
    performance: Estimate  # balanced accuracy of the network between two classes, held-out cells
    performance_fixed: Estimate  # the same in pairs of cells that are alike in it; NaN: too few
    matched: float  # share of the cells that have such a partner in another class
    goes_with: str = ""  # an alarm that leaves this one less than half of what it says
    within: float = np.nan  # balanced accuracy from this nuisance in pairs alike in that one


@record
class Confounds:
    """How well each nuisance alone predicts the label, and which of them are alarming."""

    nuisances: Mapping[str, Estimate]  # balanced accuracy; null: of the largest among all of them
    kinds: Mapping[str, str]  # as `Alarm.kind`, by nuisance
    alarms: tuple[Alarm, ...]  # the strongest first
    left_out: Mapping[str, str]  # nuisances that could not be judged, and why
    n: int  # cells


@record
class Equalised:
    """What is left when crops are alike in all but the cell: asked again, and trained anew.

    Balanced accuracies on test cells, ``cells``, as the network's split has them.
    """

    cells: NDArray[np.int64]  # (n,), the test cells
    n_classes: int
    n_trained: int  # cells that the new network was trained on
    before: Estimate  # of the network, on the crops as they are
    asked_again: Estimate  # of the same, on crops made alike
    trained_anew: Estimate  # of a reference network trained on such crops, on others of them
    change: Estimate  # trained anew minus before, paired
    shown: NDArray[np.int64]  # (k,), cells whose crops are kept, to be shown
    crops: NDArray[np.float32]  # (k, C, H, W), prepared


@record
class Suspects:
    """Cells that deserve a second look: doubtful labels, and odd cells; the strongest first."""

    judged: NDArray[np.int64]  # (N,), cells looked at
    labels: NDArray[np.int64]  # (S,), cells whose label is doubted
    given: NDArray[np.int64]  # (S,), class
    suggested: NDArray[np.int64]  # (S,), class
    score: NDArray[np.float64]  # (S,), log odds of the suggested against the given class
    votes: Mapping[str, NDArray[np.float64]]  # (S,) probability of the given class, by voter
    odd: NDArray[np.int64]  # (O,), cells that are odd
    reasons: tuple[str, ...]  # (O,)
    oddness: NDArray[np.float64]  # (O,), robust standard deviations from the others
    remarks: tuple[str, ...] = ()  # what could not be checked, and why
    outlined: NDArray[np.bool_] | None = None  # (o, H, W), the cell as found in the first odd crops


@record
class Properties:
    """What was measured, without any network, on some of the cells."""

    cells: NDArray[np.int64]  # (n,), the cells that were measured, in order
    values: Mapping[str, NDArray[np.float64]]  # by property, (n,)
    checks: Mapping[str, NDArray[np.float64]]  # checks of whether each crop is one whole cell, (n,)
    acquisition: Mapping[str, NDArray[np.float64]] = field(  # how crops were taken, (n,) or (n, d)
        default_factory=dict[str, NDArray[np.float64]]
    )
