"""cytolens: see what a cell-image classifier has learnt, and whether to believe it.

Public names load on first use (PEP 562), so a finished run opens without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cytolens.activations.capture import capture as capture
    from cytolens.activations.extraction import extract as extract
    from cytolens.activations.layers import find_layers as find_layers
    from cytolens.classifier.evaluation import evaluate as evaluate
    from cytolens.classifier.training import train as train
    from cytolens.classifier.wrapping import wrap as wrap
    from cytolens.clusters.clustering import cluster as cluster
    from cytolens.clusters.flow import measure_flow as measure_flow
    from cytolens.clusters.subpopulations import describe_clusters as describe_clusters
    from cytolens.embedding.methods import embed as embed
    from cytolens.errors import CytolensError as CytolensError
    from cytolens.explorer.notebook import view as view
    from cytolens.features import objectives as objectives
    from cytolens.features.ascent import Ascent as Ascent
    from cytolens.features.atlas import make_atlas as make_atlas
    from cytolens.features.complexity import measure_complexity as measure_complexity
    from cytolens.features.contrast.pairs import contrast_pairs as contrast_pairs
    from cytolens.features.faithfulness import measure_faithfulness as measure_faithfulness
    from cytolens.features.faithfulness import prepare_yardstick as prepare_yardstick
    from cytolens.features.modulation import explain_cell as explain_cell
    from cytolens.features.modulation import modulate as modulate
    from cytolens.features.optimisation import feature_images as feature_images
    from cytolens.features.priors import fit_prior as fit_prior
    from cytolens.figures.cells import plot_cells as plot_cells
    from cytolens.figures.depth import plot_separation as plot_separation
    from cytolens.figures.gallery import plot_feature_images as plot_feature_images
    from cytolens.figures.maps import plot_embedding as plot_embedding
    from cytolens.figures.performance import plot_training as plot_training
    from cytolens.figures.prior import plot_prior as plot_prior
    from cytolens.images.arrays import cells_from_arrays as cells_from_arrays
    from cytolens.images.reading import read_cells as read_cells
    from cytolens.knowledge.confounds import find_confounds as find_confounds
    from cytolens.knowledge.knowledge import measure_knowledge as measure_knowledge
    from cytolens.knowledge.suspects import find_suspects as find_suspects
    from cytolens.numerics.estimates import Estimate as Estimate
    from cytolens.records.cells import Cells as Cells
    from cytolens.separation.pairwise import measure_pairs as measure_pairs
    from cytolens.separation.separation import measure_separation as measure_separation
    from cytolens.separation.similarity import measure_similarity as measure_similarity
    from cytolens.simulation.simulate import simulate as simulate
    from cytolens.study.export import export as export
    from cytolens.study.finished_run import open_run as open_run
    from cytolens.study.place import place as place
    from cytolens.study.study import run as run

_HOMES = {
    "CytolensError": "errors",
    "Cells": "records.cells",
    "Estimate": "numerics.estimates",
    "read_cells": "images.reading",
    "cells_from_arrays": "images.arrays",
    "simulate": "simulation.simulate",
    "train": "classifier.training",
    "evaluate": "classifier.evaluation",
    "wrap": "classifier.wrapping",
    "find_layers": "activations.layers",
    "capture": "activations.capture",
    "extract": "activations.extraction",
    "embed": "embedding.methods",
    "cluster": "clusters.clustering",
    "describe_clusters": "clusters.subpopulations",
    "measure_flow": "clusters.flow",
    "measure_separation": "separation.separation",
    "measure_pairs": "separation.pairwise",
    "measure_knowledge": "knowledge.knowledge",
    "find_confounds": "knowledge.confounds",
    "find_suspects": "knowledge.suspects",
    "measure_similarity": "separation.similarity",
    "Ascent": "features.ascent",
    "feature_images": "features.optimisation",
    "contrast_pairs": "features.contrast.pairs",
    "objectives": "features.objectives",
    "fit_prior": "features.priors",
    "make_atlas": "features.atlas",
    "measure_faithfulness": "features.faithfulness",
    "prepare_yardstick": "features.faithfulness",
    "modulate": "features.modulation",
    "explain_cell": "features.modulation",
    "measure_complexity": "features.complexity",
    "plot_cells": "figures.cells",
    "plot_embedding": "figures.maps",
    "plot_separation": "figures.depth",
    "plot_feature_images": "figures.gallery",
    "plot_prior": "figures.prior",
    "plot_training": "figures.performance",
    "open_run": "study.finished_run",
    "place": "study.place",
    "run": "study.study",
    "view": "explorer.notebook",
    "export": "study.export",
}
__all__ = [
    "Ascent",
    "Cells",
    "CytolensError",
    "Estimate",
    "capture",
    "cells_from_arrays",
    "cluster",
    "contrast_pairs",
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
    "plot_cells",
    "plot_embedding",
    "plot_feature_images",
    "plot_prior",
    "plot_separation",
    "plot_training",
    "prepare_yardstick",
    "read_cells",
    "run",
    "simulate",
    "train",
    "view",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cytolens' has no attribute '{name}'")
    home = import_module(f"cytolens.{_HOMES[name]}")
    return home if name == "objectives" else getattr(home, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
