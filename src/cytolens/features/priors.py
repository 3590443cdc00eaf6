"""What the user's own cells say an image may look like.

A prior is fitted once per data set, and used by name. Every one takes its value range from the
cells; the differences are in where images start, how they may change and what holds them:

- ``cells`` (default): an image starts at a typical one of the cells that drive its target, changes
  along the principal components of the cells, each in proportion to how much cells differ along
  it, and is held to the texture of the cells that drive the target. It climbs as high as the best
  of the cells, and no higher: what is beyond, no cell shows.
- ``components``: from the mean cell along the principal components, within their ellipsoid.
- ``accentuation``: from the same typical cell in Fourier space, penalised for leaving it (after
  Hamblin et al. 2024, feature accentuation).
- ``spectrum``: the cells' mean amplitude spectrum with free phases (after Fel et al. 2023, MACO).
- ``range``: Fourier space, unconstrained but for the value range (Olah et al. 2017).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.errors import InputError, choose
from cytolens.features.canvas import batches_of
from cytolens.features.objectives import Objective, Response
from cytolens.features.parametrisations import Parametrisation, along, fourier, phases
from cytolens.features.texture import VIEWS, describe, texture_filters, view_of
from cytolens.images.preparation import prepared_background
from cytolens.numerics.components import leading_components
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells, Progress
from cytolens.records.shown import record

PRIORS = ("cells", "components", "accentuation", "spectrum", "range")
DRIVING = 0.1
"""Share of the cells, the most active, that are said to drive a target."""
_NUMBERS_AT_ONCE = 2**26  # of the matrix whose components are taken: 256 MB


@record
class Prior:
    """Cells and what was learnt from them; see `fit_prior`. Intensities are prepared ones."""

    kind: str  # one of PRIORS
    crops: NDArray[np.float32]  # (n, C, H, W), the cells it rests on
    value_range: NDArray[np.float64]  # (C, 2), low and high
    background: NDArray[np.float64]  # (C,)
    components: NDArray[np.float32]  # (k, C, H, W), orthonormal, most variable first
    deviations: NDArray[np.float32]  # (k,), of the cells along them
    texture: NDArray[np.float32]  # (n, F), standardised statistics of each cell
    texture_mean: NDArray[np.float32]  # (F,)
    texture_deviation: NDArray[np.float32]  # (F,)
    amplitude: NDArray[np.float32]  # (C, H, W // 2 + 1), root mean square over cells
    rows: NDArray[np.int64]  # (n,), of the cells that were given

    def named(self, kind: str) -> "Prior":
        """The same cells with another kind of prior; nothing is fitted anew."""
        return replace(self, kind=choose("prior", kind, PRIORS))

    def of(self, index: NDArray[np.int64]) -> "Prior":
        """The prior with only the chosen cells to start from and to be held to."""
        return replace(
            self, crops=self.crops[index], texture=self.texture[index], rows=self.rows[index]
        )

    @property
    def starts_from_cells(self) -> bool:
        """True if images start at cells that drive their target."""
        return self.kind in ("cells", "accentuation", "spectrum")

    @property
    def as_settings(self) -> dict[str, str | int]:
        """For the record of what was done."""
        return {"kind": self.kind, "cells": len(self.crops), "components": len(self.components)}


def fit_prior(
    cells: Cells | NDArray[np.float32],
    kind: str = "cells",
    *,
    background: float | NDArray[np.float64] | None = None,
    n_cells: int = 2000,
    n_components: int = 200,
    rng: Rng = None,
    progress: Progress | None = None,
) -> Prior:
    """What at most ``n_cells`` of the cells (N, C, H, W) say an image may look like.

    Give cells that the network was trained on: those held out are for measuring. ``background``
    in prepared intensities, per image channel; by default that of the cells' preparation, or the
    median of the crops' borders. Components are of the cells in all eight orientations, as cells
    in flow have no upright. Deterministic for a given ``rng``.

    Raises SettingError for an unknown kind, InputError without at least ten cells.

    >>> cells = np.random.default_rng(0).random((20, 1, 16, 16)).astype(np.float32)
    >>> prior = fit_prior(cells, n_components=5, rng=0)
    >>> prior.kind, prior.crops.shape, prior.components.shape
    ('cells', (20, 1, 16, 16), (5, 1, 16, 16))
    """
    kind = choose("prior", kind, PRIORS)
    draw = generator(rng)
    total = len(cells)
    if total < 10:
        raise InputError(f"{total} cells came; a prior from the cells takes at least 10")
    shape = cells.shape if isinstance(cells, Cells) else cells.shape[1:]
    chosen = np.sort(draw.choice(total, min(n_cells, total), replace=False))
    some = cells.subset(chosen) if isinstance(cells, Cells) else cells[chosen]
    image_shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    crops = np.concatenate(list(batches_of(some, image_shape, 256))).astype(np.float32)
    limits = np.quantile(crops, [0.0005, 0.9995], axis=(0, 2, 3)).T.astype(np.float64)
    least = 1e-6 * np.maximum(1, np.abs(limits[:, 0]))  # that single precision tells apart
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + least)
    if background is None:
        given = isinstance(cells, Cells)
        background = prepared_background(cells.preparation) if given else _border(crops)
    paper = np.broadcast_to(np.asarray(background, np.float64), (image_shape[0],)).copy()

    def say(step: int, what: str) -> None:
        if progress is not None:
            progress(step, 3, f"prior from the cells: {what}")

    say(0, "texture")
    statistics = describe(texture_filters(image_shape[0]), unit(crops, limits, paper))
    mean, deviation = statistics.mean(0), statistics.std(0)
    deviation = np.maximum(deviation, 1e-3 * np.abs(mean).max() + 1e-9)
    say(1, "components")
    components, deviations = _components(crops, n_components, draw)
    say(2, "spectrum")
    spectra = np.zeros((image_shape[0], image_shape[1], image_shape[2] // 2 + 1))
    for start in range(0, len(crops), 256):
        part = crops[start : start + 256] - paper[:, None, None]
        spectra += (np.abs(np.fft.rfft2(part, norm="ortho")) ** 2).sum(0)
    say(3, "done")
    return Prior(
        kind=kind,
        crops=crops,
        value_range=limits,
        background=paper,
        components=components,
        deviations=deviations,
        texture=(statistics - mean) / deviation,
        texture_mean=mean,
        texture_deviation=deviation,
        amplitude=np.sqrt(spectra / len(crops)).astype(np.float32),
        rows=chosen.astype(np.int64),
    )


def unit(
    crops: NDArray[np.float32], limits: NDArray[np.float64], background: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Intensities above the background in units of the value range."""
    span = (limits[:, 1] - limits[:, 0])[:, None, None]
    return ((crops - background[:, None, None]) / span).astype(np.float32)


def _border(crops: NDArray[np.float32]) -> NDArray[np.float64]:
    edges = (crops[:, :, 0], crops[:, :, -1], crops[..., 0], crops[..., -1])
    return np.median(np.concatenate(edges, axis=2), axis=(0, 2)).astype(np.float64)


def _components(
    crops: NDArray[np.float32], count: int, draw: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Principal components (k, C, H, W) of the cells in all orientations, and s.d. along them."""
    most = max(16, _NUMBERS_AT_ONCE // crops[0].size // VIEWS)
    drawn = crops if len(crops) <= most else crops[np.sort(draw.choice(len(crops), most, False))]
    tensors = torch.from_numpy(drawn)
    turned = torch.cat([view_of(tensors, k) for k in range(VIEWS)]).flatten(1).numpy()
    turned = turned - turned.mean(0)
    k = min(count, *turned.shape)
    seed = int(draw.integers(2**31))
    sizes, rows = leading_components(turned, k, seed=seed)
    kept = np.flatnonzero(sizes > 1e-6 * sizes[0])
    found = rows[kept].reshape(-1, *crops.shape[1:])
    return found.astype(np.float32), (sizes[kept] / np.sqrt(len(turned))).astype(np.float32)


@dataclass(frozen=True)
class Guidance:
    """A prior applied to targets: where each image starts, how it may change, what holds it."""

    start: Tensor | None  # (K, C, H, W), prepared intensities; None: the mean cell
    parametrisation: Parametrisation
    hold: Callable[[list[int]], Objective] | None  # of some of the images, by their number
    cells: NDArray[np.int64]  # (K,), the cell of the prior that each image starts from; or -1
    capped: bool = False  # climb to what the best cell of the prior reaches, and no further


def guide(
    prior: Prior,
    scores: NDArray[np.floating] | None,
    *,
    n: int,
    variants: int = 1,
    weight: float = 2.0,
) -> Guidance:
    """What a prior says of ``n`` images, ``variants`` for each target.

    ``scores`` (cell, target) of its own cells are needed where images start from cells.

    With ``variants`` the cells that drive a target are parted by their texture (k-means), and each
    part gives an image, the largest first.
    """
    none = np.full(n, -1, dtype=np.int64)
    if prior.kind == "range":
        return Guidance(None, fourier, None, none)
    if prior.kind == "components":
        within = along(prior.components, prior.deviations, bounded=True)
        return Guidance(None, within, None, none)
    if scores is None:
        raise InputError(f"prior '{prior.kind}' needs what its cells answer to the target")
    share = np.sqrt(texture_filters(prior.crops.shape[1]).weights.numpy())  # every layer alike
    texture = prior.texture * share
    typical: list[int] = []
    goals: list[NDArray[np.float32]] = []
    for column in scores.T:
        driving = np.argsort(-column, kind="stable")[: max(5, round(DRIVING * len(column)))]
        for part in _parts(texture[driving], variants):
            own = driving[part]
            goal = texture[own].mean(0)
            typical.append(int(own[((texture[own] - goal) ** 2).sum(1).argmin()]))
            goals.append(prior.texture[own].mean(0))
    cells = np.array(typical, dtype=np.int64)
    start = torch.from_numpy(prior.crops[cells])
    if prior.kind == "spectrum":
        return Guidance(start, phases(prior.amplitude), None, cells)
    if prior.kind == "accentuation":
        stay = _stay(weight)
        return Guidance(start, fourier, lambda _: stay, cells)
    held = keep_texture(prior, np.stack(goals), weight=weight)
    change = along(prior.components, prior.deviations)
    return Guidance(start, change, held, cells, capped=True)


def _parts(points: NDArray[np.float32], count: int) -> list[NDArray[np.int64]]:
    """The rows in at most ``count`` parts, the largest first; always ``count`` of them."""
    if count == 1:
        return [np.arange(len(points))]
    from sklearn.cluster import KMeans  # slow to load

    different = len(np.unique(points.round(4), axis=0))
    found = KMeans(min(count, different), random_state=0).fit_predict(points)
    parts = [np.flatnonzero(found == k) for k in np.unique(found)]
    parts.sort(key=len, reverse=True)
    return [parts[k % len(parts)] for k in range(count)]


def keep_texture(
    prior: Prior, goals: NDArray[np.float32], *, weight: float
) -> Callable[[list[int]], Objective]:
    """Mean squared distance of an image's texture from its own goal (K, F), in cells' s.d.

    At every step the image is seen in another of its eight orientations, as the goals are means
    over all. Source: Gatys et al. 2015, with random filters (see `texture`).
    """
    filters = texture_filters(prior.crops.shape[1])
    wanted = torch.from_numpy(goals)
    mean, deviation = map(torch.from_numpy, (prior.texture_mean, prior.texture_deviation))

    def hold(rows: list[int]) -> Objective:
        def score(response: Response, targets: Tensor) -> Tensor:
            above = view_of(response.image - response.background, response.step)
            found = (filters(above) - mean.to(above)) / deviation.to(above)
            distance = (found - wanted[rows].to(above)).square()
            return weight * (distance * filters.weights.to(above)).sum(1)

        return Objective(score=score, layers=(), targets=("texture",), channels=(-1,))

    return hold


def _stay(weight: float) -> Objective:
    """Mean squared departure from the starting cell in the cells' s.d. at each pixel."""

    def score(response: Response, targets: Tensor) -> Tensor:
        deviation = 1.0 if response.deviation is None else response.deviation.clamp_min(0.05)
        departure = (response.image - response.expected) / deviation
        return weight * departure.square().flatten(1).mean(1)

    return Objective(score=score, layers=(), targets=("departure",), channels=(-1,))
