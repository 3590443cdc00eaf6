"""What measures, methods and numbers are called in figures, captions and tables.

Needs no matplotlib.
"""

from collections.abc import Iterable

import numpy as np

from cytolens.numerics.estimates import Estimate
from cytolens.separation.measures import MEASURES as SEPARATION

_MEASURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc": "AUC",
    "calibration_error": "Calibration error",
    "brier": "Brier score",
    "log_loss": "Log loss (nats)",
    **{key: measure.label for key, measure in SEPARATION.items()},
    "ari": "Adjusted Rand index",
    "nmi": "Normalised mutual information",
    "spectral_centroid": "Spectral centroid",
    "entropy": "Entropy",
    "spectral_entropy": "Spectral entropy",
    "compressed_bytes": "Compressed size (bytes)",
    "orientation_entropy": "Orientation entropy",
    "receptive_field_used": "Receptive field used",
}
_MAPS = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP", "pacmap": "PaCMAP"}
LOWER_IS_BETTER = frozenset({"calibration_error", "brier", "log_loss"})  # of a classifier


def measure_name(key: str) -> str:
    """What a measure is called: its key, made readable."""
    return _MEASURES.get(key, key.replace("_", " ").capitalize())


def map_name(method: str) -> str:
    """What a method of making maps is called: ``t-SNE`` for ``tsne``."""
    return _MAPS.get(method, method)


def shorten(text: str, length: int) -> str:
    """``text``, at most ``length`` characters long; the middle is cut: names differ at the ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def format_number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits and a true minus sign; a dash for None, NaN and infinity."""
    known = value is not None and np.isfinite(value)
    return f"{value:.{digits}f}".replace("-", "−") if known else "–"


def format_range(estimate: Estimate) -> str:
    """``95 % 0.82 to 0.91``, or why there is no interval."""
    if estimate.no_interval is not None:
        return f"no interval: {estimate.no_interval}"
    if not estimate.known:
        return "no interval"
    return f"95 % {format_number(estimate.low)} to {format_number(estimate.high)}"


def with_intervals(reasons: Iterable[str | None]) -> str:
    """``with 95 % intervals`` for a caption, unless each number has a reason why there is none.

    >>> with_intervals([None, "2 groups"]), with_intervals(["2 groups"])
    ('with 95 % intervals', 'without intervals (2 groups)')
    """
    known = set(reasons)
    if None in known or not known:
        return "with 95 % intervals"
    return f"without intervals ({', '.join(sorted(map(str, known)))})"


def format_interval(estimate: Estimate | None, digits: int = 2) -> str:
    """``0.87 [0.82, 0.91]``; a dash for None.

    Where no interval can be given it says why: ``0.87 (no interval: 2 groups)``.
    """
    if estimate is None:
        return "–"
    value = format_number(estimate.value, digits)
    if estimate.no_interval is not None:
        return f"{value} (no interval: {estimate.no_interval})"
    if not estimate.known:
        return value
    return (
        f"{value} [{format_number(estimate.low, digits)}, {format_number(estimate.high, digits)}]"
    )
