"""Contrast pairs: cells with less, with more, and with more and more of a target."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.figures.display import Display, display_of_cells
from cytolens.figures.labels import shorten
from cytolens.figures.style import FAINT, INK, SMALL, TRAINED, WIDTH, styled
from cytolens.figures.tiles import canvas, put, put_bar, put_scale
from cytolens.records.cells import Cells
from cytolens.records.contrast import ODD, ContrastPairs, Edits

_DIVERGING = "PuOr_r"  # orange: more; told apart by all kinds of colour vision
_LEFT = 0.95  # inches
_COLUMNS = 8
_STEP = (WIDTH - _LEFT - 0.05) / _COLUMNS
_SIDE = _STEP - 0.07
_MOST_PER_ROW = 2  # edited cells
_MOST = 3  # targets side by side
_PERCENTILES = ("10th", "30th", "50th", "70th", "90th")

Picture = NDArray[np.float64]


@styled
def plot_contrast(pairs: ContrastPairs, cells: Cells) -> Figure:
    """Pairs of real cells; edited ones (less, the cell, more, more minus less), and one in steps.

    Of several image channels the one is shown in which real pairs differ most. ``cells``: all of
    the study.
    """
    drawn = display_of_cells(cells)
    view = _view(drawn, pairs)
    row = _SIDE * cells.shape[1] / cells.shape[2]
    edits = pairs.edits
    blocks = 0 if edits is None else -(-len(edits.cells) // _MOST_PER_ROW)
    foot = 0.24
    tall = 0.1 + foot + 2 * (row + 0.07) + 0.5
    tall += blocks * _block(row) + (0.25 if blocks else 0)
    edited = None if pairs.series is None else pairs.series.edited
    tall += 0 if edited is None else row + 0.3
    figure, axes = canvas(WIDTH, tall)
    y, span = 0.1, 0.0
    y = _put_real(axes, pairs, drawn, view, y, row)
    if edits is not None:
        span = float(np.abs(_change(edits, drawn, view)).max()) or 1.0
        y = _put_edits(axes, edits, drawn, view, span, y, row)
    if edited is not None:
        y = _put_edited_series(axes, edited, drawn, view, y, row)
    x = put_bar(
        axes, _LEFT, y + foot / 2, pixels=cells.shape[2], tile=_SIDE, pixel_size=cells.pixel_size
    )
    if not drawn.colour:
        low, high = drawn.limits[view].tolist()
        label = _intensity(drawn, view)
        x = put_scale(axes, x + 0.2, y + foot / 2, (low, high), label=label)
    if edits is not None and x < WIDTH - 1.9:
        put_scale(axes, x + 0.25, y + foot / 2, (-span, span), label="more - less", cmap=_DIVERGING)
    return figure


@styled
def plot_series(pairs: Sequence[ContrastPairs], cells: Cells) -> Figure:
    """Real cells with more and more of each target, side by side: a row is alike otherwise.

    Of the ``pairs`` those that have a series, three at most. ``cells``: all of the study. Raises
    SettingError where none has one.
    """
    drawn = display_of_cells(cells)
    found = [(one, one.series) for one in pairs if one.series is not None and one.series.n][:_MOST]
    if not found:
        raise SettingError("none of the targets has a series; choose others, such as deep channels")
    steps, gap = len(_PERCENTILES), 0.22
    step = min((WIDTH - 0.1 + gap) / len(found) - gap, steps * (_STEP + 0.1)) / steps
    side = step - 0.04
    row = side * cells.shape[1] / cells.shape[2] + 0.04
    most = max(len(series.images) for _, series in found)
    views = [_view(drawn, one) for one, _ in found]
    named = not drawn.colour and len(set(views)) > 1  # below each target, else beside the scale
    top, foot = 0.42 if named else 0.28, 0.3
    figure, axes = canvas(WIDTH, top + most * row + 0.2 + foot)
    for place, ((one, series), view) in enumerate(zip(found, views, strict=True)):
        left = 0.05 + place * (steps * step + gap)
        heads = [shorten(one.target.name, int(steps * step / 0.075))]
        heads += [shorten(drawn.channel_names[view], int(steps * step / 0.065))] if named else []
        for line, head in enumerate(heads):
            weight = "normal" if line else "bold"
            axes.text(left, 0.14 * (line + 1), head, va="center", size=SMALL + 0.5, weight=weight)
        for line, images in enumerate(series.images):
            for column, image in enumerate(images):
                put(axes, drawn.show(image, view), left + column * step, top + line * row, side)
        for column, head in enumerate(_PERCENTILES):
            axes.text(
                left + column * step + side / 2, top + most * row + 0.02, head,
                ha="center", va="top", size=SMALL,
            )  # fmt: skip
    y = top + most * row + 0.2 + foot / 2
    x = put_bar(axes, 0.05, y, pixels=cells.shape[2], tile=side, pixel_size=cells.pixel_size)
    if not drawn.colour and not named:
        low, high = drawn.limits[views[0]].tolist()
        put_scale(axes, x + 0.2, y, (low, high), label=_intensity(drawn, views[0]))
    axes.text(
        WIDTH - 0.05, y, "percentile of the target, less to more", ha="right", va="center",
        size=SMALL + 0.5,
    )  # fmt: skip
    return figure


def _block(row: float) -> float:
    """Height of an edited cell, what is said of it, and the real cells beneath, inches."""
    return 2 * row + 0.42


def _view(drawn: Display, pairs: ContrastPairs) -> int:
    """The image channel in which less and more differ most, for how much these cells vary in it."""
    if drawn.colour or len(drawn.channel_names) == 1:
        return 0
    span = np.maximum(drawn.limits[:, 1] - drawn.limits[:, 0], 1e-9)[:, None, None]
    spread = np.concatenate([pairs.less, pairs.more]).std(0)
    change = np.abs(pairs.more.mean(0) - pairs.less.mean(0)) / (spread + 0.05 * span)
    return int(change.mean((1, 2)).argmax())


def _intensity(drawn: Display, view: int) -> str:
    """What the scale of an image channel says."""
    return shorten(drawn.channel_names[view], 24) if len(drawn.channel_names) > 1 else "intensity"


def _change(edits: Edits, drawn: Display, view: int) -> Picture:
    """More minus less (m, H, W), of the image channel shown or the mean of the colours."""
    change = (edits.more - edits.less).astype(np.float64)
    return change.mean(1) if drawn.colour else change[:, view]


def _put_edits(
    axes: Axes, edits: Edits, drawn: Display, view: int, span: float, y: float, row: float
) -> float:
    change = _change(edits, drawn, view)
    ramp = mpl.colormaps[_DIVERGING]
    heads = ("less", "the cell", "more", "more - less")
    for place in range(_MOST_PER_ROW if len(edits.cells) > 1 else 1):
        for column, head in enumerate(heads):
            x = _LEFT + (4 * place + column) * _STEP + _SIDE / 2
            axes.text(x, y + 0.05, head, ha="center", va="center", size=SMALL + 0.5)
    y += 0.17
    axes.text(0.05, y + row / 2, "one cell,\nedited", va="center", size=SMALL + 0.5, weight="bold")
    for cell in range(len(edits.cells)):
        line, place = divmod(cell, _MOST_PER_ROW)
        left, top = _LEFT + 4 * place * _STEP, y + line * _block(row)
        for column, images in enumerate((edits.less, edits.start, edits.more)):
            put(axes, drawn.show(images[cell], view), left + column * _STEP, top, _SIDE)
        picture = ramp(0.5 + 0.5 * change[cell] / span)[..., :3]
        put(axes, picture, left + 3 * _STEP, top, _SIDE, frame="#BBBBBB")
        for side, column in ((0, 0), (1, 2)):
            x = left + column * _STEP
            _put_verdict(axes, edits, cell, side, x, top, row)
            put(axes, drawn.show(edits.matched[cell, side], view), x, top + row + 0.3, _SIDE)
        axes.text(
            left + _STEP + _SIDE / 2, top + 1.5 * row + 0.3, "matched\nreal cells",
            ha="center", va="center", size=SMALL - 0.5,
        )  # fmt: skip
    return y + -(-len(edits.cells) // _MOST_PER_ROW) * _block(row) + 0.08


def _put_verdict(
    axes: Axes, edits: Edits, cell: int, side: int, x: float, y: float, row: float
) -> None:
    """What other networks see of an edit; what is not accepted is framed and says why."""
    shares = edits.judged[cell, side]
    taken = bool(edits.accepted[cell, side])
    text = "unread" if np.isnan(shares).any() else f"others {shares.min():.2f}"
    if not taken:
        axes.add_patch(
            Rectangle((x, y), _SIDE, row, fill=False, edgecolor=INK, linewidth=1.1, linestyle=":")
        )
        odd = edits.common[cell, side] < ODD
        text = f"{text}\n{'odd' if odd else 'not accepted'}"
    axes.text(
        x + _SIDE / 2, y + row + 0.03, text, ha="center", va="top", size=SMALL - 0.5,
        color=TRAINED if taken else FAINT, linespacing=1.05,
    )  # fmt: skip


def _put_edited_series(
    axes: Axes,
    series: NDArray[np.float32],
    drawn: Display,
    view: int,
    y: float,
    row: float,
) -> float:
    axes.text(0.05, y + row / 2, "in five\nsteps", va="center", size=SMALL + 0.5, weight="bold")
    for column, image in enumerate(series):
        put(axes, drawn.show(image, view), _LEFT + column * _STEP, y, _SIDE)
    for column, head in enumerate(("10th", "30th", "the cell", "70th", "90th percentile")):
        axes.text(
            _LEFT + column * _STEP + _SIDE / 2, y + row + 0.03, head,
            ha="center", va="top", size=SMALL - 0.5,
        )  # fmt: skip
    return y + row + 0.3


def _put_real(
    axes: Axes, pairs: ContrastPairs, drawn: Display, view: int, y: float, row: float
) -> float:
    for text, images in (("real cells,\nless", pairs.less), ("real cells,\nmore", pairs.more)):
        axes.text(0.05, y + row / 2, text, va="center", size=SMALL + 0.5, weight="bold")
        for column, image in enumerate(images[:_COLUMNS]):
            put(axes, drawn.show(image, view), _LEFT + column * _STEP, y, _SIDE)
        y += row + 0.07
    return y + 0.12
