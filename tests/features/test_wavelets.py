import numpy as np
import pytest
from numpy.typing import NDArray

from cytolens.features.wavelets import scatter


def waves(length: float, angle: float = 0.0, side: int = 48) -> NDArray[np.float32]:
    """A grating (1, 1, side, side) of that wavelength in pixels, in degrees."""
    y, x = np.mgrid[:side, :side]
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    return np.sin(2 * np.pi * along / length)[None, None].astype(np.float32)


def first_order(images: NDArray[np.float32], scales: int = 5) -> NDArray[np.float32]:
    """Mean modulus by scale, the finest first: after the mean and s.d. there are three a scale."""
    found, at = [], 2
    row = scatter(images)[0]
    for fine in range(scales):
        found.append(row[at])
        at += 3 + 3 * (scales - 1 - fine)
    return np.array(found)


@pytest.mark.parametrize(("length", "scale"), [(2.67, 0), (5.33, 1), (10.67, 2), (21.3, 3)])
def test_a_grating_is_seen_at_the_scale_of_its_wavelength(length: float, scale: int) -> None:
    for angle in (0.0, 45.0, 90.0):
        assert first_order(waves(length, angle)).argmax() == scale


def test_a_shift_a_quarter_turn_and_a_mirror_image_change_next_to_nothing() -> None:
    cells = np.random.default_rng(0).random((4, 2, 24, 24)).astype(np.float32)
    found = scatter(cells)
    for view in (np.roll(cells, 5, 3), np.rot90(cells, 1, (2, 3)), cells[..., ::-1]):
        assert np.abs(scatter(view.copy()) / found - 1).max() < 0.03


def test_each_image_is_described_by_itself_and_channel_by_channel() -> None:
    cells = np.random.default_rng(0).random((300, 2, 48, 48)).astype(np.float32)
    together = scatter(cells)
    assert np.allclose(scatter(cells[250:251]), together[250:251], atol=1e-5)
    one = scatter(cells[:2, :1])
    assert np.allclose(together[:2, : one.shape[1]], one, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (17, 23), (9, 40)])
def test_small_odd_and_oblong_crops_are_described(size: tuple[int, int]) -> None:
    found = scatter(np.random.default_rng(0).random((3, 1, *size)).astype(np.float32))
    assert np.isfinite(found).all()
    assert (found.std(0) > 0).any()


def test_the_second_order_tells_modulated_noise_from_even_noise() -> None:
    """The same power at every frequency, but in patches; the mean modulus hardly tells."""
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((8, 1, 48, 48)).astype(np.float32)
    slow = 1 + 0.9 * waves(16)
    patchy = noise * slow / np.sqrt((slow**2).mean())
    even, uneven = scatter(noise).mean(0), scatter(patchy.astype(np.float32)).mean(0)
    ratio = np.abs(uneven / even - 1)
    assert ratio[2] < 0.2  # the finest scale, first order
    assert ratio[5:17].max() > 0.4  # the finest modulus, seen by coarser wavelets
