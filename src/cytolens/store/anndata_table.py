"""A run's cells as AnnData, by the conventions of scverse: scanpy and cellxgene read it as is."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytolens.store.cell_table import CellTable, Palette, observations

if TYPE_CHECKING:
    from anndata import AnnData


def to_anndata(table: CellTable, *, palette: Palette | None = None) -> "AnnData":
    """AnnData (cell, feature): the features of ``table.layer`` in ``X``, float32.

    ``obs`` is `observations`; ``obsm`` has ``X_<layer>`` (N, F) for every layer of the table and
    ``X_<method>_<layer>`` (N, 2) for every map; ``uns`` has ``<column>_colors`` for every
    categorical column where a ``palette`` is given, and under ``cytolens`` the source, the layer
    in ``X``, the layers left out, the pixel size (µm) where it is known, and per map what it kept.
    """
    from anndata import AnnData

    features = np.asarray(table.features[table.layer], dtype=np.float32)
    names = [f"{table.layer}_{i}" for i in range(features.shape[1])]
    obs = observations(table)
    adata = AnnData(X=features, obs=obs, var=pd.DataFrame(index=pd.Index(names)))
    for layer, values in table.features.items():
        adata.obsm[f"X_{layer}"] = np.asarray(values, dtype=np.float32)
    quality: dict[str, dict[str, float]] = {}
    for method, by_layer in table.maps.items():
        for layer, embedding in by_layer.items():
            adata.obsm[f"X_{method}_{layer}"] = embedding.coordinates
            quality[f"X_{method}_{layer}"] = dict(embedding.quality)
    for column in obs.columns if palette is not None else ():
        if isinstance(obs[column].dtype, pd.CategoricalDtype):
            categories = [str(name) for name in obs[column].cat.categories]
            adata.uns[f"{column}_colors"] = list(palette(column, categories)) if palette else []
    about: dict[str, Any] = {
        "layer": table.layer,
        "source": table.cells.source,
        "left_out": list(table.left_out),
        "quality": quality,
    }
    if table.cells.pixel_size is not None:
        about["pixel_size"] = float(table.cells.pixel_size)
    adata.uns["cytolens"] = about
    return adata
