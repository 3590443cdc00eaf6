"""Classifiers as data and back: weights by name, and JSON that says what they belong to.

The store writes the two as safetensors and JSON; nothing here touches a file.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from cytolens.classifier.model import Classifier
from cytolens.classifier.networks import CellNet, build_network
from cytolens.classifier.weights import load_weights
from cytolens.errors import ModelError
from cytolens.records.cells import Preparation, Settings
from cytolens.records.classifier import Checkpoint

VERSION = 1


def to_checkpoint(classifier: Classifier) -> Checkpoint:
    """Weights as arrays (copies) and the JSON-able description that rebuilds the classifier."""
    spec: Settings = {
        "version": VERSION,
        "class_names": list(classifier.class_names),
        "channel_names": list(classifier.channel_names),
        "input_shape": list(classifier.input_shape),
        "preparation": None if classifier.preparation is None else asdict(classifier.preparation),
        **({} if classifier.gives_classes else {"outputs": classifier.outputs}),
        **classifier.spec,
    }
    weights = {name: _array(value) for name, value in classifier.network.state_dict().items()}
    return Checkpoint(weights=weights, spec=spec)


def from_checkpoint(checkpoint: Checkpoint, *, module: nn.Module | None = None) -> Classifier:
    """The classifier of a checkpoint, in evaluation mode on the CPU.

    The reference network is rebuilt from the description. A wrapped module comes as ``module``
    (its weights are replaced): no code is run because a checkpoint names it. Raises ModelError
    where a module is needed and not given, or where the weights do not fit.
    """
    spec = checkpoint.spec
    if spec.get("version", VERSION) > VERSION:
        raise ModelError(
            f"the checkpoint is of version {spec['version']}, this cytolens reads {VERSION}; "
            "update cytolens"
        )
    if spec.get("kind") == "CellNet":
        network: nn.Module = _reference(spec["network"])
    elif module is not None:
        network = module
    else:
        raise ModelError(
            f"the checkpoint is of a module of your own ({spec.get('module', 'unknown')}); hand "
            "it in as module="
        )
    weights = {name: torch.from_numpy(np.array(v)) for name, v in checkpoint.weights.items()}
    load_weights(network, weights, source="the checkpoint")
    channels, height, width = spec["input_shape"]
    own = ("version", "class_names", "channel_names", "input_shape", "preparation", "outputs")
    return Classifier(
        network=network.eval(),
        class_names=tuple(spec["class_names"]),
        channel_names=tuple(spec["channel_names"]),
        input_shape=(channels, height, width),
        preparation=_preparation(spec.get("preparation")),
        spec={name: entry for name, entry in spec.items() if name not in own},
        outputs=spec.get("outputs", "classes"),
    )


def _reference(arguments: Settings) -> CellNet:
    named = dict(arguments)
    channels, height, width = named.pop("input_shape")
    return build_network((channels, height, width), named.pop("n_classes"), **named)


def _preparation(entry: dict[str, Any] | None) -> Preparation | None:
    if entry is None:
        return None
    tuples: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()
    }
    return Preparation(**tuples)


def _array(value: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    value = value.detach().cpu()
    if value.dtype == torch.bfloat16:  # NumPy has no such type; float32 holds it exactly
        value = value.float()
    return value.contiguous().numpy().copy()
