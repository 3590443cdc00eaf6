import numpy as np
import pytest
import torch
from torch import nn

from cytolens.classifier.networks import CellNet, build_network, stages_for
from cytolens.errors import SettingError


@pytest.mark.parametrize(("side", "stages"), [(5, 1), (16, 2), (28, 2), (40, 3), (48, 3), (64, 4)])
def test_depth_follows_the_crop_size(side, stages):
    assert stages_for((side, side)) == stages


def test_layers_are_named_in_depth_order():
    names = [name for name, _ in build_network((1, 48, 48), 2).named_children()]
    convs = [name for name in names if name.startswith("conv")]
    assert convs == [f"conv{k}" for k in range(1, 7)]
    assert names[-2:] == ["pre_softmax", "logits"]
    children = [name for name, _ in build_network((1, 48, 48), 2).conv1.named_children()]
    assert children == ["conv", "norm", "relu"]


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 40, 56), (2, 9, 30)])
def test_any_channels_and_shape_give_logits(shape):
    network = build_network(shape, 4).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


def test_signal_keeps_its_scale_up_the_untrained_network():
    network = build_network((1, 48, 48), 2, seed=1).eval()
    x = torch.randn(8, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    for name, module in network.named_children():
        x = module(x)
        if name.startswith("conv"):
            assert 0.2 < float(x.detach().std()) < 3


def test_weights_come_from_the_seed_and_no_global_draw_is_made():
    before = torch.get_rng_state()
    one, same, other = (build_network((1, 16, 16), 2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.conv1.conv.weight, same.conv1.conv.weight)
    assert not torch.equal(one.conv1.conv.weight, other.conv1.conv.weight)


def test_too_many_stages_are_refused():
    with pytest.raises(SettingError, match="do not fit"):
        CellNet((1, 16, 16), 2, stages=6)


def test_width_doubles_up_to_eight_times_the_first():
    network = build_network((1, 128, 128), 2, width=4)
    convs = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert convs[::2] == [4, 8, 16, 32, 32]
    assert np.array_equal(convs[::2], convs[1::2])
