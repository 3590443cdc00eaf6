"""What a network has learnt, as images: feature images, their modulation and their complexity."""

from cytolens.features.canvas import Canvas
from cytolens.features.complexity import complexity_of, measure_complexity, rank_correlation
from cytolens.features.importance import measure_contributions, measure_importance
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
from cytolens.features.regularisers import REGULARISERS, weigh
from cytolens.features.transforms import STILL, Transforms

__all__ = [
    "PARAMETRISATIONS",
    "REGULARISATION",
    "REGULARISERS",
    "STILL",
    "Canvas",
    "Objective",
    "Painting",
    "Response",
    "Transforms",
    "channel",
    "class_logit",
    "complexity_of",
    "direction",
    "explain_cell",
    "feature_images",
    "layer",
    "measure_complexity",
    "measure_contributions",
    "measure_importance",
    "modulate",
    "neuron",
    "rank_correlation",
    "weigh",
]
