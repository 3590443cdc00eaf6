"""What contrast pairs can be made of: classes, channels, clusters, any direction of a layer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolens.classifier.model import Classifier
from cytolens.errors import SettingError
from cytolens.records.contrast import Target
from cytolens.records.layers import Layer


def class_targets(logits: Layer, class_names: Sequence[str]) -> tuple[Target, ...]:
    """Each class against the mean of the others; of two classes, the second against the first."""
    n = len(class_names)
    if n == 2:
        first, second = class_names
        return (
            Target(f"{second} rather than {first}", "class", logits.name, np.array([-1.0, 1.0])),
        )
    weights = (np.eye(n) * n - 1) / (n - 1)
    return tuple(
        Target(f"{name} rather than others", "class", logits.name, row)
        for name, row in zip(class_names, weights, strict=True)
    )


def output_targets(logits: Layer, names: Sequence[str]) -> tuple[Target, ...]:
    """Each output of a network that gives no classes: more of a label, a larger value."""
    rows = np.eye(len(names))
    return tuple(
        Target(name, "output", logits.name, row) for name, row in zip(names, rows, strict=True)
    )


def targets_of_outputs(model: Classifier, logits: Layer) -> tuple[Target, ...]:
    """What a network's outputs can be asked for: classes, labels, values; of an embedding none."""
    if model.gives_classes:
        return class_targets(logits, model.class_names)
    return () if model.outputs == "embedding" else output_targets(logits, model.class_names)


def channel_target(layer: Layer, channel: int) -> Target:
    """The mean activation of one channel. Raises SettingError for one that the layer has not."""
    if not 0 <= channel < layer.channels:
        raise SettingError(
            f"channel {channel} is not in layer '{layer.name}'; choose from 0 to "
            f"{layer.channels - 1}"
        )
    weights = np.zeros(layer.channels)
    weights[channel] = 1
    return Target(f"{layer.name}, channel {channel}", "channel", layer.name, weights)


def cluster_targets(
    layer: Layer, directions: NDArray[np.floating], *, numbers: Sequence[int]
) -> tuple[Target, ...]:
    """From the mean cell to each cluster, ``directions`` (K, C); those that point nowhere go."""
    return tuple(
        Target(f"{layer.name}, cluster {k}", "cluster", layer.name, row.astype(np.float64))
        for k, row in zip(numbers, directions, strict=True)
        if np.linalg.norm(row) > 0
    )


def direction_target(layer: Layer, weights: ArrayLike, name: str) -> Target:
    """Any direction (C,) in the space of a layer's channels."""
    row = np.asarray(weights, dtype=np.float64)
    if row.shape != (layer.channels,) or not np.isfinite(row).all() or not row.any():
        raise SettingError(
            f"a direction of shape {row.shape} came for layer '{layer.name}'; give "
            f"{layer.channels} finite numbers that are not all 0"
        )
    return Target(name, "direction", layer.name, row)


def find_target(
    text: str, layers: Sequence[Layer], class_names: Sequence[str], *, classes: bool = True
) -> Target:
    """A target as people type it: a class or output, or a channel as "layer/channel".

    ``classes``: whether ``class_names`` are classes, else they are the names of outputs. Raises
    SettingError, with what there is, for anything else.
    """
    if text in class_names and not classes:
        return output_targets(layers[-1], class_names)[list(class_names).index(text)]
    if text in class_names:
        targets = class_targets(layers[-1], class_names)
        if len(class_names) == 2:
            sign = 1 if text == class_names[1] else -1
            other = class_names[0] if sign > 0 else class_names[1]
            return Target(
                f"{text} rather than {other}", "class", layers[-1].name, sign * targets[0].weights
            )
        return targets[list(class_names).index(text)]
    kind = "a class" if classes else "an output"
    name, _, number = text.rpartition("/")
    layer = next((layer for layer in layers if layer.name == name), None)
    if layer is None or not number.isdecimal():
        raise SettingError(
            f"'{text}' is no target; give {kind} ({', '.join(class_names)}) or a channel as "
            f"layer/number, with a layer of: {', '.join(layer.name for layer in layers)}"
        )
    return channel_target(layer, int(number))
