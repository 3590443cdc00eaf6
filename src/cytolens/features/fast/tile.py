"""The part of an image that a single neuron sees: nothing else has to go through the network.

Convolutions and poolings give at a position what they would give if there were nothing outside its
receptive field, provided that the cut falls on a multiple of their stride.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 0.7
"""Share of the image above which a tile is not worth using."""


@dataclass(frozen=True)
class Tile:
    """Rows and columns of the image, and where on the layer's map their answer lies."""

    rows: slice
    columns: slice
    first: tuple[int, int]  # row and column of the map
    size: tuple[int, int]  # of the whole map

    def cut(self, images: Tensor) -> Tensor:
        """The part (N, C, …) of images (N, C, H, W)."""
        return images[:, :, self.rows, self.columns]

    def place(self, answer: Tensor) -> Tensor:
        """A map (N, C, h, w) as large as the image's own, zero around what the tile gave."""
        (top, left), (height, width) = self.first, self.size
        bottom, right = height - top - answer.shape[2], width - left - answer.shape[3]
        return functional.pad(answer, (left, right, top, bottom))


def find_tile(
    answer: Callable[[Tensor], Tensor],
    probe: Tensor,
    position: tuple[int | None, int | None],
    receptive_field: int,
) -> Tile | None:
    """The tile that a neuron of ``answer``, images (N, C, H, W) to maps (N, B, h, w), sees.

    It is guessed from the receptive field (pixels) and the sizes, and tried on the images
    ``probe``: value and gradient have to be those of the whole image, up to rounding. None where
    they are not, or where the tile is most of the image.
    """
    images = probe.detach().requires_grad_()
    whole = answer(images)
    size = whole.shape[2], whole.shape[3]
    row, column = (n // 2 if p is None else p for p, n in zip(position, size, strict=True))
    if not (-size[0] <= row < size[0] and -size[1] <= column < size[1]):
        return None  # the objective says what is wrong
    row, column = row % size[0], column % size[1]
    top, bottom, first_row = _span(images.shape[2], size[0], row, receptive_field)
    left, right, first_column = _span(images.shape[3], size[1], column, receptive_field)
    if (bottom - top) * (right - left) > LARGEST * images.shape[2] * images.shape[3]:
        return None
    tile = Tile(slice(top, bottom), slice(left, right), (first_row, first_column), size)
    part = answer(tile.cut(images))
    if first_row + part.shape[2] > size[0] or first_column + part.shape[3] > size[1]:
        return None
    values = [maps[:, :, row, column] for maps in (whole, tile.place(part))]
    slopes = [torch.autograd.grad(value.sum(), images)[0] for value in values]
    same = all(
        (a - b).abs().max() <= 1e3 * torch.finfo(a.dtype).eps * (1 + a.abs().max())
        for a, b in (values, slopes)
    )
    return tile if same else None


def _span(pixels: int, cells: int, index: int, field: int) -> tuple[int, int, int]:
    """First pixel, pixel after the last, and first cell of the map, along one side."""
    stride = max(1, round(pixels / cells))
    centre = (pixels - 1) / 2 + stride * (index - (cells - 1) / 2)
    slack = stride  # fields of even size have no middle
    first = max(0, math.floor((centre - (field - 1) / 2 - slack) / stride))
    after = math.ceil((centre + (field + 1) / 2 + slack) / stride)
    return first * stride, min(pixels, after * stride), first
