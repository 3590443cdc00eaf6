"""Crops as sheets of tiles: one WebP picture for many crops of one image channel."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolens.figures.display import Display

_SHEET = 1024  # pixels along a side of a sheet
_LARGEST = 64  # pixels along a side of a tile; larger crops are shrunk
_SMALL = 32  # the same where there are many cells
_MANY = 5000  # cells from which on tiles are small
_EXACT = 8_000_000  # pixels of all sheets of a channel up to which no pixel is changed
_QUALITY = 80  # of WebP, beyond that: about half a kB for 32 × 32 px


@dataclass(frozen=True)
class Tiles:
    """How crops lie on sheets: row by row, ``per`` of them on each."""

    width: int  # pixels of a tile
    height: int
    across: int  # tiles in a row
    per: int  # tiles on a sheet
    lossless: bool = True

    def count(self, n: int) -> int:
        """Sheets that ``n`` tiles take."""
        return -(-n // self.per)

    def sheet(self, crops: NDArray[np.uint8]) -> bytes:
        """Up to ``per`` crops (n, C, H, W), C being 1 (grey) or 3 (colour), as WebP."""
        n, channels = crops.shape[:2]
        rows = -(-n // self.across)
        canvas = np.zeros((rows * self.height, self.across * self.width, channels), dtype=np.uint8)
        for place, crop in enumerate(np.moveaxis(crops, 1, -1)):
            top, left = place // self.across * self.height, place % self.across * self.width
            canvas[top : top + self.height, left : left + self.width] = self._tile(crop)
        picture = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
        buffer = io.BytesIO()
        if self.lossless:  # the quickest way: a twelfth of the time for a sixth more bytes
            picture.save(buffer, "WEBP", lossless=True, quality=0, method=0)
        else:
            picture.save(buffer, "WEBP", quality=_QUALITY, method=2)
        return buffer.getvalue()

    def _tile(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if crop.shape[:2] == (self.height, self.width):
            return crop
        grey = crop.shape[2] == 1
        picture = Image.fromarray(crop[..., 0] if grey else crop)
        small = np.asarray(picture.resize((self.width, self.height), Image.Resampling.BOX))
        return small[..., None] if grey else small


def tiles_for(n: int, shape: tuple[int, int, int]) -> Tiles:
    """How ``n`` crops (C, H, W) are laid out: as they are up to 64 px, shrunk beyond.

    From 5,000 cells on tiles are at most 32 px, and beyond 8 million pixels they are compressed
    with small losses; single crops are always to be had in full.
    """
    most = _SMALL if n > _MANY else _LARGEST
    scale = min(1.0, most / max(shape[1:]))
    height, width = (max(1, round(side * scale)) for side in shape[1:])
    across, down = max(1, _SHEET // width), max(1, _SHEET // height)
    return Tiles(width, height, across, across * down, n * height * width <= _EXACT)


def as_bytes(images: NDArray[np.floating], drawn: Display) -> NDArray[np.uint8]:
    """Images (n, C, H, W) from the intensities drawn black to those drawn white, as 0…255."""
    low, high = drawn.limits[:, 0, None, None], drawn.limits[:, 1, None, None]
    width = np.where(high > low, high - low, 1.0)
    scaled = np.clip(np.nan_to_num((images - low) / width), 0, 1)
    return np.round(255 * scaled).astype(np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    """One crop (C, H, W), C being 1 or 3, as PNG, every pixel as it is."""
    pixels = np.moveaxis(image, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
