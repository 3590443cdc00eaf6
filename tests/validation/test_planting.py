import numpy as np
import pytest
from scipy import ndimage

from cytolens.simulation.simulate import Plant
from cytolens.validation.planting import plant_pairs

N = 80


@pytest.fixture(scope="module", params=["granule", "rim"])
def pairs(request):
    return plant_pairs(N, Plant(kind=request.param), rng=1)


def test_every_cell_is_there_with_its_plant_and_without(pairs):
    assert np.array_equal(pairs.cells.labels, np.repeat([0, 1], N))
    assert pairs.masks.any(axis=(1, 2)).all()
    images = pairs.cells.read(np.arange(2 * N))[:, 0]
    added = images[N:] - images[:N]
    on = (added * pairs.masks).sum((1, 2)) / pairs.masks.sum((1, 2))
    beside = ~pairs.masks & ~pairs.cell_masks  # light of a plant that is out of focus comes here
    off = (added * beside).sum((1, 2)) / beside.sum((1, 2))
    assert (on > 5 * np.abs(off)).all()


def test_the_two_states_of_a_cell_are_never_in_two_parts(pairs):
    parts = (pairs.split.train, pairs.split.validation, pairs.split.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(2 * N))
    for part in parts:
        cells, counts = np.unique(part % N, return_counts=True)
        assert (counts == 2).all()
        assert len(cells) == len(part) // 2
    planted = pairs.planted()
    assert set(pairs.cells.labels[planted]) == {1}
    assert set(pairs.cells.labels[pairs.plain_of(planted)]) == {0}
    assert np.array_equal(pairs.of(planted, pairs.masks), pairs.masks[planted - N])


def test_nothing_but_the_plant_tells_the_classes_apart():
    """A plant too faint to see leaves the pictures of both classes the same."""
    pairs = plant_pairs(N, Plant(kind="granule", contrast=1e-6), rng=2)
    images = pairs.cells.images.read_raw(np.arange(2 * N))
    assert np.mean(images[:N] != images[N:]) < 0.01


@pytest.mark.parametrize("kind", ["granule", "rim", "bar", "texture"])
def test_away_from_the_plant_twins_are_the_same_to_their_noise(kind: str):
    pairs = plant_pairs(N, Plant(kind=kind), rng=4)
    counts = pairs.cells.images.read_raw(np.arange(2 * N)).reshape(2 * N, 48, 48).astype(int)
    changed = counts[N:] - counts[:N]
    light = ndimage.binary_dilation(pairs.masks, np.ones((1, 3, 3)), iterations=8)
    far = ~light
    assert far.mean() > 0.1
    assert np.mean(changed[far] != 0) < 0.1  # the plant's light, spread by the lens
    noise = counts[:N][far & ~pairs.cell_masks].std()
    assert changed[far].std() < 0.5 * noise
    assert changed[pairs.masks].mean() > 5 * noise


def test_both_morphologies_carry_the_plant():
    """Plants add light; half the cells have lobed nuclei and half round ones, in both states."""
    pairs = plant_pairs(N, Plant(kind="bar"), rng=3)
    bright = pairs.cells.read(np.arange(2 * N)).sum((1, 2, 3))
    assert (bright[N:] > bright[:N]).all()
