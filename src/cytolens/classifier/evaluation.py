"""How well a classifier does on cells it has not seen, and how sure of that we can be.

The bootstrap works on counts: a resample is how often each cell is drawn, and every measure is a
sum over cells weighted by these counts, so a thousand resamples of 10⁵ cells take seconds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.auc import weighted_areas
from cytolens.numerics.estimates import Estimate, Rng, generator, percentile_interval
from cytolens.numerics.resampling import resample_weights
from cytolens.records.cells import Cells
from cytolens.records.classifier import Evaluation

if TYPE_CHECKING:
    from torch import nn

    from cytolens.classifier.model import Classifier

Array = NDArray[np.float64]
BINS = 10  # of confidence, in the reliability table and the calibration error
RESAMPLES = 1000
CHUNK = 2**22  # counts held at once while resampling
SMALLEST = 1e-7  # probability below which the log loss is cut


def evaluate(
    probabilities: "NDArray[np.floating] | Classifier | nn.Module",
    labels: NDArray[np.int64] | Cells,
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = RESAMPLES,
    rng: Rng = None,
) -> Evaluation:
    """Measures of probabilities (N, class) against labels (N,), each with a 95 % interval.

    Or of a network, a `Classifier` or a module that gives logits, on ``labels`` that are `Cells`:
    then probabilities, labels and groups are theirs.

    ``accuracy``; ``balanced_accuracy``: mean over the classes present; ``auc``: area under the
    receiver operating characteristic, for more than two classes the mean of one against the rest;
    ``calibration_error``: expected calibration error of the predicted class over ten bins of
    confidence (Guo et al. 2017, arXiv:1706.04599); ``brier``: half the summed squared difference
    from the true class, 0 … 1 (Brier 1950); ``log_loss`` in nats. A measure that is not defined,
    as the AUC of a single class, is NaN.

    The intervals are percentiles over bootstrap resamples: of the cells, or, where ``groups`` (N,)
    holds more than one, of groups and then cells within them (`estimates.resample`). Raises
    InputError where the two do not fit.

    >>> found = evaluate(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]), rng=0)
    >>> print(found.measures["balanced_accuracy"].value, found.confusion.tolist())
    0.75 [[1, 1], [0, 1]]
    """
    if isinstance(labels, Cells):
        groups = labels.groups if groups is None else groups
        return evaluate(
            _predicted(probabilities, labels), labels.labels,
            groups=groups, resamples=resamples, rng=rng,
        )  # fmt: skip
    p, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    _check(p, labels)
    sums = _Sums(p, labels)
    value = sums.measures(np.ones((1, len(p))))
    drawn = resampled(p, labels, groups=groups, resamples=resamples, rng=rng)
    return Evaluation(
        measures={
            name: Estimate(float(value[name][0]), *percentile_interval(drawn[name]))
            for name in value
        },
        confusion=confusion_of(p, labels),
        reliability=reliability_of(p, labels),
        n=len(p),
        note=_note(len(p), groups),
    )


def _predicted(model: Any, cells: Cells) -> NDArray[np.float32]:
    from cytolens.classifier.model import Classifier, predict
    from cytolens.classifier.wrapping import wrap_for

    return predict(model if isinstance(model, Classifier) else wrap_for(model, cells), cells)


def measure(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, float]:
    """The measures of `evaluate` without intervals."""
    p = np.asarray(probabilities, dtype=np.float64)
    return {
        name: float(v[0]) for name, v in _Sums(p, labels).measures(np.ones((1, len(p)))).items()
    }


def resampled(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = RESAMPLES,
    rng: Rng = None,
) -> dict[str, Array]:
    """Every measure on each of the bootstrap resamples: name -> (resample,)."""
    n, draw = len(labels), generator(rng)
    sums = _Sums(np.asarray(probabilities, dtype=np.float64), labels)
    chunks: list[Mapping[str, Array]] = []
    at_once = max(1, CHUNK // n)
    for start in range(0, resamples, at_once):
        some = min(at_once, resamples - start)
        counts = resample_weights(n, groups=groups, resamples=some, rng=draw)
        chunks.append(sums.measures(counts))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def mean_over_folds(
    values: list[dict[str, float]], spreads: list[dict[str, Array]], *, rng: Rng = None
) -> dict[str, Estimate]:
    """Mean of each measure over folds, with its interval over folds and the cells within them.

    ``spreads`` holds each fold's measures on resamples of its own cells; here the folds are
    resampled too, so with few folds the interval is mainly theirs.
    """
    draw, estimates = generator(rng), dict[str, Estimate]()
    for name in values[0]:
        table = np.stack([spread[name] for spread in spreads])  # (fold, resample)
        chosen = draw.integers(0, len(table), size=table.shape)
        means = np.take_along_axis(table, chosen, axis=0).mean(axis=0)
        value = float(np.mean([value[name] for value in values]))
        estimates[name] = Estimate(value, *percentile_interval(means))
    return estimates


def confusion_of(p: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of cells (class, predicted class)."""
    table = np.zeros((p.shape[1], p.shape[1]), dtype=np.int64)
    np.add.at(table, (labels, p.argmax(1)), 1)
    return table


def reliability_of(p: Array, labels: NDArray[np.int64]) -> Array:
    """Per bin of confidence (bin, 3): mean confidence, accuracy, cells; NaN where it is empty."""
    correct, confidence = p.argmax(1) == labels, p.max(1)
    bins = _bins(confidence)
    n = np.bincount(bins, minlength=BINS).astype(np.float64)
    n_or_nan = np.where(n > 0, n, np.nan)
    mean_confidence = np.bincount(bins, confidence, BINS) / n_or_nan
    accuracy = np.bincount(bins, correct, BINS) / n_or_nan
    return np.stack([mean_confidence, accuracy, n], axis=1)


class _Sums:
    """Per-cell terms of all measures, so that a resample is one matrix product and one sum."""

    def __init__(self, p: Array, labels: NDArray[np.int64]) -> None:
        n, self.k = p.shape
        rows = np.arange(n)
        truth = np.zeros((n, self.k))
        truth[rows, labels] = 1
        correct, confidence = (p.argmax(1) == labels).astype(np.float64), p.max(1)
        in_bin = np.zeros((n, BINS))
        in_bin[rows, _bins(confidence)] = 1
        gap = in_bin * (correct - confidence)[:, None]
        brier = np.square(p - truth).sum(1) / 2
        surprise = -np.log(np.clip(p[rows, labels], SMALLEST, 1))
        self._terms = np.column_stack([truth, truth * correct[:, None], gap, brier, surprise])
        scored = [p[:, 1] - p[:, 0]] if self.k == 2 else list(p.T)
        positive = [truth[:, 1]] if self.k == 2 else list(truth.T)
        self._rankings = [(s, t > 0) for s, t in zip(scored, positive, strict=True)]

    def measures(self, counts: Array) -> dict[str, Array]:
        """Measures (resample,) of counts (resample, N)."""
        k, sums = self.k, counts @ self._terms
        size, hits = sums[:, :k], sums[:, k : 2 * k]
        n = size.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / size
        return {
            "accuracy": hits.sum(1) / n,
            "balanced_accuracy": _mean_defined(recall),
            "auc": _mean_defined(
                np.stack([weighted_areas(s, t, counts) for s, t in self._rankings], axis=1)
            ),
            "calibration_error": np.abs(sums[:, 2 * k : 2 * k + BINS]).sum(1) / n,
            "brier": sums[:, -2] / n,
            "log_loss": sums[:, -1] / n,
        }


def _bins(confidence: Array) -> NDArray[np.int64]:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def _mean_defined(values: Array) -> Array:
    """Mean over the last axis, of the numbers that are defined; NaN where none is."""
    defined = np.isfinite(values)
    total, n = np.where(defined, values, 0).sum(1), defined.sum(1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _check(p: Array, labels: NDArray[np.int64]) -> None:
    if p.ndim != 2 or labels.ndim != 1 or len(p) != len(labels) or len(p) == 0:
        raise InputError(
            f"probabilities {p.shape} and labels {labels.shape} do not fit; give (N, class) and "
            "(N,), at least one cell"
        )
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise InputError(f"labels must be class numbers from 0 to {p.shape[1] - 1}")
    if not np.isfinite(p).all():
        raise InputError("probabilities hold NaN or infinity")


def _note(n: int, groups: NDArray[np.generic] | None) -> str:
    held = 0 if groups is None else len(np.unique(groups))
    if held > 1:
        return f"95 % bootstrap intervals over {held} groups and the cells within them ({n} cells)"
    note = f"95 % bootstrap intervals over {n} cells"
    if groups is not None:
        note += f", all of group {groups[0]}: they do not speak of other groups"
    return note
