"""Cells as Hugging Face's `datasets` has them: folders with ``metadata.csv``, and its objects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError
from cytolens.images.array_files import choose_labels
from cytolens.images.assembly import Found
from cytolens.images.columns import group_column, listed, split_columns
from cytolens.images.crops import Crop, locate, native
from cytolens.images.folders import Listing, found_in_files
from cytolens.images.image_files import COLOURS, check_extent, read_picture_bytes, unreadable
from cytolens.images.opening import check_file
from cytolens.images.parquet_files import within
from cytolens.images.tables import columns_of

_METADATA = ("metadata.csv", "metadata.jsonl")
_FILE = "file_name"
_MOST_BYTES = 1 << 30  # of a table
_GREY = ("L", "I", "F", "I;16", "I;16L", "I;16B")  # of Pillow: one channel, kept as it is
_LABELS = ("label", "labels", "class")


def metadata_files(root: Path) -> list[Path]:
    """``metadata.csv`` or ``.jsonl`` with a column ``file_name``, in a folder or those within."""
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")]
    places = [folder / name for folder in folders for name in _METADATA]
    return [place for place in places if place.is_file() and _names_files(place)]


def _names_files(path: Path) -> bool:
    with path.open("rb") as file:
        return _FILE.encode() in file.readline(1 << 16)


def find_in_metadata(root: Path, labels: str | None, *, skip_bad: bool = False) -> Found:
    """Cells of an image folder with metadata; the folder of each table is covariate "split".

    Raises InputError for a table that cannot be read, and for names that lead out of its folder.
    """
    files: list[str] = []
    tables: list[dict[str, NDArray[Any]]] = []
    for place in metadata_files(root):
        table = _read(place)
        if _FILE not in table or not len(table[_FILE]):
            raise InputError(f"{place} has no column '{_FILE}', or no rows")
        names = table.pop(_FILE).astype(np.str_).tolist()
        try:
            paths = [within(place.parent, name) for name in names]
        except InputError as error:
            raise InputError(f"{place} {error}") from None
        files += [path.relative_to(root).as_posix() for path in paths]
        if place.parent != root:
            table.setdefault("split", np.full(len(names), place.parent.name))
        tables.append(table)
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    table = {name: np.concatenate([one[name] for one in tables]) for name in shared}
    names = np.array(files, dtype=np.str_)
    if labels is None and not any(name in table for name in _LABELS):
        raise InputError(
            f"the metadata of {root} have no column 'label'; name one with --labels: "
            f"{listed(list(table)) or 'there are none'}"
        )
    codes, known, remark = choose_labels(root, table, names, labels, None)
    columns = split_columns(table, len(names))
    group = group_column(columns)
    listing = Listing(names, np.array(known)[codes], columns, group, (remark,))
    return found_in_files(root, listing, skip_bad=skip_bad)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".csv":
        return columns_of(path)[0]
    import pandas as pd  # only where it is needed: it is slow to load

    try:
        check_file(path, most=_MOST_BYTES)
        lines = path.read_text(encoding="utf-8").splitlines()
        frame = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        return {
            str(name): frame[name].to_numpy()
            if frame[name].dtype.kind in "uifb" and not bool(frame[name].isna().to_numpy().any())
            else frame[name].astype(str).to_numpy(dtype=np.str_)
            for name in frame.columns
        }
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:
        raise InputError(f"{path} {unreadable(error)}") from None


def find_in_dataset(dataset: Any, labels: str | None) -> Found:
    """Cells of what ``datasets.load_dataset`` gives: a ``Dataset``, or splits of it by name.

    The column of pictures is the first whose feature is an ``Image``. Other columns of numbers and
    text become columns; the split is one. Raises InputError where there is no picture.
    """
    splits: dict[str, Any] = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    first = next(iter(splits.values()), None)
    if first is None or not hasattr(first, "features") or not sum(map(len, splits.values())):
        raise InputError("the dataset holds no rows")
    features: Mapping[str, Any] = first.features
    kinds = {name: type(one).__name__ for name, one in features.items()}
    key = next((name for name, kind in kinds.items() if kind == "Image"), None)
    if key is None:
        raise InputError(f"the dataset has no column of images; it has: {listed(list(kinds))}")
    table: dict[str, Any] = {}
    for name in features:
        if kinds[name] not in ("Value", "ClassLabel"):
            continue
        columns = [np.asarray(list(split[name])) for split in splits.values()]
        table[name] = np.concatenate(columns)
    if len(splits) > 1:
        table.setdefault("split", np.repeat(list(splits), [len(one) for one in splits.values()]))
    crops = DatasetCrops(tuple(splits.values()), tuple(splits), key)
    names = np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_)
    label = next((name for name in _LABELS if name in table), None)
    classes = getattr(features[label], "names", None) if label else None
    codes, known, remark = choose_labels(
        Path("dataset"), table, names, labels, tuple(classes) if classes else None
    )
    columns = split_columns(table, len(names))
    looked = crops.load(np.array([0]))[0]
    colours = COLOURS if not isinstance(looked, InputError) and len(looked) == 3 else ()
    return Found(
        crops=crops,
        labels=codes,
        class_names=known,
        names=names,
        columns=columns,
        group=next((name for name in ("group", "groups") if name in columns), None),
        channel_names=colours,
        remarks=(remark, f"pictures = column '{key}' of the dataset"),
    )


@dataclass(frozen=True)
class DatasetCrops:
    """Pictures of a column of datasets, decoded by these when they are asked for."""

    datasets: tuple[Any, ...]
    splits: tuple[str, ...]
    column: str
    batch: int = 64

    def __len__(self) -> int:
        return sum(len(one) for one in self.datasets)

    def name(self, position: int) -> str:
        """Such as "train[17]"."""
        part, row = locate(self.datasets, position)
        return f"{self.splits[part] or 'dataset'}[{row}]"

    def load(self, positions: NDArray[np.int64]) -> list[Crop | InputError]:
        """The crops (C, h, w), or what is wrong with each."""
        return [self._read(int(position)) for position in positions]

    def _read(self, position: int) -> Crop | InputError:
        part, row = locate(self.datasets, position)
        try:
            return native(_as_crop(self.datasets[part][row][self.column]))
        except InputError as error:
            return error
        except Exception as error:
            return unreadable(error)


def _as_crop(value: Any) -> Crop:
    """(C, h, w) from a Pillow image, an array (h, w) or (h, w, C), or ``{"bytes": …}``."""
    if isinstance(value, Mapping):
        if not value.get("bytes"):
            raise InputError("has no bytes")
        return read_picture_bytes(bytes(value["bytes"])).crop
    if hasattr(value, "mode"):
        check_extent((4, value.height, value.width), 1)
        value = value if value.mode in (*_GREY, "RGB") else value.convert("RGB")
    image = np.asarray(value)
    if image.ndim not in (2, 3):
        raise InputError(f"has shape {image.shape}; (h, w) or (h, w, C) is allowed")
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
