"""An image is of the part whose cells look like it."""

import numpy as np
import pytest

from cytolens.features.belonging import share_of_own
from cytolens.features.priors import Prior, fit_prior
from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells


@pytest.fixture(scope="module")
def kinds() -> tuple[Cells, Prior, list[np.ndarray]]:
    """Cells with one spot, cells with many fine ones, and cells with a ring."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] - 15.5
    crops: list[np.ndarray] = []
    for k in range(150):
        far = np.hypot(y - rng.normal(), x - rng.normal())
        disc = far < 10
        spots = rng.random((32, 32)) < 0.15
        shape = (np.exp(-(far**2) / 20), disc * spots, np.abs(far - 8) < 1.5)[k % 3]
        crops.append(200 + 2000 * shape + rng.normal(0, 20, shape.shape))
    cells = cells_from_arrays(np.array(crops)[:, None], ["a", "b", "c"] * 50)
    prior = fit_prior(cells.read(np.arange(150)), rng=0)
    return cells, prior, [np.arange(k, 150, 3) for k in range(3)]


def test_an_image_is_of_the_part_whose_cells_it_is_like(kinds: tuple) -> None:
    cells, prior, parts = kinds
    images = cells.read(np.array([1, 2, 0]))  # each of the next part
    assert share_of_own(images, parts, cells, prior, rng=0).max() < 0.1
    assert share_of_own(images, [parts[1], parts[2], parts[0]], cells, prior, rng=0).min() > 0.9


def test_a_part_of_few_cells_is_not_judged_and_does_not_count(kinds: tuple) -> None:
    cells, prior, parts = kinds
    images = cells.read(np.array([0, 1, 2]))
    own = share_of_own(images, [parts[0], parts[1], parts[2][:5]], cells, prior, rng=0)
    assert np.isnan(own).tolist() == [False, False, True]
    assert own[:2].min() > 0.9
    assert np.isnan(share_of_own(images[:1], parts[:1], cells, prior, rng=0)).all()


def test_a_large_part_has_no_more_of_the_nearest_by_its_size(kinds: tuple) -> None:
    cells, prior, parts = kinds
    rng = np.random.default_rng(1)
    mixed = rng.permutation(np.concatenate(parts))
    images = cells.read(mixed[:2])
    shares = [
        share_of_own(images, [mixed[:20], mixed[20:]], cells, prior, rng=seed) for seed in range(20)
    ]
    assert abs(np.mean([share[1] for share in shares]) - 0.5) < 0.2
