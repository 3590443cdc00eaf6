"""Images that are added to a gallery are made as its own were."""

from dataclasses import replace

import numpy as np
import pytest

from cytolens.classifier.model import Classifier
from cytolens.classifier.networks import build_network
from cytolens.features.ascent import Ascent
from cytolens.features.priors import fit_prior
from cytolens.study.stages.features import Ascents

CROPS = np.random.default_rng(0).random((40, 1, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Classifier:
    return Classifier(build_network((1, 16, 16), 2).eval(), ("a", "b"), ("i",), (1, 16, 16))


@pytest.fixture(scope="module")
def ascents() -> Ascents:
    return Ascents(fit_prior(CROPS, background=0.0, rng=0), Ascent(steps=3), CROPS, 0, None)


def test_more_images_began_as_cells_only_where_the_others_did(
    ascents: Ascents, network: Classifier
) -> None:
    from_cells = ascents.of_channels(network, "conv2", [0, 1])
    free = ascents.without_prior().of_channels(network, "conv2", [0, 1])
    assert from_cells.starts is not None
    assert free.starts is None
    for images in (from_cells, free):
        more = ascents.alike(images).of_channels(network, "conv2", [2])
        assert (more.starts is None) == (images.starts is None)
        both = images.joined(more)
        assert both.targets == ("channel 0", "channel 1", "channel 2")
        assert (both.starts is None) == (images.starts is None)
        back = both.of([2, 0])
        assert np.array_equal(back.images, np.concatenate([more.images, images.images[:1]]))
    assert from_cells.joined(free).starts is None


def test_likeness_to_the_start_is_one_for_the_cell_itself_and_nan_without_one(
    ascents: Ascents, network: Classifier
) -> None:
    images = ascents.of_channels(network, "conv2", [0, 1])
    assert replace(images, starts=None).likeness_to_start.tolist() == pytest.approx(
        [np.nan] * 2, nan_ok=True
    )
    assert images.starts is not None
    same = replace(images, images=2 * images.starts + 1)
    assert same.likeness_to_start == pytest.approx(1, abs=1e-5)
    assert replace(images, images=-images.starts).likeness_to_start == pytest.approx(-1, abs=1e-5)
