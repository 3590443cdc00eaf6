"""Cells in AnnData files: scPortrait's ``.h5sc``, ``.h5ad``, and AnnData in Zarr.

Images are ``obsm["single_cell_images"]`` (N, C, H, W), masks first, as scPortrait writes them;
``uns["single_cell_images"]``, or the attributes of the images, say how many of the channels are
masks and what the channels are called. What is known of the cells is ``obs``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, choose
from cytolens.images.cell_files import CellFile
from cytolens.images.columns import listed
from cytolens.images.image_files import check_extent
from cytolens.images.stack_crops import Rows, StackCrops

IMAGES = "single_cell_images"
_MOST_IN_OBS = 4 << 30  # bytes
_IDS = ("cell_id", "scportrait_cell_id")
_INDEX = ("_index", "index")


def open_anndata(path: Path) -> CellFile:
    """The cells of an AnnData file in HDF5. Raises InputError where it holds no images."""
    from cytolens.images.hdf5_files import H5Rows, check_dataset, open_safely, refuse_links

    with open_safely(path) as file:
        refuse_links(file)
        return cells_of_group(
            file, path.name, lambda array: H5Rows(path, array), check_dataset, Path(path.name)
        )


def cells_of_group(group: Any, label: str, rows: Any, check: Any, where: Path) -> CellFile:
    """The cells of an AnnData group, of h5py or zarr alike.

    ``rows`` makes what is read by rows of a stored array, ``check`` refuses an array that may not
    be read.
    """
    obsm = group.get("obsm", {})
    if IMAGES not in obsm:
        found = listed([str(name) for name in obsm])
        raise InputError(
            f"has no images in obsm['{IMAGES}'] (N, C, H, W); obsm has: {found or 'nothing'}. "
            "Features without images are read by cytolens.images.anndata_files.read_features"
        )
    images: Rows = rows(obsm[IMAGES])
    if len(images.shape) not in (3, 4) or images.dtype.kind not in "uifb":
        raise InputError(f"has {images.dtype} images of {images.shape}; (N, C, H, W) is allowed")
    n = images.shape[0]
    if n == 0:
        raise InputError("holds no cells")
    axis = None if len(images.shape) == 3 else 1
    check_extent(images.shape[1:] if axis == 1 else (1, *images.shape[1:]), images.dtype.itemsize)
    about = _about(group, obsm[IMAGES], check)
    total = 1 if axis is None else images.shape[1]
    names, masks = _channels(about, total)
    table = read_table(group["obs"], check, n)
    ids = next((table[key] for key in _IDS if key in table), None)
    index = table.pop("", None)
    crops = StackCrops(
        (images,), label, axis, tuple(i for i in range(total) if i not in masks), masks
    )
    named = [crops.name(i) for i in range(n)] if index is None else index.astype(np.str_).tolist()
    if index is not None and ids is not None:
        named = [name or crops.name(i) for i, name in enumerate(named)]
    channels = tuple(names[i] for i in crops.channels or ()) if names else ()
    return CellFile(
        crops=crops,
        names=np.array(named, dtype=np.str_),
        table=table,
        channel_names=channels,
        pixel_size=_pixel_size(group, check),
        remarks=(f"images = obsm['{IMAGES}'] of {where}: {len(masks)} masks",),
    )


def _about(group: Any, images: Any, check: Any) -> dict[str, Any]:
    """What is said of the images: attributes, and what stands below ``uns``."""
    known: dict[str, Any] = {}
    uns = group.get("uns", {})
    for key in ("n_masks", "n_image_channels", "channel_names", "channel_mapping"):
        for where in (f"{IMAGES}/{key}", f"{IMAGES}_{key}"):
            try:
                array = uns[where]
            except (KeyError, TypeError, ValueError):
                continue
            check(array)
            if int(np.prod(array.shape, dtype=object)) <= 10_000:
                known[key] = _decoded(array[()])
        if key not in known and key in images.attrs:
            known[key] = _decoded(images.attrs[key])
    return known


def _decoded(values: Any) -> list[Any]:
    flat = np.atleast_1d(np.asarray(values)).ravel().tolist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat]


def _channels(
    about: Mapping[str, list[Any]], total: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of all channels, () where they have none, and which of them are masks."""
    names = tuple(str(name) for name in about.get("channel_names", ()))
    names = names if len(names) == total else ()
    mapping = [str(kind) for kind in about.get("channel_mapping", ())]
    if len(mapping) == total:
        masks = tuple(i for i, kind in enumerate(mapping) if kind.startswith("mask"))
    else:
        count = about.get("n_masks", [0])[0]
        masks = tuple(range(int(count))) if isinstance(count, int | float) and count > 0 else ()
    if len(masks) >= total or (masks and max(masks) >= total):
        raise InputError(f"says that {len(masks)} of its {total} image channels are masks")
    return names, masks


def _pixel_size(group: Any, check: Any) -> float | None:
    """What `cytolens.export` wrote; there is no other convention."""
    try:
        array = group["uns"]["cytolens"]["pixel_size"]
        check(array)
        size = float(np.asarray(array[()]))
    except Exception:
        return None
    return size if 0 < size < np.inf else None


def read_table(obs: Any, check: Any, n: int) -> dict[str, NDArray[Any]]:
    """The columns of ``obs`` by name; its index under "".

    Read by anndata itself, once every array below it is known to be of a size and kind that may be
    read.
    """
    from anndata.io import read_elem

    _check_all(obs, check)
    frame: Any = read_elem(obs)
    if len(frame) != n:
        raise InputError(f"has {len(frame)} rows in obs for {n} images")
    columns: dict[str, NDArray[Any]] = {"": np.asarray(frame.index.astype(str), dtype=np.str_)}
    for name in frame.columns:
        column = frame[name]
        kind = getattr(column.dtype, "kind", "O")
        columns[str(name)] = (
            column.to_numpy()
            if kind in "uifb" and not bool(column.isna().any())
            else column.astype(str).to_numpy(dtype=np.str_)
        )
    return columns


def _check_all(group: Any, check: Any) -> None:
    total = 0
    for name in list(group):
        member = group[name]
        if hasattr(member, "shape"):
            check(member)
            total += int(np.prod(member.shape, dtype=object)) * max(member.dtype.itemsize, 1)
        else:
            _check_all(member, check)
    if total > _MOST_IN_OBS:
        raise InputError(f"has {total >> 30} GiB in obs; at most {_MOST_IN_OBS >> 30} are read")


@dataclass(frozen=True)
class FeatureTable:
    """Features of cells without images, for `embed`, `cluster` and `measure_separation`."""

    features: Mapping[str, NDArray[np.floating]]  # (N, F): "X", and those of obsm without "X_"
    labels: NDArray[np.int64]  # (N,), index into class_names
    class_names: tuple[str, ...]
    names: NDArray[np.str_]  # (N,)
    columns: Mapping[str, NDArray[Any]]  # (N,), the rest of obs


def read_features(path: str | Path, *, labels: str | None = None) -> FeatureTable:
    """The features in an AnnData file (``.h5ad``, or a Zarr folder), and what ``obs`` says.

    ``labels`` is the column of ``obs`` that is the class, by name or part of it; by default
    "class", "label" or "labels", and without one all cells are of the class "none". Sparse
    matrices become dense. Raises InputError where the file cannot be read, or is no AnnData.

    >>> import tempfile, anndata, numpy, pandas
    >>> obs = pandas.DataFrame({"label": ["a", "b"]}, index=["1", "2"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(numpy.eye(2), obs=obs).write_h5ad(f"{folder}/x.h5ad")
    ...     table = read_features(f"{folder}/x.h5ad")
    >>> table.features["X"].shape, table.class_names
    ((2, 2), ('a', 'b'))
    """
    from cytolens.images.columns import NO_LABELS, encode_labels
    from cytolens.images.image_files import unreadable

    place = Path(path).expanduser()
    if not place.exists():
        raise InputError(f"{place} does not exist; give an .h5ad file or a Zarr folder")
    try:
        features, table = _features_of(place)
    except InputError as error:
        raise InputError(f"{place} {error}") from None
    except Exception as error:
        raise InputError(f"{place} {unreadable(error)}") from None
    names = table.pop("").astype(np.str_)
    key = choose("labels", labels, list(table)) if labels is not None else None
    key = key or next((name for name in ("class", "label", "labels") if name in table), None)
    if key is None:
        codes, known = np.zeros(len(names), dtype=np.int64), (NO_LABELS,)
    else:
        codes, known = encode_labels(table.pop(key), None, what=f"{place}: labels", prefix=key)
    return FeatureTable(features, codes, known, names, table)


def _features_of(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    if path.is_dir():
        from cytolens.images.zarr_files import check_array, open_group

        return _features(open_group(path), check_array)
    from cytolens.images.hdf5_files import check_dataset, open_safely, refuse_links

    with open_safely(path) as file:
        refuse_links(file)
        return _features(file, check_dataset)


def _features(group: Any, check: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    from anndata.io import read_elem

    if "obs" not in group:
        raise InputError("is no AnnData (it has no obs)")
    obsm = group.get("obsm", {})
    wanted = {"X": group["X"]} if "X" in group else {}
    wanted |= {str(k).removeprefix("X_"): obsm[k] for k in obsm if k != IMAGES}
    found: dict[str, NDArray[Any]] = {}
    for name, member in wanted.items():
        if hasattr(member, "shape"):
            check(member)
        else:
            _check_all(member, check)
        values: Any = read_elem(member)
        values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        if values.ndim == 2 and values.dtype.kind in "uifb" and values.shape[1]:
            found[name] = values.astype(np.float32)
    if not found:
        raise InputError("has no features in X or obsm")
    n = len(next(iter(found.values())))
    return found, read_table(group["obs"], check, n)
