"""On how many CPU threads a network runs."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from cytolens.classifier import threads
from cytolens.classifier.model import Classifier
from cytolens.classifier.threads import network_threads, operations, operations_of, threads_for
from cytolens.numerics.threads import default_threads, thread_count


def classifier(network: nn.Module, size: int) -> Classifier:
    return Classifier(network, ("a", "b"), ("dna",), (1, size, size))


@pytest.fixture
def small() -> Classifier:
    return classifier(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2)), 8)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("cytolens.numerics.threads.cores", lambda: 3)
    return 3


def test_operations_are_two_for_each_product_of_a_crop(small: Classifier) -> None:
    assert operations(small) == 2 * (6 * 6 * 4 * 9 + 144 * 2)


class Functional(nn.Module):
    """A convolution without a module, and one that makes its image larger."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 1, 3, 3))
        self.larger = nn.ConvTranspose2d(8, 4, 2, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.larger(functional.conv2d(images, self.weight, padding=1))


def test_operations_of_functions_and_of_transformers_are_counted() -> None:
    assert operations_of(Functional(), (1, 6, 6)) == 2 * 36 * (8 * 9 + 8 * 4 * 4)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(16, 16), layer).eval()  # (1, 4, 16)
    weights = 16 * 16 + 4 * 16 * 16 + 2 * 16 * 32
    assert 0.9 < operations_of(tokens, (4, 4, 4)) / (2 * 4 * weights) < 1.2


def test_counting_operations_does_not_load_the_compiler() -> None:
    code = (
        "import sys, torch; from cytolens.classifier.threads import operations_of; "
        "operations_of(torch.nn.Conv2d(1, 2, 3), (1, 8, 8)); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_networks_run_on_one_thread_and_large_ones_on_all_cores(
    small: Classifier, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert threads_for(small) == threads_for(None) == 1
    monkeypatch.setattr(threads, "LARGE", operations(small))
    assert threads_for(small) == cores


def test_what_is_asked_for_holds(
    small: Classifier, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert thread_count(None) == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_for(small) == thread_count(None) == 2
    with default_threads(5):
        assert threads_for(small) == thread_count(None) == 5
        assert thread_count(4) == 4
    assert thread_count(None) == 2


def test_the_threads_of_pytorch_are_put_back(small: Classifier, cores: int) -> None:
    before = torch.get_num_threads()
    with default_threads(before + 1), network_threads(small):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
