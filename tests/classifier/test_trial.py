"""What a trial of a network that was brought notices."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytolens.classifier.trial import try_network
from cytolens.errors import ModelError

CROPS = np.random.default_rng(0).normal(size=(12, 1, 8, 8)).astype(np.float32)


class Changed(nn.Module):
    """A linear classifier whose answers, or whose input, something happens to."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 128).view(2, 64))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(lambda crops: self.linear(crops.flatten(1)), x)  # type: ignore[arg-type]


def with_dtype(answer: nn.Module, x: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return answer(x)


def with_draw(answer: nn.Module, x: Tensor) -> Tensor:
    np.random.rand(2)  # noqa: NPY002
    return answer(x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answer, x: answer(x).softmax(1), "gives probabilities"),
        (lambda answer, x: answer(x) + torch.rand(2), "differently when asked again"),
        (lambda answer, x: answer(x) - answer(x).mean(0), "depends on the other cells"),
        (
            lambda answer, x: answer(x) / answer(x).std(0, correction=0),
            "depends on the other cells",
        ),
        (lambda answer, x: answer(x * 0), "the same answer for all"),
        (with_dtype, "default dtype"),
        (with_draw, "global random state"),
    ],
)
def test_what_spoils_a_study_is_said(
    change: Callable[[nn.Module, Tensor], Tensor], words: str
) -> None:
    network = Changed(change)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    said = try_network(network, CROPS)
    assert sum(words in line for line in said) == 1
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answer, x: answer(x.mul_(2)), "let it work on a copy"),
        (lambda answer, x: answer(x) * torch.tensor(float("nan")), "NaN or infinity"),
    ],
)
def test_a_network_that_cannot_be_studied_is_refused(
    change: Callable[[nn.Module, Tensor], Tensor], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        try_network(Changed(change), CROPS)


def test_a_sound_network_has_nothing_said_of_it() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    sound = nn.Sequential(*module, nn.Flatten(), nn.Linear(144, 2)).train()
    assert try_network(sound, CROPS) == ()
    assert sound.training
