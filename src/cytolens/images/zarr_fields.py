"""Fields of view in OME-Zarr: one picture each, with label images in the group ``labels``.

OME-Zarr 0.4 and 0.5. Source: https://ngff.openmicroscopy.org, sections on multiscales and labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytolens.errors import InputError
from cytolens.images.image_files import CROP, Limits, Picture, check_extent
from cytolens.images.zarr_files import (
    ZarrRows,
    axes_of,
    channels_of,
    check_files,
    is_zarr,
    open_group,
    pixel_of,
)

_FIRST = ("cells", "cell", "nuclei", "nucleus")  # of several label images


def label_fields(root: Path, stores: Sequence[str]) -> dict[str, str]:
    """The label image of each Zarr folder below ``root`` that is a field, as a path below it.

    Empty where none of them is one: a picture along y and x, channels, and no other axis that is
    longer than 1, with ``labels``. Of several label images that called cells is taken, then nuclei,
    then the first.
    """
    found: dict[str, str] = {}
    for store in stores:
        name = _label_of(root / store) if is_zarr(root / store) else None
        if name is not None:
            found[store] = f"{store}/labels/{name}"
    return found


def read_zarr_picture(path: Path, limits: Limits = CROP) -> Picture:
    """The one picture (C, H, W) of an OME-Zarr folder, at full resolution.

    Raises InputError where it has several, or none.
    """
    check_files(path)
    group = open_group(path)
    ome, array, axes, kept = _picture(group)
    shape = tuple(int(array.shape[i]) for i in kept)
    check_extent(shape if len(shape) > 2 else (1, *shape), array.dtype.itemsize, limits)
    pixels = np.asarray(ZarrRows(array, kept)[:])
    crop = pixels if pixels.ndim == 3 else pixels[None]
    scales: Any = ome["multiscales"][0]
    names = channels_of(ome, len(crop))
    return Picture(crop, names, pixel_of(scales, scales["datasets"][0], axes))


def _label_of(path: Path) -> str | None:
    """The label image that is cut by; None for a folder that is no field."""
    try:
        check_files(path)
        group = open_group(path)
        _picture(group)
        if "labels" not in group:
            return None
        names = [str(name) for name in group["labels"] if _is_flat(group["labels"][name])]
    except InputError:
        return None
    ranked = sorted(names, key=lambda name: [name.lower() != one for one in _FIRST])
    return ranked[0] if ranked else None


def _is_flat(group: Any) -> bool:
    try:
        return bool(_picture(group))
    except InputError:
        return False


def _picture(group: Any) -> tuple[dict[str, Any], Any, list[str], tuple[int, ...]]:
    """What OME says, the array, its axes, and those to keep: c, y, x."""
    if hasattr(group, "shape"):
        raise InputError("is a Zarr array without the description of OME-Zarr")
    ome, array, axes = axes_of(group)
    long = [f"{axes[i]} {n}" for i, n in enumerate(array.shape) if axes[i] not in "cyx" and n > 1]
    if long:
        raise InputError(
            f"is OME-Zarr with several planes ({', '.join(long)}); cells are cut from flat fields: "
            "write a projection, or one plane"
        )
    return ome, array, axes, tuple(axes.index(axis) for axis in "cyx" if axis in axes)
