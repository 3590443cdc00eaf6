"""What a network has learnt, as images: feature images, their modulation and their complexity."""

from cytolens.features.atlas import make_atlas
from cytolens.features.canvas import Canvas
from cytolens.features.complexity import complexity_of, measure_complexity, rank_correlation
from cytolens.features.context import correlate, describe_channels
from cytolens.features.directions import whitened_directions
from cytolens.features.duplicates import DUPLICATE, group_duplicates
from cytolens.features.faithfulness import Yardstick, measure_faithfulness, prepare_yardstick
from cytolens.features.importance import (
    measure_ablation,
    measure_contributions,
    measure_importance,
)
from cytolens.features.insertion import measure_kept
from cytolens.features.modulation import explain_cell, modulate
from cytolens.features.objectives import (
    Objective,
    Response,
    channel,
    class_logit,
    direction,
    layer,
    neuron,
)
from cytolens.features.optimisation import REGULARISATION, feature_images
from cytolens.features.parametrisations import PARAMETRISATIONS, Painting
from cytolens.features.priors import PRIORS, Prior, fit_prior
from cytolens.features.ranking import rank_channels
from cytolens.features.regularisers import REGULARISERS, weigh
from cytolens.features.saliency import explaining_layer, measure_saliency
from cytolens.features.transforms import STILL, Transforms

__all__ = [
    "DUPLICATE",
    "PARAMETRISATIONS",
    "PRIORS",
    "REGULARISATION",
    "REGULARISERS",
    "STILL",
    "Canvas",
    "Objective",
    "Painting",
    "Prior",
    "Response",
    "Transforms",
    "Yardstick",
    "channel",
    "class_logit",
    "complexity_of",
    "correlate",
    "describe_channels",
    "direction",
    "explain_cell",
    "explaining_layer",
    "feature_images",
    "fit_prior",
    "group_duplicates",
    "layer",
    "make_atlas",
    "measure_ablation",
    "measure_complexity",
    "measure_contributions",
    "measure_faithfulness",
    "measure_importance",
    "measure_kept",
    "measure_saliency",
    "modulate",
    "neuron",
    "prepare_yardstick",
    "rank_channels",
    "rank_correlation",
    "weigh",
    "whitened_directions",
]
