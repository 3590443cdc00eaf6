import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolens.errors import InputError
from cytolens.features.complexity import complexity_of, measure_complexity, rank_correlation

SIZE = 48


def grating(frequency: float, degrees: float = 0.0, size: int = SIZE) -> np.ndarray:
    """Stripes (1, 1, size, size) whose gradient points along ``degrees``."""
    y, x = np.mgrid[:size, :size]
    angle = np.deg2rad(degrees)
    phase = 2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle))
    return (0.5 + 0.4 * np.sin(phase))[None, None].astype(np.float32)


def blob(sigma: float, size: int = SIZE, row: float | None = None) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.exp(-(x**2 + y**2) / (2 * sigma**2))[None, None].astype(np.float32)


def noise(count: int = 1, seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, size, size), np.float32)


def measured(image: np.ndarray, name: str, **options: float) -> float:
    return float(complexity_of(image, **options)[name][0])


@pytest.mark.parametrize("frequency", [0.1, 0.21, 0.37])
@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_the_spectral_centroid_of_a_grating_is_its_frequency(frequency: float, degrees: float):
    assert measured(grating(frequency, degrees), "spectral_centroid") == pytest.approx(
        frequency, abs=0.006
    )


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133, 179])
def test_a_grating_has_one_orientation_and_a_disc_all_of_them(degrees: float):
    assert measured(grating(0.15, degrees), "orientation_entropy") < 0.35
    assert measured(blob(6), "orientation_entropy") > 0.97


def test_entropies_rise_from_grating_to_plaid_to_noise():
    plaid = (grating(0.15, 20) + grating(0.22, 110)) / 2
    images = np.concatenate([grating(0.15, 20), plaid, noise()])
    found = complexity_of(images)
    assert np.all(np.diff(found["spectral_entropy"]) > 0)
    assert np.all(np.diff(found["orientation_entropy"]) > 0)
    assert found["spectral_entropy"][0] < 0.4
    assert found["spectral_entropy"][2] > 0.85
    assert 0 <= found["orientation_entropy"].min() <= found["orientation_entropy"].max() <= 1


def test_noise_is_more_complex_than_a_blob_by_every_measure_but_orientation():
    found = complexity_of(np.concatenate([blob(6), noise()]))
    for name in ("spectral_centroid", "spectral_entropy", "compressed_bytes"):
        assert found[name][1] > 1.5 * found[name][0], name
    assert found["receptive_field_used"][1] > 2 * found["receptive_field_used"][0]


def test_noise_does_not_compress():
    assert measured(noise(), "compressed_bytes") == pytest.approx(SIZE**2, rel=0.05)


def test_blobs_and_gratings_are_finer_the_smaller_they_are():
    sizes = [measured(blob(sigma), "spectral_centroid") for sigma in (2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_used_share_of_the_receptive_field_is_the_area_of_what_is_there():
    image = np.zeros((1, 1, 40, 40), np.float32)
    image[0, 0, 15:25, 15:25] = 1
    # 90 of the square's 100 pixels hold 90 % of the energy
    assert measured(image, "receptive_field_used") == pytest.approx(90 / 1600)
    assert measured(image, "receptive_field_used", receptive_field=20) == pytest.approx(90 / 400)
    assert measured(image + 3, "receptive_field_used", background=3.0) == pytest.approx(90 / 1600)


def test_a_motif_that_repeats_counts_once():
    motif = np.zeros((8, 8), np.float32)
    motif[2:6, 2:6] = 1
    once = np.zeros((40, 40), np.float32)
    once[16:24, 16:24] = motif
    found = complexity_of(np.stack([np.tile(motif, (5, 5)), once])[:, None], receptive_field=8)
    assert found["receptive_field_used"].tolist() == pytest.approx([15 / 64, 15 / 64])


def test_constant_images_have_no_structure_and_do_not_disturb_the_mean():
    constant = np.full((2, 1, 20, 20), 0.7, np.float32)
    found = complexity_of(constant)
    assert found["compressed_bytes"].tolist() == [0, 0]
    assert found["receptive_field_used"].tolist() == [0, 0]
    for name in ("spectral_centroid", "spectral_entropy", "orientation_entropy"):
        assert np.isnan(found[name]).all()
    together = np.concatenate([constant, noise(5, size=20)])
    estimate = measure_complexity(together, rng=0)["spectral_centroid"]
    alone = measure_complexity(noise(5, size=20), rng=0)["spectral_centroid"]
    assert estimate.value == alone.value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(measure_complexity(constant, rng=0)["spectral_entropy"].value)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    brightness=st.floats(-2, 2),
    contrast=st.floats(0.1, 10),
)
def test_brightness_and_contrast_say_nothing_about_the_spectrum(
    seed: int, brightness: float, contrast: float
):
    image = noise(seed=seed, size=16).astype(np.float64)
    plain, other = complexity_of(image), complexity_of(brightness + contrast * image)
    for name in ("spectral_centroid", "spectral_entropy", "orientation_entropy"):
        assert other[name] == pytest.approx(plain[name], rel=1e-6)


def test_a_turned_image_is_as_complex():
    image = blob(3) * grating(0.2, 25)
    turned = np.rot90(image, axes=(2, 3))
    for name, value in complexity_of(image).items():
        tolerance = 0.1 if name == "compressed_bytes" else 1e-6
        assert complexity_of(turned)[name] == pytest.approx(value, rel=tolerance), name


def test_several_image_channels_count_together():
    two = np.concatenate([grating(0.1), grating(0.3)], axis=1)
    assert measured(two, "spectral_centroid") == pytest.approx(0.2, abs=0.01)


def test_intervals_hold_the_mean_and_the_control_is_the_untrained_mean():
    found = measure_complexity(noise(12), untrained=blob(6), background=0.5, rng=0)
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high
    control = measured(blob(6), "spectral_centroid")
    assert found["spectral_centroid"].untrained == pytest.approx(control)
    alone = measure_complexity(noise(1), rng=0)["spectral_centroid"]
    assert np.isnan([alone.low, alone.high]).all()
    assert measure_complexity(noise(12), rng=5) == measure_complexity(noise(12), rng=5)


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    draw = np.random.default_rng(0)
    depths = np.repeat(np.arange(6.0), 10)
    values = depths + draw.normal(size=60) * 2
    found = rank_correlation(depths, values, rng=0)
    assert found.value == pytest.approx(spearmanr(depths, values).statistic)
    assert found.low < found.value < found.high
    assert found.null is not None
    assert found.null < found.value


def test_a_trend_over_three_layers_never_beats_its_null():
    depths = np.repeat(np.arange(3.0), 50)
    found = rank_correlation(depths, depths + np.random.default_rng(0).normal(size=150), rng=0)
    assert found.null == pytest.approx(found.value)


def test_layers_that_differ_without_order_are_no_trend():
    depths = np.repeat(np.arange(8.0), 40)
    levels = np.random.default_rng(3).permutation(8.0 * np.arange(8))
    values = levels[depths.astype(int)] + np.random.default_rng(1).normal(size=320)
    found = rank_correlation(depths, values, rng=0)
    assert found.null is not None
    assert found.null > abs(found.value)  # though the interval over images is narrow
    assert found.high - found.low < 0.1


def test_rank_correlation_without_a_rank_is_not_a_number():
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3], rng=0).value)
    flat = rank_correlation([1, 2, 3], [5, 5, 5], rng=0)
    assert np.isnan(flat.value)
    assert flat.null is None
    paired = rank_correlation([1, 2, 3, 4], [2, np.nan, 4, 9], rng=0)
    assert paired.value == pytest.approx(1)


def test_images_that_cannot_be_measured_are_refused():
    with pytest.raises(InputError):
        complexity_of(np.zeros((4, 4), np.float32))
    with pytest.raises(InputError):
        complexity_of(np.full((1, 1, 4, 4), np.nan, np.float32))
    with pytest.raises(InputError):
        rank_correlation([1, 2], [1, 2, 3])
