import numpy as np
import pytest
import torch

from cytolens.classifier.augmentation import Augmentation, augment, mix, suited_to, turn
from cytolens.records.cells import Preparation

STILL = Augmentation(rotation=0, reflection=False, shift=0, brightness=0, offset=0, exact=0)


def crops(n=4, channels=1, height=12, width=12):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, height, width, generator=draw)


def generator():
    return torch.Generator().manual_seed(7)


def turned(x, *, angle=0.0, mirrored=False, right=0.0, down=0.0):
    n = len(x)
    return turn(
        x,
        torch.full((n,), float(angle)),
        mirrored=torch.full((n,), mirrored),
        right=torch.full((n,), float(right)),
        down=torch.full((n,), float(down)),
    )


def test_zero_amounts_leave_crops_as_they_are():
    x = crops(channels=3)
    torch.testing.assert_close(augment(x, STILL, generator=generator()), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("angle", "quarters"), [(90, 1), (180, 2), (-90, 3)])
def test_quarter_turns_are_counter_clockwise_and_exact(angle, quarters):
    x = crops()
    torch.testing.assert_close(
        turned(x, angle=angle), torch.rot90(x, quarters, (2, 3)), atol=1e-5, rtol=0
    )


def test_half_turn_of_an_oblong_crop_is_exact():
    x = crops(height=8, width=14)
    torch.testing.assert_close(turned(x, angle=180), x.flip(2, 3), atol=1e-5, rtol=0)


def test_shift_moves_right_and_down_and_the_border_goes_on():
    x = crops()
    moved = turned(x, right=3, down=1)
    torch.testing.assert_close(moved[..., 1:, 3:], x[..., :-1, :-3], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., 1:, 0], x[..., :-1, 0], atol=1e-5, rtol=0)


def test_mirror_flips_left_and_right():
    x = crops()
    torch.testing.assert_close(turned(x, mirrored=True), x.flip(3), atol=1e-5, rtol=0)


def test_any_turn_keeps_a_round_cell():
    rows, columns = torch.meshgrid(torch.arange(33) - 16, torch.arange(33) - 16, indexing="ij")
    disc = torch.exp(-(rows**2 + columns**2) / 50.0)[None, None]
    torch.testing.assert_close(turned(disc, angle=37), disc, atol=0.02, rtol=0)


def test_every_crop_draws_its_own_view_and_the_seed_decides():
    x = crops(1).expand(6, -1, -1, -1)
    one, again = (augment(x, Augmentation(), generator=generator()) for _ in range(2))
    assert torch.equal(one, again)
    assert len(np.unique(one.flatten(1).numpy().round(5), axis=0)) == 6


def test_brightness_stays_within_its_limits():
    x = crops(64)
    dimmed = Augmentation(
        rotation=0, reflection=False, shift=0, brightness=0.25, offset=0.1, exact=1
    )
    changed = augment(x, dimmed, generator=generator())
    gain = (changed.flatten(1).std(1) / x.flatten(1).std(1)).numpy()
    assert gain.min() > 0.79
    assert gain.max() < 1.26
    assert gain.std() > 0.05


@pytest.mark.parametrize("intensity", ["dataset", "image", "none"])
def test_crops_scaled_one_by_one_keep_their_brightness(intensity):
    preparation = Preparation((8, 8), intensity, (0.0,), (1.0,), (0.0,), "f4")
    suited = suited_to(preparation)
    kept = (suited.brightness, suited.offset) == (0, 0)
    assert kept == (intensity == "image")
    assert suited.rotation == Augmentation().rotation


def test_cells_in_groups_are_mixed_and_others_are_not():
    preparation = Preparation((8, 8), "dataset", (0.0,), (1.0,), (0.0,), "f4")
    assert suited_to(preparation).mixup == 0
    assert suited_to(preparation, grouped=True).mixup > 0


def test_mixed_crops_are_what_their_shares_say_and_mostly_themselves():
    x = crops(64)
    mixed, share, others = mix(x, 0.2, np.random.default_rng(0))
    own = share[:, None, None, None]
    assert torch.allclose(mixed, own * x + (1 - own) * x[torch.from_numpy(others)])
    assert 0.5 <= share.min() < 0.8
    assert share.max() <= 1
    assert share.median() > 0.9  # most crops are hardly changed
    assert sorted(others) == list(range(64))
    again = mix(x, 0.2, np.random.default_rng(0))[0]
    assert torch.equal(mixed, again)
