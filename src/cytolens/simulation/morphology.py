"""What the simulated white blood cells are made of: drawn shapes, then dye on a pixel grid."""

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

    In between it goes by ``dial``, which makes the accuracy of a simple classifier fall about
    evenly over the dial; linear, most of the fall would come in its last quarter.
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
      a coefficient of variation ``diameter_cv``, so that size alone does not tell the classes.
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


@dataclass(frozen=True)
class Dye:
    """A batch of cells on the pixel grid: where dye is, and what is what; (n, H, W)."""

    total: Floats  # dye per pixel; the nucleus of the average cell sums to 1
    moment_1: Floats  # the same weighted by depth z, µm
    moment_2: Floats  # weighted by z²
    nucleus: NDArray[np.bool_]
    lobes: NDArray[np.uint8]  # number of the lobe, 1 … n_lobes; 0 outside of the nucleus
    cell: NDArray[np.bool_]
    edge: Floats  # (distance from the centre / radius)² in the bent frame; 1 on the cell's outline
    nuclear_level: Floats  # (n,), mean dye per pixel within the nucleus


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
    """Random cells of the given classes, and the order (n,) in which they were put.

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
    """Standard normal numbers, none beyond ±2.5: no monsters among a million cells."""
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
    """The chain squeezed, then shrunk, into the cell, then put off its centre where there is room.

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


def _wave_field(waves: Floats, x: Floats, y: Floats) -> Floats:
    """Sum of plane waves (n, wave, 4) on the grid, (n, len(y), len(x)): one small matrix product.

    sin(a + b) = sin a cos b + cos a sin b splits every wave into a column times a row.
    """
    kx, ky, phase, size = (waves[..., i, None] for i in range(4))  # (n, wave, 1)
    across, down = kx * x + phase, ky * y
    rows = np.concatenate([np.cos(down), np.sin(down)], axis=1)
    columns = np.concatenate([size * np.sin(across), size * np.cos(across)], axis=1)
    return rows.transpose(0, 2, 1) @ columns


def render(shapes: Shapes, x: Floats, y: Floats) -> Dye:
    """Dye on the grid of pixel centres ``x`` (W,), ``y`` (H,), in µm from the middle of the image.

    The nucleus is seen as the thickness of its projection, made uneven by the grain of its
    chromatin; the cytoplasm fills the rest of the ball. Outlines are made organic by bending the
    frame with slow waves. A nucleus holds the same amount of DNA in distribution in either class.
    """
    column = (slice(None), None, None)
    cos, sin = np.cos(shapes.angle)[column], np.sin(shapes.angle)[column]
    dx, dy = x - shapes.centre[:, :1], y - shapes.centre[:, 1:]  # (n, W), (n, H)
    u = cos * dx[:, None, :] + sin * dy[:, :, None] + _wave_field(shapes.wobble[:, 0], x, y)
    v = cos * dy[:, :, None] - sin * dx[:, None, :] + _wave_field(shapes.wobble[:, 1], x, y)
    square, lobes = _nucleus(shapes, u, v)
    nucleus = square > 0
    edge = (u * u + v * v) / shapes.radius[column] ** 2

    thickness = 2 * np.sqrt(square)
    ball = 2 * shapes.radius[column] * np.sqrt(np.maximum(1 - edge, 0))
    grain = 1 + _wave_field(shapes.grain, x, y)
    nuclear = thickness * np.maximum(grain, 0.2, out=grain)
    nuclear *= (shapes.dna / nuclear.sum((1, 2)))[column]
    rest = np.maximum(ball - thickness, 0)
    rest *= (shapes.dna * shapes.cytoplasm / rest.sum((1, 2)))[column]

    depth = shapes.slope[:, 0][column] * u + shapes.slope[:, 1][column] * v
    depth = np.clip(depth, -2, 2, out=depth)  # µm, of the middle surface of the nucleus
    moment_1 = nuclear * depth
    moment_2 = moment_1 * depth
    moment_2 += nuclear * thickness**2 * np.float32(1 / 12)  # variance of a uniform column
    moment_2 += rest * ball**2 * np.float32(1 / 12)
    return Dye(
        total=nuclear + rest,
        moment_1=moment_1,
        moment_2=moment_2,
        nucleus=nucleus,
        lobes=lobes,
        cell=(edge < 1) | nucleus,
        edge=edge,
        nuclear_level=(shapes.dna / nucleus.sum((1, 2))).astype(np.float32),
    )


def _nucleus(shapes: Shapes, u: Floats, v: Floats) -> tuple[Floats, NDArray[np.uint8]]:
    """Squared half-thickness of the nucleus, µm², and the number of the lobe, both (n, H, W).

    Each lobe is a filled ellipsoid; where lobes meet, squares of thickness add, which is between a
    union and a sum. Strands are capsules. A pixel belongs to the lobe it is deepest in.
    """
    square = np.zeros_like(u)
    nearest = np.full_like(u, np.inf)
    lobes = np.zeros(u.shape, dtype=np.uint8)
    for lobe in range(int(shapes.n_lobes.max())):
        k = int((shapes.n_lobes > lobe).sum())  # the cells that have this lobe come first
        q = _ellipse(u[:k], v[:k], shapes, lobe)
        lobes[:k][q < nearest[:k]] = lobe + 1
        np.minimum(nearest[:k], q, out=nearest[:k])
        np.subtract(1, q, out=q)
        np.maximum(q, 0, out=q)
        q *= shapes.lobe_axes[:k, lobe, 2, None, None] ** 2
        square[:k] += q
        if lobe > 0:
            square[:k] += _strand(u[:k], v[:k], shapes, lobe)
    single = np.flatnonzero(shapes.n_lobes == 1)
    square[single] = _notch(square[single], u[single], v[single], shapes, single)
    lobes *= square > 0
    return square, lobes


def _ellipse(u: Floats, v: Floats, shapes: Shapes, lobe: int) -> Floats:
    """Quadratic form of one lobe for the leading cells, (k, H, W): below 1 inside."""
    k = len(u)
    along, across = shapes.lobe_axes[:k, lobe, 0], shapes.lobe_axes[:k, lobe, 1]
    cos, sin = np.cos(shapes.lobe_angle[:k, lobe]), np.sin(shapes.lobe_angle[:k, lobe])
    a = ((cos / along) ** 2 + (sin / across) ** 2)[:, None, None]
    b = (2 * cos * sin * (along**-2 - across**-2))[:, None, None]
    c = ((sin / along) ** 2 + (cos / across) ** 2)[:, None, None]
    du = u - shapes.lobe_centre[:k, lobe, 0, None, None]
    dv = v - shapes.lobe_centre[:k, lobe, 1, None, None]
    q = a * du
    q += b * dv
    q *= du
    dv *= dv
    dv *= c
    q += dv
    return q


def _strand(u: Floats, v: Floats, shapes: Shapes, lobe: int) -> Floats:
    """Squared half-thickness of the strand from the lobe before to this one, (k, H, W)."""
    k = len(u)
    start = shapes.lobe_centre[:k, lobe - 1]
    way = shapes.lobe_centre[:k, lobe] - start
    length = np.maximum((way**2).sum(-1), np.float32(1e-6))
    du, dv = u - start[:, 0, None, None], v - start[:, 1, None, None]
    t = du * (way[:, 0] / length)[:, None, None]
    t += dv * (way[:, 1] / length)[:, None, None]
    np.clip(t, 0, 1, out=t)
    du -= t * way[:, 0, None, None]
    dv -= t * way[:, 1, None, None]
    square = shapes.strand[:k, None, None] ** 2 - du * du - dv * dv
    return np.maximum(square, 0, out=square)


def _notch(square: Floats, u: Floats, v: Floats, shapes: Shapes, chosen: NDArray[Any]) -> Floats:
    """The squared half-thickness with a notch taken out of the nucleus."""
    place, depth, width = np.split(shapes.dent[chosen], (2, 3), axis=1)
    distance = (u - place[:, 0, None, None]) ** 2 + (v - place[:, 1, None, None]) ** 2
    height = depth * shapes.lobe_axes[chosen, 0, 2:] ** 2  # (k, 1)
    taken = height[..., None] * np.exp(-distance / (width**2)[..., None])
    return np.maximum(square - taken, 0)
