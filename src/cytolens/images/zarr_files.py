"""Cells in Zarr folders: plain stacks, OME-Zarr, AnnData, and the tables of SpatialData.

Format 2 and 3. Every array's codecs are looked at before a chunk is read: those of NumCodecs can
unpickle, which is refused.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.arrays import wrap_parts
from cytolens.images.cell_files import ZARR_MARKS, CellFile
from cytolens.images.columns import listed
from cytolens.images.image_files import check_extent, unreadable
from cytolens.images.opening import check_file
from cytolens.images.stack_crops import StackCrops

_MOST_IN_CHUNK = 256 << 20  # bytes
_MOST_IN_COLUMN = 1 << 30
_CODECS = {
    "blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "lzf", "shuffle", "delta", "bitround",
    "fixedscaleoffset", "packbits", "quantize", "astype", "crc32", "crc32c", "adler32",
    "fletcher32", "bytes", "endian", "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes",
}  # fmt: skip
_MICROMETRES = {
    "micrometer": 1.0, "micrometre": 1.0, "um": 1.0, "µm": 1.0, "nanometer": 1e-3,
    "nanometre": 1e-3, "nm": 1e-3, "millimeter": 1e3, "millimetre": 1e3, "mm": 1e3,
}  # fmt: skip
_MASKS = ("mask", "masks")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / mark).is_file() for mark in ZARR_MARKS)


def open_zarr(path: Path) -> CellFile:
    """The cells of a Zarr folder, by the first of these layouts that it has.

    - AnnData, or a SpatialData folder one of whose ``tables`` is AnnData with images;
    - OME-Zarr (0.4, 0.5): cells along t, z or an axis of another name; ``labels`` are masks;
    - a group with ``images``, or one array of 3 or 4 axes, ``masks``, and columns (N,);
    - an array (N, H, W), (N, H, W, C) or (N, C, H, W).

    Raises InputError for none of these.
    """
    if not is_zarr(path):
        raise InputError(f"is no Zarr folder; it has none of {', '.join(ZARR_MARKS)}")
    check_files(path)
    group = open_group(path)
    if hasattr(group, "shape"):
        return _in_arrays(path, {"images": group}, dict(group.attrs))
    attributes = dict(group.attrs)
    if attributes.get("encoding-type") == "anndata" or ("obsm" in group and "obs" in group):
        return _anndata(path, group, path.name)
    ome = attributes.get("ome", attributes)
    if isinstance(ome, dict) and "multiscales" in ome:
        return _ome(path, group, ome)
    for tables in ("tables", "table"):
        if tables in group and not hasattr(group[tables], "shape"):
            return _spatialdata(path, group[tables])
    arrays = {str(name): group[name] for name in group if hasattr(group[name], "shape")}
    return _in_arrays(path, arrays, attributes)


def check_files(path: Path) -> None:
    """Refuses a folder with pipes or devices among its files."""
    for folder, _, names in os.walk(path):
        for name in names:
            place = Path(folder) / name
            try:
                check_file(place)
            except InputError as error:
                raise InputError(f"has '{place.relative_to(path)}', which {error}") from None


def open_group(path: Path) -> Any:
    """The Zarr group or array at a folder, for reading."""
    import zarr

    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:
        raise unreadable(error) from None


def check_array(array: Any) -> None:
    """Refuses codecs that are not known to be safe, and chunks of more memory than crops need."""
    meta: Any = array.metadata.to_dict()
    listed_codecs = [*(meta.get("codecs") or ()), *(meta.get("filters") or ())]
    if meta.get("compressor"):
        listed_codecs.append(meta["compressor"])
    for name in _codec_names(listed_codecs):
        if name not in _CODECS:
            raise InputError(f"has '{array.path or array.name}' packed with '{name}', not read")
    if array.dtype.hasobject and meta.get("zarr_format") == 2 and not meta.get("filters"):
        raise InputError(f"holds Python objects in '{array.path}', which are not read")
    size = int(np.prod(array.chunks, dtype=object)) * max(array.dtype.itemsize, 1)
    if size > _MOST_IN_CHUNK:
        raise InputError(
            f"has '{array.path or array.name}' in chunks of {size >> 20} MiB; at most "
            f"{_MOST_IN_CHUNK >> 20} are read"
        )


def _codec_names(codecs: Any) -> list[str]:
    """Names of codecs, those within shards too."""
    names: list[str] = []
    for codec in codecs:
        codec = codec if isinstance(codec, dict) else codec.to_dict()
        name = str(codec.get("id") or codec.get("name") or "").lower()
        names.append(name.removeprefix("numcodecs."))
        inner = codec.get("configuration") or {}
        if isinstance(inner, dict):
            names += _codec_names(inner.get("codecs") or ())
            names += _codec_names(inner.get("index_codecs") or ())
    return names


class ZarrRows:
    """An array (N, …), of which ``move`` brings the axis of the cells first; others are dropped."""

    def __init__(self, array: Any, order: tuple[int, ...] | None = None) -> None:
        check_array(array)
        if array.dtype.kind not in "uifb":
            raise InputError(f"holds {array.dtype} in '{array.path or array.name}', not numbers")
        self._array = array
        self.order = order or tuple(range(len(array.shape)))  # axes to keep, cells first
        self.shape: tuple[int, ...] = tuple(int(array.shape[i]) for i in self.order)
        self.dtype: np.dtype[Any] = array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        index: list[Any] = [0] * len(self._array.shape)
        for axis in self.order:
            index[axis] = slice(None)
        index[self.order[0]] = rows
        kept = sorted(self.order)
        block = np.asarray(self._array[tuple(index)])
        return block.transpose([kept.index(axis) for axis in self.order])


def _anndata(path: Path, group: Any, label: str) -> CellFile:
    from cytolens.images.anndata_files import cells_of_group

    return cells_of_group(group, label, ZarrRows, check_array, Path(label))


def _spatialdata(path: Path, tables: Any) -> CellFile:
    from cytolens.images.anndata_files import IMAGES

    names = [str(name) for name in tables]
    with_images = [n for n in names if "obsm" in tables[n] and IMAGES in tables[n]["obsm"]]
    if len(with_images) != 1:
        raise InputError(
            f"is SpatialData with {len(with_images)} tables that hold images in obsm['{IMAGES}'] "
            f"(tables: {listed(names) or 'none'}); one is needed. Features of a table are read by "
            f"cytolens.images.anndata_files.read_features('{path}/tables/NAME')"
        )
    return _anndata(path, tables[with_images[0]], f"{path.name}/tables/{with_images[0]}")


def _in_arrays(path: Path, arrays: dict[str, Any], attributes: dict[str, Any]) -> CellFile:
    stacks = {n: a for n, a in arrays.items() if len(a.shape) in (3, 4) and n not in _MASKS}
    key = "images" if "images" in stacks else next(iter(stacks)) if len(stacks) == 1 else None
    if key is None:
        raise InputError(f"has no array 'images'; it has: {listed(list(arrays)) or 'none'}")
    rows = ZarrRows(arrays[key])
    named = attributes.get("channel_names")
    names = tuple(str(n) for n in named) if isinstance(named, list) else ()
    if not names and "channel_names" in arrays:
        names = tuple(str(n) for n in _column(arrays["channel_names"]).ravel().tolist())
    crops, said, colours = wrap_parts((rows,), (path.name,), names)
    mask = next((n for n in _MASKS if n in arrays), None)
    mask_rows = None if mask is None else ZarrRows(arrays[mask])
    if mask_rows is not None and len(mask_rows) != len(rows):
        raise InputError(f"has {len(mask_rows)} masks for {len(rows)} images")
    stack = StackCrops((rows,), path.name, crops.channel_axis, mask_rows=mask_rows)
    table = {
        name: _column(array)
        for name, array in arrays.items()
        if array.shape[:1] == rows.shape[:1] and len(array.shape) <= 2 and name != "channel_names"
    }
    given = table.pop("names", None)
    classes = attributes.get("class_names")
    size = attributes.get("pixel_size")
    return CellFile(
        crops=stack,
        names=np.array([stack.name(i) for i in range(len(stack))], dtype=np.str_)
        if given is None
        else given.astype(np.str_),
        table=table,
        class_names=tuple(str(n) for n in classes) if isinstance(classes, list) else None,
        channel_names=names or colours,
        pixel_size=float(size) if isinstance(size, int | float) and size > 0 else None,
        remarks=said,
    )


def _column(array: Any) -> NDArray[Any]:
    check_array(array)
    if int(np.prod(array.shape, dtype=object)) * max(array.dtype.itemsize, 1) > _MOST_IN_COLUMN:
        raise InputError(f"has too much in '{array.path or array.name}' for a column")
    values = np.asarray(array[...])
    if values.dtype.kind in "OT":
        return np.array([str(v) for v in values.ravel().tolist()]).reshape(values.shape)
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


def _ome(path: Path, group: Any, ome: dict[str, Any]) -> CellFile:
    """OME-Zarr 0.4 and 0.5. Source: https://ngff.openmicroscopy.org, sections 3.3 to 3.5."""
    _, array, axes = axes_of(group)
    first: Any = ome["multiscales"][0]
    order, has_channels = _order(axes, array.shape)
    rows = ZarrRows(array, order)
    check_extent((*rows.shape[1:-2], *rows.shape[-2:]), rows.dtype.itemsize)
    stack_axis = axes[order[0]]
    mask_rows, mask_name = _ome_labels(group, axes, rows)
    stack = StackCrops((rows,), path.name, 1 if has_channels else None, mask_rows=mask_rows)
    names = channels_of(ome, rows.shape[1] if has_channels else 1)
    said = [f"cell = place along axis '{stack_axis}' of OME-Zarr: {len(rows)}"]
    if mask_name:
        said.append(f"masks = labels/{mask_name}")
    table: dict[str, NDArray[Any]] = {}
    for name in group:
        member = group[name]
        if hasattr(member, "shape") and member.shape == (len(rows),):
            table[str(name)] = _column(member)
    return CellFile(
        crops=stack,
        names=np.array([stack.name(i) for i in range(len(stack))], dtype=np.str_),
        table=table,
        channel_names=names,
        pixel_size=pixel_of(first, first["datasets"][0], axes),
        remarks=tuple(said),
    )


def axes_of(group: Any) -> tuple[dict[str, Any], Any, list[str]]:
    """What an OME-Zarr group says of itself, its array of full resolution, and the axes of that.

    Raises InputError where it says nothing of the kind.
    """
    attributes = dict(group.attrs)
    ome: Any = attributes.get("ome", attributes)
    try:
        first = ome["multiscales"][0]
        axes = [str(a["name"] if isinstance(a, dict) else a).lower() for a in first["axes"]]
        array = member(group, str(first["datasets"][0]["path"]))
        fits = len(axes) == len(array.shape) and {"y", "x"} <= set(axes)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"is OME-Zarr with damaged 'multiscales' ({error!r})") from None
    if not fits:
        raise InputError(f"is OME-Zarr with axes {', '.join(axes)} for an array of {array.shape}")
    return ome, array, axes


def member(group: Any, path: str) -> Any:
    """An array below the group; a path cannot lead out of it."""
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") for part in parts):
        raise InputError(f"is OME-Zarr that names '{path}', which lies outside of it")
    return group["/".join(parts)]


def _order(axes: list[str], shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Axes to keep, cells first, then channels, y, x; and whether there are channels."""
    stacked = [i for i, axis in enumerate(axes) if axis not in "cyx" and shape[i] > 1]
    if not stacked:
        raise InputError(
            "is OME-Zarr with one picture only (axes "
            f"{', '.join(f'{a} {n}' for a, n in zip(axes, shape))}); a stack has its cells "
            "along t, z or another axis, a field has label images in 'labels'"
        )
    if len(stacked) > 1:
        raise InputError(
            f"is OME-Zarr with several axes of which one may count cells: "
            f"{', '.join(f'{axes[i]} {shape[i]}' for i in stacked)}; write a stack with one"
        )
    channel = axes.index("c") if "c" in axes else None
    kept = [stacked[0], *([] if channel is None else [channel]), axes.index("y"), axes.index("x")]
    return tuple(kept), channel is not None


def _ome_labels(group: Any, axes: list[str], rows: ZarrRows) -> tuple[ZarrRows | None, str]:
    """The first label image that has a picture for every cell."""
    if "labels" not in group:
        return None, ""
    for name in group["labels"]:
        label = group["labels"][name]
        try:
            _, array, named = axes_of(label)
            order, _ = _order(named, array.shape)
        except InputError:
            continue
        found = ZarrRows(array, order)
        if found.shape[0] == rows.shape[0] and found.shape[-2:] == rows.shape[-2:]:
            _check_flat(found, axes[rows.order[0]], str(name))
            return found, str(name)
    return None, ""


def _check_flat(labels: ZarrRows, axis: str, name: str) -> None:
    """Refuses a field in three dimensions, which is no stack of cells: its planes hold several."""
    middle = len(labels) // 2
    plane = labels[middle : middle + 1]
    if axis == "z" and len(np.unique(plane[plane > 0])) > 1:
        raise InputError(
            f"is OME-Zarr in three dimensions, with several cells in one plane of labels/{name}; "
            "cells are cut from flat fields: write a projection along z"
        )


def channels_of(ome: dict[str, Any], n: int) -> tuple[str, ...]:
    """The names of ``n`` image channels; none where they are not all named apart."""
    try:
        names = [str(channel["label"]) for channel in ome["omero"]["channels"]]
    except (KeyError, TypeError):
        return ()
    return tuple(names) if len(names) == n and len(set(names)) == n else ()


def pixel_of(first: dict[str, Any], level: dict[str, Any], axes: list[str]) -> float | None:
    """Width of a pixel (µm), where its unit is known and it is as wide as high."""
    scale = [1.0] * len(axes)
    try:
        unit = next(a.get("unit") for a in first["axes"] if a["name"] == "x")
        for one in (
            *level.get("coordinateTransformations", ()),
            *first.get("coordinateTransformations", ()),
        ):
            if one["type"] == "scale":
                scale = [a * float(b) for a, b in zip(scale, one["scale"])]
        x, y = scale[axes.index("x")], scale[axes.index("y")]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    factor = _MICROMETRES.get(str(unit).lower())
    known = factor is not None and 0 < x < np.inf and abs(x / y - 1) < 0.01
    return x * factor if known and factor is not None else None
