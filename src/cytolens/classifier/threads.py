"""On how many CPU threads a network runs."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cytolens.activations.capture import device_of, evaluating
from cytolens.classifier.model import Classifier
from cytolens.numerics.threads import asked_threads, thread_count

T = TypeVar("T")

LARGE = 200_000_000
"""Floating-point operations per crop from which on a network runs on all cores. The reference
network takes 10 to 60 million. There a second thread gains little, and beside another busy process
it costs three times as much as it gains: threads that wait for each other keep their core."""


def threads_for(classifier: Classifier | None) -> int:
    """As many as were asked for; else one, or all cores for a `LARGE` network."""
    asked = asked_threads()
    if asked is not None:
        return asked
    large = classifier is not None and operations(classifier) >= LARGE
    return thread_count(None) if large else 1


def operations(classifier: Classifier) -> int:
    """Floating-point operations of one crop's way through the network."""
    return operations_of(classifier.network, classifier.input_shape)


def operations_of(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """The same for a module that takes crops (C, H, W)."""
    crop = torch.zeros((1, *shape), device=device_of(network))
    with evaluating(network), torch.inference_mode(), FlopCounterMode(display=False) as counted:
        network(crop)
    return counted.get_total_flops()


@contextmanager
def network_threads(classifier: Classifier | None) -> Generator[None]:
    """Within the block PyTorch uses `threads_for` threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_for(classifier))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(make: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    """``make(0)`` to ``make(count - 1)``, in order, so many at a time, each on one thread."""
    if workers == 1:
        yield from map(make, range(count))
        return
    before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(make, range(count))
    torch.set_num_threads(before)  # for threads started later
