import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from cytolens.classifier.optimiser import OneCycleAdamW

RATE, DECAY = 3e-3, 0.05


def small_network() -> nn.Sequential:
    torch_state = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(2, 1, 6, 6))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_state))
    return network


def batches(steps: int):
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield torch.randn((8, 1, 6, 6), generator=draw), torch.arange(8) % 2


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 40])
def test_steps_are_those_of_pytorch_s_own_optimiser_and_schedule(steps):
    ours, theirs = small_network(), small_network()
    optimiser = OneCycleAdamW(ours, learning_rate=RATE, weight_decay=DECAY, steps=steps)
    for images, labels in batches(steps):
        optimiser.step(functional.cross_entropy(ours(images), labels))
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in theirs.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        reference, RATE, total_steps=max(steps, 6), pct_start=0.2
    )
    for images, labels in batches(steps):
        reference.zero_grad()
        functional.cross_entropy(theirs(images), labels).backward()
        reference.step()
        schedule.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_parameter_without_a_gradient_stays():
    network = small_network()
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    optimiser = OneCycleAdamW(network, learning_rate=RATE, weight_decay=DECAY, steps=10)
    optimiser.step(network(torch.ones(2, 1, 6, 6)).sum())
    assert torch.equal(network.get_parameter("unused"), torch.ones(3))


def test_training_does_not_load_the_compiler():
    code = (
        "import sys, torch; from cytolens.classifier.optimiser import OneCycleAdamW as One; "
        "network = torch.nn.Linear(2, 2); "
        "One(network, learning_rate=.1, weight_decay=0, steps=9).step(network.weight.sum()); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
