"""Cells in ``.npz`` and ``.npy`` files; nothing in them is ever unpickled."""

import shutil
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from cytolens.errors import InputError, SettingError, choose
from cytolens.images.arrays import row_names, wrap_parts
from cytolens.images.assembly import Found
from cytolens.images.columns import (
    NO_LABELS,
    compile_labels,
    encode_labels,
    flatten,
    group_column,
    listed,
    match_names,
    split_columns,
)
from cytolens.images.crops import ArrayCrops
from cytolens.images.image_files import check_extent, unreadable
from cytolens.images.opening import check_file
from cytolens.images.padding import find_windows

LARGEST_IN_MEMORY = 64 << 20  # bytes; larger compressed arrays are unpacked to a temporary file
_MOST_COLUMN_BYTES = 512 << 20
_KNOWN = {  # the order of MedMNIST's labels, which its files do not name
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    )
}
_MOST_MEMBERS = 10_000
_MOST_PACKED = 500  # unpacked over packed: what is not the same byte over and over stays below
_SPLITS = ("train", "val", "test")  # of the MedMNIST collections
_LABELS = ("labels", "label")
_NAMES = ("filenames", "names", "paths")
_SIZES = ("original_size", "original_sizes", "size_hw")
_ABOUT = ("class_names", "channel_names", "pixel_size")
_SIDECARS = ("{stem}_labels.npy", "{stem}_labels.csv", "labels.npy", "labels.csv")


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # of the numbers within the member


def find_in_npz(path: Path, labels: str | None) -> Found:
    """Cells from ``images``, ``labels``, ``class_names``, ``channel_names`` and ``pixel_size``,
    or from MedMNIST's ``train_images``, ``train_labels`` … with the split as a covariate.

    Other arrays with an entry per image become covariates; ``filenames`` name the cells.
    Padding that the file's maker added is removed where ``original_size`` (N, 2) says how.
    """
    try:
        check_file(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise InputError(f"holds {len(members)} arrays; at most {_MOST_MEMBERS} are read")
            headers = {
                info.filename.removesuffix(".npy"): _member_header(archive, info)
                for info in members
            }
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None
    splits = [s for s in _SPLITS if f"{s}_images" in headers and f"{s}_labels" in headers]
    if splits and "images" not in headers:
        return _find_in_medmnist(path, headers, splits, labels)
    key = _images_key(path, headers)
    _check_images(path, key, headers[key])
    n = headers[key].shape[0] if headers[key].shape else 0
    table = {
        name: _load(path, name, header)
        for name, header in headers.items()
        if name in _ABOUT
        or (name != key and header.shape[:1] == (n,) and len(header.shape) <= 2)
        or name in (*_LABELS, *_NAMES)
    }
    remarks = [f"images = array '{key}'"] if key != "images" else []
    unread = [name for name in headers if name != key and name not in table]
    if unread:
        remarks.append(f"arrays left out: {listed(unread)}")
    images = _load(path, key, headers[key])
    return _found(path, (images,), (path.name,), table, labels, remarks)


def find_in_npy(path: Path, labels: str | None) -> Found:
    """Cells from an array file, labelled by a file next to it, such as ``cells_labels.csv``."""
    try:
        check_file(path)
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None
    table = {} if labels == NO_LABELS else read_sidecar(path)
    return _found(path, (images,), (path.name,), table, labels, [])


def sidecar_of(path: Path) -> list[Path]:
    """The file of labels next to an array or stack, where there is one."""
    return [place for place in _sidecars(path) if place.is_file()][:1]


def _sidecars(path: Path) -> list[Path]:
    stem = path.name.split(".")[0]
    return [path.with_name(pattern.format(stem=stem)) for pattern in _SIDECARS]


def read_sidecar(path: Path) -> dict[str, NDArray[Any]]:
    """Labels, and in a CSV further columns, of the cells of an array or stack at ``path``."""
    found, places = sidecar_of(path), _sidecars(path)
    if not found:
        raise InputError(
            f"{path} holds images but no labels; put {places[0].name}, or {places[1].name} with a "
            "column 'label', next to it"
        )
    place = found[0]
    try:
        check_file(place)
        if place.suffix == ".npy":
            return {"labels": np.load(place, allow_pickle=False)}
        import pandas as pd  # only where it is needed: it is slow to load

        table = pd.read_csv(place)
        return {str(name): table[name].to_numpy() for name in table.columns}
    except InputError as error:
        raise InputError(f"{place} {error}") from None
    except Exception as error:
        raise InputError(f"{place} {unreadable(error)}") from None


def _find_in_medmnist(
    path: Path, headers: dict[str, _Header], splits: list[str], labels: str | None
) -> Found:
    for split in splits:
        _check_images(path, f"{split}_images", headers[f"{split}_images"])
    parts = tuple(_load(path, f"{s}_images", headers[f"{s}_images"]) for s in splits)
    counts = [len(part) for part in parts]
    common = [
        name.removeprefix(f"{splits[0]}_")
        for name in headers
        if name.startswith(f"{splits[0]}_") and not name.endswith("_images")
    ]
    table: dict[str, Any] = {"split": np.repeat(splits, counts)}
    for name in common:
        keys = [f"{s}_{name}" for s in splits]
        if not all(key in headers for key in keys):
            continue
        columns = [_load(path, key, headers[key]) for key in keys]
        for key, column, n in zip(keys, columns, counts):
            if len(column) != n:
                raise InputError(f"{path}: '{key}' has {len(column)} entries for {n} images")
        table[name] = np.concatenate(columns)
    table |= {name: _load(path, name, headers[name]) for name in _ABOUT if name in headers}
    table |= {} if "class_names" in table else _known_classes(path, table["labels"])
    remark = (
        f"MedMNIST layout: {', '.join(f'{s} {n}' for s, n in zip(splits, counts))} images are read "
        "together; covariate 'split' says where each came from"
    )
    names = tuple(f"{path.name}[{split}]" for split in splits)
    return _found(path, parts, names, table, labels, [remark])


def _known_classes(path: Path, labels: NDArray[Any]) -> dict[str, Any]:
    """The names of the classes of a collection that does not name them itself."""
    names = next((names for stem, names in _KNOWN.items() if path.name.startswith(stem)), ())
    fit = (
        labels.dtype.kind in "iu" and labels.size and 0 <= labels.min() <= labels.max() < len(names)
    )
    return {"class_names": np.array(names)} if fit else {}


def _images_key(path: Path, headers: dict[str, _Header]) -> str:
    if "images" in headers:
        return "images"
    pictures = [name for name, header in headers.items() if len(header.shape) in (3, 4)]
    if len(pictures) != 1:
        raise InputError(f"{path} has no array 'images'; it has: {listed(list(headers)) or 'none'}")
    return pictures[0]


def _found(
    path: Path,
    parts: tuple[Any, ...],
    part_names: tuple[str, ...],
    table: dict[str, Any],
    labels: str | None,
    remarks: list[str],
) -> Found:
    """The cells in arrays and the columns that come with them, for any of the layouts."""
    channel_names = _texts(table.pop("channel_names", None))
    class_names = _texts(table.pop("class_names", None)) or None
    pixel_size = table.pop("pixel_size", None)
    crops, said, colours = wrap_parts(parts, part_names, channel_names)
    names_key = next((key for key in _NAMES if key in table), None)
    names = row_names(crops)
    if names_key is not None:
        names = flatten(table.pop(names_key), f"'{names_key}'").astype(np.str_)
        if len(names) != len(crops):
            raise InputError(f"{path}: {len(names)} {names_key} for {len(crops)} images")
    codes, known, remark = choose_labels(path, table, names, labels, class_names)
    if len(codes) != len(crops):
        raise InputError(f"{path}: there are {len(codes)} labels for {len(crops)} images")
    crops, unpadded = _undo_padding(crops, table)
    try:
        columns = split_columns(table, len(crops))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Found(
        crops=crops,
        labels=codes,
        class_names=known,
        names=names,
        columns=columns,
        group=group_column(columns),
        channel_names=channel_names or colours,
        pixel_size=None if pixel_size is None else _scalar(path, pixel_size),
        remarks=(remark, *remarks, *said, *unpadded),
    )


def choose_labels(
    path: Path,
    table: dict[str, Any],
    names: NDArray[np.str_],
    labels: str | None,
    class_names: Sequence[str] | None,
) -> tuple[NDArray[np.int64], tuple[str, ...], str]:
    """Labels, class names and a remark, from a column (taken out of ``table``) or from names."""
    if labels == NO_LABELS:
        return np.zeros(len(names), dtype=np.int64), (NO_LABELS,), "no labels"
    pattern = compile_labels(labels) if labels is not None else None
    if pattern is not None:
        fits, parts = match_names(pattern, names.tolist())
        if not fits.all():
            first = names[int(np.flatnonzero(~fits)[0])]
            raise InputError(f"{path}: labels '{labels}' do not match {first}")
        codes, known = encode_labels(parts.pop("label"), None, what="labels")
        table |= parts
        return codes, known, f"class = '{labels}' in the names of the cells"
    key = next((key for key in _LABELS if key in table), None)
    asked = labels is not None and labels != key
    if labels is not None and asked:
        columns = [name for name, column in table.items() if np.ndim(column) in (1, 2)]
        if not columns:
            raise SettingError(f"labels '{labels}' is unknown; {path} has no such array")
        key = choose("labels", labels, columns)
    if key is None:
        raise InputError(
            f"{path} has no array 'labels'; name one with --labels: {listed(list(table)) or 'none'}"
        )
    what = f"{path}: labels"
    if asked:
        codes, known = encode_labels(table.pop(key), None, what=what, prefix=key)
    else:
        codes, known = encode_labels(table.pop(key), class_names, what=what)
    return codes, known, f"class = '{key}': {listed(known)}"


def _undo_padding(crops: ArrayCrops, table: dict[str, Any]) -> tuple[ArrayCrops, tuple[str, ...]]:
    key = next(
        (key for key in _SIZES if key in table and np.shape(table[key]) == (len(crops), 2)), None
    )
    if key is None:
        return crops, ()
    windows, where = find_windows(crops, np.asarray(table[key]))
    if windows is None:
        return crops, (f"'{key}' does not say where the array's padding is; kept as covariates",)
    del table[key]
    unpadded = ArrayCrops(crops.parts, crops.labels, crops.channel_axis, windows)
    return unpadded, (f"padding of the file undone: '{key}' gives each crop's own size, {where}",)


def _texts(values: Any) -> tuple[str, ...]:
    if values is None:
        return ()
    return tuple(str(value) for value in flatten(np.atleast_1d(values), "names").tolist())


def _scalar(path: Path, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: 'pixel_size' must be one number, in µm; it is {array.dtype} {array.shape}"
        )
    return float(array.reshape(-1)[0])


def _check_images(path: Path, name: str, header: _Header) -> None:
    """Refuses pictures that are none, or far too large for cells, before any is unpacked."""
    if len(header.shape) not in (3, 4):
        return  # said where the axes are read
    shape = header.shape[1:]
    if len(shape) == 3:  # channels first or last: the two longest axes are height and width
        shape = (min(shape), *sorted(shape)[1:])
    try:
        check_extent((1, *shape)[-3:], header.dtype.itemsize)
    except InputError as error:
        raise InputError(f"{path}: a picture of '{name}' {error}") from None


def _member_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Header:
    """Shape and dtype of a member, without decompressing the rest of it."""
    with archive.open(info) as file:
        version = npy_format.read_magic(file)
        read = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        offset = file.tell()
    name = info.filename.removesuffix(".npy")
    if dtype.hasobject:
        raise InputError(f"holds Python objects in '{name}', which are not read; save plain arrays")
    if fortran and len(shape) > 2:
        raise InputError(f"holds '{name}' in Fortran order; save np.ascontiguousarray of it")
    if info.file_size > LARGEST_IN_MEMORY and info.file_size > _MOST_PACKED * info.compress_size:
        raise InputError(
            f"holds '{name}', which unpacks from {info.compress_size >> 10} KiB to "
            f"{info.file_size >> 20} MiB, as no pictures of cells do"
        )
    if info.file_size < offset + int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise InputError(f"holds '{name}' of {shape} {dtype}, but it is truncated")
    return _Header(shape, dtype, offset)


def _load(path: Path, name: str, header: _Header) -> NDArray[Any]:
    """A member as an array, mapped from the disk where it is too large for the memory."""
    size = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    try:
        if len(header.shape) < 3 and size > _MOST_COLUMN_BYTES:
            raise InputError(f"has '{name}' of {header.shape} {header.dtype}, which is too large")
        if size <= LARGEST_IN_MEMORY:
            with np.load(path, allow_pickle=False) as archive:
                return archive[name]
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                start = _stored_at(path, info) + header.offset
                return np.memmap(path, header.dtype, "r", start, header.shape)
            if size > shutil.disk_usage(tempfile.gettempdir()).free:
                raise InputError(f"needs {size >> 30} GiB of temporary disk for '{name}'")
            with tempfile.TemporaryFile() as unpacked, archive.open(info) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 24)
                unpacked.flush()
                # The map keeps the nameless file alive for as long as it is needed itself.
                return np.memmap(
                    cast(Any, unpacked), header.dtype, "r", header.offset, header.shape
                )
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path}: '{name}' {unreadable(error)}") from None


def _stored_at(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin (ZIP specification, section 4.3.7)."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name_length + extra_length
