"""A run's cells in other tools' formats: AnnData, Parquet, CSV, embedding-atlas, TensorBoard."""

import base64
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytolens.errors import RunError, choose
from cytolens.store.anndata_table import to_anndata
from cytolens.store.cell_table import CellTable, Palette, Pictures, observations
from cytolens.store.csv_text import csv_text
from cytolens.store.files import replacing, replacing_folder, write_text
from cytolens.store.projector import write_projector
from cytolens.store.single_cell_images import write_h5sc

NEIGHBOURS = 15
"""Nearest cells that are written for embedding-atlas; as many as it would find itself."""

_PICTURES_UP_TO = 20_000
"""Cells up to which embedding-atlas gets their pictures, about 2 kB each."""


def write_h5ad(table: CellTable, path: Path, *, palette: Palette | None = None) -> Path:
    """AnnData in one HDF5 file, see `to_anndata`; a file that exists is replaced as a whole."""
    made = to_anndata(table, palette=palette)
    with replacing(path) as temporary:
        made.write_h5ad(temporary)
    return path


def write_zarr(table: CellTable, path: Path, *, palette: Palette | None = None) -> Path:
    """AnnData as a Zarr folder (format 2, which every version reads), see `to_anndata`."""
    made = to_anndata(table, palette=palette)
    known = ("zarr.json", ".zgroup")
    with replacing_folder(path, knows=known) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the default format will change
        made.write_zarr(temporary)
    return path


def write_parquet(table: CellTable, path: Path) -> Path:
    """One row per cell: its name, what `observations` gives, and ``x``, ``y`` per map.

    They are called ``x_<method>_<layer>`` and ``y_<method>_<layer>``.
    """
    with replacing(path) as temporary:
        _to_parquet(_with_places(table), temporary)
    return path


def write_csv(table: CellTable, path: Path) -> Path:
    """The same as text, UTF-8; what a spreadsheet would run is neutralised, see `csv_text`."""
    rows = _with_places(table)
    rows.insert(0, "cell" if "name" in rows else "name", rows.index)
    values = [rows[name].astype(object).tolist() for name in rows.columns]
    write_text(path, csv_text([list(rows.columns), *zip(*values)]))
    return path


def _with_places(table: CellTable) -> pd.DataFrame:
    """What is known of every cell, and its places on the maps."""
    rows = observations(table)
    places = {
        f"{axis}_{method}_{layer}": embedding.coordinates[:, i]
        for method, by_layer in table.maps.items()
        for layer, embedding in by_layer.items()
        for i, axis in enumerate("xy")
    }
    return pd.concat([rows, pd.DataFrame(places, index=rows.index)], axis=1)


def write_embedding_atlas(table: CellTable, path: Path, *, show: Pictures | None = None) -> Path:
    """One Parquet file for Apple's embedding-atlas (0.26): ``x``, ``y``, ``neighbors``, ``image``.

    ``neighbors`` is a struct of ``ids`` (row numbers, the cell itself first) and ``distances``:
    nearest in the features of ``table.layer``, not on the map, so that the viewer's neighbours are
    the network's. ``image`` holds a PNG as a data URI, for up to 20,000 cells. Raises RunError
    where there is no map.
    """
    from cytolens.numerics.neighbours import find_neighbours  # only where it is needed: faiss

    found = table.main_map
    if found is None:
        raise RunError("embedding-atlas needs a map; make one first: cytolens embed RUN")
    rows = observations(table)
    rows.insert(0, "y", found.coordinates[:, 1])
    rows.insert(0, "x", found.coordinates[:, 0])
    n = len(rows)
    if show is not None and n <= _PICTURES_UP_TO:
        rows["image"] = _data_uris(n, show)
    features = np.ascontiguousarray(table.features[table.layer], dtype=np.float32)
    near = find_neighbours(features, min(NEIGHBOURS - 1, n - 1))
    own = np.arange(n, dtype=np.int32)[:, None]
    ids = np.hstack([own, near.indices.astype(np.int32)])
    distances = np.hstack([np.zeros((n, 1), np.float32), near.distances.astype(np.float32)])
    with replacing(path) as temporary:
        _to_parquet(rows, temporary, neighbors={"ids": ids, "distances": distances})
    return path


def write_tensorboard(table: CellTable, path: Path, *, show: Pictures | None = None) -> Path:
    """A folder for TensorBoard's projector, see `projector.write_projector`."""
    with replacing_folder(path, knows=("projector_config.pbtxt",)) as temporary:
        write_projector(temporary, table, show)
    return path


FORMATS: dict[str, str] = {
    "h5ad": "cells.h5ad",
    "zarr": "cells.zarr",
    "h5sc": "cells.h5sc",
    "parquet": "cells.parquet",
    "csv": "cells.csv",
    "embedding-atlas": "embedding-atlas.parquet",
    "tensorboard": "tensorboard",
    "tiff": "image-stacks",
}
"""What a run can be exported as, and what the file or folder is called where no name is given.

All but ``tiff`` (`image_stacks.write_image_stacks`) are forms of the table of cells.
"""


def write_export(
    table: CellTable,
    to: str,
    out: Path,
    *,
    palette: Palette | None = None,
    show: Pictures | None = None,
) -> Path:
    """Write ``table`` in a format of ``FORMATS`` for tables; gives the path that was written.

    ``out`` is the file or folder to write; the name of a folder that exists stands for the
    format's own name in it, unless it holds an earlier export. Raises SettingError for an unknown
    format, and for a folder that holds other things.
    """
    writers: dict[str, Callable[..., Path]] = {
        "h5ad": write_h5ad,
        "zarr": write_zarr,
        "h5sc": write_h5sc,
        "parquet": write_parquet,
        "csv": write_csv,
        "embedding-atlas": write_embedding_atlas,
        "tensorboard": write_tensorboard,
    }
    name = choose("format", to, list(writers))
    if out.is_dir() and Path(FORMATS[name]).suffix not in ("", ".zarr"):
        out = out / FORMATS[name]
    options: dict[str, Any] = {}
    if name in ("h5ad", "zarr", "h5sc"):
        options["palette"] = palette
    elif name in ("embedding-atlas", "tensorboard"):
        options["show"] = show
    return writers[name](table, out, **options)


def _to_parquet(rows: pd.DataFrame, path: Path, **lists: Mapping[str, NDArray[Any]]) -> None:
    """Row names as the column ``name``; ``lists`` (N, k) as columns of structs of lists."""
    import pyarrow as pa
    from pyarrow import parquet

    named = rows.rename_axis("name").reset_index() if "name" not in rows else rows.reset_index()
    table = pa.Table.from_pandas(named, preserve_index=False)
    for name, fields in lists.items():
        columns = [
            pa.ListArray.from_arrays(
                np.arange(len(values) + 1, dtype=np.int32) * values.shape[1], values.ravel()
            )
            for values in fields.values()
        ]
        table = table.append_column(name, pa.StructArray.from_arrays(columns, names=list(fields)))
    parquet.write_table(table, path)


def _data_uris(n: int, show: Pictures) -> list[str]:
    found: list[str] = []
    for start in range(0, n, 256):
        for picture in show(np.arange(start, min(start + 256, n))):
            buffer = BytesIO()
            Image.fromarray(picture).convert(_mode(picture)).save(buffer, format="png")
            found.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return found


def _mode(picture: NDArray[np.uint8]) -> str:
    """Grey pictures take a third of the room."""
    return "L" if (picture[..., :1] == picture).all() else "RGB"
