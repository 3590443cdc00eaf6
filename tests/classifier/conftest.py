import numpy as np
import pytest
from made_cells import make_cells


@pytest.fixture
def spots():
    """Two classes that differ in grain, not brightness: 16 px, groups of 24."""
    draw = np.random.default_rng(0)
    labels = np.arange(96) % 2
    images = draw.normal(0, 0.3, size=(96, 1, 16, 16))
    rows, columns = np.mgrid[:16, :16]
    fine, coarse = (rows + columns) % 2, (rows // 4 + columns // 4) % 2
    images += np.where(labels[:, None, None, None] == 1, fine, coarse)
    return make_cells(images, labels, groups=np.arange(96) // 24)
