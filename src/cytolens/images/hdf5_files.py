"""Cells in HDF5 files: one cell to a file, stacks, a group per image channel, AnnData.

Only what lies in the file itself is read: links to other files, datasets stored in other files and
virtual ones are refused, as are chunks that would take far more memory than a crop.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.arrays import wrap_parts
from cytolens.images.cell_files import CellFile
from cytolens.images.columns import listed, natural_order
from cytolens.images.crops import Crop, find_channel_axis, native
from cytolens.images.image_files import check_extent, unreadable
from cytolens.images.masks import Mask
from cytolens.images.opening import check_file
from cytolens.images.stack_crops import StackCrops

MOST_IN_CHUNK = 64 << 20  # bytes
MOST_IN_COLUMN = 1 << 30
_DEEPEST, _MOST_MEMBERS = 12, 100_000
_FILTERS = {"gzip", "lzf", "szip", None}
_LABELS = ("label", "labels", "class")
_NAMES = ("names", "filenames", "paths", "name")
_MASKS = ("mask", "masks")


def open_hdf5(path: Path) -> CellFile:
    """The cells of an HDF5 file, by the first of these layouts that it has.

    - AnnData (``.h5ad``, ``.h5sc``): see `anndata_files`;
    - ``channel_1/images``, ``channel_2/images`` …, each (N, H, W), with ``channel_1/masks``;
    - ``image`` (one cell: (H, W), (H, W, C) or (C, H, W)), with ``mask`` and ``label``;
    - ``images``, or the only dataset of 3 or 4 axes: (N, H, W), (N, H, W, C) or (N, C, H, W), with
      ``masks``; datasets (N,) and (N, k) become columns.

    ``channel_names``, ``class_names`` and ``pixel_size`` may be datasets or attributes. Raises
    InputError for none of these.
    """
    with open_safely(path) as file:
        refuse_links(file)
        if str(file.attrs.get("encoding-type", "")) == "anndata" or "obsm" in file:
            from cytolens.images.anndata_files import open_anndata

            return open_anndata(path)
        members = datasets_of(file)
        channels = natural_order(
            [n for n in members if n.lower().startswith("channel_") and n.endswith("/images")]
        )
        if channels:
            return _in_channels(path, file, channels, members)
        if "image" in members:
            return _one_cell(path, file)
        return _in_stack(path, file, members)


def open_safely(path: Path) -> h5py.File:
    """The file, for reading. Raises InputError where it is no HDF5."""
    check_file(path)
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise unreadable(error) from None


def refuse_links(group: Any, depth: int = 0) -> int:
    """Refuses links, to other files or within the file, and endless nesting; counts members."""
    count = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"has a link '{name}' to another place, which is not followed")
        member = group[name]
        count += 1
        if isinstance(member, h5py.Group):
            if depth > _DEEPEST:
                raise InputError("has groups within groups without end")
            count += refuse_links(member, depth + 1)
        if count > _MOST_MEMBERS:
            raise InputError(f"has more than {_MOST_MEMBERS} datasets")
    return count


def datasets_of(group: Any, depth: int = 3) -> dict[str, Any]:
    """Paths and datasets below a group."""
    found: dict[str, Any] = {}
    for name in group:
        member = group[name]
        if isinstance(member, h5py.Dataset):
            found[name] = member
        elif depth and isinstance(member, h5py.Group):
            below = datasets_of(member, depth - 1)
            found |= {f"{name}/{path}": dataset for path, dataset in below.items()}
    return found


def check_dataset(dataset: Any) -> None:
    """Refuses what does not lie in the file itself, or needs too much memory to be unpacked."""
    if dataset.is_virtual or dataset.external:
        raise InputError(f"keeps '{dataset.name}' in other files, which are not read")
    if dataset.compression not in _FILTERS or _unknown_filters(dataset):
        raise InputError(
            f"has '{dataset.name}' compressed in a way that is not read; write it with gzip or lzf"
        )
    if dataset.chunks is not None:
        size = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
        if size > MOST_IN_CHUNK:
            raise InputError(
                f"has '{dataset.name}' in chunks of {size >> 20} MiB; at most "
                f"{MOST_IN_CHUNK >> 20} are read"
            )


def _unknown_filters(dataset: Any) -> bool:
    plist = dataset.id.get_create_plist()
    known = {1, 2, 3, 4, 6, 32000}  # gzip, shuffle, fletcher32, szip, scaleoffset, lzf
    return any(plist.get_filter(i)[0] not in known for i in range(plist.get_nfilters()))


def read_column(dataset: Any) -> NDArray[Any]:
    """All of a small dataset; text as str."""
    check_dataset(dataset)
    size = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if size > MOST_IN_COLUMN:
        raise InputError(f"has {size >> 20} MiB in '{dataset.name}', too much for a column")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        values = dataset.asstr("utf-8", errors="replace")[()]
        return np.array(values, dtype=np.str_)
    if dataset.dtype.kind not in "uifbS":
        raise InputError(f"holds {dataset.dtype} in '{dataset.name}', which is not read")
    values = np.asarray(dataset[()])
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


class H5Rows:
    """A dataset (N, …) by the path of its file and its own; the file is opened when it is read."""

    def __init__(self, path: Path, dataset: Any) -> None:
        check_dataset(dataset)
        if dataset.dtype.kind not in "uifb":
            raise InputError(f"holds {dataset.dtype} in '{dataset.name}', not numbers")
        self.path, self.name = path, str(dataset.name)
        self.shape: tuple[int, ...] = tuple(int(n) for n in dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype
        self._file: Any = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if self._file is None or not self._file.id.valid:
            self._file = open_safely(self.path)
        return np.asarray(self._file[self.name][rows])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def _texts(file: Any, key: str) -> tuple[str, ...]:
    """Names in a dataset or attribute of the file."""
    if key in file.attrs:
        values = np.atleast_1d(np.asarray(file.attrs[key]))
    elif key in file:
        values = np.atleast_1d(read_column(file[key]))
    else:
        return ()
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


def _pixel_size(file: Any) -> float | None:
    text = _texts(file, "pixel_size")
    try:
        size = float(text[0]) if text else 0.0
    except ValueError:
        return None
    return size if 0 < size < np.inf else None


def _in_channels(path: Path, file: Any, channels: list[str], members: dict[str, Any]) -> CellFile:
    rows = [H5Rows(path, file[name]) for name in channels]
    shapes = {row.shape for row in rows}
    if len(shapes) > 1 or len(rows[0].shape) != 3:
        raise InputError(
            f"has images of shape {listed([str(s) for s in shapes])}; (N, H, W), the same for "
            "every channel, is allowed"
        )
    check_extent((len(rows), *rows[0].shape[1:]), rows[0].dtype.itemsize)
    named = _texts(file, "channel_names") or tuple(n.split("/")[0] for n in channels)
    masks = [f"{n.split('/')[0]}/{m}" for n in channels for m in _MASKS]
    mask = next((n for n in masks if n in members and members[n].shape == rows[0].shape), None)
    crops = StackCrops(
        tuple(rows), path.name, mask_rows=None if mask is None else H5Rows(path, file[mask])
    )
    return _cell_file(path, file, members, crops, named)


def _in_stack(path: Path, file: Any, members: dict[str, Any]) -> CellFile:
    stacks = {
        name: one for name, one in members.items()
        if len(one.shape) in (3, 4) and name.split("/")[-1] not in _MASKS
    }  # fmt: skip
    key = next((n for n in ("images", "image", "X", "data") if n in stacks), None)
    if key is None and len(stacks) == 1:
        key = next(iter(stacks))
    if key is None:
        raise InputError(f"has no dataset 'images'; it has: {listed(list(members)) or 'none'}")
    rows = H5Rows(path, file[key])
    names = _texts(file, "channel_names")
    crops, said, colours = wrap_parts((rows,), (path.name,), names)
    mask = next((n for n in _MASKS if n in members), None)
    mask_rows = H5Rows(path, file[mask]) if mask is not None else None
    if mask_rows is not None and mask_rows.shape[0] != rows.shape[0]:
        raise InputError(f"has {mask_rows.shape[0]} masks for {rows.shape[0]} images")
    stack = StackCrops((rows,), path.name, crops.channel_axis, mask_rows=mask_rows)
    remarks = said if key == "images" else (f"images = dataset '{key}'", *said)
    return _cell_file(path, file, members, stack, names or colours, remarks)


def _cell_file(
    path: Path,
    file: Any,
    members: dict[str, Any],
    crops: StackCrops,
    channel_names: tuple[str, ...],
    remarks: tuple[str, ...] = (),
) -> CellFile:
    n = len(crops)
    about = ("channel_names", "class_names", "pixel_size")
    table = {
        name: read_column(one)
        for name, one in members.items()
        if one.shape[:1] == (n,) and len(one.shape) <= 2 and name not in about
    }
    names = next((table.pop(key).astype(np.str_) for key in _NAMES if key in table), None)
    if names is None or names.ndim != 1:
        names = np.array([crops.name(i) for i in range(n)], dtype=np.str_)
    return CellFile(
        crops=crops,
        names=names,
        table=table,
        class_names=_texts(file, "class_names") or None,
        channel_names=channel_names,
        pixel_size=_pixel_size(file),
        remarks=remarks,
    )


class OneCell:
    """The cell of a file with ``image`` and perhaps ``mask``, opened when it is asked for."""

    batch = 64

    def __init__(self, path: Path, shape: tuple[int, ...], axis: int | None, mask: bool) -> None:
        self.path, self.shape, self.axis, self.has_masks = path, shape, axis, mask

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        """The name of the file."""
        del position
        return self.path.name

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crop (C, h, w), or what is wrong with it."""
        return [self._read("image") for _ in positions]

    def load_masks(self, positions: NDArray[np.int64]) -> list[Mask | InputError]:
        """Where any channel's mask is not 0, (h, w)."""
        masks = [self._read("mask") for _ in positions]
        return [m if isinstance(m, InputError) else (m != 0).any(axis=0) for m in masks]

    def _read(self, name: str) -> Any:
        try:
            with open_safely(self.path) as file:
                dataset: Any = file[name]
                if dataset.shape[:2] != self.shape[:2] and name == "image":
                    return InputError("has changed")
                check_dataset(dataset)
                image = np.asarray(dataset[()])
        except InputError as error:
            return error
        except Exception as error:
            return unreadable(error)
        if image.ndim == 2:
            return native(image[None])
        return native(np.moveaxis(image, self.axis or 0, 0))


def _one_cell(path: Path, file: Any) -> CellFile:
    image = file["image"]
    check_dataset(image)
    if len(image.shape) not in (2, 3) or image.dtype.kind not in "uifb":
        raise InputError(
            f"has an image of {image.dtype} {image.shape}; (H, W), (H, W, C) or (C, H, W) is "
            "allowed"
        )
    names = _texts(file, "channel_names")
    axis = find_channel_axis(np.array([image.shape]), len(names))
    spatial = image.shape if axis is None else tuple(np.delete(image.shape, axis))
    channels = 1 if axis is None else int(image.shape[axis])
    check_extent((channels, *spatial), image.dtype.itemsize)
    mask: Any = file.get("mask")
    fits = isinstance(mask, h5py.Dataset) and mask.shape in (image.shape, tuple(spatial))
    label = next((_texts(file, key) for key in _LABELS if _texts(file, key)), ())
    crops = OneCell(path, tuple(image.shape), axis, bool(fits))
    return CellFile(
        crops=crops,
        names=np.array([path.name], dtype=np.str_),
        table={"label": np.array([label[0]], dtype=np.str_)} if len(label) == 1 else {},
        channel_names=names,
        pixel_size=_pixel_size(file),
    )
