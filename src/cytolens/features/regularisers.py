"""What an image should not be: objectives on the image alone, given a minus sign.

All work on intensities in units of the value range (0…1) and are means over pixels, so that one
weight does for any crop size and bit depth. Weights are relative changes of the target: what is
maximised is asinh(z) - w·v, z being the target in s.d. of the cells about their mean, and asinh
linear for small and logarithmic for large z. A weight w at value v has to be outweighed by an
activation larger by the factor e^(w·v), whatever the scale of the layer.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from cytolens.errors import choose
from cytolens.features.objectives import Objective, Response

Penalty = Callable[[Response], Tensor]


def _regulariser(name: str, penalty: Penalty) -> Objective:
    return Objective(
        score=lambda response, targets: penalty(response),
        layers=(),
        targets=(name,),
        channels=(-1,),
    )


def total_variation() -> Objective:
    """Mean absolute difference of neighbouring pixels; keeps edges (Mahendran & Vedaldi 2015)."""

    def penalty(response: Response) -> Tensor:
        image = response.image
        down = (image[..., 1:, :] - image[..., :-1, :]).abs().flatten(1).mean(1)
        across = (image[..., 1:] - image[..., :-1]).abs().flatten(1).mean(1)
        return down + across

    return _regulariser("total variation", penalty)


def l1() -> Objective:
    """Mean absolute distance to the background: leaves dark what the target does not ask for."""

    def penalty(response: Response) -> Tensor:
        return (response.image - response.background).abs().flatten(1).mean(1)

    return _regulariser("l1", penalty)


def l2() -> Objective:
    """Mean squared distance to the background: no saturated pixels (Simonyan et al. 2014)."""

    def penalty(response: Response) -> Tensor:
        return (response.image - response.background).square().flatten(1).mean(1)

    return _regulariser("l2", penalty)


def blur() -> Objective:
    """Mean squared distance to the image blurred by one pixel: no fine grain (Nguyen et al. 2016).

    The kernel is binomial, (1 2 1) / 4 in both directions.
    """

    def penalty(response: Response) -> Tensor:
        image = response.image
        line = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype, device=image.device)
        kernel = torch.outer(line, line).expand(image.shape[1], 1, 3, 3)
        padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
        smooth = functional.conv2d(padded, kernel, groups=image.shape[1])
        return (image - smooth).square().flatten(1).mean(1)

    return _regulariser("blur", penalty)


def departure() -> Objective:
    """Mean squared departure from the average cell, in the cells' own s.d. at each pixel.

    A real cell has about 1. Where all cells are alike (the empty corners) a change costs much,
    where they differ (chromatin) it costs little: what is drawn is drawn on a cell. It is the
    log-likelihood of independent Gaussian pixels, the plainest prior from the cells themselves;
    the s.d. is taken as at least 5 % of the value range. Zero where no cells are given.
    """

    def penalty(response: Response) -> Tensor:
        if response.deviation is None:
            return torch.zeros_like(response.image[:, 0, 0, 0])
        change = (response.image - response.expected) / response.deviation.clamp_min(0.05)
        return change.square().flatten(1).mean(1)

    return _regulariser("departure", penalty)


REGULARISERS: dict[str, Callable[[], Objective]] = {
    "total_variation": total_variation,
    "l1": l1,
    "l2": l2,
    "blur": blur,
    "departure": departure,
}


def weigh(weights: Mapping[str, float]) -> Objective | None:
    """The weighted sum of regularisers by name, e.g. ``{"total_variation": 2, "l2": 1}``."""
    terms = [
        weight * REGULARISERS[choose("regulariser", name, list(REGULARISERS))]()
        for name, weight in weights.items()
        if weight
    ]
    return None if not terms else sum(terms[1:], terms[0])
