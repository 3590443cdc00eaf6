"""Layer against layer: how much better a probe separates the classes there, on the same cells."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator, one_seed
from cytolens.numerics.intervals import CORRELATION
from cytolens.numerics.probe import held_out_predictions, probe_features
from cytolens.numerics.resampling import Labels, resampled_counts
from cytolens.numerics.separability import balanced_accuracies
from cytolens.numerics.threads import limited_threads
from cytolens.records.separation import Gain
from cytolens.separation.plan import Plan, checked, make_plan


def measure_gains(
    features: Mapping[str, Any],
    labels: Any,
    *,
    groups: NDArray[np.generic] | None = None,
    untrained: Mapping[str, Any] | None = None,
    resamples: int = 500,
    permutations: int = 100,
    folds: int = 5,
    rng: Rng = None,
    threads: int | None = None,
) -> dict[str, Gain]:
    """By how much a linear probe tells the classes better at each layer than at others.

    ``features``: arrays (N, F) by layer, in depth order; ``labels`` (N,), ``groups`` and
    ``untrained`` as for `measure_separation`, of whose ``probe_accuracy`` these are differences:
    with the same ``permutations``, ``folds`` and ``rng`` they rest on the same answers. Each layer
    is compared with the first, with the one before it, and with itself untrained. Comparisons are
    paired: both layers answer for the same cells, drawn again together or left out with their
    group, so that what is hard for both does not count (Efron & Tibshirani 1993, section 8.6).
    ``clear`` are those over the first layer whose interval lies above 0 once it is corrected for
    the number of layers (Bonferroni).

    Raises InputError as `measure_separation` does.

    >>> labels = np.repeat([0, 1], 60)
    >>> noise = np.random.default_rng(0).normal(size=(120, 4))
    >>> layers = {"input": noise, "conv1": noise + 3 * labels[:, None]}
    >>> gain = measure_gains(layers, labels, permutations=1, rng=0)["conv1"]
    >>> print(gain.over_first.low > 0.2, gain.clear)
    True True
    """
    seed, right, before = one_seed(rng), dict[str, Labels](), dict[str, Labels]()
    plan: Plan | None = None
    for name in features:
        old = None if untrained is None else untrained[name]
        array, other, y, group, _ = checked(features[name], labels, groups, old, name)
        plan = plan or make_plan(
            y, group,
            permutations=permutations, resamples=resamples, folds=folds, rng=generator(seed),
        )  # fmt: skip
        with limited_threads(threads, cells=len(y)):
            right[name] = _right(array, plan)
            if other is not None:
                same = np.array_equal(array, other)  # the input knows no training
                before[name] = right[name] if same else _right(other, plan)
    if plan is None:
        return {}
    names, compare = list(right), _Comparison(plan, seed)
    found: dict[str, Gain] = {}
    for place, name in enumerate(names):
        others = len(names) - 1
        strict = compare(right[name], right[names[0]], tries=max(others, 1))
        found[name] = Gain(
            layer=name,
            over_first=compare(right[name], right[names[0]]),
            over_previous=compare(right[name], right[names[max(place - 1, 0)]]),
            over_untrained=compare(right[name], before[name]) if name in before else None,
            clear=bool(strict.low > 0),
        )
    return found


def _right(features: NDArray[np.float32], plan: Plan) -> Labels:
    """1 for each cell (N,) that the probe is right about, else 0."""
    answers = held_out_predictions(
        probe_features(features), plan.labels[None], plan.folds, grouped=plan.grouped
    )
    return (answers[0] == plan.labels).astype(np.int64)


class _Comparison:
    """Balanced accuracy of some answers minus that of others, for the same cells."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self.k = plan, seed, int(plan.labels.max()) + 1

    def __call__(self, right: Labels, other: Labels, *, tries: int = 1) -> Estimate:
        """With the interval of one of so many ``tries`` (Bonferroni)."""
        plan, k = self.plan, self.k
        outcome = 4 * plan.labels + 2 * right + other
        drawn = resampled_counts(
            outcome, 4 * k,
            groups=plan.groups, resamples=max(plan.resamples, 40 * tries),
            rng=generator(self.seed),
        )  # fmt: skip
        whole = np.bincount(outcome, minlength=4 * k)[None]
        return estimate_from(
            float(self._ahead(whole)[0]), self._ahead(drawn),
            grouped=plan.groups is not None, within=CORRELATION, level=1 - 0.05 / tries,
        )  # fmt: skip

    def _ahead(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The difference (R,), from counts (R, class and who is right); NaN where a class is gone.

        A class of which there are no cells at all does not count.
        """
        table = counts.reshape(len(counts), self.k, 2, 2)
        ahead = balanced_accuracies(table.sum(axis=3)) - balanced_accuracies(table.sum(axis=2))
        gone = (table.sum(axis=(2, 3)) == 0) & (np.bincount(self.plan.labels) > 0)
        return np.where(gone.any(axis=1), np.nan, ahead)
