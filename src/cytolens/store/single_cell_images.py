"""A run's crops with what is known of them, as scPortrait's ``.h5sc``: AnnData with images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytolens.store.anndata_table import to_anndata
from cytolens.store.cell_table import CellTable, Palette
from cytolens.store.files import replacing

_IMAGES = "single_cell_images"
_MASK = "measured"  # the one mask that is known of every crop: where it is not padding
_EXACT_IN_HALF = 2048  # whole numbers up to which float16 is exact
_BATCH = 256  # cells


def write_h5sc(table: CellTable, path: Path, *, palette: Palette | None = None) -> Path:
    """One HDF5 file, AnnData with ``obsm["single_cell_images"]`` (N, 1 + C, H, W); its path.

    The first channel is a mask, 1 where the crop was measured and 0 where it is padding; then come
    the crops in the files' own intensities. They are float16, as scPortrait writes them, where
    that holds every number of theirs; else float32 or of the files' own dtype, bit for bit.
    Features are in ``obsm``, as in `to_anndata`, and ``var`` describes the channels. A file that
    exists is replaced as a whole.
    """
    import h5py

    cells = table.cells
    n, channels, height, width = cells.images.shape
    made = _with_channels(table, palette)
    dtype = _dtype(table)
    names = [_MASK, *cells.channel_names]
    kinds = ["mask", *["image_channel"] * channels]
    about: dict[str, Any] = {
        "n_cells": n,
        "n_channels": channels + 1,
        "n_masks": 1,
        "n_image_channels": channels,
        "image_size_x": height,
        "image_size_y": width,
        "compression": "gzip",
    }
    made.uns[_IMAGES] = about | {
        "channel_names": np.array(names), "channel_mapping": np.array(kinds)
    }  # fmt: skip
    with replacing(path) as temporary:
        made.write_h5ad(temporary)
        with h5py.File(temporary, "a") as file:
            images = file.create_dataset(
                f"obsm/{_IMAGES}", (n, channels + 1, height, width), dtype,
                chunks=(1, 1, height, width), compression="gzip", compression_opts=1,
            )  # fmt: skip
            images.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"} | about)
            images.attrs["channel_names"] = np.array([name.encode() for name in names])
            images.attrs["channel_mapping"] = np.array([kind.encode() for kind in kinds])
            for start in range(0, n, _BATCH):
                rows = slice(start, min(start + _BATCH, n))
                masks = cells.images.masks(rows)[:, None].astype(dtype)
                crops = cells.images.read_raw(rows).astype(dtype)
                images[rows] = np.concatenate([masks, crops], axis=1)
    return path


def _with_channels(table: CellTable, palette: Palette | None) -> Any:
    """The table as AnnData whose ``var`` are the channels instead of the features in ``X``."""
    from anndata import AnnData

    features = to_anndata(table, palette=palette)
    channels = [_MASK, *table.cells.channel_names]
    var = pd.DataFrame(
        {"channels": channels, "channel_mapping": ["mask", *["image_channel"] * len(channels[1:])]},
        index=pd.Index([str(i) for i in range(len(channels))]),
    )
    obs: pd.DataFrame = pd.DataFrame(features.obs)
    for name in ("cell_id", "scportrait_cell_id"):
        if name not in obs:
            obs[name] = np.arange(len(obs), dtype=np.uint64)
    made = AnnData(obs=obs, var=var)
    for name in features.obsm:
        made.obsm[name] = features.obsm[name]
    made.uns.update(features.uns)
    return made


def _dtype(table: CellTable) -> np.dtype[Any]:
    """float16 where it is exact, else the dtype of the files."""
    given = np.dtype(table.cells.preparation.dtype)
    if given in (np.dtype(np.float16), np.dtype(np.uint8), np.dtype(np.int8)):
        return np.dtype(np.float16)
    if given.kind not in "ui":
        return given
    for start in range(0, len(table.cells), _BATCH):
        crops = table.cells.images.read_raw(slice(start, start + _BATCH))
        if int(crops.max()) > _EXACT_IN_HALF or int(crops.min()) < -_EXACT_IN_HALF:
            return given
    return np.dtype(np.float16)
