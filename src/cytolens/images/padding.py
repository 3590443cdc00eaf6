"""Where the measured part lies in crops that someone has padded to one size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.crops import ArrayCrops

_LOOKED_AT = 64  # crops, evenly spaced


def find_windows(crops: ArrayCrops, sizes: NDArray[Any]) -> tuple[NDArray[np.int64] | None, str]:
    """Top, left, height and width (N, 4) of the measured part of every crop, and where that is.

    ``sizes`` (N, 2) are the heights and widths that the crops had. Of the customary alignments
    the first is taken under which all that lies outside, in 64 crops, is one and the same number
    and what lies inside is not; None if there is none, or if no crop was padded.
    """
    first = crops.load(np.array([0]))[0]
    if isinstance(first, InputError) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        return None, ""
    full = np.array(first.shape[1:], dtype=np.int64)
    shared = np.minimum(sizes.astype(np.int64), full)  # (N, 2); larger crops were cut
    padded = np.flatnonzero((shared < full).any(axis=1))
    if len(padded) == 0:
        return None, ""
    looked = padded[np.linspace(0, len(padded) - 1, min(_LOOKED_AT, len(padded))).astype(np.int64)]
    pictures = [np.asarray(crop) for crop in crops.load(looked)]
    room = full - shared
    alignments = {
        "centred": room // 2,
        "centred, rounded up": (room + 1) // 2,
        "at the top left": np.zeros_like(room),
    }
    for where, start in alignments.items():
        windows = np.concatenate([start, shared], axis=1)
        outside: set[float] = set()
        for picture, (top, left, height, width) in zip(pictures, windows[looked].tolist()):
            mask = np.ones(picture.shape[1:], dtype=bool)
            mask[top : top + height, left : left + width] = False
            outside.update(np.unique(picture[:, mask]).tolist())
            if len(outside) > 1:
                break
        if len(outside) == 1:
            return windows, where
    return None, ""
