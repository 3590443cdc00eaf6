"""AdamW over one cycle of learning rate and momentum."""

import math

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_RISING = 0.2  # share of the steps in which the learning rate rises
_FIRST, _LAST = 25, 1e4  # the highest learning rate over the first, and the first over the last
_MOMENTUM = (0.95, 0.85)  # where the learning rate is least, and where it is highest
_SQUARES, _EPS = 0.999, 1e-8


class OneCycleAdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with one cycle (Smith 2018, 1803.09820).

    ``steps`` of them in all: warm-up, then cosine to zero. Only matrices and filters decay; biases
    and norms have no direction to shrink. Steps are those of ``torch.optim.AdamW`` under
    ``OneCycleLR``, bit by bit. These load PyTorch's compiler as soon as they are made, which takes
    each process more than a second and 70 MB; the function that they call does not.
    """

    def __init__(
        self, network: nn.Module, *, learning_rate: float, weight_decay: float, steps: int
    ) -> None:
        self._highest, self.done = learning_rate, 0
        self._steps = max(steps, 6)  # fewer have no first and last part
        parameters = list(network.parameters())
        self._parameters = parameters
        self._groups = (
            (weight_decay, [_Followed(p) for p in parameters if p.ndim > 1]),
            (0.0, [_Followed(p) for p in parameters if p.ndim <= 1]),
        )

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss`` (a scalar)."""
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        rate, momentum = self._now()
        for decay, followed in self._groups:
            found = [one for one in followed if one.parameter.grad is not None]
            with torch.no_grad():
                adamw(
                    [one.parameter for one in found],
                    [one.parameter.grad for one in found if one.parameter.grad is not None],
                    [one.mean for one in found],
                    [one.square for one in found],
                    [],
                    [one.steps for one in found],
                    fused=True,
                    amsgrad=False,
                    beta1=momentum,
                    beta2=_SQUARES,
                    lr=rate,
                    weight_decay=decay,
                    eps=_EPS,
                    maximize=False,
                )
        self.done += 1

    def _now(self) -> tuple[float, float]:
        """Learning rate and momentum of the step that comes."""
        first = self._highest / _FIRST
        last = first / _LAST
        calm, quick = _MOMENTUM
        top = _RISING * self._steps - 1
        if self.done <= top:
            share = self.done / top
            return _cosine(first, self._highest, share), _cosine(calm, quick, share)
        share = (self.done - top) / (self._steps - 1 - top)
        return _cosine(self._highest, last, share), _cosine(quick, calm, share)


class _Followed:
    """A parameter with what AdamW remembers of its gradients."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.mean = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        self.square = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        self.steps = torch.zeros((), dtype=torch.float32, device=parameter.device)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)
