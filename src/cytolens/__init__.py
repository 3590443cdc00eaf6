"""cytolens: see what a cell-image classifier has learnt, and whether to believe it.

Public names load on first use (PEP 562), so a finished run opens without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cytolens.activations import capture as capture
    from cytolens.activations import extract as extract
    from cytolens.activations import find_layers as find_layers
    from cytolens.classifier import evaluate as evaluate
    from cytolens.classifier import train as train
    from cytolens.classifier import wrap as wrap
    from cytolens.clusters import cluster as cluster
    from cytolens.clusters import describe_clusters as describe_clusters
    from cytolens.clusters import measure_flow as measure_flow
    from cytolens.embedding import embed as embed
    from cytolens.errors import CytolensError as CytolensError
    from cytolens.features import explain_cell as explain_cell
    from cytolens.features import feature_images as feature_images
    from cytolens.features import fit_prior as fit_prior
    from cytolens.features import make_atlas as make_atlas
    from cytolens.features import measure_complexity as measure_complexity
    from cytolens.features import measure_faithfulness as measure_faithfulness
    from cytolens.features import modulate as modulate
    from cytolens.features import objectives as objectives
    from cytolens.features import prepare_yardstick as prepare_yardstick
    from cytolens.figures import plot_embedding as plot_embedding
    from cytolens.figures import plot_feature_images as plot_feature_images
    from cytolens.figures import plot_separation as plot_separation
    from cytolens.images import cells_from_arrays as cells_from_arrays
    from cytolens.images import read_cells as read_cells
    from cytolens.images import simulate as simulate
    from cytolens.knowledge import find_confounds as find_confounds
    from cytolens.knowledge import find_suspects as find_suspects
    from cytolens.knowledge import measure_knowledge as measure_knowledge
    from cytolens.records import Cells as Cells
    from cytolens.separation import measure_pairs as measure_pairs
    from cytolens.separation import measure_separation as measure_separation
    from cytolens.separation import measure_similarity as measure_similarity
    from cytolens.statistics import Estimate as Estimate
    from cytolens.store import open_run as open_run
    from cytolens.study import export as export
    from cytolens.study import place as place
    from cytolens.study import run as run

_HOMES = {
    "CytolensError": "errors",
    "Cells": "records",
    "Estimate": "statistics",
    "read_cells": "images",
    "cells_from_arrays": "images",
    "simulate": "images",
    "train": "classifier",
    "evaluate": "classifier",
    "wrap": "classifier",
    "find_layers": "activations",
    "capture": "activations",
    "extract": "activations",
    "embed": "embedding",
    "cluster": "clusters",
    "describe_clusters": "clusters",
    "measure_flow": "clusters",
    "measure_separation": "separation",
    "measure_pairs": "separation",
    "measure_knowledge": "knowledge",
    "find_confounds": "knowledge",
    "find_suspects": "knowledge",
    "measure_similarity": "separation",
    "feature_images": "features",
    "objectives": "features",
    "fit_prior": "features",
    "make_atlas": "features",
    "measure_faithfulness": "features",
    "prepare_yardstick": "features",
    "modulate": "features",
    "explain_cell": "features",
    "measure_complexity": "features",
    "plot_embedding": "figures",
    "plot_separation": "figures",
    "plot_feature_images": "figures",
    "open_run": "store",
    "place": "study",
    "run": "study",
    "export": "study",
}
__all__ = [
    "Cells",
    "CytolensError",
    "Estimate",
    "capture",
    "cells_from_arrays",
    "cluster",
    "describe_clusters",
    "embed",
    "evaluate",
    "explain_cell",
    "export",
    "extract",
    "feature_images",
    "find_confounds",
    "find_layers",
    "find_suspects",
    "fit_prior",
    "make_atlas",
    "measure_complexity",
    "measure_faithfulness",
    "measure_flow",
    "measure_knowledge",
    "measure_pairs",
    "measure_separation",
    "measure_similarity",
    "modulate",
    "objectives",
    "open_run",
    "place",
    "plot_embedding",
    "plot_feature_images",
    "plot_separation",
    "prepare_yardstick",
    "read_cells",
    "run",
    "simulate",
    "train",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cytolens' has no attribute '{name}'")
    return getattr(import_module(f"cytolens.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
