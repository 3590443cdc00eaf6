"""Cells from arrays in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.assembly import Choices, Found, make_cells
from cytolens.images.columns import encode_labels, split_columns
from cytolens.images.crops import ArrayCrops, Crops, ListCrops, find_channel_axis
from cytolens.images.image_files import COLOURS, check_extent
from cytolens.records.cells import Cells, Progress


def cells_from_arrays(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    channel_names: Sequence[str] | None = None,
    groups: Any = None,
    group_name: str | None = None,
    names: Sequence[str] | NDArray[np.str_] | None = None,
    covariates: Mapping[str, Any] | None = None,
    classes: Sequence[str] | str | None = None,
    channels: Sequence[str | int] | str | None = None,
    size: int | Sequence[int] | None = None,
    intensity: str = "dataset",
    background: str | float | Sequence[float] = "border",
    pixel_size: float | None = None,
    skip_bad: bool = False,
    source: str = "arrays",
    progress: Progress | None = None,
) -> Cells:
    """Cells from arrays, by the same checks and preparation as `read_cells`.

    ``images``: (N, H, W), (N, H, W, C) or (N, C, H, W), a memory map too; or a list of arrays
    (h, w), (h, w, C) or (C, h, w) of different sizes. ``labels`` (N,): class names, or numbers
    into ``class_names``. ``groups`` (N,): what a split must not cut. For the rest see
    `read_cells`. Raises InputError or SettingError.

    >>> crops = np.random.default_rng(0).integers(0, 99, (40, 20, 20), dtype=np.uint8)
    >>> cells = cells_from_arrays(crops, ["G1", "G2"] * 20, pixel_size=0.5)
    >>> cells.shape, cells.class_names
    ((1, 24, 24), ('G1', 'G2'))
    """
    crops, remarks, colour_names = wrap_arrays(images, channel_names or (), label=source)
    codes, known = encode_labels(np.asarray(labels), class_names, what="labels")
    if len(codes) != len(crops):
        raise InputError(f"there are {len(codes)} labels for {len(crops)} images")
    columns = dict(covariates or {})
    group = None if groups is None else group_name or "group"
    if group is not None:
        columns[group] = groups
    if names is not None and len(names) != len(crops):
        raise InputError(f"there are {len(names)} names for {len(crops)} images")
    found = Found(
        crops=crops,
        labels=codes,
        class_names=known,
        names=row_names(crops) if names is None else np.asarray(names, dtype=np.str_),
        columns=split_columns(columns, len(crops)),
        group=group,
        channel_names=tuple(channel_names) if channel_names is not None else colour_names,
        remarks=remarks,
    )
    choices = Choices(
        classes=classes,
        channels=channels,
        size=size,
        intensity=intensity,
        background=background,
        pixel_size=pixel_size,
        skip_bad=skip_bad,
        progress=progress,
    )
    return make_cells(found, choices, source=source)


def row_names(crops: Crops) -> NDArray[np.str_]:
    """The names of all rows (N,), such as "cells.npz[17]"."""
    return np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_)


def wrap_arrays(
    images: Any, channel_names: Sequence[str], *, label: str
) -> tuple[Crops, tuple[str, ...], tuple[str, ...]]:
    """Crops over an array or a list of arrays, remarks on its axes, and the names of colours."""
    if isinstance(images, list | tuple) or images.dtype.kind == "O":
        return _wrap_list(list(images), channel_names, label=label)
    return wrap_parts((images,), (label,), channel_names)


def wrap_parts(
    parts: tuple[Any, ...], labels: tuple[str, ...], channel_names: Sequence[str]
) -> tuple[ArrayCrops, tuple[str, ...], tuple[str, ...]]:
    """Crops over arrays (n, …) that follow one another, such as those of a split in three."""
    shape, dtype = parts[0].shape, parts[0].dtype
    if any(part.shape[1:] != shape[1:] or part.dtype != dtype for part in parts):
        kinds = ", ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise InputError(
            f"{labels[0]} and the arrays that follow differ in shape or dtype: {kinds}"
        )
    if len(shape) not in (3, 4):
        raise InputError(
            f"{labels[0]} has images of shape {shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) "
            "is allowed"
        )
    if sum(len(part) for part in parts) == 0:
        raise InputError(f"{labels[0]} holds no images (shape {shape})")
    if dtype.kind not in "uifb":
        raise InputError(f"{labels[0]} holds {dtype}; whole or real numbers are allowed")
    axis = find_channel_axis(np.array([shape[1:]]), len(channel_names))
    spatial = shape[2:4] if axis == 0 else shape[1:3]
    channels = 1 if axis is None else shape[axis + 1]
    _check(labels[0], (channels, *spatial), dtype.itemsize)
    crops = ArrayCrops(parts, labels, None if axis is None else axis + 1)
    remarks, names = _channel_remark(axis, channels, dtype, channel_names)
    return crops, remarks, names


def _wrap_list(
    arrays: list[Any], channel_names: Sequence[str], *, label: str
) -> tuple[ListCrops, tuple[str, ...], tuple[str, ...]]:
    if not arrays:
        raise InputError(f"{label} holds no images (an empty list)")
    arrays = [np.asarray(array) for array in arrays]
    ndim = arrays[0].ndim
    if ndim not in (2, 3):
        raise InputError(
            f"{label}[0] has shape {arrays[0].shape}; (h, w), (h, w, C) or (C, h, w) is allowed"
        )
    shapes = np.array([array.shape for array in arrays if array.ndim == ndim], dtype=np.int64)
    axis = find_channel_axis(shapes, len(channel_names))
    channels = 1 if axis is None else int(shapes[0, axis])
    remarks, names = _channel_remark(axis, channels, arrays[0].dtype, channel_names)
    return ListCrops(arrays, label, axis), remarks, names


def _check(label: str, shape: tuple[int, ...], itemsize: int) -> None:
    try:
        check_extent(shape, itemsize)
    except InputError as error:
        raise InputError(f"{label}: an image {error}") from None


def _channel_remark(
    axis: int | None, channels: int, dtype: np.dtype[Any], channel_names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which axis holds the channels; and red, green, blue where the channels are colours."""
    if axis is None:
        return (), ()
    remark = f"array axes: channels {'first' if axis == 0 else 'last'} ({channels})"
    if axis == 2 and channels == 3 and dtype == np.uint8 and not channel_names:
        return (f"{remark}, read as red, green, blue",), COLOURS
    return (remark,), ()
