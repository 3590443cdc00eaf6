"""How well a classifier does on cells it has not seen, and how sure of that we can be.

Every measure is a sum over cells weighted by how often each is there: in a bootstrap resample, or
once all groups but one are left. So a thousand resamples of 10⁵ cells take seconds.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.numerics.auc import weighted_areas
from cytolens.numerics.estimates import Estimate, Rng, estimate_from, generator, one_seed
from cytolens.numerics.intervals import POSITIVE, SHARE, group_interval, no_interval
from cytolens.numerics.resampling import left_in, parts_of, resample_weights
from cytolens.records.cells import Cells
from cytolens.records.classifier import Evaluation

if TYPE_CHECKING:
    from torch import nn

    from cytolens.classifier.model import Classifier

Array = NDArray[np.float64]
BINS = 10  # of confidence, in the reliability table and the calibration error
RESAMPLES = 1000
FEWEST = 200  # resamples of very many cells, whose intervals are narrow anyway
DRAWN = 2**24  # cells of all resamples together, from which on there are fewer of these
CHUNK = 2**22  # counts held at once while resampling
SMALLEST = 1e-7  # probability below which the log loss is cut
RANGES = {"log_loss": POSITIVE}  # of the measures; all others are shares


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

    The intervals are over the cells, or over ``groups`` (N,) where they are given: what the network
    would do on new groups. Fewer than three groups have none (`numerics.intervals`). Raises
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
            name: estimate_from(
                float(value[name][0]),
                drawn[name],
                grouped=groups is not None,
                within=RANGES.get(name, SHARE),
            )
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


def compare(
    probabilities: NDArray[np.floating],
    others: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = RESAMPLES,
    rng: Rng = None,
) -> dict[str, Estimate]:
    """How far one classifier is ahead of another on the same cells: its measures minus the other's.

    ``probabilities`` and ``others`` (N, class). The comparison is paired: both are measured on the
    same resamples of the cells, or without the same groups, so that what is hard for both does not
    count (Efron & Tibshirani 1993, section 8.6). Two intervals that overlap say less.

    >>> labels = np.repeat([0, 1], 50)
    >>> sure = np.eye(2)[labels]
    >>> ahead = compare(sure, sure[::-1], labels, rng=0)["accuracy"]
    >>> print(ahead)
    1.000 [1.000, 1.000]
    """
    seed = one_seed(rng)
    both = [np.asarray(p, dtype=np.float64) for p in (probabilities, others)]
    values = [measure(p, labels) for p in both]
    drawn = [
        resampled(p, labels, groups=groups, resamples=resamples, rng=seed) for p in both
    ]  # the same cells for both
    return {
        name: estimate_from(
            values[0][name] - values[1][name],
            drawn[0][name] - drawn[1][name],
            grouped=groups is not None,
        )
        for name in values[0]
    }


def resampled(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.generic] | None = None,
    resamples: int = RESAMPLES,
    rng: Rng = None,
) -> dict[str, Array]:
    """Every measure on bootstrap resamples, or without each of the groups: name -> (R,).

    Of more than 16,777 cells there are fewer resamples, at least 200: each takes as long as it has
    cells, and the ends of an interval from 200 are known to a twentieth of its width.
    """
    n, draw = len(labels), generator(rng)
    sums = _Sums(np.asarray(probabilities, dtype=np.float64), labels)
    chunks: list[Mapping[str, Array]] = []
    at_once = max(1, CHUNK // n)
    parts = None if groups is None else parts_of(groups, rng=draw)
    fewer = min(resamples, max(FEWEST, DRAWN // n))
    total = fewer if parts is None else int(parts.max()) + 1
    for start in range(0, total, at_once):
        rows = np.arange(start, min(start + at_once, total))
        if parts is None:
            counts = resample_weights(n, groups=None, resamples=len(rows), rng=draw)
        else:
            counts = left_in(parts, rows)
        chunks.append(sums.measures(counts))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def mean_over_folds(values: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Mean of each measure over folds, with its interval over them; below three there is none."""
    estimates: dict[str, Estimate] = {}
    for name in values[0]:
        found = np.array([value[name] for value in values])
        mean, n = float(found.mean()), len(found)
        without = (found.sum() - found) / max(n - 1, 1)
        interval = group_interval(mean, without, within=RANGES.get(name, SHARE))
        estimates[name] = Estimate(mean, *interval, no_interval=no_interval(without, "fold"))
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
        lost = ((size == 0) & (self._terms[:, :k].sum(0) > 0)).any(1)  # a class that there is
        areas = np.stack([weighted_areas(s, t, counts) for s, t in self._rankings], axis=1)
        return {
            "accuracy": hits.sum(1) / n,
            "balanced_accuracy": np.where(lost, np.nan, _mean_defined(recall)),
            "auc": np.where(lost, np.nan, _mean_defined(areas)),
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
    if groups is None:
        return f"95 % bootstrap intervals over {n} cells"
    held = len(np.unique(groups))
    why = no_interval(np.zeros(held))
    if why is None:
        return f"95 % intervals over {held} groups ({n} cells): of what new groups would give"
    return f"no interval over groups: {why} ({n} cells)"
