import numpy as np
import pytest
from made_records import blobs, texts

from cytolens.features.priors import fit_prior
from cytolens.figures.prior import plot_prior


@pytest.mark.parametrize("channels", [1, 2])
def test_a_prior_shows_cells_and_the_mean_cell_along_its_components(channels: int) -> None:
    crops = blobs(12, channels, 16, np.random.default_rng(0)).astype(np.float32)
    prior = fit_prior(crops, n_components=3, rng=0)
    figure = plot_prior(prior, columns=5)
    assert {"component 1", "component 3"} <= set(texts(figure))
    tiles = [image for image in figure.axes[0].images if image.get_array().shape[0] > 1]
    assert len(tiles) == channels * (5 + 2 * 3)
