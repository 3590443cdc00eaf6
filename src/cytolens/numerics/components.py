"""The leading singular vectors of a large matrix."""

import numpy as np
from numpy.typing import NDArray

_MORE = 10  # directions beyond those asked for, which make the last of these exact
_TURNS, _TURNS_FOR_FEW = 4, 7  # more where few of the directions are asked for


def leading_components(
    matrix: NDArray[np.float32], count: int, *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The ``count`` largest singular values (k,) of a matrix (n, d), and their rows (k, d).

    By power iteration from random directions (Halko, Martinsson & Tropp 2011), as scikit-learn's
    ``randomized_svd``, which gives the same and takes two seconds to load. Signs are such that
    the largest of the n weights of each row is positive.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    draw = np.random.default_rng(seed)
    basis = draw.standard_normal((tall.shape[1], count + _MORE), dtype=matrix.dtype)
    for _ in range(_TURNS if count >= 0.1 * min(matrix.shape) else _TURNS_FOR_FEW):
        basis = np.linalg.qr(tall.T @ (tall @ basis))[0]  # of the short side: the long one is slow
    basis = np.linalg.qr(tall @ basis)[0]
    left, sizes, right = np.linalg.svd(basis.T @ tall, full_matrices=False)
    weights, rows = basis @ left, right
    if tall is not matrix:
        weights, rows = right.T, (basis @ left).T
    signs = np.sign(weights[np.abs(weights).argmax(axis=0), np.arange(weights.shape[1])])
    return sizes[:count], (signs[:, None] * rows)[:count]
