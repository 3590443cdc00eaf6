"""Which classes come apart where: a row per pair of classes, a column per depth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import BRIEF_WIDTH, INK, SMALL, WIDTH, depth_axis, styled
from cytolens.numerics.estimates import Estimate
from cytolens.records.layers import Layer
from cytolens.records.separation import ClassSeparation, Onset

MOST_ROWS = 40  # more would not be legible on a page
_MOST_BRIEF = 7


@styled
def plot_pairs(
    layers: Sequence[Layer],
    separations: Mapping[str, ClassSeparation],
    onsets: Sequence[Onset],
    *,
    brief: bool = False,
) -> Figure:
    """Balanced accuracy of a linear probe, class (against the rest) or pair × layer.

    Rows are in the order of ``onsets``, the earliest first, at most 40 of them. Numbers are grey
    where the interval does not lie above the permuted labels; a frame marks the layer from which
    on it always does. ``brief``: pairs only, of at most 7 the last to come apart.
    """
    names = [layer.name for layer in layers if layer.name in separations]
    blocks = [
        ("Each class against the rest", [o for o in onsets if len(o.classes) == 1]),
        ("Pair by pair", [o for o in onsets if len(o.classes) == 2]),
    ]
    blocks = blocks[1:] if brief and blocks[1][1] else blocks
    most = _MOST_BRIEF if brief else MOST_ROWS
    if brief and blocks and len(blocks[0][1]) > most:
        found = blocks[0][1]
        one = len({onset.clear for onset in found}) == 1  # all come apart at the same layer
        text = "The {} hardest of {} pairs to tell" if one else "The last {} of {} to come apart"
        blocks = [(text.format(most, len(found)), found[-most:])]
    blocks = [(title, found[:most]) for title, found in blocks if found]
    heights = [max(len(found), 1) for _, found in blocks] or [1]
    figure = Figure(
        figsize=(
            BRIEF_WIDTH if brief else WIDTH, 0.9 + 0.26 * sum(heights) + 0.3 * len(heights)
        ),
        layout="constrained",
    )  # fmt: skip
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    picture = None
    for place, (title, found) in enumerate(blocks):
        axes: Axes = grid[place, 0]
        rows = [[_estimate(separations[name], o.classes) for name in names] for o in found]
        values = np.array([[e.value for e in row] for row in rows]).reshape(len(rows), len(names))
        picture = axes.imshow(
            np.ma.masked_invalid(values), cmap="viridis", vmin=0.5, vmax=1, aspect="auto"
        )
        _write(axes, rows, found, names)
        axes.set_title(title)
        axes.set_yticks(range(len(found)), [_label(o.classes) for o in found])
        depth_axis(axes, names, labels=place == len(blocks) - 1)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.tick_params(length=0, labelsize=SMALL + 0.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if picture is None:
        return Figure(figsize=(WIDTH, 1))
    bar = figure.colorbar(picture, ax=grid.ravel().tolist(), shrink=0.6, pad=0.01, aspect=30)
    bar.set_label("balanced accuracy of a linear probe")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def _estimate(found: ClassSeparation, classes: tuple[str, ...]) -> Estimate:
    unknown = Estimate(np.nan, np.nan, np.nan)
    if len(classes) == 1:
        return found.by_class.get(classes[0], unknown)
    return dict(zip(found.pairs, found.by_pair)).get((classes[0], classes[1]), unknown)


def _write(
    axes: Axes, rows: Sequence[Sequence[Estimate]], onsets: Sequence[Onset], names: Sequence[str]
) -> None:
    """Numbers, faint where not above the null, and a frame from where on they always are."""
    for y, (row, onset) in enumerate(zip(rows, onsets)):
        for x, estimate in enumerate(row):
            clear = estimate.least > (0.5 if estimate.null is None else estimate.null)
            light = np.nan_to_num(estimate.value) < 0.82
            ink = ("white" if light else INK) if clear else "#9BA3B5"
            text = format_number(estimate.value).removeprefix("0")
            if len(names) <= 16:
                axes.text(x, y, text, color=ink, size=SMALL, ha="center", va="center")
            if onset.clear == names[x]:
                axes.plot(
                    [x - 0.44, x - 0.44], [y - 0.4, y + 0.4], color="#E69F00", linewidth=2.5,
                    solid_capstyle="butt",
                )  # fmt: skip


def _label(classes: tuple[str, ...]) -> str:
    return " | ".join(shorten(name, 18 if len(classes) == 2 else 28) for name in classes)
