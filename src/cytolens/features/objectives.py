"""What a feature image is asked to do: one score per image, from what the network answers.

An objective has one target per image of a batch, so that a hundred channels are optimised at
once; objectives add, subtract and scale. Values are taken before the non-linearity, or leak past
it, so that a silent ReLU still has a gradient and never leaves an image grey.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from cytolens.errors import SettingError


@dataclass(frozen=True)
class Response:
    """A batch of images and what the network answers, at the layers that an objective asks for.

    ``image`` (N, C, H, W) is not transformed; the layers, by name, saw the transformed images.
    ``background`` (C, 1, 1) is what surrounds a cell, ``expected`` (C, H, W) the average cell, or
    where images start without cells, ``deviation`` (C, H, W) the cells' standard deviation at each
    pixel, None without cells. All four are in units of the value range, 0…1.

    ``reduced`` names a layer that holds of each image its own channel alone: there C is 1.
    """

    image: Tensor
    background: Tensor
    expected: Tensor
    deviation: Tensor | None
    pre_activation: Mapping[str, Tensor]  # (N, C, h, w), or (N, F) for a dense layer
    activation: Mapping[str, Tensor]
    reduced: str | None = None
    step: int = 0  # of the optimisation


Score = Callable[[Response, Tensor], Tensor]
"""(response to N images, (N,) index of each image's target) -> one number per image, or a map."""


@dataclass(frozen=True)
class Focus:
    """All that a score reads of the network, where that is little; it spares the network work.

    ``layer``: the only one; ``channels``: for each target the one it reads; ``position``: (row,
    column), if it is only one, None standing for the middle.
    """

    layer: str
    channels: tuple[int, ...]
    position: tuple[int | None, int | None] | None = None


@dataclass(frozen=True)
class Objective:
    """One score per image, to be maximised; image i of a batch pursues the target it is given.

    ``score`` gives (N,). ``place`` gives the same quantity where it arises, (N, h, w), or (N,) at
    a dense layer; None where the objective lives in no single layer.
    """

    score: Score
    layers: tuple[str, ...]  # that must be captured
    targets: tuple[str, ...]  # names; one image is made per target
    channels: tuple[int, ...]  # index of the target channel; -1 where it is none
    place: Score | None = None
    focus: Focus | None = None

    def __call__(self, response: Response, targets: Tensor | None = None) -> Tensor:
        """Scores (N,); without ``targets`` image i pursues target i, or all the only one."""
        if targets is None:
            targets = torch.arange(len(response.image), device=response.image.device)
            targets = targets if len(self) > 1 else torch.zeros_like(targets)
        return self.score(response, targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __add__(self, other: "Objective") -> "Objective":
        return _combine(self, other, 1.0, "+")

    def __sub__(self, other: "Objective") -> "Objective":
        return _combine(self, other, -1.0, "-")

    def __mul__(self, factor: float) -> "Objective":
        def scaled(of: Score) -> Score:
            return lambda response, targets: factor * of(response, targets)

        return Objective(
            score=scaled(self.score),
            layers=self.layers,
            targets=tuple(f"{factor:g} × {name}" for name in self.targets),
            channels=self.channels if factor > 0 else (-1,) * len(self),
            place=None if self.place is None else scaled(self.place),
            focus=self.focus,
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Objective":
        return self * (1 / divisor)

    def __neg__(self) -> "Objective":
        return self * -1.0


def _combine(first: Objective, second: Objective, sign: float, symbol: str) -> Objective:
    """first ± second, target by target; an objective with a single target goes with all."""
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise SettingError(
            f"objectives with {len(first)} and {len(second)} targets cannot be added; "
            "give both the same number, or one of them a single target"
        )

    def pair(a: Score, b: Score) -> Score:
        def total(response: Response, targets: Tensor) -> Tensor:
            left = a(response, targets if len(first) > 1 else torch.zeros_like(targets))
            right = b(response, targets if len(second) > 1 else torch.zeros_like(targets))
            return left + sign * right

        return total

    n = max(len(first), len(second))
    same_layer = first.layers == second.layers and len(first.layers) == 1
    both = same_layer and first.place is not None and second.place is not None
    left, right = (part.targets * (n if len(part) == 1 else 1) for part in (first, second))
    return Objective(
        score=pair(first.score, second.score),
        layers=tuple(dict.fromkeys(first.layers + second.layers)),
        targets=tuple(f"{a} {symbol} {b}" for a, b in zip(left, right, strict=True)),
        channels=(-1,) * n,
        place=pair(first.place, second.place)
        if both and first.place is not None and second.place is not None
        else None,
    )


def _indices(channels: int | Sequence[int]) -> tuple[int, ...]:
    wanted = (channels,) if isinstance(channels, int) else tuple(int(c) for c in channels)
    if not wanted or min(wanted) < 0:
        raise SettingError(f"channels {list(wanted)} cannot be used; give indices from 0 on")
    return wanted


LEAK = 0.1
"""Share of the pre-activation that is mixed into an activation; cf. leaky ReLU."""


def _leaky(before: Tensor, after: Tensor) -> Tensor:
    """What a layer gives, a tenth of it taken before the non-linearity: a ReLU becomes leaky.

    Not all of it: the mean over positions of a filter's response before the non-linearity sees
    only the filter's own mean, and no grating at all.
    """
    return after if after is before else torch.lerp(after, before, LEAK)


def channel_means(before: Tensor, after: Tensor) -> Tensor:
    """Objective `channel` of every channel at once, (N, C), of a layer's values (N, C, …)."""
    leaky = _leaky(before, after)
    return leaky.flatten(2).mean(2) if leaky.ndim > 2 else leaky


def _own(
    response: Response,
    values: Mapping[str, Tensor],
    layer: str,
    wanted: tuple[int, ...],
    targets: Tensor,
) -> Tensor:
    """Of (N, C, h, w) each image's own channel, (N, h, w); of (N, F) at a dense layer, (N,)."""
    answer = values[layer]
    if response.reduced == layer:
        return answer[:, 0]
    if max(wanted) >= answer.shape[1]:
        raise SettingError(
            f"channel {max(wanted)} is not in layer '{layer}'; "
            f"choose from 0 to {answer.shape[1] - 1}"
        )
    chosen = torch.tensor(wanted, device=answer.device)[targets]
    return answer[torch.arange(len(answer), device=answer.device), chosen]


def _channel_values(layer: str, wanted: tuple[int, ...]) -> Score:
    """Pre-activation of each image's channel: (N, h, w), or (N,) at a dense layer."""
    return lambda response, targets: _own(response, response.pre_activation, layer, wanted, targets)


def _mean(values: Tensor) -> Tensor:
    """Mean over all positions, (N,)."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def channel(layer: str, channels: int | Sequence[int]) -> Objective:
    """Mean activation of a channel over all positions, leaky; one target per channel given."""
    wanted = _indices(channels)

    def score(response: Response, targets: Tensor) -> Tensor:
        before = _own(response, response.pre_activation, layer, wanted, targets)
        after = _own(response, response.activation, layer, wanted, targets)
        return _mean(_leaky(before, after))

    return Objective(
        score=score,
        layers=(layer,),
        targets=tuple(f"channel {index}" for index in wanted),
        channels=wanted,
        place=_channel_values(layer, wanted),
        focus=Focus(layer, wanted),
    )


def neuron(
    layer: str, channels: int | Sequence[int], *, y: int | None = None, x: int | None = None
) -> Objective:
    """Pre-activation of a channel at one position (row, column); the centre unless given.

    At a dense layer a neuron is a channel.
    """
    wanted = _indices(channels)
    values = _channel_values(layer, wanted)

    def score(response: Response, targets: Tensor) -> Tensor:
        maps = values(response, targets)  # (N, h, w)
        if maps.ndim == 1:
            return maps
        height, width = maps.shape[-2:]
        row, column = height // 2 if y is None else y, width // 2 if x is None else x
        if not (-height <= row < height and -width <= column < width):
            raise SettingError(
                f"neuron ({row}, {column}) is not in layer '{layer}', of {height} × {width}"
            )
        return maps[:, row, column]

    place = "centre" if y is None and x is None else f"({y}, {x})"
    return Objective(
        score=score,
        layers=(layer,),
        targets=tuple(f"neuron {index} at {place}" for index in wanted),
        channels=wanted,
        place=values,
        focus=Focus(layer, wanted, (y, x)),
    )


def layer(name: str) -> Objective:
    """Mean squared pre-activation of a whole layer (DeepDream, Mordvintsev et al. 2015)."""

    def values(response: Response, targets: Tensor) -> Tensor:
        return response.pre_activation[name].square().mean(1)

    return Objective(
        score=lambda response, targets: _mean(values(response, targets)),
        layers=(name,),
        targets=(f"layer {name}",),
        channels=(-1,),
        place=values,
    )


def class_logit(
    classes: int | Sequence[int],
    *,
    layer: str = "logits",
    class_names: Sequence[str] | None = None,
) -> Objective:
    """The logit of a class: what the softmax is given; one target per class given."""
    logits = channel(layer, classes)
    names = class_names or [f"class {index}" for index in range(max(logits.channels) + 1)]
    return Objective(
        score=logits.score,
        layers=logits.layers,
        targets=tuple(names[index] for index in logits.channels),
        channels=logits.channels,
        place=logits.place,
        focus=logits.focus,
    )


def direction(
    layer: str,
    vectors: ArrayLike | Tensor,
    *,
    names: Sequence[str] | None = None,
    cosine_power: float = 0.0,
) -> Objective:
    """Projection of a layer's activation on unit directions (K, F), e.g. of a cluster's mean.

    For a map of channels F is the number of channels, and the activation is averaged over
    positions, as `extract` does by default. It is the activation, on which clusters and classes
    are found, made leaky so that silent channels have a gradient. With ``cosine_power`` p the
    projection is multiplied by max(cosine, 0.1)^p, which asks for this direction and no other
    (Carter et al. 2019).
    """
    rows = torch.atleast_2d(torch.as_tensor(vectors).detach().to("cpu", torch.float64))
    lengths = rows.norm(dim=1, keepdim=True)
    if rows.ndim != 2 or not bool(torch.isfinite(rows).all()) or bool((lengths == 0).any()):
        raise SettingError(
            "directions must be finite, non-zero rows (target, channel of the layer)"
        )
    if names is not None and len(names) != len(rows):
        raise SettingError(f"{len(names)} names came for {len(rows)} directions; give one for each")
    unit = rows / lengths

    def activation(response: Response) -> Tensor:
        answer = _leaky(response.pre_activation[layer], response.activation[layer])
        if answer.shape[1] != unit.shape[1]:
            raise SettingError(
                f"directions have {unit.shape[1]} entries, but layer '{layer}' has "
                f"{answer.shape[1]} channels; give one entry per channel"
            )
        return answer

    def values(response: Response, targets: Tensor) -> Tensor:
        answer = activation(response)
        return torch.einsum("nc...,nc->n...", answer, unit.to(answer)[targets])

    def score(response: Response, targets: Tensor) -> Tensor:
        answer = activation(response)
        features = answer.flatten(2).mean(2) if answer.ndim > 2 else answer  # (N, F)
        chosen = unit.to(answer)[targets]
        projection = (features * chosen).sum(1)
        if cosine_power == 0:
            return projection
        cosine = functional.cosine_similarity(features, chosen, dim=1)
        return projection * cosine.clamp_min(0.1) ** cosine_power

    return Objective(
        score=score,
        layers=(layer,),
        targets=tuple(names or (f"direction {index}" for index in range(len(unit)))),
        channels=(-1,) * len(unit),
        place=values,
    )
