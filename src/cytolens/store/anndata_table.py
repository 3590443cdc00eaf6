"""A run's cells as AnnData, by the conventions of scverse: scanpy and cellxgene read it as is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytolens.records import Cells, Clusters, Embedding

if TYPE_CHECKING:
    from anndata import AnnData


def to_anndata(
    cells: Cells,
    *,
    features: NDArray[np.float32],
    layer: str,
    probabilities: NDArray[np.float32] | None = None,
    parts: NDArray[np.str_] | None = None,
    maps: Mapping[str, Mapping[str, Embedding]] | None = None,
    clusters: Mapping[str, Clusters] | None = None,
    colors: Mapping[str, tuple[str, ...]] | None = None,
) -> "AnnData":
    """AnnData (cell, feature) of one layer, with labels, maps and clusters.

    ``features`` (N, F) float32 of ``layer`` become ``X``; ``obs`` has ``class``, ``prediction``,
    ``confidence``, the group, every covariate and ``cluster_<layer>`` (categorical); ``obsm`` one
    ``X_<method>_<layer>`` (N, 2) per map in ``maps[method][layer]``; ``uns`` the colours of the
    classes. ``parts`` (N,) names the part of the split that each cell was in.
    """
    from anndata import AnnData

    class_names = np.array(cells.class_names)
    columns: dict[str, Any] = {
        "class": pd.Categorical(class_names[cells.labels], categories=cells.class_names),
        "height_px": cells.original_sizes[:, 0],
        "width_px": cells.original_sizes[:, 1],
    }
    if probabilities is not None:
        predicted = probabilities.argmax(1)
        columns["prediction"] = pd.Categorical(class_names[predicted], categories=cells.class_names)
        columns["correct"] = pd.Categorical(
            np.where(predicted == cells.labels, "correct", "wrong"), categories=["correct", "wrong"]
        )
        columns["confidence"] = probabilities.max(1)
    if parts is not None:
        columns["part"] = pd.Categorical(parts)
    if cells.groups is not None:
        columns[cells.group_name or "group"] = pd.Categorical(cells.groups)
    for name, found in (clusters or {}).items():
        named = np.where(found.labels < 0, "none", found.labels.astype(str))
        order = [*(str(k) for k in range(found.n)), *(["none"] if (found.labels < 0).any() else [])]
        columns[f"cluster_{name}"] = pd.Categorical(named, categories=order)
    for name, column in cells.covariates.items():
        if name not in columns and column.ndim == 1:
            columns[name] = pd.Categorical(column) if column.dtype.kind in "US" else column
    table = pd.DataFrame(columns, index=_unique(cells.names))
    adata = AnnData(
        X=features,
        obs=table,
        var=pd.DataFrame(index=pd.Index([f"{layer}_{i}" for i in range(features.shape[1])])),
    )
    for method, by_layer in (maps or {}).items():
        for name, embedding in by_layer.items():
            adata.obsm[f"X_{method}_{name}"] = embedding.coordinates
    for column, palette in (colors or {}).items():
        adata.uns[f"{column}_colors"] = list(palette)
    adata.uns["cytolens"] = {"layer": layer, "source": cells.source}
    return adata


def _unique(names: NDArray[np.str_]) -> pd.Index:
    """Names as an index without repeats (AnnData warns of them): a number is added where needed."""
    if len(np.unique(names)) == len(names):
        return pd.Index(names.astype(str))
    return pd.Index([f"{name}#{i}" for i, name in enumerate(names)])
