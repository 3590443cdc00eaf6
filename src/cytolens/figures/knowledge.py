"""What can be read from every layer apart from the class: a heat map of property × depth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cytolens.figures.labels import format_number, shorten
from cytolens.figures.style import BRIEF_WIDTH, INK, SMALL, WIDTH, styled
from cytolens.figures.tiles import canvas
from cytolens.numerics.estimates import Estimate
from cytolens.records.knowledge import Knowledge
from cytolens.records.layers import Layer

CLASS = "class"
SECTIONS = {
    "shape": ("area", "eccentricity", "solidity", "lobes"),
    "brightness": ("mean_brightness", "total_brightness", "unevenness", "brightness_"),
    "texture": ("texture_contrast", "texture_entropy", "focus"),
    "the crop": (
        "crop_height", "crop_width", "crop_size", "padding_share", "off_centre", "offset_x",
        "offset_y", "background",
    ),
}  # fmt: skip
MOST_ROWS = 44
MOST_LAYERS = 16
_BRIEF_LAYERS, _BRIEF_ROWS = 8, 8
_LEFT, _RIGHT, _TOP, _ROW = 2.05, 0.1, 0.75, 0.175  # inches
_BRIEF_LEFT = 1.6
_SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#A6CBE3", "#0072B2"])
_GREY = "#ECECEC"


def is_clear(estimate: Estimate, measure: str) -> bool:
    """Whether the interval lies above the null, and above what guessing gives."""
    floor = 0.5 if measure == "auc" else 0.0
    return estimate.least > max(floor, estimate.null or floor)


def rows_of(knowledge: Knowledge) -> list[tuple[str, list[str]]]:
    """Properties by section, in the order they are shown in; the class first, the table last."""
    left = [name for name in knowledge.measures if name != CLASS]
    found: list[tuple[str, list[str]]] = [("", [CLASS])] if CLASS in knowledge.measures else []
    for section, names in SECTIONS.items():
        inside = [
            name
            for known in names
            for name in left
            if name == known or (known.endswith("_") and name.startswith(known))
        ]
        found.append((section, inside))
        left = [name for name in left if name not in inside]
    room = MOST_ROWS - sum(len(names) for _, names in found)
    if len(left) > room:  # those that are read best
        best = {name: max(read[name].value for read in knowledge.layers.values()) for name in left}
        kept = sorted(left, key=lambda name: -best[name])[: max(room, 0)]
        left = [name for name in left if name in kept]
    found.append(("given", left))
    return [(section, names) for section, names in found if names]


@styled
def plot_knowledge(layers: Sequence[Layer], knowledge: Knowledge, *, brief: bool = False) -> Figure:
    """How well every property can be read from every layer, R² or AUC, as shades and numbers.

    Shades go from guessing (R² 0, AUC 0.5) to all there is to know (1). Grey are numbers that are
    not clear of their null. Of more than 16 layers so many are shown, evenly spread, of more than
    44 properties those of the table that are read best. A triangle up marks where the interval of
    `Knowledge.gain` lies above zero, a triangle down where below. The class
    stands first, for comparison. ``brief``: at most 8 layers, and the class and the 8 properties
    that are read best at any of them.
    """
    names = [layer.name for layer in layers if layer.name in knowledge.layers]
    most = _BRIEF_LAYERS if brief else MOST_LAYERS
    if len(names) > most:
        names = [names[k] for k in np.linspace(0, len(names) - 1, most).astype(int)]
    sections = _best_rows(knowledge, names) if brief else rows_of(knowledge)
    count = sum(len(rows) for _, rows in sections)
    tall = _TOP + count * _ROW + 0.08 * len(sections) + 0.3
    wide, left = (BRIEF_WIDTH, _BRIEF_LEFT) if brief else (WIDTH, _LEFT)
    figure, axes = canvas(wide, tall)
    step = min((wide - left - _RIGHT) / max(len(names), 1), 0.62)
    for place, name in enumerate(names):
        axes.text(
            left + (place + 0.5) * step, _TOP - 0.06, shorten(name, 14), rotation=40, ha="left",
            va="bottom", size=SMALL, rotation_mode="anchor",
        )  # fmt: skip
    y = _TOP
    for section, rows in sections:
        axes.text(0.08, y + _ROW / 2, section, va="center", size=SMALL, color="#555555")
        for name in rows:
            measure = knowledge.measures[name]
            title = shorten(name.replace("_", " "), 24) + (" (AUC)" if measure == "auc" else "")
            weight = "bold" if name == CLASS else "normal"
            axes.text(
                left - 0.08, y + _ROW / 2, title, ha="right", va="center", size=SMALL,
                weight=weight,
            )  # fmt: skip
            for place, layer in enumerate(names):
                estimate = knowledge.layers[layer][name]
                gain = knowledge.gain(layer, name)
                _put(axes, estimate, gain, measure, left + place * step, y, step)
            y += _ROW
        y += 0.08
    legend = "grey: not clear of the null"
    if knowledge.compared:
        legend = f"▲ clearly above the untrained network, ▼ clearly below it; {legend}"
    aside = 0.08 if brief else left
    axes.text(aside, y + 0.1, legend, va="center", size=SMALL, color="#555555")
    return figure


def _best_rows(knowledge: Knowledge, layers: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The class, and the properties that are read best, the best first: share of what there is."""

    def share(name: str) -> float:
        floor = 0.5 if knowledge.measures[name] == "auc" else 0.0
        values = [knowledge.layers[layer][name].value for layer in layers]
        return max((float(np.nan_to_num(v - floor)) / (1 - floor) for v in values), default=0.0)

    others = [name for _, names in rows_of(knowledge) for name in names if name != CLASS]
    best = sorted(others, key=share, reverse=True)[:_BRIEF_ROWS]
    found = [("", [CLASS] if CLASS in knowledge.measures else []), ("", best)]
    return [(section, names) for section, names in found if names]


def _put(
    axes: Axes, estimate: Estimate, gain: Estimate | None, measure: str, x: float, y: float,
    step: float,
) -> None:  # fmt: skip
    clear = is_clear(estimate, measure)
    share = 2 * estimate.value - 1 if measure == "auc" else estimate.value
    share = float(np.clip(np.nan_to_num(share), 0, 1))
    colour = _SHADES(share) if clear else _GREY
    axes.add_patch(Rectangle((x, y), step - 0.02, _ROW - 0.02, facecolor=colour))
    ink = "#8A8A8A" if not clear else "white" if share > 0.72 else INK
    shown = format_number(estimate.value) if estimate.value > -0.1 else "< 0"
    aside = 0.0
    if step < 0.45:  # room for the triangle
        shown, aside = shown.replace("0.", "."), 0.035
    axes.text(
        x + step / 2 - 0.01 - aside, y + _ROW / 2, shown, ha="center", va="center", size=SMALL,
        color=ink,
    )  # fmt: skip
    if clear and gain is not None and gain.known and not gain.low <= 0 <= gain.high:
        mark = "▲" if gain.low > 0 else "▼"
        axes.text(x + step - 0.03, y + _ROW / 2, mark, ha="right", va="center", size=4.5, color=ink)
