"""New cells placed in parts, for many cells: the same rows, whoever makes them.

First what flags rest on, a part for each depth; then the new cells, a part for each block of them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cytolens
from cytolens.embedding.novelty import Novelty
from cytolens.errors import RunError
from cytolens.images.content import content_of, data_files
from cytolens.images.new_cells import read_alike
from cytolens.records.cells import Cells, Progress
from cytolens.records.maps import PlacedCells
from cytolens.store.parts import PartFiles, have_parts, remove_parts
from cytolens.study.finished_run import FinishedRun
from cytolens.study.parts import Workers, have_made, seen
from cytolens.study.place import NEEDED, OldMaps
from cytolens.study.study import Announce

BLOCK = 8192  # new cells of a part
SCALES, ROWS = "scales", "rows"
TITLES = {SCALES: "measuring what is far", ROWS: "placing the new cells"}
"""What is made first, and what is made then."""


@dataclass(frozen=True)
class PlacingTask:
    """One part of a placing, for any process that sees the run, the new cells and the folder."""

    new: Path
    run: Path
    out: Path  # the folder of the placed cells: parts are kept beside it
    labels: str | None = None
    isolate: bool = False
    trusted: bool = False
    device: str | None = None
    stage: str = SCALES
    number: int = 0
    made_from: str = ""

    def begin(self, progress: Progress | None = None) -> "PlacingApart":
        """The parts that this is one of."""
        seen(self.run / "run.json", "runs")
        seen(self.new, "new cells")
        return PlacingApart(self, progress)

    def place(self, workers: Workers | None, show: Announce) -> tuple[PlacedCells, Cells, OldMaps]:
        """All cells placed from parts, made by workers where there are any; cells; the run."""
        begun = None
        for stage, title in TITLES.items():
            with show(title) as progress:
                asked = replace(self, stage=stage)
                begun = asked.begin(progress)
                if workers is not None:
                    asked = replace(asked, made_from=begun.made_from)
                    have_made(begun.files, workers, asked, progress=progress)
                for number in begun.files.missing():
                    begun.make(number)
        assert begun is not None
        return begun.joined(), begun.cells, begun.maps

    def has_parts(self) -> bool:
        """Whether parts of cells lie ready, made by jobs of an array."""
        return have_parts(self.out.parent, self.kept_as(ROWS))

    def remove_parts(self) -> None:
        """Remove all parts: the cells are placed."""
        for stage in TITLES:
            remove_parts(self.out.parent, self.kept_as(stage))

    def kept_as(self, stage: str) -> str:
        """The name of the folder of a step's parts."""
        return f"{self.out.name} {stage}"


class PlacingApart:
    """The parts of one of the two steps."""

    def __init__(self, task: PlacingTask, progress: Progress | None = None) -> None:
        """Raises what `place` raises for a run or cells that cannot be used."""
        self._task, self._progress = task, progress
        run = FinishedRun(task.run, trust_model=task.trusted)
        self.maps = OldMaps(run)
        names = tuple(self.maps.activations)
        digest = content_of(data_files(task.new, labels=task.labels), None).digest
        self._rests_on = (digest, task.labels, BLOCK, asdict(run.settings), cytolens.__version__)
        self.made_from = self._hash_now()
        self.scales = self._files(SCALES, len(names))
        if task.stage == SCALES:
            self.names, self.files = names, self.scales
        else:
            starts = range(0, len(self.cells), BLOCK)
            self.names = tuple(f"cells from {start}" for start in starts)
            self.files = self._files(ROWS, len(starts))

    @cached_property
    def cells(self) -> Cells:
        """The new cells."""
        task, maps = self._task, self.maps
        return read_alike(
            task.new, maps.cells, labels=task.labels, isolate=task.isolate, cutting=maps.cutting,
            progress=self._progress,
        )  # fmt: skip

    def make(self, number: int) -> None:
        """Make a part and store it. Raises RunError where the run has changed meanwhile."""
        value = self.value(number)
        if self._hash_now() != self.made_from:
            raise RunError(f"'{self._task.run}' was changed while cells were placed; try again")
        self.files.write(number, value)

    def value(self, number: int) -> Any:
        """What a part gives: read where it lies ready, else made."""
        try:
            return self.files.read(number)
        except KeyError:
            pass
        maps, say = self.maps, self._progress or _silent
        if self._task.stage == SCALES:
            say(number, len(self.names), self.names[number])
            return dict(maps.judge(self.names[number]).measures)
        start = number * BLOCK
        features, outputs = maps.features(
            self.cells.subset(np.arange(start, min(start + BLOCK, len(self.cells)))),
            device=self._task.device,
        )
        say(number, len(self.names), self.names[number])
        return maps.rows(features, outputs, self._judge, progress=_silent)

    def _judge(self, layer: str) -> Novelty:
        """How far is too far at a depth, from what was measured where that lies ready."""
        number = list(self.maps.activations).index(layer)
        try:
            return self.maps.judge(layer, self.scales.read(number))
        except KeyError:
            made = self.maps.judge(layer)
            self.scales.write(number, dict(made.measures))
            return made

    def joined(self) -> PlacedCells:
        """What is said of all cells, from the parts of the second step."""
        parts = [self.value(number) for number in range(len(self.names))]
        rows: dict[str, NDArray[Any]] = {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }
        judges = {layer: self._judge(layer) for layer in self.maps.activations}
        return self.maps.joined(self.cells, rows, judges)

    def _files(self, stage: str, total: int) -> PartFiles:
        return PartFiles(self._task.out.parent, self._task.kept_as(stage), self.made_from, total)

    def _hash_now(self) -> str:
        hashes = [self.maps.folder.hash_of(name) for name in NEEDED]
        text = json.dumps([*self._rests_on, hashes], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
