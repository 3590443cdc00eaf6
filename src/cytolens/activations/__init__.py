"""What a network answers to cells, at every depth; knows only ``nn.Module``."""

from cytolens.activations.capture import Place, capture, device_of, evaluating
from cytolens.activations.extraction import extract
from cytolens.activations.layers import find_layers, resolve_layer
from cytolens.activations.maps import capture_maps
from cytolens.activations.reduction import reduce_activations

__all__ = [
    "Place",
    "capture",
    "capture_maps",
    "device_of",
    "evaluating",
    "extract",
    "find_layers",
    "reduce_activations",
    "resolve_layer",
]
