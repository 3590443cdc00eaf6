"""What the optimiser steps: numbers that a smooth map turns into images within the value range.

A parametrisation is a function of a canvas and one random generator per image; every image has
its own, so it does not depend on what else is in the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolens.errors import SettingError
from cytolens.features.canvas import Canvas


@dataclass(frozen=True)
class Painting:
    """Images in the making: the numbers to step, and the function from them to images."""

    parameters: Tensor  # (N, …), a leaf that requires a gradient
    image: Callable[[], Tensor]  # () -> (N, C, H, W), prepared intensities


Parametrisation = Callable[[Canvas, Sequence[torch.Generator]], Painting]

START_NOISE = 0.05
"""Standard deviation of the starting image, before the sigmoid."""


def _normal(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """(N, *shape), each row from its own generator, drawn on the CPU in double precision."""
    rows = [torch.randn(tuple(shape), generator=g, dtype=torch.float64) for g in generators]
    return torch.stack(rows).to(like)


def pixels(canvas: Canvas, generators: Sequence[torch.Generator]) -> Painting:
    """Every pixel by itself. Honest and grainy."""
    noise = START_NOISE * _normal(canvas.shape, generators, canvas.low)
    parameters = noise.requires_grad_()
    return Painting(parameters, lambda: canvas.paint(parameters))


def fourier(
    canvas: Canvas, generators: Sequence[torch.Generator], *, decay: float = 0.5
) -> Painting:
    """A spectrum whose coefficients are scaled by 1 / frequency^decay: coarse structure first.

    Preconditioning after Olah, Mordvintsev & Schubert 2017. As the gradient is scaled as well as
    the step, the image moves by 1 / frequency^(2·decay), by default the amplitude spectrum of
    natural images, and of cells. The scale is normalised so that unit normal coefficients give
    pixels of standard deviation one, at any size.
    """
    channels, height, width = canvas.shape
    scale = fourier_scale(height, width, decay=decay).to(canvas.low)  # (H, W // 2 + 1)
    noise = _normal((2, channels, *scale.shape), generators, canvas.low)
    parameters = (START_NOISE * noise).requires_grad_()

    def image() -> Tensor:
        spectrum = torch.complex(parameters[:, 0] * scale, parameters[:, 1] * scale)
        return canvas.paint(torch.fft.irfft2(spectrum, s=(height, width), norm="ortho"))

    return Painting(parameters, image)


def fourier_scale(height: int, width: int, *, decay: float) -> Tensor:
    """1 / frequency^decay on the half spectrum (H, W // 2 + 1), float64, in cycles per pixel.

    The mean is given the scale of the lowest frequency. The mean square over the whole spectrum
    is such that unit normal real and imaginary parts give pixels of unit variance.
    """
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
    scale = torch.hypot(rows, columns).clamp_min(1 / max(height, width)) ** -decay
    power = torch.full_like(columns, 4.0)  # columns that stand for their mirror image too
    power[:, 0] = 1  # of these only the real part counts
    if width % 2 == 0:
        power[:, -1] = 1
    variance = (power * scale.square()).sum() / (height * width)
    return scale / variance.sqrt()


def along(
    components: NDArray[np.float32], deviations: NDArray[np.float32], *, bounded: bool = False
) -> Parametrisation:
    """Changes of the start along principal components (k, C, H, W) of the cells.

    A coefficient of one is one standard deviation (k,) of the cells, so that an image moves most
    where cells differ most. ``bounded`` keeps it within the ellipsoid of the cells: the mean
    square of the coefficients is at most one, as it is for real cells on average.
    """
    scaled = components * deviations[:, None, None, None]

    def paint(canvas: Canvas, generators: Sequence[torch.Generator]) -> Painting:
        basis = torch.from_numpy(scaled).to(canvas.low)
        noise = _normal(deviations.shape, generators, canvas.low)
        parameters = (START_NOISE * noise).requires_grad_()

        def image() -> Tensor:
            coefficients = parameters
            if bounded:
                size = coefficients.square().mean(1, keepdim=True).sqrt()
                coefficients = coefficients / size.clamp_min(1)
            change = (coefficients @ basis.flatten(1)).view(-1, *canvas.shape)
            return canvas.clip(canvas.start + change)

        return Painting(parameters, image)

    paint.__name__ = "components"
    return paint


def phases(amplitude: NDArray[np.float32]) -> Parametrisation:
    """Free phases under a fixed amplitude spectrum (C, H, W // 2 + 1), from those of the start.

    Source: Fel et al. 2023, MACO (arXiv:2306.06805), section 3.
    """

    def paint(canvas: Canvas, generators: Sequence[torch.Generator]) -> Painting:
        size = (canvas.shape[1], canvas.shape[2])
        fixed = torch.from_numpy(amplitude).to(canvas.low)
        begin = torch.fft.rfft2(canvas.start - canvas.background, norm="ortho").angle()
        noise = _normal(amplitude.shape, generators, canvas.low)
        parameters = (START_NOISE * noise).requires_grad_()

        def image() -> Tensor:
            spectrum = torch.polar(fixed.expand_as(parameters), begin + parameters)
            above = torch.fft.irfft2(spectrum, s=size, norm="ortho")
            return canvas.clip(canvas.background + above)

        return Painting(parameters, image)

    paint.__name__ = "phases"
    return paint


PARAMETRISATIONS: dict[str, Parametrisation] = {"fourier": fourier, "pixels": pixels}


def find_parametrisation(name: str | Parametrisation) -> Parametrisation:
    """The parametrisation of that name; a function is taken as it is."""
    if callable(name):
        return name
    if name not in PARAMETRISATIONS:
        raise SettingError(
            f"parametrisation '{name}' is unknown; choose one of: {', '.join(PARAMETRISATIONS)}"
        )
    return PARAMETRISATIONS[name]
