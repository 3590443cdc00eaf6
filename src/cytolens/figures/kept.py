"""What the salient parts of feature images keep of the activation, and the same area elsewhere."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cytolens.figures.style import (
    FAINT,
    PALETTE,
    SMALL,
    TRAINED,
    UNTRAINED,
    WIDTH,
    depth_axis,
    move_apart,
    ruled,
    styled,
)
from cytolens.numerics.estimates import Estimate
from cytolens.records.layers import Layer

PLACES = {
    "salient_": ("salient part", TRAINED, "-"),
    "": ("activation map", PALETTE[4], "-"),
    "brightness_": ("brightest pixels", UNTRAINED, "--"),
    "contrast_": ("strongest contrast", PALETTE[2], "--"),
    "random_": ("random place", FAINT, ":"),
}
_PANELS = {
    "kept": "kept where the gain is\n(higher is better)",
    "insertion": "back once put in\n(higher is better)",
    "deletion": "left once taken out\n(lower is better)",
}


@styled
def plot_kept(kept: Mapping[str, Mapping[str, Estimate]], layers: Sequence[Layer] = ()) -> Figure:
    """Share of the channels' activation that salient parts keep, bring back and leave, by depth.

    ``kept`` is what `measure_kept` gives, by layer: with the gain of the activation map, and with
    the same gains in the salient part, on the brightest pixels, on those of strongest local
    contrast, and in a random place. Means over channels; the band is the 95 % interval of the
    first of these that there is.
    """
    names = [layer.name for layer in layers if layer.name in kept] or list(kept)
    places = {
        p: look for p, look in PLACES.items() if any(f"{p}kept" in one for one in kept.values())
    }
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    for place, (key, title) in enumerate(_PANELS.items()):
        axes = figure.add_subplot(1, 3, place + 1)
        ends: list[tuple[str, str, float]] = []
        for prefix, (text, colour, line) in places.items():
            found = [kept[name].get(prefix + key) for name in names]
            last = _curve(axes, found, colour, line, band=prefix == next(iter(places)))
            if np.isfinite(last):
                ends.append((text, colour, last))
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(title, size=8)
        if place == len(_PANELS) - 1:
            for (text, colour, _), y in zip(ends, move_apart([end for *_, end in ends], 0.09)):
                axes.annotate(
                    text, (1.02, y), xycoords=("axes fraction", "data"), size=SMALL, color=colour,
                    va="center", annotation_clip=False,
                )  # fmt: skip
        if place == 0:
            axes.set_ylabel("share of the activation")
        depth_axis(axes, names)
        ruled(axes)
    return figure


def _curve(
    axes: Axes, found: Sequence[Estimate | None], colour: str, line: str, *, band: bool
) -> float:
    """One curve over depth; gives its last value, or NaN."""
    value, low, high = (
        np.array([np.nan if one is None else getattr(one, part) for one in found], dtype=float)
        for part in ("value", "low", "high")
    )
    depth = np.arange(len(found))
    if band:
        axes.fill_between(depth, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(depth, value, color=colour, linestyle=line, marker="o", ms=3.5 if band else 2.5)
    known = value[np.isfinite(value)]
    return float(known[-1]) if len(known) else float("nan")
