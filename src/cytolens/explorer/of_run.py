"""The content of the page from a finished run: nothing is computed that the run holds."""

from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.errors import choose
from cytolens.explorer.content import Content
from cytolens.explorer.galleries import add_galleries, estimates, numbers
from cytolens.explorer.pictures import as_bytes
from cytolens.figures.display import Display, display_of_cells
from cytolens.figures.style import FAINT, UNTRAINED, colours
from cytolens.numerics.auc import areas_between
from cytolens.numerics.neighbours import find_neighbours
from cytolens.records.cells import Cells
from cytolens.records.layers import Layer
from cytolens.store.cell_table import CellTable, observations
from cytolens.study.export import parts
from cytolens.study.finished_run import FinishedRun
from cytolens.study.stages.cells import properties_at

NEIGHBOURS = 8
_NEEDED = ("cells", "classifier", "layers", "activations", "maps")
_WIDEST = 4096  # channels of a layer whose activations are offered as colours
_RANKED = 5_000  # cells of either side that channels are ranked by, at most
_LOOKED_THROUGH = 20_000  # cells of either side that the farthest are looked for in, at most
_FEW_CELLS = 50_000  # up to which the nearest neighbours of all cells are found at once
_ROLES = {
    "class": "class", "prediction": "prediction", "correct": "error", "confidence": "confidence",
    "probability": "confidence", "entropy": "confidence", "part": "part",
}  # fmt: skip
_TITLES = {
    "correct": "right or wrong", "probability": "probability of its class",
    "entropy": "entropy (bits)", "part": "part of the split", "label_doubt": "doubt of the label",
    "odd": "odd because",
}  # fmt: skip


class RunContent:
    """A finished run as content; results are read when the page asks for them."""

    def __init__(self, run: FinishedRun) -> None:
        """Raises RunError where the run is not finished."""
        run.require(*_NEEDED)
        self.run = run
        self.mapped: NDArray[np.int64] = run["mapped"]
        self.cells: Cells = run.cells.subset(self.mapped)
        self.drawn: Display = display_of_cells(run.cells)
        self.layers: tuple[Layer, ...] = run.layers
        self.main_layer: str = run["main_layer"]
        self._reading = Lock()
        self._kept: tuple[str, NDArray[np.float32]] | None = None
        self.content = Content(run.folder.path.resolve().name, len(self.mapped))
        self._describe()
        self._columns()
        self._maps()
        self._crops()
        self._layers()
        add_galleries(self.content, run, self.mapped, self.drawn)

    def features(self, layer: str) -> NDArray[np.float32]:
        """Features (N, F) of the cells on the maps."""
        return self.run.activations.rows(layer, self.mapped)

    def ordered(self, cells: NDArray[np.int64], layer: str, *, away: bool) -> NDArray[np.int64]:
        """The cells (n,), those nearest to their mean in a layer first.

        With ``away``, those farthest from the mean of all others first. Features are divided by
        their s.d. over all cells. Raises SettingError for an unknown layer.
        """
        features = self._read_features(choose("layer", layer, tuple(self.run.activations)))
        rest = np.setdiff1d(np.arange(len(features)), cells)
        about = rest if away and len(rest) else cells
        scale = features.std(axis=0)
        scale[scale == 0] = 1
        centre = features[about].mean(axis=0)
        distances = np.square((features[cells] - centre) / scale).sum(axis=1)
        return cells[np.argsort(-distances if away else distances, kind="stable")]

    def telling_channels(
        self, cells: NDArray[np.int64], others: NDArray[np.int64] | None, layer: str, most: int = 6
    ) -> list[dict[str, Any]]:
        """Channels of a layer by how well their mean activation tells the cells from the others.

        Each with ``auc``: the share of pairs in which a chosen cell has more. No interval: the
        cells were chosen by hand. At most 5,000 cells of either side are looked at.
        """
        features = self._read_features(choose("layer", layer, tuple(self.run.activations)))
        rest = np.setdiff1d(np.arange(len(features)), cells) if others is None else others
        if not len(rest) or not len(cells):
            return []
        rng = np.random.default_rng(0)
        cells, rest = (rng.permutation(part)[:_RANKED] for part in (cells, rest))
        auc = areas_between(features[cells], features[rest])
        first = np.argsort(-np.abs(auc - 0.5), kind="stable")[:most]
        return [{"channel": int(c), "auc": round(float(auc[c]), 4)} for c in first]

    def real_cells(
        self, cells: NDArray[np.int64], others: NDArray[np.int64] | None, layer: str, most: int = 6
    ) -> dict[str, list[int]]:
        """Real cells along the direction that the network is asked about, which needs no network.

        The direction is that of the live image: from the mean of all (or of both) to the mean of
        ``cells``, whitened. ``chosen``: those of the cells that lie farthest along it;
        ``elsewhere``: the same of the others; ``opposite``: those of the others that lie least far.
        """
        from cytolens.features.directions import whitened_directions

        features = self._read_features(choose("layer", layer, tuple(self.run.activations)))
        rest = np.setdiff1d(np.arange(len(features)), cells) if others is None else others
        if not len(rest) or not len(cells):
            return {"chosen": cells[:most].tolist(), "elsewhere": [], "opposite": []}
        rng = np.random.default_rng(0)
        cells, rest = (np.sort(rng.permutation(part)[:_LOOKED_THROUGH]) for part in (cells, rest))
        both = np.concatenate([features[cells], features[rest]])
        [toward] = whitened_directions(both, [np.arange(len(cells))])
        reached = both.astype(np.float64) @ toward
        first, second = reached[: len(cells)], reached[len(cells) :]
        return {
            "chosen": cells[np.argsort(-first, kind="stable")[:most]].tolist(),
            "elsewhere": rest[np.argsort(-second, kind="stable")[:most]].tolist(),
            "opposite": rest[np.argsort(second, kind="stable")[:most]].tolist(),
        }

    def _read_features(self, layer: str) -> NDArray[np.float32]:
        """Features of a layer, kept until another one is asked for."""
        with self._reading:  # several threads ask at once
            if self._kept is None or self._kept[0] != layer:
                self._kept = (layer, self.features(layer))
            return self._kept[1]

    def held(self, stage: str) -> Any:
        """The result of a stage, or None where the run does not have it."""
        return self.run[stage] if self.run.folder.has(stage) else None

    def crop(self, cell: int) -> NDArray[np.uint8]:
        """One crop (C, H, W) at its full size, as bytes between black and white."""
        return as_bytes(self.cells.read(np.array([cell])), self.drawn)[0]

    def _describe(self) -> None:
        cells = self.cells
        self.content.manifest |= {
            "classes": list(cells.class_names),
            "class_colours": colours(len(cells.class_names)),
            "pixel_size": cells.pixel_size,
            "group": cells.group_name,
            "main_layer": self.main_layer,
            "all_cells": len(self.run.cells),
        }
        names = [" ".join(name.split()) for name in cells.names.tolist()]
        self.content.add("names", lambda: np.frombuffer("\n".join(names).encode(), dtype=np.uint8))
        self.content.add("cells", lambda: self.mapped.astype(np.uint32))

    def _columns(self) -> None:
        """All that is known of each cell, under the names that ``cells.h5ad`` has."""
        run, cells = self.run, self.cells
        properties: dict[str, NDArray[Any]] = {}
        if run.folder.has("properties"):
            measured = properties_at(run["properties"], run.cells, self.mapped)
            properties = {k: v for k, v in measured.items() if k not in cells.covariates}
        evaluation, clusters = self.held("evaluation"), self.held("clusters") or {}
        table = CellTable(
            cells=cells,
            features={},
            layer=self.main_layer,
            probabilities=None if evaluation is None else evaluation.probabilities[self.mapped],
            parts=parts(run.cells, run["split"], run["classifier"].seen)[self.mapped],
            clusters=clusters,
            columns={**properties, **self._doubts()},
        )
        for key, column in observations(table).items():
            name = str(key)
            role = self._role(name, clusters, properties)
            title = _TITLES.get(name, name)
            if name.startswith("cluster_"):
                title = f"cluster at {name.removeprefix('cluster_')}"
            if column.dtype == "category":
                categories = [str(entry) for entry in column.cat.categories]
                codes = column.cat.codes.to_numpy()
                self.content.add_category(
                    name, codes, categories, title=title.replace("_", " "), role=role,
                    tints=self._tints(name, categories),
                )  # fmt: skip
            elif column.dtype.kind in "biuf":
                self.content.add_number(
                    name, column.to_numpy(np.float64), title=title.replace("_", " "), role=role
                )

    def _role(self, name: str, clusters: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
        if name in _ROLES:
            return _ROLES[name]
        if name.startswith("cluster_") and name.removeprefix("cluster_") in clusters:
            return "cluster"
        if name == (self.cells.group_name or "group") and self.cells.groups is not None:
            return "group"
        if name in properties or name in ("height_px", "width_px"):
            return "property"
        return "doubt" if name in ("label_doubt", "odd") else "covariate"

    def _tints(self, name: str, categories: list[str]) -> list[str]:
        if name in ("class", "prediction"):
            return colours(len(categories))
        if name == "correct":
            return [FAINT, UNTRAINED]
        tints = colours(len(categories), first=len(self.cells.class_names))
        return [FAINT if entry == "none" else tint for entry, tint in zip(categories, tints)]

    def _doubts(self) -> dict[str, NDArray[Any]]:
        found = self.held("suspects")
        if found is None:
            return {}
        doubt = np.full(len(self.run.cells), np.nan)
        doubt[found.labels] = found.score
        odd = dict(zip(found.odd.tolist(), found.reasons))
        return {
            "label_doubt": doubt[self.mapped],
            "odd": np.array([odd.get(int(cell), "none") for cell in self.mapped]),
        }

    def _maps(self) -> None:
        for method, by_layer in self.run.maps.items():
            for layer, found in by_layer.items():
                quality = {k: round(float(v), 4) for k, v in found.quality.items()}
                self.content.add_map(method, layer, found.coordinates, quality=quality)

    def _crops(self) -> None:
        shape = self.cells.shape
        lock = Lock()  # the channels of a sheet are asked for at once, and read once

        @lru_cache(maxsize=2)
        def crops(start: int, stop: int) -> NDArray[np.uint8]:
            return as_bytes(self.cells.read(slice(start, stop)), self.drawn)

        def read(rows: slice) -> NDArray[np.uint8]:
            with lock:
                return crops(rows.start, rows.stop)

        self.content.add_sheets(
            read, shape, channel_names=self.drawn.views, colour=self.drawn.colour
        )

    def _layers(self) -> None:
        separation, complexity = self.held("separation") or {}, self.held("complexity")
        ranking = self.held("ranking") or {}
        activations = self.run.activations
        small = len(self.mapped) <= _FEW_CELLS
        for layer in self.layers:
            name = layer.name
            entry: dict[str, Any] = {
                "name": name, "kind": layer.kind, "depth": layer.depth, "shape": list(layer.shape),
                "receptive_field": layer.receptive_field,
                "separation": estimates(separation.get(name, {})),
                "complexity": estimates(complexity.layers.get(name, {}) if complexity else {}),
                "channels": 0, "neighbours": False,
            }  # fmt: skip
            if name in ranking:
                entry["importance"] = numbers(ranking[name].importance)
            stored = activations.features.get(name)
            if stored is not None and layer.kind != "input":
                width = int(stored.shape[1])
                if width == layer.channels and width <= _WIDEST:
                    entry["channels"] = width
                    self._add_activations(name, width)
            if stored is not None and small and len(self.mapped) > 1:
                entry["neighbours"] = True
                self.content.add(f"neighbours/{name}", lambda name=name: self._neighbours(name))
            self.content.manifest["layers"].append(entry)

    def _add_activations(self, layer: str, width: int) -> None:
        found = (self.held("channels") or {}).get(layer, ())
        shown = {int(context.channel) for context in found}

        def column(channel: int) -> NDArray[np.float32]:
            return np.ascontiguousarray(self._read_features(layer)[:, channel])

        for channel in range(width):
            self.content.add(
                f"activation/{layer}/{channel}",
                lambda channel=channel: column(channel),
                exported=channel in shown,
            )

    def _neighbours(self, layer: str) -> NDArray[np.uint32]:
        return find_neighbours(self.features(layer), NEIGHBOURS).indices.astype(np.uint32)
