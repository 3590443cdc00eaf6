"""Random views during optimisation: only what survives a small shift, turn and zoom is kept.

Without them an image climbs on high-frequency patterns that no camera would record (Olah,
Mordvintsev & Schubert 2017, section "The enemy of feature visualization"). All three are one
resampling, and each image has its own draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cytolens.errors import SettingError


@dataclass(frozen=True)
class Transforms:
    """How far views may go, in each direction from the image itself, drawn uniformly."""

    shift: float | None = None  # pixels; None: a sixteenth of the crop, at least one
    rotate: float = 15.0  # degrees; cells in flow have no upright
    scale: float = 0.05  # 0.05: from 95 % to 105 %

    def __post_init__(self) -> None:
        if (self.shift or 0) < 0 or self.rotate < 0 or not 0 <= self.scale < 1:
            raise SettingError(
                f"transforms shift={self.shift}, rotate={self.rotate}, scale={self.scale} cannot "
                "be used; give shift (pixels) and rotate (degrees) from 0, scale from 0 to below 1"
            )

    def reach(self, height: int, width: int) -> float:
        """Largest shift in pixels, for crops of that size."""
        return max(1.0, max(height, width) / 16) if self.shift is None else self.shift

    @property
    def none(self) -> bool:
        """True if every view is the image itself."""
        return self.shift == 0 and self.rotate == 0 and self.scale == 0


STILL = Transforms(shift=0.0, rotate=0.0, scale=0.0)
"""No transforms."""


def draw_views(generators: Sequence[torch.Generator], steps: int) -> Tensor:
    """(steps, N, 4) draws from -1 to 1, float64: shift down, shift right, rotation, zoom."""
    rows = [torch.rand((steps, 4), generator=g, dtype=torch.float64) for g in generators]
    return torch.stack(rows, dim=1) * 2 - 1


def transform(images: Tensor, draws: Tensor, transforms: Transforms, background: Tensor) -> Tensor:
    """Views of ``images`` (N, C, H, W) by ``draws`` (N, 4); new borders show ``background``.

    Bilinear; ``background`` (C, 1, 1) in the units of the images.
    """
    if transforms.none:
        return images
    height, width = images.shape[-2:]
    reach = transforms.reach(height, width)
    down, right, turn, zoom = draws.T  # (N,) each
    angle = turn * math.radians(transforms.rotate)
    factor = 1 / (1 + zoom * transforms.scale)
    cosine, sine = torch.cos(angle) * factor, torch.sin(angle) * factor
    # grid_sample's coordinates run from -1 to 1 along each side: the aspect ratio keeps angles true
    theta = torch.stack(
        [
            torch.stack([cosine, -sine * height / width, -right * reach * 2 / width], dim=1),
            torch.stack([sine * width / height, cosine, -down * reach * 2 / height], dim=1),
        ],
        dim=1,
    ).to(images)  # (N, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    views = functional.grid_sample(images - background, grid, align_corners=False)
    return views + background
