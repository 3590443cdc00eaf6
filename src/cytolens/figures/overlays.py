"""What a map is coloured by: classes, predictions and their doubt, groups, clusters, any values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from cytolens.errors import SettingError, choose
from cytolens.figures.style import FAINT, UNTRAINED, colours
from cytolens.records.cells import Cells
from cytolens.records.clusters import Clusters

_MOST = 10  # categories with a colour of their own; the rest are drawn as "other"
_NONE = "#C9C9C9"
NAMES = (
    "class", "prediction", "errors", "confidence", "probability", "entropy", "group", "cluster",
)  # fmt: skip


@dataclass(frozen=True)
class Overlay:
    """One colour per cell, and the key to it."""

    title: str
    rgb: NDArray[np.float64]  # (N, 3)
    categories: tuple[tuple[str, str], ...] = ()  # (name, colour); empty where continuous
    limits: tuple[float, float] | None = None  # of the colour bar, where continuous
    marked: NDArray[np.bool_] | None = None  # (N,), cells with a cross
    codes: NDArray[np.int64] | None = None  # (N,), index into categories
    label: str = ""  # of the colour bar
    numbered: bool = False  # categories are named on the map itself, as clusters are
    scaled: NDArray[np.float64] | None = None  # (N,), 0…1 along the colour scale, NaN: unknown


def categorical(
    title: str,
    codes: NDArray[np.integer],
    names: Sequence[str],
    *,
    palette: Sequence[str] | None = None,
    **options: Any,
) -> Overlay:
    """A colour per category; ``codes`` (N,) index ``names``, -1 is none of them.

    Beyond ten categories (numbered ones excepted) the smallest are drawn alike, as "other".
    """
    codes = np.asarray(codes, dtype=np.int64).copy()
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    keep = np.arange(len(names))
    if len(names) > _MOST and not options.get("numbered"):
        keep = np.sort(np.argsort(-sizes, kind="stable")[: _MOST - 1])
    tints = colours(len(keep)) if palette is None else palette
    found = [(names[int(k)], colour) for k, colour in zip(keep, tints)]
    place = np.full(len(names) + 1, len(keep))
    place[keep] = np.arange(len(keep))
    where = place[codes]  # -1 takes the last entry
    rest = codes[where == len(keep)]
    if len(keep) < len(names) and (rest >= 0).any():
        found.append((f"other ({len(names) - len(keep)})", FAINT))
    elif len(rest):
        found.append(("none", _NONE))
    table = np.array([to_rgb(colour) for _, colour in found] or [to_rgb(_NONE)])
    return Overlay(title, table[where], tuple(found), codes=where, **options)


def continuous(
    title: str,
    values: NDArray[Any],
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    label: str = "",
) -> Overlay:
    """A colour by value, clipped to ``limits`` (1 and 99 percentile); grey where not finite."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    if limits is None:
        low, high = np.percentile(values[known], [1, 99]) if known.any() else (0.0, 1.0)
        limits = (float(low), float(high))
    scaled = np.clip((values - limits[0]) / max(limits[1] - limits[0], 1e-12), 0, 1)
    rgb = mpl.colormaps[cmap](np.nan_to_num(scaled))[:, :3]
    rgb[~known] = to_rgb(_NONE)
    scaled = np.where(known, scaled, np.nan)
    return Overlay(title, rgb, limits=limits, label=label or title, scaled=scaled)


def overlay_of_values(title: str, values: NDArray[Any], *, first: int = 0) -> Overlay:
    """Text, truth and few whole numbers as categories; any other numbers as a colour scale.

    ``first``: so many colours are left to the classes, so that the two are not confused.
    """
    values = np.asarray(values)
    if values.dtype.kind in "fc":
        return continuous(title, values)
    levels, codes = np.unique(
        values.astype(str) if values.dtype == object else values, return_inverse=True
    )
    if values.dtype.kind in "iu" and len(levels) > _MOST:
        return continuous(title, values)
    palette = colours(min(len(levels), _MOST), first=first)
    return categorical(title, codes, [str(level) for level in levels], palette=palette)


def overlay_of_clusters(clusters: Clusters, *, first: int = 0) -> Overlay:
    """A colour per cluster, named by its number on the map; ``first`` as in `overlay_of_values`."""
    numbers = [str(k) for k in range(clusters.n)]
    palette = colours(clusters.n, first=first)
    return categorical("Cluster", clusters.labels, numbers, palette=palette, numbered=True)


def plain(n: int) -> Overlay:
    """One colour for all of ``n`` cells, of which nothing is known."""
    return Overlay("", np.tile(to_rgb(FAINT), (n, 1)))


def overlay(
    cells: Cells,
    color: str = "class",
    *,
    probabilities: NDArray[np.floating] | None = None,
    clusters: Clusters | None = None,
) -> Overlay:
    """The colouring of a name: one of ``NAMES``, or a covariate of the cells.

    ``probabilities`` (N, K) are needed for prediction, errors, confidence (that of the predicted
    class), probability (that of the given class) and entropy (of the prediction, in bits). Raises
    SettingError for a name that is unknown, or that asks for what was not given.
    """
    name = choose("colour", color, [*NAMES, *cells.covariates])
    if name in cells.covariates:
        return overlay_of_values(name, cells.covariates[name], first=len(cells.class_names))
    names = cells.class_names
    if name == "class":
        return categorical("Class", cells.labels, names)
    if name == "group":
        if cells.groups is None:
            raise SettingError("colour 'group': these cells have no groups; choose another colour")
        title = (cells.group_name or "group").capitalize()
        return overlay_of_values(title, cells.groups, first=len(names))
    if name == "cluster":
        if clusters is None:
            raise SettingError("colour 'cluster': give clusters=, the result of cluster()")
        return overlay_of_clusters(clusters, first=len(names))
    if probabilities is None:
        raise SettingError(f"colour '{name}': give probabilities=, the result of predict()")
    predicted = probabilities.argmax(axis=1)
    wrong = predicted != cells.labels
    if name == "confidence":
        limits = (1 / probabilities.shape[1], 1.0)
        best = probabilities.max(axis=1)
        return continuous("Confidence", best, limits=limits, label="probability of prediction")
    if name == "probability":
        own = probabilities[np.arange(len(cells)), cells.labels]
        label = "of the cell's given class"
        return continuous("Probability", own, limits=(0.0, 1.0), label=label)
    if name == "entropy":
        known = np.clip(probabilities, 1e-12, 1)
        bits = -(known * np.log2(known)).sum(axis=1)
        limits = (0.0, float(np.log2(max(probabilities.shape[1], 2))))
        return continuous("Entropy", bits, limits=limits, label="of the prediction (bits)")
    if name == "errors":
        return categorical(
            "Errors", wrong.astype(np.int64), ("right", "wrong"), palette=(_NONE, UNTRAINED)
        )
    return categorical("Prediction (× wrong)", predicted, names, marked=wrong)
