"""Cells that stand for all where there are too many to map: drawn, then topped up where few are."""

import numpy as np
from numpy.typing import NDArray

from cytolens.numerics.neighbours import distance_to_nearest

DRAWN = 0.8
"""Share of the landmarks drawn at random: these keep the densities of the map true. The others
are the cells farthest from all drawn, so that rare kinds are not left to be placed among
strangers."""


def choose_landmarks(
    features: NDArray[np.float32], count: int, *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of the cells with ``features`` (N, F), in ascending order: for coverage.

    Four of five are drawn at random. The fifth comes from those farthest from any cell drawn,
    one in two of the farthest, since those that are far from all are often near each other.
    """
    n = len(features)
    if count >= n:
        return np.arange(n)
    drawn = np.sort(rng.choice(n, round(DRAWN * count), replace=False))
    left = np.setdiff1d(np.arange(n), drawn, assume_unique=True)
    far = distance_to_nearest(features[left], features[drawn])
    wanted = count - len(drawn)
    farthest = left[np.argsort(-far, kind="stable")[: min(2 * wanted, len(left))]]
    return np.sort(np.concatenate([drawn, rng.choice(farthest, wanted, replace=False)]))
