"""The cells with all that a study knows of them: what every export is made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytolens.records.cells import Cells
from cytolens.records.clusters import Clusters
from cytolens.records.maps import Embedding

Palette = Callable[[str, Sequence[str]], Sequence[str]]
"""Colours (hex) of the categories of a column, given its name and theirs."""

Pictures = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Pictures (n, H, W, 3) of the cells at an index."""


@dataclass(frozen=True)
class CellTable:
    """N cells, and what was found of each; all but the cells may be missing."""

    cells: Cells  # N of them
    features: Mapping[str, NDArray[np.float32]]  # by layer, in depth order, (N, F)
    layer: str  # the one that matters most, of those in ``features``
    probabilities: NDArray[np.floating] | None = None  # (N, K)
    parts: NDArray[np.str_] | None = None  # (N,), of the split
    maps: Mapping[str, Mapping[str, Embedding]] = field(
        default_factory=dict[str, Mapping[str, Embedding]]
    )  # maps[method][layer]
    clusters: Mapping[str, Clusters] = field(default_factory=dict[str, Clusters])  # by layer
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    left_out: tuple[str, ...] = ()  # layers that are too large for ``features``

    @property
    def main_map(self) -> Embedding | None:
        """The map that viewers open with: of ``layer``, t-SNE where there is one."""
        for method in sorted(self.maps, key=lambda name: name != "tsne"):
            found = self.maps[method]
            if found:
                return found.get(self.layer) or next(iter(found.values()))
        return None


def observations(table: CellTable) -> pd.DataFrame:
    """One row per cell, by its name: class, prediction, group, clusters, covariates, ``columns``.

    Text is categorical. Confidence is the probability of the predicted class, probability that of
    the given one, entropy in bits. A covariate of a name in use is called ``covariate_<name>``.
    """
    cells = table.cells
    names = np.array(cells.class_names)
    columns: dict[str, Any] = {
        "class": pd.Categorical(names[cells.labels], categories=cells.class_names),
        "height_px": cells.original_sizes[:, 0],
        "width_px": cells.original_sizes[:, 1],
    }
    if table.probabilities is not None:
        columns |= _predictions(np.asarray(table.probabilities, dtype=np.float64), cells)
    if table.parts is not None:
        columns["part"] = pd.Categorical(table.parts)
    if cells.groups is not None:
        columns[cells.group_name or "group"] = pd.Categorical(cells.groups)
    for name, found in table.clusters.items():
        named = np.where(found.labels < 0, "none", found.labels.astype(str))
        order = [*(str(k) for k in range(found.n)), *(["none"] if (found.labels < 0).any() else [])]
        columns[f"cluster_{name}"] = pd.Categorical(named, categories=order)
    for name, column in {**cells.covariates, **table.columns}.items():
        if column.ndim == 1:
            key = f"covariate_{name}" if name in columns else name
            text = column.dtype.kind in "USO"
            columns[key] = pd.Categorical(column.astype(str)) if text else column
    return pd.DataFrame(columns, index=_unique(cells.names))


def _predictions(probabilities: NDArray[np.float64], cells: Cells) -> dict[str, Any]:
    names = np.array(cells.class_names)
    predicted = probabilities.argmax(axis=1)
    right = np.where(predicted == cells.labels, "correct", "wrong")
    known = np.clip(probabilities, 1e-12, 1)
    return {
        "prediction": pd.Categorical(names[predicted], categories=cells.class_names),
        "correct": pd.Categorical(right, categories=["correct", "wrong"]),
        "confidence": probabilities.max(axis=1),
        "probability": probabilities[np.arange(len(cells)), cells.labels],
        "entropy": -(known * np.log2(known)).sum(axis=1),
    }


def _unique(names: NDArray[np.str_]) -> pd.Index:
    """Names as an index without repeats (AnnData warns of them): a number is added where needed."""
    if len(np.unique(names)) == len(names):
        return pd.Index(names.astype(str))
    return pd.Index([f"{name}#{i}" for i, name in enumerate(names)])
