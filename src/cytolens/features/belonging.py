"""Whose image is it? Cells most like it, in a representation that had no part in its making."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytolens.features.priors import Prior, unit
from cytolens.features.texture import RandomFilters, describe
from cytolens.numerics.estimates import Rng, generator
from cytolens.records.cells import Cells

NEAREST = 15  # cells that are asked for
MOST_OF_A_PART = 60  # cells, so that a large part has no more nearest cells than a small one


def share_of_own(
    images: NDArray[np.float32],
    parts: Sequence[NDArray[np.int64]],
    cells: Cells,
    prior: Prior,
    *,
    rng: Rng = None,
) -> NDArray[np.float64]:
    """How many of the 15 cells most like an image are of its own part, as shares (K,).

    images (K, C, H, W), the k-th of ``parts[k]``, indices into ``cells``. Likeness is the distance
    in the standardised texture statistics of random filters that are not those of the prior (as in
    `comparison`, but narrower). At most 60 cells are drawn of each part, and as many of each: a
    share of one over the number of parts is chance. NaN for a part of fewer than 15 cells.
    """
    draw = generator(rng)
    enough = [len(members) >= NEAREST for members in parts]
    size = min((len(m) for m, able in zip(parts, enough) if able), default=0)
    found = np.full(len(parts), np.nan)
    if sum(enough) < 2:
        return found
    drawn = [
        draw.choice(members, min(size, MOST_OF_A_PART), replace=False) if able else members[:0]
        for members, able in zip(parts, enough)
    ]
    owner = np.repeat(np.arange(len(parts)), [len(members) for members in drawn])
    chosen = np.concatenate(drawn)
    order = np.argsort(chosen, kind="stable")  # read in order of the file
    chosen, owner = chosen[order], owner[order]
    filters = RandomFilters(images.shape[1], widths=(16, 32, 32, 64), seed=1, pooling="largest")
    points, asked = (
        describe(filters, unit(crops, prior.value_range, prior.background))
        for crops in (cells.read(chosen), images)
    )
    deviation = points.std(axis=0)
    deviation = np.maximum(deviation, 1e-3 * np.abs(points).max() + 1e-9)
    for k in np.flatnonzero(enough):
        far = (((points - asked[k]) / deviation) ** 2).sum(axis=1)
        nearest = np.argsort(far, kind="stable")[:NEAREST]
        found[k] = float((owner[nearest] == k).mean())
    return found
