"""A network that was brought, tried on a few crops: what would spoil a study is said."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytolens.activations.capture import device_of, evaluating
from cytolens.errors import ModelError

MOST_CROPS = 16
_TOLERANCE = 1e-3  # of the logits' spread: rounding is far below, dropout and batch norm far above


def try_network(
    module: nn.Module, crops: NDArray[np.float32], *, outputs: str = "classes"
) -> tuple[str, ...]:
    """What speaks against believing what ``module`` says of ``crops`` (n, C, H, W), a line each.

    Tried in evaluation mode: answers that change from one time to the next or with the other crops
    of a batch, probabilities instead of logits, one answer for all, a changed global random state
    or default dtype (both are put back). Raises ModelError where no study is possible: the module
    changes its input, or gives NaN.
    """
    batch = torch.from_numpy(np.array(crops[:MOST_CROPS], dtype=np.float32)).to(device_of(module))
    given = batch.clone()
    found: list[str] = []
    with evaluating(module), torch.inference_mode(), unchanged_globals(found):
        first, again = module(batch), module(given.clone())
        alone = torch.cat([module(crop[None].clone()) for crop in given])
    if not torch.equal(batch, given):
        raise ModelError(
            "the module changes the crops that it is given; let it work on a copy (x = x.clone())"
        )
    if not bool(torch.isfinite(first).all()):
        raise ModelError("the module gives NaN or infinity for cells of these data")
    spread = float((first - first.mean(dim=0)).abs().max())
    found[:0] = _about_repeating(first, again, alone, _TOLERANCE * max(spread, 1e-6))
    if outputs == "classes" and _probabilities(first):
        found.append(
            "The network gives probabilities, where logits are asked for (leave the last softmax "
            "or "
            "sigmoid out): confidences, calibration and what speaks for a class are wrong."
        )
    if spread < 1e-6:
        found.append("The network gives the same answer for all of the crops it was tried on.")
    return tuple(found)


def _about_repeating(first: Tensor, again: Tensor, alone: Tensor, limit: float) -> list[str]:
    if _differ(first, again, limit):
        return [
            "The network answers differently when asked again: dropout or noise is active in "
            "evaluation mode. No number below repeats exactly."
        ]
    if _differ(first, alone, limit):
        return [
            "The network's answer for a cell depends on the other cells of its batch: batch "
            "statistics are active in evaluation mode. Numbers below depend on --batch-size."
        ]
    return []


def _differ(one: Tensor, other: Tensor, limit: float) -> bool:
    return not bool(((one - other).abs() <= limit).all())  # NaN differs


def _probabilities(outputs: Tensor) -> bool:
    """Whether rows are shares that add up to 1."""
    within = bool((outputs >= 0).all()) and bool((outputs <= 1).all())
    return within and bool(((outputs.sum(dim=1) - 1).abs() < 1e-4).all())


@contextmanager
def unchanged_globals(found: list[str]) -> Generator[None]:
    """Puts global random states and the default dtype back; says in ``found`` what had changed."""
    states, dtype = _random_states(), torch.get_default_dtype()
    try:
        yield
    finally:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
            found.append("The network's code changes PyTorch's default dtype (it was put back).")
        if not _same(_random_states(), states):
            _put_back(states)
            found.append("The network's code uses the global random state (it was put back).")


def _random_states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def _same(one: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> bool:
    arrays = np.array_equal(one[1][1], other[1][1]) and one[1][2:] == other[1][2:]
    return torch.equal(one[0], other[0]) and arrays and one[2] == other[2]


def _put_back(states: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
