"""On how many CPU threads a network runs."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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
    """The same for a module that takes crops (C, H, W): of convolutions and products of matrices.

    PyTorch's own counter loads its compiler first, which takes a process more than a second.
    """
    crop = torch.zeros((1, *shape), device=device_of(network))
    with evaluating(network), torch.inference_mode(), _Counter() as counter:
        network(crop)
    return counter.found


class _Counter(TorchFunctionMode):
    """Counts two operations for every product of a weight and a value."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", ""))
        of = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Tensor)]
        if name.startswith("conv") and len(of) > 1:
            given = of[0] if "transpose" in name else result  # where each weight is used once
            self.found += 2 * of[1].numel() * (given.numel() // of[1].shape[0])
        elif name == "linear" and len(of) > 1:
            self.found += 2 * of[1].numel() * (result.numel() // of[1].shape[0])
        elif name in ("matmul", "__matmul__", "bmm", "mm") and len(of) > 1:
            self.found += 2 * result.numel() * of[0].shape[-1]
        elif name == "scaled_dot_product_attention" and len(of) > 2:
            self.found += 4 * of[0].numel() * of[1].shape[-2]
        elif "multi_head_attention" in name and of:
            tokens = of[0].numel() // of[0].shape[-1]
            self.found += 2 * tokens * sum(weight.numel() for weight in of if weight.ndim == 2)
        return result


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
