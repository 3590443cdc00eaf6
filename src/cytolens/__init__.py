"""cytolens: see what a cell-image classifier has learnt, and whether to believe it.

Public names load on first use (PEP 562), so a finished run opens without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cytolens.records import Cells as Cells

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
    "cluster": "embedding",
    "measure_separation": "embedding",
    "feature_images": "features",
    "objectives": "features",
    "modulate": "features",
    "explain_cell": "features",
    "measure_complexity": "features",
    "plot_embedding": "figures",
    "plot_separation": "figures",
    "plot_feature_images": "figures",
    "open_run": "store",
    "run": "study",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cytolens' has no attribute '{name}'")
    return getattr(import_module(f"cytolens.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
