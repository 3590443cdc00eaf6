"""Drawn cells on the pixel grid: where dye is, and which pixel belongs to which part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.simulation.shapes import Floats, Shapes


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


def _wave_field(waves: Floats, x: Floats, y: Floats) -> Floats:
    """Sum of plane waves (n, wave, 4) on the grid, (n, len(y), len(x)): one small matrix product.

    sin(a + b) = sin a cos b + cos a sin b splits every wave into a column times a row.
    """
    kx, ky, phase, size = (waves[..., i, None] for i in range(4))  # (n, wave, 1)
    across, down = kx * x + phase, ky * y
    rows = np.concatenate([np.cos(down), np.sin(down)], axis=1)
    columns = np.concatenate([size * np.sin(across), size * np.cos(across)], axis=1)
    return rows.transpose(0, 2, 1) @ columns
