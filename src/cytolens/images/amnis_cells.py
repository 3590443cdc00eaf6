"""The cells of an Amnis CIF, with the table of their features that IDEAS exported next to it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import InputError, MissingExtra
from cytolens.images.amnis_cif import CifCrops, index_cif
from cytolens.images.cell_files import CellFile
from cytolens.images.columns import listed
from cytolens.images.opening import check_file

_TABLES = ("{stem}_features.txt", "{stem}.txt", "{stem}_features.csv", "{stem}.fcs")
_OBJECT = ("objectnumber", "object", "objectid", "objectno")
_HEADER_WITHIN = 60  # lines before the names of the columns
_MOST_BYTES = 4 << 30  # of a table


def open_cif(path: Path) -> CellFile:
    """The cells of a CIF; a table of features is joined by object number, see `tables_of_cif`."""
    index = index_cif(path)
    crops = CifCrops(path, index)
    table: dict[str, NDArray[Any]] = {}
    remarks: list[str] = []
    for place in tables_of_cif(path)[:1]:
        features = read_features(place)
        table = _joined(index.objects, features, place)
        remarks.append(f"features of {place.name} joined by object number: {len(table)} columns")
    if len(np.unique(index.objects)) < len(index.objects):
        remarks.append("warning: some object numbers of the file stand for several cells")
    if index.doubt:
        remarks.append(f"warning: {index.doubt}")
    return CellFile(
        crops=crops,
        names=np.array([crops.name(i) for i in range(len(crops))], dtype=np.str_),
        table=table,
        channel_names=index.channel_names,
        pixel_size=index.pixel_size,
        remarks=tuple(remarks),
    )


def tables_of_cif(path: Path) -> list[Path]:
    """Tables next to a CIF that hold features of its cells, those that exist.

    ``<stem>_features.txt``, ``<stem>.txt`` (IDEAS: Tools, Export feature values),
    ``<stem>_features.csv`` or ``<stem>.fcs``.
    """
    stem = path.name[: -len(path.suffix)] if path.suffix else path.name
    places = [path.with_name(pattern.format(stem=stem)) for pattern in _TABLES]
    return [place for place in places if place.is_file()]


def read_features(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table of features: text with a line of names, or FCS.

    In text, the names of the columns are the first line that has an "Object Number"; what stands
    above it is passed over. Raises InputError where there is no such column, and MissingExtra for
    FCS without flowio.
    """
    try:
        check_file(path, most=_MOST_BYTES)
    except InputError as error:
        raise InputError(f"comes with {path.name}, which {error}") from None
    try:
        return _read_fcs(path) if path.suffix.lower() == ".fcs" else _read_text(path)
    except (InputError, MissingExtra):
        raise
    except Exception as error:
        raise InputError(f"comes with {path.name}, which cannot be read ({error})") from None


def _read_text(path: Path) -> dict[str, NDArray[Any]]:
    import pandas as pd  # only where it is needed: it is slow to load

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [file.readline(1 << 20) for _ in range(_HEADER_WITHIN)]
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    header = next(
        (i for i, line in enumerate(lines) if _object_column(line.strip("\r\n").split(separator))),
        None,
    )
    if header is None:
        raise InputError(f"comes with {path.name}, which has no column 'Object Number'")
    frame = pd.read_csv(
        path, sep=separator, skiprows=header, encoding="utf-8-sig", encoding_errors="replace"
    )
    frame = frame.dropna(axis="columns", how="all")
    return {
        str(name).strip(): column.to_numpy()
        if (column := frame[name]).dtype.kind in "iufb"
        else column.astype(str).to_numpy(dtype=np.str_)
        for name in frame.columns
    }


def _read_fcs(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import flowio  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra(f"{path.name}, a table in FCS,", "fcs") from None
    data: Any = flowio.FlowData(str(path))
    values = np.asarray(data.as_array())
    names = [str(long or short) for short, long in zip(data.pnn_labels, data.pns_labels)]
    return {name: values[:, i] for i, name in enumerate(names)}


def _object_column(names: list[str]) -> str | None:
    """Which name means the object number."""
    plain = {"".join(c for c in name.lower() if c.isalnum()): name for name in names}
    return next((plain[known] for known in _OBJECT if known in plain), None)


def _joined(
    objects: NDArray[np.int64], table: dict[str, NDArray[Any]], place: Path
) -> dict[str, NDArray[Any]]:
    """The rows of a table for cells with these object numbers, in their order."""
    key = _object_column(list(table))
    if key is None:
        raise InputError(
            f"comes with {place.name}, which has no column 'Object Number'; it has: "
            f"{listed(list(table))}"
        )
    numbers = np.rint(table.pop(key).astype(np.float64)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    if (np.diff(numbers[order]) == 0).any():
        raise InputError(f"comes with {place.name}, which has an object number twice")
    at = np.searchsorted(numbers[order], objects)
    there = at < len(numbers)
    there[there] = numbers[order][at[there]] == objects[there]
    if not there.all():
        missing = objects[~there]
        raise InputError(
            f"comes with {place.name}, which lacks {len(missing)} of {len(objects)} object "
            f"numbers, the first is {missing[0]}"
        )
    return {name: column[order][at] for name, column in table.items() if column.ndim == 1}
