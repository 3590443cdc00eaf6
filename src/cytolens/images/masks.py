"""What the masks of a file do to its crops: nothing, blank what is not the cell, or cut to it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError, choose
from cytolens.images.crops import Crop, Crops

Mask = NDArray[np.bool_]
"""(h, w), True where the cell is."""

MASKS = ("ignore", "blank", "crop")


@runtime_checkable
class CropsWithMasks(Crops, Protocol):
    """Crops whose file also says which pixels are the cell's."""

    @property
    def has_masks(self) -> bool:
        """Whether any crop has a mask."""
        ...

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """The masks of the crops at these positions, or what is wrong with each."""
        ...


def apply_masks(crops: Crops, masks: str) -> Crops:
    """``crops`` as they are ("ignore"), or read through their masks; see `MaskedCrops`.

    Raises SettingError for an unknown word, and where there are no masks.
    """
    wanted = choose("masks", masks, MASKS)
    if wanted == "ignore":
        return crops
    if not (isinstance(crops, CropsWithMasks) and crops.has_masks):
        raise SettingError(f"masks '{masks}' is not possible: these data hold no masks")
    return MaskedCrops(crops, wanted)


@dataclass(frozen=True)
class MaskedCrops:
    """Crops read through their masks.

    With "blank", pixels off the mask become, per image channel, the median of these pixels: the
    crop's own background, whatever its neighbours are. With "crop", the crop is cut to the
    smallest rectangle around its mask. A crop whose mask is empty is refused.
    """

    crops: CropsWithMasks
    how: str

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def batch(self) -> int:
        """As without masks."""
        return self.crops.batch

    def name(self, position: int) -> str:
        """As without masks."""
        return self.crops.name(position)

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops, or what is wrong with each or its mask."""
        pairs = zip(self.crops.load(positions), self.crops.load_masks(positions))
        return [self._masked(crop, mask) for crop, mask in pairs]

    def _masked(self, crop: Crop | InputError, mask: Mask | InputError) -> Crop | InputError:
        if isinstance(crop, InputError):
            return crop
        if isinstance(mask, InputError):
            return mask
        if mask.shape != crop.shape[1:]:
            return InputError(f"has {crop.shape[1:]} pixels, but a mask of {mask.shape}")
        if not mask.any():
            return InputError("has an empty mask")
        if self.how == "crop":
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            return crop[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if mask.all():
            return crop
        middle = np.median(crop[:, ~mask], axis=1)
        if crop.dtype.kind in "ui":
            middle = np.rint(middle)
        return np.where(mask, crop, middle.astype(crop.dtype)[:, None, None])
