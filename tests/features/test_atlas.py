import numpy as np
import pytest
import torch
from optimised_networks import tiny

from cytolens.errors import InputError, SettingError
from cytolens.features.ascent import Ascent
from cytolens.features.atlas import make_atlas
from cytolens.features.directions import whitened_directions
from cytolens.records.maps import Embedding

DRAW = np.random.default_rng(0)
CENTRES = np.array([[-8.0, -8.0], [8.0, -8.0], [8.0, 8.0]])
KIND = np.repeat([0, 1, 2], [40, 20, 10])
PLANE = (CENTRES[KIND] + DRAW.normal(0, 0.3, (70, 2))).astype(np.float32)
CROPS = DRAW.random((70, 1, 16, 16), dtype=np.float32)
MODEL = tiny()
with torch.no_grad():
    FEATURES = MODEL[:3](torch.from_numpy(CROPS)).mean((2, 3)).numpy()
MAP = Embedding("conv2", "tsne", PLANE, {}, {})
OPTIONS = {"input_shape": (1, 16, 16), "ascent": Ascent(steps=2), "rng": 0}


def test_blobs_of_cells_are_tiles_with_their_numbers_and_classes() -> None:
    atlas = make_atlas(MODEL, MAP, FEATURES, layer="conv2", grid=2, labels=KIND, **OPTIONS)
    assert atlas.positions.tolist() == [[0, 1], [1, 0], [1, 1]]  # row 0 is at the top
    assert atlas.counts.tolist() == [10, 40, 20]
    assert atlas.shares.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert atlas.left_out == 0
    assert atlas.images.targets == ("tile 0,1", "tile 1,0", "tile 1,1")
    assert atlas.images.images.shape == (3, 1, 16, 16)
    left, right, bottom, top = atlas.limits
    assert right - left == pytest.approx(top - bottom)
    assert left <= PLANE[:, 0].min()
    assert top >= PLANE[:, 1].max()


def test_the_typical_cell_of_a_tile_is_on_it_and_nearest_to_its_mean() -> None:
    atlas = make_atlas(MODEL, MAP, FEATURES, layer="conv2", grid=2, labels=KIND, **OPTIONS)
    assert KIND[atlas.typical].tolist() == [2, 0, 1]
    own = FEATURES[KIND == 0]
    nearest = np.flatnonzero(KIND == 0)[((own - own.mean(0)) ** 2).sum(1).argmin()]
    assert atlas.typical[1] == nearest


def test_tiles_with_few_cells_are_left_out() -> None:
    atlas = make_atlas(MODEL, MAP, FEATURES, layer="conv2", grid=2, minimum=15, **OPTIONS)
    assert atlas.counts.tolist() == [40, 20]
    assert atlas.left_out == 10
    with pytest.raises(SettingError, match="no tile of 2 × 2 has 50 cells"):
        make_atlas(MODEL, MAP, FEATURES, layer="conv2", grid=2, minimum=50, **OPTIONS)


def test_settings_and_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="70 cells"):
        make_atlas(MODEL, MAP, FEATURES[:5], layer="conv2", **OPTIONS)
    with pytest.raises(SettingError, match="grid=0"):
        make_atlas(MODEL, MAP, FEATURES, layer="conv2", grid=0, **OPTIONS)


def test_whitened_directions_tell_a_group_by_its_own_channel_however_quiet() -> None:
    features = np.random.default_rng(1).normal(0, [100.0, 1.0, 0.1], (300, 3))
    group = np.arange(30)
    features[group, 1] += 10
    (direction,) = whitened_directions(features, [group])
    assert np.linalg.norm(direction) == pytest.approx(1)
    assert np.abs(direction).argmax() == 1
