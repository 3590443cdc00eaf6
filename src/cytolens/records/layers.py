"""The layers of a network, and what they give for every cell."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import SettingError
from cytolens.records.shown import record


@record
class Layer:
    """A named place in the network.

    ``pre_activation`` and ``activation`` are (module name, call index, "input" or "output"):
    where the value before and after the non-linearity is taken. They coincide where there is none.
    """

    name: str
    kind: str  # "input", "conv", "linear", "pool", "norm", "block" …
    depth: int  # rank in forward order; the input is 0
    shape: tuple[int, ...]  # (C, H, W) or (F,)
    receptive_field: int | None  # pixels; None where it cannot be traced
    pre_activation: tuple[str, int, str]
    activation: tuple[str, int, str]

    @property
    def channels(self) -> int:
        """Number of channels, or of features of a dense layer."""
        return self.shape[0]


@record
class Unseen:
    """A part of a network that cannot be looked at, and why."""

    name: str  # of a module or a layer
    reason: str  # the end of a sentence about it


@record
class Activations:
    """Features (N, F) of every cell at every depth, in depth order; arrays may live on disk."""

    layers: tuple[Layer, ...]
    features: Mapping[str, Any]  # layer name -> array-like (N, F)
    reduction: str  # "mean", "max", "centre" or "flat"

    def __getitem__(self, layer: str) -> NDArray[np.float32]:
        """All features of one layer as an array (N, F), float32.

        Raises SettingError, naming the layers, if there is no such layer.
        """
        return np.asarray(self._stored(layer)[:], dtype=np.float32)

    def _stored(self, layer: str) -> Any:
        if layer not in self.features:
            raise SettingError(f"layer '{layer}' is unknown; choose one of: {', '.join(self)}")
        return self.features[layer]

    def rows(self, layer: str, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (n, F) of some cells, without reading those of all, float32."""
        stored = self._stored(layer)
        if np.array_equal(index, np.arange(stored.shape[0])):
            return self[layer]
        chosen = stored[index] if isinstance(stored, np.ndarray) else stored.oindex[index]
        return np.asarray(chosen, dtype=np.float32)

    def __iter__(self) -> Iterator[str]:
        return (layer.name for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, layer: object) -> bool:
        return any(known.name == layer for known in self.layers)
