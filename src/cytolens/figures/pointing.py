"""Known answers: where explanations point, against where the planted feature is."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cytolens.figures.display import display_of_channels
from cytolens.figures.style import FAINT, HALF_WIDTH, INK, PALETTE, SMALL, WIDTH, ruled, styled
from cytolens.figures.tiles import canvas, put, put_bar, put_scale
from cytolens.records.features import KnownAnswer

EXPLAINERS: Mapping[str, tuple[str, str]] = {
    "ours": ("cytolens", PALETTE[0]),
    "gradcam": ("Grad-CAM", PALETTE[1]),
    "integrated_gradients": ("integrated gradients", PALETTE[2]),
    "untrained": ("untrained network", FAINT),
}
"""Methods that are drawn: what they are called, and their colour."""

PLAIN: Mapping[str, tuple[str, str]] = {
    "brightness": ("plain brightness", PALETTE[3]),
    "difference_of_gaussians": ("difference of Gaussians", PALETTE[4]),
    "fine_detail": ("plain fine detail", PALETTE[5]),
}
"""Maps that know of no network, drawn hollow."""

_SHORT = {"integrated_gradients": "integr. grad.", "untrained": "untrained"}
_OUTLINE, _PEAK = "#56B4E9", "#FFFFFF"
_GAP = 0.04  # inches between tiles


@styled
def plot_pointing(answers: Sequence[KnownAnswer]) -> Figure:
    """Pointing and overlap of every method for every kind and setting, with 95 % intervals.

    Hollow: maps that know of no network. A grey tick marks the chance of pointing: that of a
    random pixel of the cell.
    """
    rows = [answer for answer in answers if "pointing" in answer.measures]
    drawn = {**EXPLAINERS, **PLAIN}
    height = 0.95 + 0.5 * max(len(rows), 1)
    figure = Figure(figsize=(WIDTH, height))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, quantity, title in (
        (left, "pointing", "peak on the plant (share of cells)"),
        (right, "iou", "intersection over union with the plant"),
    ):
        for row, answer in enumerate(rows):
            for place, (method, (_, colour)) in enumerate(drawn.items()):
                key = quantity if method == "ours" else f"{method}_{quantity}"
                estimate = answer.measures.get(key)
                if estimate is None:
                    continue
                y = row + 0.84 * ((place + 0.5) / len(drawn) - 0.5)
                inside = "white" if method in PLAIN else colour
                axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.2)
                axes.plot(estimate.value, y, "o", color=colour, mfc=inside, markersize=3.4)
            if quantity == "pointing":
                chance = answer.measures["chance"].value
                axes.plot([chance, chance], [row - 0.4, row + 0.4], color="#999999", linewidth=1)
        axes.set_xlim(-0.03, 1.03)
        axes.set_title(title, size=8, weight="normal")
        ruled(axes, grid="x")
        for row in range(1, len(rows)):
            new_kind = rows[row].kind != rows[row - 1].kind
            axes.axhline(row - 0.5, color="#999999" if new_kind else "#E4E4E4", linewidth=0.6)
    names = [f"{answer.kind}, {answer.setting}" for answer in rows]
    left.set_yticks(range(len(rows)), names)
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.tick_params(axis="y", length=0)
    handles = [
        Line2D(
            [], [], color=colour, marker="o", markersize=3.6, label=name,
            mfc="white" if method in PLAIN else colour,
        )
        for method, (name, colour) in drawn.items()
    ]  # fmt: skip
    handles.append(Line2D([], [], color="#999999", linewidth=1, label="chance"))
    figure.legend(handles=handles, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0))
    figure.subplots_adjust(
        left=0.19, right=0.99, top=1 - 0.25 / height, bottom=0.7 / height, wspace=0.05
    )
    return figure


@styled
def plot_known_answer(answer: KnownAnswer, *, most: int = 3) -> Figure:
    """Examples of one kind of plant: the cell, and each method's saliency with its peak (+).

    The outline is that of the plant. Saliencies are scaled to their own largest value.
    """
    methods = [name for name in EXPLAINERS if name in answer.saliency]
    count = min(most, len(answer.images))
    tile = (HALF_WIDTH - 0.1) / (len(methods) + 1) - _GAP
    high = tile * answer.images.shape[2] / answer.images.shape[3]
    top = 0.46
    figure, axes = canvas(HALF_WIDTH, top + count * (high + _GAP) + 0.22)
    title = f"{answer.kind}, {answer.setting}"
    axes.text(0.05, 0.12, title, va="center", weight="bold", size=8.5)
    drawn = display_of_channels(
        answer.images.shape[1],
        value_range=np.percentile(answer.images, [0.5, 99.8], axis=(0, 2, 3)).T,
    )
    for column, method in enumerate(["cell", *methods]):
        x = 0.05 + column * (tile + _GAP)
        name = "cell" if method == "cell" else _SHORT.get(method, EXPLAINERS[method][0])
        axes.text(x + tile / 2, top - 0.09, name, ha="center", va="center", size=SMALL - 0.5)
        for row in range(count):
            y = top + row * (high + _GAP)
            if method == "cell":
                put(axes, drawn.show(answer.images[row]), x, y, tile)
            else:
                saliency = answer.saliency[method][row]
                put(axes, mpl.colormaps["inferno"](np.clip(saliency, 0, 1))[..., :3], x, y, tile)
                _mark_peak(axes, saliency, x, y, tile)
            _outline(axes, answer.masks[row], x, y, tile)
    y = top + count * (high + _GAP) + 0.1
    pixels = answer.images.shape[3]
    x = put_bar(axes, 0.05, y, pixels=pixels, tile=tile, pixel_size=answer.pixel_size)
    put_scale(axes, max(x, 0.9), y, (0, 1), label="saliency", cmap="inferno", digits=0)
    axes.plot([2.45, 2.6], [y, y], color=_OUTLINE, linewidth=1.2)
    axes.text(2.65, y, "the plant", va="center", size=SMALL + 0.5, color=INK)
    return figure


def _outline(axes: Axes, mask: NDArray[np.bool_], x: float, y: float, tile: float) -> None:
    """The outline of a mask (H, W) over a tile whose top left is at (x, y)."""
    if not mask.any():
        return
    step = tile / mask.shape[1]
    columns, rows = (x + step * (np.arange(mask.shape[1]) + 0.5), np.arange(mask.shape[0]) + 0.5)
    axes.contour(columns, y + step * rows, mask, levels=[0.5], colors=_OUTLINE, linewidths=0.7)


def _mark_peak(axes: Axes, saliency: NDArray[np.floating], x: float, y: float, tile: float) -> None:
    if saliency.max() <= 0:
        return
    row, column = np.unravel_index(int(saliency.argmax()), saliency.shape)
    step = tile / saliency.shape[1]
    axes.plot(
        x + step * (int(column) + 0.5), y + step * (int(row) + 0.5), "+", color=_PEAK,
        markersize=4, markeredgewidth=0.8,
    )  # fmt: skip
