"""Turning maps so that a cell can be followed from one depth to the next by eye."""

import numpy as np
from numpy.typing import NDArray


def align(moving: NDArray[np.floating], fixed: NDArray[np.floating]) -> NDArray[np.float32]:
    """``moving`` (N, 2), centred, rotated and where needed reflected to lie closest to ``fixed``.

    Distances within the map are left as they are: nothing is scaled. Source: orthogonal
    Procrustes, Schönemann 1966, Psychometrika 31.
    """
    start, goal = _centred(moving), _centred(fixed)
    left, _, right = np.linalg.svd(start.T @ goal)
    return (start @ (left @ right)).astype(np.float32)


def flip(moving: NDArray[np.floating], fixed: NDArray[np.floating]) -> NDArray[np.float32]:
    """``moving`` (N, 2) with an axis reversed where it then lies closer to ``fixed``.

    For principal components, whose axes mean something but whose signs do not.
    """
    agreement = (_centred(moving) * _centred(fixed)).sum(axis=0)
    return (moving * np.where(agreement < 0, -1, 1)).astype(np.float32)


def displacement(moving: NDArray[np.floating], fixed: NDArray[np.floating]) -> float:
    """Median distance between a cell's places on two maps, as a share of the width of ``fixed``.

    The width is the diagonal of the map's bounding box.
    """
    width = float(np.linalg.norm(np.ptp(fixed, axis=0)))
    moved = np.linalg.norm(_centred(moving) - _centred(fixed), axis=1)
    return float(np.median(moved)) / width if width else 0.0


def start_from(
    coordinates: NDArray[np.floating], *, rng: np.random.Generator, spread: float = 1e-4
) -> NDArray[np.float64]:
    """A map (N, 2) shrunk to start another: s.d. ``spread`` along its wider axis, and a jitter.

    Small starts are needed for t-SNE to converge (Kobak & Linderman 2021, Nature Biotechnology
    39); one hundredth of it as jitter parts cells that coincide.
    """
    centred = _centred(coordinates)
    deviation = float(centred.std(axis=0).max())
    if deviation > 0:
        centred = centred / deviation
    return spread * (centred + 0.01 * rng.standard_normal(centred.shape))


def _centred(coordinates: NDArray[np.floating]) -> NDArray[np.float64]:
    coordinates = np.asarray(coordinates, dtype=np.float64)
    return coordinates - coordinates.mean(axis=0)
