"""Leading components against scikit-learn's."""

import numpy as np
import pytest
from sklearn.utils.extmath import randomized_svd

from cytolens.numerics.components import leading_components


@pytest.mark.parametrize("shape", [(120, 40), (40, 120)])
def test_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    size = min(shape)
    left, _ = np.linalg.qr(rng.normal(size=(shape[0], size)))
    right, _ = np.linalg.qr(rng.normal(size=(shape[1], size)))
    matrix = ((left * 0.8 ** np.arange(size)) @ right.T).astype(np.float32)
    sizes, rows = leading_components(matrix, 12, seed=3)
    _, theirs, their_rows = randomized_svd(matrix, 12, random_state=0)
    np.testing.assert_allclose(sizes, theirs, rtol=1e-4)
    np.testing.assert_allclose(rows, their_rows, atol=1e-3)
