"""How like an image is to real cells, pixel by pixel, however they are turned."""

import numpy as np
import torch
from numpy.typing import NDArray

from cytolens.features.texture import VIEWS, view_of

_AT_ONCE = 256  # cells: large crops are not all copied


def correlate_pixels(
    images: NDArray[np.float32], cells: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Pearson's correlation (K, n) over the pixels of images and cells (…, C, H, W).

    The largest over the eight orientations of the image, or the four of an oblong one. An image
    without contrast has none: 0.
    """
    known = _unit(cells.reshape(len(cells), -1))
    tensors = torch.from_numpy(np.ascontiguousarray(images))
    best = np.full((len(images), len(cells)), -1.0, np.float32)
    for k in range(VIEWS):
        turned = _unit(view_of(tensors, k).flatten(1).numpy())
        best = np.maximum(best, turned @ known.T)
    return best


def similarity_to_cells(
    images: NDArray[np.float32], cells: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The correlation (K,) of each image with the cell that is most like it; see above.

    >>> cells = np.random.default_rng(0).random((5, 1, 8, 8)).astype(np.float32)
    >>> similarity_to_cells(np.rot90(cells[:2], axes=(2, 3)), cells).round(3).tolist()
    [1.0, 1.0]
    """
    if not len(images) or not len(cells):
        return np.full(len(images), np.nan, np.float32)
    parts = (cells[start : start + _AT_ONCE] for start in range(0, len(cells), _AT_ONCE))
    return np.max([correlate_pixels(images, part).max(1) for part in parts], axis=0)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
