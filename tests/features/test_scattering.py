import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.features.scattering import scatter, sizes_for


def waves(length: float, angle: float = 0.0, side: int = 48) -> NDArray[np.float32]:
    """A grating (1, 1, side, side) of that wavelength in pixels, in degrees."""
    y, x = np.mgrid[:side, :side]
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    return np.sin(2 * np.pi * along / length)[None, None].astype(np.float32)


@pytest.mark.parametrize(("length", "scale"), [(2.67, 0), (5.33, 1), (10.67, 2), (21.3, 3)])
def test_a_grating_is_seen_at_the_scale_of_its_wavelength(length: float, scale: int) -> None:
    for angle in (0.0, 45.0, 90.0):
        means = scatter(waves(length, angle)).first[0, ::3]  # there are three a size
        assert means.argmax() == scale


def test_a_shift_a_quarter_turn_and_a_mirror_image_change_next_to_nothing() -> None:
    cells = np.random.default_rng(0).random((4, 2, 24, 24)).astype(np.float32)
    found = scatter(cells).rows
    for view in (np.roll(cells, 5, 3), np.rot90(cells, 1, (2, 3)), cells[..., ::-1]):
        assert np.abs(scatter(view.copy()).rows / found - 1).max() < 0.03


def test_each_image_is_described_by_itself_and_channel_by_channel() -> None:
    cells = np.random.default_rng(0).random((300, 2, 48, 48)).astype(np.float32)
    together = scatter(cells).first
    assert np.allclose(scatter(cells[250:251]).first, together[250:251], atol=1e-5)
    one = scatter(cells[:2, :1]).first
    assert np.allclose(together[:2, : one.shape[1]], one, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (9, 40)])
def test_small_odd_and_oblong_crops_are_described(size: tuple[int, int]) -> None:
    found = scatter(np.random.default_rng(0).random((3, 2, *size)).astype(np.float32))
    assert found.first.shape == (3, 2 * 3 * sizes_for(size))
    assert np.isfinite(found.rows).all()
    assert (found.rows.std(0) > 0).any()


def test_scattering_says_what_it_takes() -> None:
    with pytest.raises(InputError, match="at least 8 pixels"):
        scatter(np.zeros((2, 1, 4, 12), np.float32))


def test_the_second_order_tells_modulated_noise_from_even_noise() -> None:
    """The same power at every frequency, but in patches; the mean modulus hardly tells."""
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((8, 1, 48, 48)).astype(np.float32)
    slow = 1 + 0.9 * waves(16)
    patchy = noise * slow / np.sqrt((slow**2).mean())
    even, uneven = scatter(noise), scatter(patchy.astype(np.float32))
    assert abs(uneven.first[:, 0].mean() / even.first[:, 0].mean() - 1) < 0.2
    ratio = np.abs(uneven.second.mean(0) / even.second.mean(0) - 1)
    assert ratio[:12].max() > 0.4  # the finest modulus, seen by coarser wavelets
