"""The shapes of simulated white blood cells, drawn at random: cell, nucleus, lobes, chromatin."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("lymphocyte", "neutrophil")
MAX_LOBES = 5
_WAVES = 24  # plane waves in a random field
Floats = NDArray[np.floating[Any]]  # float32 on the grid; float64 while shapes are drawn


@dataclass(frozen=True)
class Range:
    """A number for each class at difficulty 0 and at difficulty 1.

    In between it follows ``dial``, with which the accuracy of a simple classifier falls about
    evenly with difficulty. If it were linear, most of the fall would be in the last quarter.
    """

    easy: tuple[float, float]  # lymphocyte, neutrophil
    hard: tuple[float, float]

    def at(self, difficulty: float, labels: NDArray[np.int64]) -> Floats:
        """The value for each cell, (n,)."""
        easy, hard = np.array(self.easy)[labels], np.array(self.hard)[labels]
        return easy + dial(difficulty) * (hard - easy)


def dial(difficulty: float) -> float:
    """How far from easy to hard: 0 … 1, fast at first."""
    return 1 - (1 - difficulty) ** 1.5


@dataclass(frozen=True)
class CellTypes:
    """Morphology of the two classes, as ``Range`` (lymphocyte, neutrophil) by difficulty.

    - ``diameter`` µm, of the suspended cell: lymphocytes 210 µm³ (Segel et al. 1981, Blood 57:894),
      a ball of 7.4 µm; neutrophils 8 to 9 µm on cell counters. Both moved towards each other, with
      a coefficient of variation ``diameter_cv``, so that size alone does not separate the classes.
    - ``nucleus_fraction``, volume of the nucleus (its lobes added up) over that of the cell:
      neutrophils 0.21 (Schmid-Schönbein et al. 1980, Blood 56:866, table 2); lymphocytes 0.44, a
      nucleus three quarters as wide as the cell. At difficulty 1 such that areas agree.
    - ``lobe_gap``: distance of neighbouring lobes over the sum of their radii; above 1 a strand of
      chromatin shows between them.
    - ``elongation``: half-axis ratio of nucleus (lymphocyte: round to oval) or lobe, mean.
    - ``dent``: mean depth of a notch in the nucleus, 0 … 1 (cleaved and kidney-shaped nuclei).
    - ``grain``: contrast of the chromatin (s.d. over mean); smooth in lymphocytes, clumped in
      neutrophils (Bain, Blood Cells, chapter 3).
    - ``focus_spread``: factor on the optics' focus s.d.; ``dimming``: decades by which the photons
      fall. At difficulty 1 cells are dim and often out of focus, whatever their class.

    The share of neutrophils with 2, 3, 4, 5 lobes, ``lobe_shares``, is that of the Arneth count
    (20-30, 40-50, 10-15, 2-5 % of neutrophils); harder cells have fewer lobes (left shift).
    """

    diameter: Range = Range((7.7, 8.2), (8.0, 8.0))
    diameter_cv: Range = Range((0.07, 0.07), (0.07, 0.07))
    nucleus_fraction: Range = Range((0.44, 0.21), (0.30, 0.36))
    lobe_gap: Range = Range((1.2, 1.2), (0.32, 0.32))
    elongation: Range = Range((1.12, 1.2), (1.45, 1.1))
    dent: Range = Range((0.05, 0.0), (0.75, 0.0))
    grain: Range = Range((0.06, 0.16), (0.12, 0.12))
    focus_spread: Range = Range((0.6, 0.6), (2.3, 2.3))
    dimming: Range = Range((0.0, 0.0), (1.5, 1.5))
    lobe_shares: tuple[tuple[float, ...], tuple[float, ...]] = (
        (0.28, 0.53, 0.15, 0.04),
        (0.75, 0.25, 0.0, 0.0),
    )


@dataclass(frozen=True)
class Shapes:
    """A batch of cells as drawn; lengths in µm, in the frame of each cell.

    Cells come with the most lobes first, so that the cells with a k-th lobe are a leading slice.
    """

    labels: NDArray[np.int64]  # (n,)
    centre: Floats  # (n, 2), x and y from the middle of the image
    angle: Floats  # (n,), radians
    radius: Floats  # (n,), of the cell
    n_lobes: NDArray[np.int64]  # (n,)
    lobe_centre: Floats  # (n, 5, 2)
    lobe_axes: Floats  # (n, 5, 3), half-axes: along the lobe, across it, in depth
    lobe_angle: Floats  # (n, 5), radians
    strand: Floats  # (n,), half-width of the strands between lobes
    dent: Floats  # (n, 4): place x, y, depth 0 … 1, half-width
    slope: Floats  # (n, 2), depth of the nucleus' middle surface gained along x and y
    wobble: Floats  # (n, 2, 4, 4): waves that bend outlines
    grain: Floats  # (n, 24, 4): waves of the chromatin
    dna: Floats  # (n,), dye in the nucleus, 1 on average
    cytoplasm: Floats  # (n,), dye in the cytoplasm as a fraction of that in the nucleus
    defocus: Floats  # (n,)
    light: Floats  # (n,), factor on the photons


def draw_shapes(
    labels: NDArray[np.int64],
    *,
    difficulty: float,
    field: float,
    focus_sd: float,
    brightness_cv: float,
    types: CellTypes,
    draw: np.random.Generator,
) -> tuple[Shapes, NDArray[np.int64]]:
    """Random cells of the given classes, and the order (n,) that they were sorted into.

    The random numbers drawn do not depend on difficulty or class, so the same seed gives "the
    same" cell at any difficulty. ``field`` is the width of the image in µm; a cell is kept inside.
    """
    n = len(labels)

    def at(name: str) -> Floats:
        return getattr(types, name).at(difficulty, labels)

    radius = at("diameter") / 2 * np.exp(at("diameter_cv") * _normal(draw, n))
    radius = np.minimum(radius, 0.46 * field)
    volume = 4 / 3 * np.pi * radius**3 * at("nucleus_fraction") * np.exp(0.1 * _normal(draw, n))
    easy, hard = np.array(types.lobe_shares)
    shares = np.cumsum(easy + dial(difficulty) * (hard - easy))
    drawn = 2 + np.searchsorted(shares[:-1], draw.uniform(0, 1, n), side="right")
    n_lobes = np.where(labels == 1, drawn, 1)
    present = np.arange(MAX_LOBES) < n_lobes[:, None]  # (n, 5)

    parts = present * np.exp(0.22 * _normal(draw, n, MAX_LOBES))
    parts *= (volume / parts.sum(1))[:, None]
    ball = np.cbrt(3 * parts / (4 * np.pi))  # (n, 5), radius of a ball of the lobe's volume
    stretch = 1 + (at("elongation") - 1)[:, None] * np.abs(1 + 0.5 * _normal(draw, n, MAX_LOBES))
    across = ball * stretch ** (-1 / 3)
    axes = np.stack([ball * stretch ** (2 / 3), across, across], -1)
    gap = at("lobe_gap") * np.exp(0.08 * _normal(draw, n))
    places, lobe_angle = _draw_chain(n_lobes, gap, axes[..., 0], parts, draw)
    places, axes, shift = _fit_inside(places, axes, present, radius, draw)

    way = draw.uniform(0, 2 * np.pi, n)  # of the notch, on the outline of a round nucleus
    dent_place = shift + ball[:, :1] * np.stack([np.cos(way), np.sin(way)], -1)
    dent_depth = np.clip(at("dent") * (1 + 0.6 * _normal(draw, n)), 0, 1.3)
    dent_width = ball[:, 0] * draw.uniform(0.35, 0.6, n)
    tilt = np.deg2rad(np.clip(22 * _normal(draw, n), -45, 45))
    way = draw.uniform(0, 2 * np.pi, n)
    margin = np.clip(field / 2 - radius - 0.4, 0, 0.8)[:, None]  # crops are centred to ±0.8 µm
    grain = _draw_waves(draw, (n, _WAVES), wavelength=(0.9, 2.6), amplitude=1.0)
    grain[..., 3] *= at("grain")[:, None]
    draws: dict[str, NDArray[Any]] = {
        "labels": labels,
        "centre": margin * draw.uniform(-1, 1, (n, 2)),
        "angle": draw.uniform(0, 2 * np.pi, n),
        "radius": radius,
        "n_lobes": n_lobes,
        "lobe_centre": places,
        "lobe_axes": np.where(present[..., None], axes, 1.0),
        "lobe_angle": lobe_angle,
        "strand": draw.uniform(0.22, 0.38, n),
        "dent": np.stack([*dent_place.T, dent_depth, dent_width], -1),
        "slope": np.tan(tilt)[:, None] * np.stack([np.cos(way), np.sin(way)], -1),
        "wobble": _draw_waves(draw, (n, 2, 4), wavelength=(4.0, 9.0), amplitude=0.14),
        "grain": grain,
        "dna": np.exp(brightness_cv * _normal(draw, n)),
        "cytoplasm": draw.uniform(0.08, 0.2, n),
        "defocus": at("focus_spread") * focus_sd * _normal(draw, n),
        "light": 10 ** -at("dimming"),
    }
    order = np.argsort(-n_lobes, kind="stable")
    batch: dict[str, Any] = {
        name: value[order].astype(np.int64 if value.dtype == np.int64 else np.float32)
        for name, value in draws.items()
    }
    return Shapes(**batch), order


def _normal(draw: np.random.Generator, *shape: int) -> Floats:
    """Standard normal numbers, cut off at ±2.5, so that a million cells contain no extreme one."""
    return np.clip(draw.standard_normal(shape), -2.5, 2.5)


def _draw_chain(
    n_lobes: NDArray[np.int64],
    gap: Floats,
    reach: Floats,
    weight: Floats,
    draw: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Lobes on an arc about their common centre: places (n, 5, 2) and directions (n, 5).

    Most chains curl one way (C, U), some bend back (S, Z), as on blood films.
    """
    n = len(n_lobes)
    step = gap[:, None] * (reach[:, :-1] + reach[:, 1:])  # (n, 4), between neighbours
    turn = np.deg2rad(np.where(n_lobes > 2, 62, 30)[:, None] + 18 * _normal(draw, n, MAX_LOBES - 1))
    turn *= np.where(draw.uniform(0, 1, turn.shape) < 0.12, -1, 1)
    heading = np.cumsum(turn, axis=1)
    path = np.stack([step * np.cos(heading), step * np.sin(heading)], -1)
    places = np.concatenate([np.zeros((n, 1, 2)), np.cumsum(path, axis=1)], axis=1)
    weight = weight / weight.sum(1, keepdims=True)
    places -= (places * weight[..., None]).sum(1, keepdims=True)
    direction = np.concatenate([heading[:, :1] - turn[:, 1:2] / 2, heading], axis=1)
    return places, direction + 0.3 * _normal(draw, n, MAX_LOBES)


def _fit_inside(
    places: Floats,
    axes: Floats,
    present: NDArray[np.bool_],
    radius: Floats,
    draw: np.random.Generator,
) -> tuple[Floats, Floats, Floats]:
    """The chain squeezed, then shrunk, into the cell, then moved off centre where there is room.

    Returns places, axes and the shift (n, 2).
    """

    def reach() -> Floats:
        return (present * (np.hypot(places[..., 0], places[..., 1]) + axes[..., 0])).max(1)

    inner = 0.97 * radius
    places = places * np.minimum(1, inner / reach())[:, None, None]
    shrink = np.minimum(1, inner / reach())[:, None, None]
    places, axes = places * shrink, axes * shrink
    aside = np.sqrt(draw.uniform(0, 1, len(radius))) * np.maximum(0, inner - reach())
    way = draw.uniform(0, 2 * np.pi, len(radius))
    shift = np.stack([aside * np.cos(way), aside * np.sin(way)], -1)
    return places + shift[:, None], axes, shift


def _draw_waves(
    draw: np.random.Generator,
    shape: tuple[int, ...],
    *,
    wavelength: tuple[float, float],
    amplitude: float,
) -> Floats:
    """Plane waves (…, wave, 4): wave numbers x and y in radians/µm, phase, amplitude.

    Their sum is a field of standard deviation ``amplitude``, nearly Gaussian for many waves.
    """
    way, phase = draw.uniform(0, 2 * np.pi, (2, *shape))
    number = 2 * np.pi / draw.uniform(*wavelength, shape)
    size = np.full(shape, amplitude * np.sqrt(2 / shape[-1]))
    return np.stack([number * np.cos(way), number * np.sin(way), phase, size], -1)
