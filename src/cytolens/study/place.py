"""New cells on the maps of a finished run: placed and predicted, and where they are odd.

A new cell's row is the same whatever else is in the call: crops are prepared by the run's own
limits, the network runs in batches of one fixed size, and places and distances are computed for
each cell by itself.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.activations.extraction import extract
from cytolens.classifier.model import Classifier, outputs_of
from cytolens.embedding.novelty import (
    Judged,
    Novelty,
    calibrate,
    calibrate_overall,
    energy,
    expected_overall,
    expected_rate,
    share_of,
)
from cytolens.embedding.placing import placed_recall, placer
from cytolens.embedding.reference import Reference
from cytolens.images.field_crops import Cutting
from cytolens.images.new_cells import read_alike
from cytolens.numerics.estimates import Estimate, mean_of
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.layers import Activations
from cytolens.records.maps import Answered, Embedding, NovelCells, PlacedCells
from cytolens.study.finished_run import FinishedRun
from cytolens.study.parts import Workers
from cytolens.study.study import Announce

Rows = dict[str, NDArray[Any]]
"""What is said of new cells one by one, by name, (n, …) each."""

BATCH = 64  # cells per forward pass, the last one filled up
MOST_JUDGES = 10_000
"""Training cells that distances are to, and as many for thresholds and for false alarms: a seeded
draw where there are more. Fewer where features are so many that their search would take minutes."""

_MOST_NUMBERS = 10_000_000  # features times training cells
NEEDED = ("cells", "classifier", "layers", "activations", "maps")


def place(
    new: str | Path | Cells,
    *,
    on: str | Path,
    out: str | Path | None = None,
    labels: str | None = None,
    module: Any = None,
    trust_model: bool = False,
    device: str | None = None,
    isolate: bool = False,
    announce: Announce | None = None,
    workers: Workers | None = None,
) -> PlacedCells:
    """The crops ``new`` on the maps of the run ``on``; written to the folder ``out`` if given.

    ``new``: whatever `read_cells` reads, with or without labels, or a single image. Nothing is
    fitted to the new cells, and the run is not changed. ``isolate`` decodes the crops in a process
    of their own, for files that are not your own making. ``workers`` make parts of it, of cells
    that are named by a path (`study.place_apart`). Raises RunError where ``on`` is not a
    finished run, InputError for crops that cannot be used, ModelError for a network of your own
    that is not given as ``module`` and whose file you do not trust (``trust_model``).
    """
    show: Announce = announce or (lambda title: nullcontext(_silent))
    task = None
    if not isinstance(new, Cells) and module is None:
        from cytolens.study.place_apart import PlacingTask

        folder = Path(out or default_folder(Path(on), Path(new)))
        task = PlacingTask(
            Path(new).resolve(), Path(on).resolve(), folder.resolve(),
            labels, isolate, trust_model, device,
        )  # fmt: skip
    if task is not None and (workers is not None or task.has_parts()):
        placed, cells, run = task.place(workers, show)
        cells = replace(cells, source=str(new))  # as it was named here
    else:
        run = OldMaps(FinishedRun(on, module=module, trust_model=trust_model))
        if isinstance(new, Cells):
            cells = new
        else:
            with show("reading the new cells") as progress:
                cells = read_alike(
                    new, run.cells,
                    labels=labels, isolate=isolate, cutting=run.cutting, progress=progress,
                )  # fmt: skip
        with show("running the network") as progress:
            features, outputs = run.features(cells, device=device, progress=progress)
        with show("placing the new cells") as progress:
            placed = run.place(cells, features, outputs, progress=progress)
    if out is not None:
        from cytolens.study.placed_page import write_placed

        with show("writing the page") as progress:
            write_placed(Path(out), placed, cells, run, progress)
    if task is not None:
        task.remove_parts()
    return placed


def default_folder(run: Path, new: Path) -> Path:
    """Where placed cells go by default: a folder of the data's name in ``RUN/placed``.

    Where that holds cells of other data of the same name, a part of the path's hash is added.
    """
    named = run / "placed" / new.stem
    record = named / "placed.json"
    source = str(new.resolve())
    try:
        same = not named.exists() or json.loads(record.read_text()).get("path") == source
    except (OSError, ValueError):
        same = False
    tag = hashlib.sha256(source.encode()).hexdigest()[:8]
    return named if same else named.with_name(f"{new.stem}-{tag}")


class OldMaps:
    """What placing needs of a finished run; read, never written."""

    def __init__(self, run: FinishedRun) -> None:
        """Raises RunError where the run is not finished."""
        self.folder, self.settings = run.folder, run.settings
        self.cutting = Cutting(run.settings.window, run.settings.blank)
        run.require(*NEEDED)
        self.cells: Cells = run.cells
        self.split: Split = run["split"]
        self.activations: Activations = run.activations
        self.maps: Mapping[str, Mapping[str, Embedding]] = run.maps
        self.mapped: NDArray[np.int64] = run["mapped"]
        self.main_layer: str = run["main_layer"]
        self.model: Classifier = run["network"]

    def features(
        self, cells: Cells, *, device: str | None = None, progress: Progress | None = None
    ) -> tuple[Activations, NDArray[np.float64]]:
        """Features at every depth of the run, and the network's outputs (n, output), of new cells.

        In batches of 64 whatever the number of cells, as rounding depends on the batch's size.
        Whether it depends on the place in the batch, too, is tried on cells of the run; then
        each new cell is run by itself.
        """
        first = np.resize(np.arange(min(BATCH, len(self.cells))), BATCH)
        forth, back = (
            self._forward(self.cells.subset(order), BATCH, device=device)
            for order in (first, first[::-1])
        )
        steady = all(np.array_equal(forth[layer], back[layer][::-1]) for layer in forth)
        size = BATCH if steady else 1
        n = len(cells)
        filled = np.zeros(-(-n // size) * size, dtype=np.int64)
        filled[:n] = np.arange(n)
        padded = cells.subset(filled)
        found = self._forward(padded, size, device=device, progress=progress)
        if "logits" in found.features:
            return found, found["logits"][:n].astype(np.float64)
        outputs = outputs_of(self.model, padded, batch_size=size, device=device)
        return found, outputs[:n].astype(np.float64)

    def _forward(
        self, cells: Cells, size: int, *, device: str | None, progress: Progress | None = None
    ) -> Activations:
        return extract(
            self.model.network,
            cells,
            layers=self.activations.layers,
            reduction=self.activations.reduction,
            sink=_on_disk,
            batch_size=size,
            device=device,
            progress=progress,
        )

    def place(
        self,
        cells: Cells,
        features: Activations,
        outputs: NDArray[np.float64],
        *,
        progress: Progress,
    ) -> PlacedCells:
        """Places, distances and flags of new cells at every depth, of what `features` gives."""
        judges: dict[str, Novelty] = {}

        def judge(layer: str) -> Novelty:
            judges[layer] = self.judge(layer)
            return judges[layer]

        rows = self.rows(features, outputs, judge, progress=progress)
        return self.joined(cells, rows, judges)

    def rows(
        self,
        features: Activations,
        outputs: NDArray[np.float64],
        judge: Callable[[str], Novelty],
        *,
        progress: Progress,
    ) -> Rows:
        """All that is said of each new cell (n,) by itself, of what `features` gives."""
        n, layers = len(outputs), tuple(self.activations)
        found: Rows = {"outputs": outputs, "nearest": self._nearest(features, n)}
        for done, layer in enumerate(layers):
            progress(done, len(layers), layer)
            given = np.asarray(features.features[layer][:n], dtype=np.float32)
            on_maps = Reference(self.activations.rows(layer, self.mapped))
            for method, by_layer in self.maps.items():
                if layer not in by_layer:
                    continue
                where = placer(on_maps, by_layer[layer])
                made = where.place(given)
                found[f"place {method} {layer}"] = made
                found[f"scheme {method} {layer}"] = np.array([where.scheme])
                found[f"recall {method} {layer}"] = placed_recall(where, given, made)
            judged = judge(layer).judge(given)
            found |= {f"{name} {layer}": value for name, value in vars(judged).items()}
        return found

    def joined(self, cells: Cells, rows: Rows, judges: Mapping[str, Novelty]) -> PlacedCells:
        """What is said of all new cells, of each by itself (`rows`) and of all together."""
        places: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in self.maps}
        kept: dict[str, dict[str, Estimate]] = {name: {} for name in self.maps}
        schemes: dict[str, dict[str, str]] = {name: {} for name in self.maps}
        for layer in judges:
            for method, by_layer in self.maps.items():
                if layer not in by_layer:
                    continue
                places[method][layer] = rows[f"place {method} {layer}"]
                schemes[method][layer] = str(rows[f"scheme {method} {layer}"][0])
                recall = rows[f"recall {method} {layer}"]
                kept[method][layer] = mean_of(recall, rng=self.settings.seed)
        names = [field.name for field in fields(Judged)]
        judged = {
            layer: Judged(**{name: rows[f"{name} {layer}"] for name in names}) for layer in judges
        }
        odd = {layer: found.odd for layer, found in judged.items()}
        share = {layer: share_of(flags) for layer, flags in odd.items()}
        clean = {layer: judge.rate for layer, judge in judges.items()}
        share["any"] = share_of(np.any(list(odd.values()), axis=0))
        anywhere = np.any([judge.clean for judge in judges.values()], axis=0)
        clean["any"] = share_of(anywhere, groups=self._test_groups, rng=self.settings.seed)
        training, calibration, test = (len(part) for part in self._judges(1))
        return PlacedCells(
            names=cells.names,
            answered=self._answered(rows),
            places=places,
            kept=kept,
            schemes=schemes,
            distances={layer: found.distances for layer, found in judged.items()},
            percentiles={layer: found.percentiles for layer, found in judged.items()},
            odd=odd,
            share=share,
            clean=clean,
            expected=expected_rate(calibration),
            calibrated_on=(training, calibration, test),
            overall=self._overall(judges, judged, rows["outputs"]),
        )

    def _nearest(self, features: Activations, n: int) -> NDArray[np.int64]:
        """The training cell nearest to each new one (n,)."""
        layer = self.main_layer
        known = self._judges(self.activations.features[layer].shape[1])[0]
        new = np.asarray(features.features[layer][:n], dtype=np.float32)
        return known[Reference(self.activations.rows(layer, known)).nearest(new, 1)[0][:, 0]]

    def _answered(self, rows: Rows) -> Answered:
        """Predictions, or the outputs as they are; and the nearest training cells."""
        outputs, nearest = rows["outputs"], rows["nearest"]
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        by_name = {} if self.model.gives_classes else dict(zip(self.model.class_names, outputs.T))
        return Answered(
            class_names=self.cells.class_names,
            probabilities=None if by_name else shares / shares.sum(axis=1, keepdims=True),
            outputs=by_name,
            nearest=self.cells.names[nearest],
            nearest_class=self.cells.labels[nearest],
        )

    def _overall(
        self,
        judges: Mapping[str, Novelty],
        judged: Mapping[str, Judged],
        outputs: NDArray[np.float64],
    ) -> NovelCells:
        """New cells by one number over all depths."""
        _, calibration, clean = self._judges(1)
        old = new = None
        if "logits" in judges and self.model.gives_classes:
            old = (
                energy(self.activations.rows("logits", calibration)),
                energy(self.activations.rows("logits", clean)),
            )
            new = energy(outputs)
        judge = calibrate_overall(
            list(judges.values()),
            energies=old,
            groups=self._test_groups,
            rng=self.settings.seed,
        )
        logs = np.stack([found.logs for found in judged.values()], axis=1)
        odd, scores, p_values = judge.judge(logs, new)
        return NovelCells(
            scores, p_values, odd, share_of(odd), judge.rate, expected_overall(len(calibration)),
            with_energy=old is not None,
        )  # fmt: skip

    def judge(self, layer: str, known: Mapping[str, NDArray[np.float64]] | None = None) -> Novelty:
        """Training cells to be near to, validation cells for the threshold, test cells as clean.

        No group is in two of these parts. ``known`` as in `calibrate`.
        """
        training, calibration, clean = (
            self.activations.rows(layer, part)
            for part in self._judges(self.activations.features[layer].shape[1])
        )
        groups = self._test_groups
        return calibrate(
            training, calibration, clean, groups=groups, rng=self.settings.seed, known=known
        )

    def _judges(self, width: int) -> tuple[NDArray[np.int64], ...]:
        """Training, validation and test cells for a layer with so many features.

        The last two are the same for every layer.
        """
        fewer = max(1000, min(MOST_JUDGES, _MOST_NUMBERS // width))
        parts = (self.split.train, self.split.validation, self.split.test)
        return tuple(
            np.sort(np.random.default_rng(self.settings.seed).permutation(part)[:most])
            for part, most in zip(parts, (fewer, MOST_JUDGES, MOST_JUDGES), strict=True)
        )

    @property
    def _test_groups(self) -> NDArray[np.str_] | None:
        return None if self.cells.groups is None else self.cells.groups[self._judges(1)[2]]


def _on_disk(name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """Room for features in a nameless temporary file, so that memory does not grow with cells."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)  # pyright: ignore


def _silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
