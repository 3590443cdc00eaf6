"""How well the classes come apart at a layer: numbers, each with an interval and a null."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, Rng, generator
from cytolens.numerics.threads import limited_threads
from cytolens.records.by_layer import of_each_layer
from cytolens.separation.measures import MEASURES
from cytolens.separation.plan import checked, make_plan


@of_each_layer
def measure_separation(
    features: Any,
    labels: Any,
    *,
    groups: NDArray[np.generic] | None = None,
    untrained: Any = None,
    resamples: int = 500,
    permutations: int = 100,
    folds: int = 5,
    name: str = "features",
    rng: Rng = None,
    threads: int | None = None,
) -> dict[str, Estimate]:
    """How far the classes ``labels`` (N,) come apart in ``features`` (N, F), by measure.

    The measures are those of `measures.MEASURES`, where each is described: ``silhouette``,
    ``knn_accuracy``, ``probe_accuracy``, ``gdv`` (**lower is better**), ``fisher_ratio``, ``nc1``
    (**lower is better**), ``intrinsic_dimension`` (neither good nor bad). ``features``: an array,
    or anything that NumPy makes one of; or activations, or arrays by layer name. Then the answer
    is by layer, then by measure, with the same folds and permutations at every layer.

    Each has a 95 % interval over cells, or over ``groups`` (N,), of which three are the fewest
    (`numerics.intervals`): of the cells' silhouettes, of the correctness of held-out answers, of
    the pairs of cells, of the cells themselves for scatter (200 resamples; `interval_about`), of
    the ratios of distances for the dimension. ``null`` is the 95 % limit of the same
    number under permuted labels (upper; for ``gdv`` and ``nc1`` the lower 5 %), labels being
    exchanged within groups
    (`permuted_labels`). For the dimension it is the mean with each feature permuted over
    cells on its own: what it would be if no feature depended on another. ``untrained`` is the
    same number for features (N, F') of the network before training, by layer where features are.

    With ``groups`` no cell is judged by its own group: neighbours are searched, and probes fitted,
    in other folds, a group a fold up to 10, else 10 folds of whole groups; the probe's penalty is
    chosen for new groups too. Without, neighbours are searched among all other cells, and probes
    fitted in ``folds`` folds, stratified.

    A number that is not defined is NaN: scatter and dimension of a layer that is the same for all
    cells, the dimension of fewer than 20 different ones. Classes of one cell are left out. Raises
    InputError, with the ``name`` of the features, for fewer than two classes of two cells, lengths
    that differ, features that are no matrix, NaN or infinity.

    >>> import numpy as np
    >>> labels = np.repeat([0, 1], 30)
    >>> features = np.random.default_rng(0).normal(size=(60, 4)) + 5 * labels[:, None]
    >>> found = measure_separation(features, labels, resamples=50, permutations=20, rng=0)
    >>> print(found["knn_accuracy"].value, found["silhouette"])
    1.0 0.727 [0.713, 0.741]
    """
    array, before, y, group, _ = checked(features, labels, groups, untrained, name)
    plan = make_plan(
        y, group,
        permutations=permutations, resamples=resamples, folds=folds, rng=generator(rng),
    )  # fmt: skip
    itself = before is not None and np.array_equal(array, before)  # the input knows no training
    other = None if itself else before
    with limited_threads(threads, cells=len(y)):
        found = {key: measure.make(array, other, plan) for key, measure in MEASURES.items()}
    if itself:
        return {key: replace(estimate, untrained=estimate.value) for key, estimate in found.items()}
    return found
