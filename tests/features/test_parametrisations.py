import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.errors import InputError, SettingError
from cytolens.features.canvas import Canvas, prepare_canvas
from cytolens.features.parametrisations import (
    PARAMETRISATIONS,
    find_parametrisation,
    fourier,
    fourier_scale,
)
from cytolens.features.transforms import STILL, Transforms, draw_views, transform

LIKE = torch.empty((), dtype=torch.float64)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def canvas(shape: tuple[int, int, int], start: float = 0.5) -> Canvas:
    return prepare_canvas(shape, (0.0, 2.0), 0.0, start, None, LIKE)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(2, 33),
    st.integers(2, 33),
    st.sampled_from(["fourier", "pixels"]),
)
def test_images_have_the_size_asked_for_start_near_the_start_and_stay_in_range(
    channels: int, height: int, width: int, name: str
) -> None:
    painting = PARAMETRISATIONS[name](canvas((channels, height, width)), generators(1, 2))
    images = painting.image().detach()
    assert images.shape == (2, channels, height, width)
    assert float((images - 0.5).abs().mean()) < 0.1
    with torch.no_grad():
        painting.parameters.mul_(1e4)
    extremes = painting.image().detach()
    assert 0 <= float(extremes.min()) <= float(extremes.max()) <= 2


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (48, 31)])
def test_a_unit_spectrum_gives_pixels_of_unit_deviation_at_any_size(size: tuple[int, int]) -> None:
    scale = fourier_scale(*size, decay=1.0)
    draw = torch.Generator().manual_seed(0)
    parts = torch.randn((2, 400, *scale.shape), generator=draw, dtype=torch.float64)
    spectrum = torch.complex(parts[0], parts[1]) * scale
    images = torch.fft.irfft2(spectrum, s=size, norm="ortho")
    assert float(images.square().mean()) == pytest.approx(1, abs=0.1)


def test_a_steeper_decay_paints_smoother_images() -> None:
    def roughness(decay: float) -> float:
        painting = fourier(canvas((1, 32, 32)), generators(*range(8)), decay=decay)
        return float(painting.image().detach().diff(dim=-1).abs().mean())

    assert roughness(0.5) > roughness(1.0) > roughness(2.0)


def test_an_image_starts_the_same_whatever_its_neighbours() -> None:
    for make in PARAMETRISATIONS.values():
        alone = make(canvas((1, 9, 9)), generators(5)).image()
        among = make(canvas((1, 9, 9)), generators(3, 5, 8)).image()
        assert torch.equal(alone[0], among[1])


def test_an_unknown_parametrisation_names_the_known() -> None:
    with pytest.raises(SettingError, match="fourier, pixels"):
        find_parametrisation("wavelets")
    assert find_parametrisation(fourier) is fourier


def test_the_canvas_takes_range_start_and_channel_correlation_from_the_cells() -> None:
    rng = np.random.default_rng(0)
    shared = rng.random((200, 1, 6, 6))
    cells = np.concatenate([shared, 3 * shared + 1], axis=1).astype(np.float32)
    found = prepare_canvas((2, 6, 6), None, 0.0, None, cells, LIKE)
    assert torch.allclose(found.high.flatten(), torch.tensor([1.0, 4.0]).double(), atol=0.02)
    assert np.allclose(found.start, cells.mean(0), atol=1e-6)
    assert found.deviation is not None
    assert found.mixing is not None
    square = found.mixing @ found.mixing.T
    assert torch.allclose(square, torch.ones(2, 2).double(), atol=1e-6)
    with pytest.raises(InputError, match="prepare them"):
        prepare_canvas((2, 8, 8), None, 0.0, None, cells, LIKE)
    with pytest.raises(InputError, match="no cells"):
        prepare_canvas((2, 6, 6), None, 0.0, None, cells[:0], LIKE)
    with pytest.raises(SettingError, match="low < high"):
        prepare_canvas((2, 6, 6), (1.0, 1.0), 0.0, None, None, LIKE)


def test_a_shift_by_whole_pixels_moves_the_image_and_shows_background() -> None:
    images = torch.rand((1, 2, 7, 10), generator=generators(0)[0], dtype=torch.float64)
    background = torch.full((2, 1, 1), 0.3, dtype=torch.float64)
    draws = torch.tensor([[1.0, -1.0, 0.0, 0.0]], dtype=torch.float64)  # down, left
    moved = transform(images, draws, Transforms(shift=2, rotate=0, scale=0), background)
    assert torch.allclose(moved[..., 2:, :-2], images[..., :-2, 2:])
    assert torch.allclose(moved[..., :2, :], torch.tensor(0.3).double())


def test_a_rotation_keeps_angles_in_oblong_crops() -> None:
    y, x = torch.meshgrid(torch.arange(31.0), torch.arange(61.0), indexing="ij")
    bar = ((y - 15).abs() < 1.5).double()[None, None]  # along x
    draws = torch.tensor([[0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    turned = transform(bar, draws, Transforms(0, 30, 0), torch.zeros(1, 1, 1).double())[0, 0]
    inside = ((x - 30).abs() < 15) & (turned > 0.5)
    slope = np.polyfit(x[inside].numpy(), y[inside].numpy(), 1)[0]
    assert abs(np.degrees(np.arctan(slope))) == pytest.approx(30, abs=1.5)


def test_views_are_drawn_per_image_and_stay_within_bounds() -> None:
    draws = draw_views(generators(1, 2), 50)
    assert draws.shape == (50, 2, 4)
    assert float(draws.abs().max()) <= 1
    assert not torch.equal(draws[:, 0], draws[:, 1])
    assert torch.equal(draws[:, 1], draw_views(generators(2), 50)[:, 0])


def test_the_shift_is_sized_by_the_crop() -> None:
    assert Transforms().reach(8, 8) == 1
    assert Transforms().reach(48, 40) == 3
    assert Transforms(shift=0.0).reach(48, 40) == 0
    images = torch.rand(1, 1, 5, 5)
    assert transform(images, torch.zeros(1, 4), STILL, torch.zeros(1, 1, 1)) is images
    with pytest.raises(SettingError, match="from 0"):
        Transforms(rotate=-1)
