"""How well the classifier does: training curves, confusion, calibration, measures."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cytolens.figures.labels import LOWER_IS_BETTER, format_interval, measure_name, shorten
from cytolens.figures.style import (
    FAINT,
    HALF_WIDTH,
    INK,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    ruled,
    styled,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.classifier import Evaluation

_FOLDS = "#009E73"


class WithHistory(Protocol):
    """A trained network that knows how its training went."""

    @property
    def history(self) -> Sequence[Mapping[str, float]]:
        """One mapping per epoch."""
        ...


@styled
def plot_training(
    training: WithHistory | Sequence[Mapping[str, float]], *, best: int | None = None
) -> Figure:
    """Training and validation curves by epoch, a panel per quantity; the kept epoch is marked.

    ``training`` is what `train` gives, or its history: one mapping per epoch with keys such as
    ``training_loss``, ``validation_loss``, ``validation_accuracy``; what follows the first
    underscore names the quantity. ``best`` is the index of the epoch kept; by default the one of
    the lowest validation loss.
    """
    history = training if isinstance(training, Sequence) else training.history
    parts = {
        "training": ("training", UNTRAINED),
        "train": ("training", UNTRAINED),
        "validation": ("validation", TRAINED),
    }
    keys = [key for key in (history[0] if history else {}) if key.partition("_")[0] in parts]
    quantities = list(dict.fromkeys(key.partition("_")[2] for key in keys))[:3] or ["loss"]
    epochs = np.array([entry.get("epoch", i + 1) for i, entry in enumerate(history)])
    if best is None and "validation_loss" in keys:
        losses = np.array([entry.get("validation_loss", np.nan) for entry in history])
        best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else None

    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    for panel, quantity in enumerate(quantities):
        axes = figure.add_subplot(1, max(2, len(quantities)), panel + 1)
        for part, (name, colour) in parts.items():
            key = f"{part}_{quantity}"
            if key in keys:
                values = [entry.get(key, np.nan) for entry in history]
                marker = "o" if len(history) < 3 else None
                axes.plot(epochs, values, color=colour, label=name, marker=marker, ms=4)
        if best is not None:
            axes.axvline(epochs[best], color=FAINT, linewidth=1, linestyle=":", zorder=0)
            if panel == 0:
                axes.annotate(
                    f"kept: epoch {epochs[best]:g}", (epochs[best], 1), (-4, -2),
                    xycoords=("data", "axes fraction"), textcoords="offset points",
                    ha="right" if best > len(history) / 3 else "left", va="top", size=SMALL,
                )  # fmt: skip
        axes.set_title(measure_name(quantity))
        axes.set_xlabel("epoch")
        ruled(axes)
        axes.margins(x=0.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        if panel == 0 and keys:  # above the panels, where it hides no curve
            handles = axes.get_legend_handles_labels()
            figure.legend(*handles, loc="outside upper right", ncols=2)
    return figure


@styled
def plot_confusion(evaluation: Evaluation, class_names: Sequence[str]) -> Figure:
    """Held-out cells by class and predicted class: share of the class, and number."""
    counts = np.asarray(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    n = len(class_names)
    side = HALF_WIDTH if n <= 4 else min(WIDTH, 1.4 + 0.55 * n)
    figure = Figure(figsize=(side, side * 0.82), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [shorten(name, 18) for name in class_names]
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right"} if n > 3 else {}
    axes.set_xticks(range(n), names, **slanted)
    axes.set_yticks(range(n), names)
    axes.tick_params(length=0)
    ruled(axes, grid="")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")
    axes.spines[:].set_visible(False)
    for row in range(n):
        for column in range(n):
            dark = shares[row, column] > 0.55
            text = f"{100 * shares[row, column]:.0f} %\n{counts[row, column]:,}"
            axes.text(
                column, row, text, ha="center", va="center", size=SMALL + 1.5 if n <= 4 else SMALL,
                color="white" if dark else INK,
            )  # fmt: skip
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, label="share of the class")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.ax.tick_params(labelsize=SMALL + 0.5)
    return figure


@styled
def plot_reliability(evaluation: Evaluation) -> Figure:
    """Share correct against stated confidence, with 95 % intervals, and how many cells each."""
    bins = np.asarray(evaluation.reliability, dtype=float).reshape(-1, 3)
    bins = bins[bins[:, 2] > 0]
    figure = Figure(figsize=(HALF_WIDTH, HALF_WIDTH * 0.82), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    start = min(1 / max(len(evaluation.confusion), 1), bins[:, 0].min() if len(bins) else 1.0)
    upper.plot([start, 1], [start, 1], color=FAINT, linestyle="--", linewidth=1)
    upper.annotate(
        "as confident as right", (1, 1), (-2, -1), textcoords="offset points", size=SMALL,
        ha="right", va="bottom", color="#666666",
    )  # fmt: skip
    if len(bins):
        low, high = _wilson(bins[:, 1], bins[:, 2])
        upper.set_ylim(max(min(start, float(low.min())) - 0.05, -0.05), 1.08)
        bars = np.abs(np.stack([bins[:, 1] - low, high - bins[:, 1]]))
        upper.errorbar(
            bins[:, 0], bins[:, 1], yerr=bars, fmt="o", ms=4, color=TRAINED, elinewidth=1
        )
        lower.bar(bins[:, 0], bins[:, 2], width=0.6 * (1 - start) / 10, color=TRAINED, alpha=0.6)
    upper.set_ylabel("share correct")
    lower.set_ylabel("cells")
    lower.set_xlabel("confidence (probability of the predicted class)")
    lower.set_xlim(start - 0.03, 1.03)
    for axes in (upper, lower):
        ruled(axes)
    return figure


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share. Source: Wilson 1927, JASA 22:209."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


@styled
def plot_measures(
    test: Evaluation,
    baseline: Evaluation | None = None,
    folds: Mapping[str, Estimate] | None = None,
    *,
    fold_evaluations: Mapping[str, Evaluation] | None = None,
) -> Figure:
    """Measures on held-out cells as dots with 95 % intervals: network, folds, linear baseline.

    ``folds`` are the means over folds; ``fold_evaluations`` adds a light dot for each fold.
    Measures that are better when low stand apart, on a scale of their own.
    """
    keys = list(test.measures)
    groups = [
        [key for key in keys if key not in LOWER_IS_BETTER],
        [key for key in keys if key in LOWER_IS_BETTER],
    ]
    groups = [group for group in groups if group]
    series: list[tuple[str, Mapping[str, Estimate], str, str]] = [
        ("network, test cells", test.measures, TRAINED, "o")
    ]
    if folds:
        series.append(("network, mean of folds", folds, _FOLDS, "D"))
    if baseline is not None:
        series.append(("linear baseline on pixels", baseline.measures, UNTRAINED, "s"))
    rows = sum(len(group) for group in groups)
    pitch = 0.17 * len(series) + 0.16
    figure = Figure(figsize=(WIDTH, 0.75 + 0.35 * len(groups) + pitch * rows), layout="constrained")
    panels = figure.subplots(
        max(len(groups), 1), 1, height_ratios=[len(group) for group in groups] or [1], squeeze=False
    )[:, 0]
    for axes, group in zip(panels, groups):
        _dots(axes, group, series, fold_evaluations or {}, len(test.confusion))
        if group[0] in LOWER_IS_BETTER and len(groups) > 1:
            axes.set_xlabel("lower is better")
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=4.5, lw=1.3, label=name)
        for name, _, colour, marker in series
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(series))
    return figure


def _dots(
    axes: Axes,
    keys: Sequence[str],
    series: Sequence[tuple[str, Mapping[str, Estimate], str, str]],
    folds: Mapping[str, Evaluation],
    classes: int,
) -> None:
    """One row per measure, and within it one dot with interval per series."""
    ends: list[float] = []
    for row, key in enumerate(keys):
        chance = {"balanced_accuracy": 1 / max(classes, 1), "auc": 0.5}.get(key)
        if chance is not None:
            axes.plot([chance] * 2, [row - 0.38, row + 0.38], color=FAINT, lw=1, ls=":")
            axes.text(chance, row - 0.4, "chance", size=SMALL, ha="center", color="#666666")
            ends.append(chance)
        for place, (_, measures, colour, marker) in enumerate(series):
            estimate = measures.get(key)
            if estimate is None or not np.isfinite(estimate.value):
                continue
            y = row + (place - (len(series) - 1) / 2) * 0.28
            axes.plot([estimate.low, estimate.high], [y, y], color=colour, lw=1.5)
            axes.plot(estimate.value, y, marker=marker, color=colour, ms=4.5)
            axes.annotate(
                format_interval(estimate), (1.01, y), xycoords=("axes fraction", "data"),
                size=SMALL, va="center", color=colour,
            )  # fmt: skip
            ends += [value for value in (estimate.low, estimate.high) if np.isfinite(value)]
            ends.append(estimate.value)
            if colour == _FOLDS:
                each = [
                    entry.measures[key].value for entry in folds.values() if key in entry.measures
                ]
                axes.plot(each, [y] * len(each), "o", color=colour, ms=3, alpha=0.4, mew=0)
                ends += [value for value in each if np.isfinite(value)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    margin = 0.06 * max(high - low, 0.02)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(keys) - 0.45, -0.6)
    axes.set_yticks(range(len(keys)), [shorten(measure_name(key), 30) for key in keys])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    ruled(axes, grid="x")
