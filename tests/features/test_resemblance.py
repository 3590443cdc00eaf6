import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.features.resemblance import correlate_pixels, similarity_to_cells


def drawn(n: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((n, *shape), dtype=np.float32)


def test_it_is_pearsons_correlation_of_the_best_of_eight_orientations() -> None:
    images, cells = drawn(3, 2, 9, 9), drawn(5, 2, 9, 9)[2:]
    found = correlate_pixels(images, cells)
    for i, image in enumerate(images):
        for j, cell in enumerate(cells):
            turned = [np.rot90(view, k, (1, 2)) for view in (image, image[..., ::-1])
                      for k in range(4)]  # fmt: skip
            known = [np.corrcoef(one.ravel(), cell.ravel())[0, 1] for one in turned]
            assert found[i, j] == pytest.approx(max(known), abs=1e-5)


def test_brightness_and_contrast_do_not_matter_and_a_flat_image_is_like_nothing() -> None:
    cells = drawn(300, 1, 8, 8)  # more than are compared at once
    other = 3 * cells[[290, 4]][..., ::-1] - 7
    assert np.allclose(similarity_to_cells(other, cells), 1, atol=1e-5)
    assert similarity_to_cells(np.ones((1, 1, 8, 8), np.float32), cells) == pytest.approx(0)
    assert np.isnan(similarity_to_cells(cells[:2], cells[:0])).all()


def test_oblong_images_are_turned_by_half_turns() -> None:
    cells = drawn(4, 1, 6, 10)
    turned = np.rot90(cells, 2, (2, 3))
    assert np.allclose(similarity_to_cells(turned, cells), 1, atol=1e-5)
