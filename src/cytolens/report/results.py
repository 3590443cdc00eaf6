"""The results of a study by stage name: what chapters read, and nothing else."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cytolens.records.cells import Cells
from cytolens.records.classifier import TEST_CELLS, TrainedNetwork
from cytolens.records.features import Galleries
from cytolens.records.layers import Layer
from cytolens.records.maps import Embedding

T = TypeVar("T")


class Results:
    """A view of the results of a study. Each is read at most once; a missing one is None or empty.

    ``stages`` may be any mapping from stage name to result, such as one that reads a run folder on
    demand. The attributes are what else the page shows: ``settings``, ``versions`` of the
    software, ``timings`` (seconds by stage) and ``summary`` (the content of summary.json).
    """

    def __init__(
        self,
        stages: Mapping[str, object],
        *,
        settings: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        timings: Mapping[str, float] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        self._stages = stages
        self._known: dict[str, object] = {}
        self.settings = settings or {}
        self.versions = versions or {}
        self.timings = timings or {}
        self.summary = summary or {}

    def read(self, stage: str, kind: type[T]) -> T | None:
        """The result of a stage, or None. Raises TypeError where it is of another type."""
        found = self._get(stage)
        return None if found is None else _checked(found, kind, stage)

    def sequence(self, stage: str, kind: type[T]) -> tuple[T, ...]:
        """A result that is a tuple of records; empty where it is missing. Raises TypeError."""
        found = self.read(stage, tuple) or ()
        return tuple(_checked(entry, kind, stage) for entry in found)

    def by_layer(self, stage: str, kind: type[T]) -> Mapping[str, T]:
        """A result by layer (or by method); empty where it is missing. Raises TypeError."""
        found = _mapping(self._get(stage), stage)
        return {name: _checked(entry, kind, f"{stage}[{name}]") for name, entry in found.items()}

    def nested(self, stage: str, kind: type[T]) -> Mapping[str, Mapping[str, T]]:
        """A result by two names, such as separation[layer][measure]. Raises TypeError."""
        outer = _mapping(self._get(stage), stage)
        return {
            name: {
                key: _checked(entry, kind, f"{stage}[{name}][{key}]")
                for key, entry in _mapping(inner, f"{stage}[{name}]").items()
            }
            for name, inner in outer.items()
        }

    @property
    def cells(self) -> Cells | None:
        """All cells of the study."""
        return self.read("cells", Cells)

    @property
    def test_cells(self) -> str:
        """What the test cells are to the network, as a noun."""
        network = self.read("classifier", TrainedNetwork)
        return TEST_CELLS["no"] if network is None else network.test_cells

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the network, in depth order."""
        return self.sequence("layers", Layer)

    @property
    def main_layer(self) -> str | None:
        """The layer that is shown large."""
        return self.read("main_layer", str)

    @property
    def mapped(self) -> NDArray[np.int64] | None:
        """The cells on the maps and in the clusters; None: all."""
        return self.read("mapped", np.ndarray)

    @property
    def mapped_cells(self) -> Cells | None:
        """The cells on the maps, in their order."""
        cells, mapped = self.cells, self.mapped
        return cells if cells is None or mapped is None else cells.subset(mapped)

    @property
    def main_maps(self) -> Mapping[str, Embedding]:
        """The maps that are shown large: t-SNE where there is one, else the first method."""
        maps = self.nested("maps", Embedding)
        return maps.get("tsne") or next(iter(maps.values()), {})

    @property
    def galleries(self) -> Galleries | None:
        """All feature images."""
        return self.read("features", Galleries)

    def _get(self, stage: str) -> object:
        if stage not in self._known:
            self._known[stage] = self._stages.get(stage)
        return self._known[stage]


def _checked(found: object, kind: type[T], place: str) -> T:
    if not isinstance(found, kind):
        raise TypeError(f"result '{place}' is a {type(found).__name__}, not a {kind.__name__}")
    return found


def _mapping(found: object, place: str) -> Mapping[str, object]:
    if found is None:
        return {}
    _checked(found, Mapping, place)
    return found  # pyright: ignore[reportReturnType]
