"""How long a study will take and what it will store, from a first batch, before it starts."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cytolens.errors import RunError
from cytolens.numerics.machine import clock, free_disk, memory
from cytolens.records.cells import Cells
from cytolens.records.shown import record
from cytolens.store.stored_array import create_array
from cytolens.study.settings import StudySettings

MANY = 20_000 * 48 * 48
"""Pixels of all cells together from which on a forecast is worth the two seconds that it takes."""

_FIRST = 256  # cells of the first batch
_OF_PROPERTIES = 64  # of these, as they take longer
_DRAWN, _IMAGES = 60.0, 45.0  # seconds of figures, and of images of the network: as measured at
_REFERENCE = 0.27e-3  # seconds for which a cell goes through the network
_QUICK = (0.35, 0.3)  # shares of these
_HELD = 0.9e9  # bytes that a study holds whatever the number of cells
_A_CELL = 150  # bytes more for each: its name, labels, predictions and places in tables
DISK = 40e6  # bytes of report, figures and tables


@record
class Forecast:
    """Seconds of one core by what they are for; bytes to be stored, and to be held at most."""

    cells: int
    seconds: dict[str, float]
    stored: float
    held: float
    halved_by: tuple[str, ...]  # settings, and what they halve

    @property
    def text(self) -> str:
        """In two lines."""
        parts = ", ".join(f"{what} {clock(s)}" for what, s in self.seconds.items() if s >= 1)
        total = clock(sum(self.seconds.values()))
        return (
            f"{self.cells:,} cells: about {total} on one core ({parts}), "
            f"{self.stored / 1e9:.1f} GB to be stored, {self.held / 1e9:.1f} GB of memory\n"
            f"half of it: {'; '.join(self.halved_by)}"
        )


def forecast(cells: Cells, settings: StudySettings, network: Any = None) -> Forecast:
    """What a study of ``cells`` will take, from a first batch of them.

    ``network``: a `Classifier` that is there already; else a new one of the kind that will be
    trained is looked at, and its training is a part. What does not grow with the number of cells
    is scaled from studies that were measured. An estimate to a third or so, no promise.
    """
    from cytolens.activations.extraction import extract
    from cytolens.images.duplicates import MOST, find_duplicates
    from cytolens.properties.measurement import measure_cells

    first = cells.subset(np.arange(min(_FIRST, len(cells))))
    model, seconds = network, dict[str, float]()
    if network is None:
        model, seconds["training"] = _training(cells, first, settings)
    through = _timed(lambda: extract(model, first, layers=settings.layers or None), len(first))
    found = extract(model, first, layers=settings.layers or None)
    seconds["activations and predictions"] = 2 * through * len(cells)
    compared = min(len(cells), MOST)
    seconds["duplicates"] = _timed(lambda: find_duplicates(first, rng=0), len(first)) * compared
    few = first.subset(np.arange(min(_OF_PROPERTIES, len(first))))
    chosen = min(len(cells), 2 * settings.map_cells)
    seconds["properties"] = _timed(lambda: measure_cells(few), len(few)) * chosen
    slower = through / _REFERENCE
    shares = _QUICK if settings.quick else (1.0, 1.0)
    seconds["all that does not grow with the cells"] = (
        _DRAWN * shares[0] + _IMAGES * shares[1] * slower
    )
    widths = sum(int(found[name].shape[1]) for name in found)
    stored = _stored(found) / len(first) * len(cells) + _A_CELL * len(cells) + DISK
    held = _HELD + _A_CELL * len(cells) + 4 * widths * chosen + _of_training(cells, network)
    return Forecast(len(cells), seconds, stored, held, _halved_by(cells, settings, network))


def check_room(path: Path, found: Forecast) -> str | None:
    """A warning where the memory may not do. Raises RunError where the disk will not."""
    free = free_disk(path)
    if free < found.stored:
        raise RunError(
            f"'{path}' will take about {found.stored / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free there; make room, name a folder elsewhere, or take less: "
            f"{'; '.join(found.halved_by)}"
        )
    _, left = memory()
    if left is None or left > found.held:
        return None
    return (
        f"warning: about {found.held / 1e9:.1f} GB of memory will be held, and {left / 1e9:.1f} GB "
        "are free; --map-cells and --limit take less"
    )


def _training(cells: Cells, first: Cells, settings: StudySettings) -> tuple[Any, float]:
    """A network such as will be trained, and the seconds of all epochs at most."""
    from cytolens.classifier.splitting import split_cells
    from cytolens.classifier.training import VALIDATED, TrainingSettings, train
    from cytolens.records.cells import Split

    usual = TrainingSettings()
    epochs = usual.epochs if settings.epochs is None else settings.epochs
    every = np.arange(len(first))
    missing = np.setdiff1d(np.arange(len(cells.class_names)), first.labels)
    labels = first.labels.copy()
    labels[: len(missing)] = missing  # the first cells may be of one class
    some = replace(first, labels=labels)
    split = Split(every, every[:0], every[:0])
    one = replace(usual, epochs=1)
    spent: list[float] = []
    made: Any = None
    for _ in range(2):  # the first time, libraries are loaded
        started = time.process_time()
        made = train(some, split=split, settings=one, rng=0)
        spent.append(time.process_time() - started)
    part = split_cells(cells, rng=0)
    visits = min(len(part.train), usual.epoch_cells)
    looked = min(len(part.validation), VALIDATED) / 3  # forwards only
    return made.model, min(spent) / len(first) * (visits + looked) * epochs


def _of_training(cells: Cells, network: Any) -> float:
    if network is not None:
        return 0.0
    from cytolens.classifier.training import IN_MEMORY

    raw = int(np.prod(cells.shape)) * np.dtype(cells.preparation.dtype).itemsize * len(cells)
    return min(0.8 * raw, 2 * IN_MEMORY)


def _timed(made: Callable[[], object], cells: int) -> float:
    """Seconds a cell, the second time: the first also loads libraries."""
    made()
    started = time.process_time()
    made()
    return (time.process_time() - started) / cells


def _stored(found: Any) -> int:
    """Bytes that activations take on the disk, compressed as a run's are."""
    folder = Path(tempfile.mkdtemp())
    try:
        for number, name in enumerate(found):
            rows = np.asarray(found[name], dtype=np.float32)
            array = create_array(
                folder / str(number), rows.shape, rows.dtype, rows=len(rows), chunks_per_shard=1
            )
            array[:] = rows
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    finally:
        shutil.rmtree(folder)


def _halved_by(cells: Cells, settings: StudySettings, network: Any) -> tuple[str, ...]:
    halved = [f"--limit {len(cells) // 2} (activations and predictions, what is stored)"]
    if network is None:
        from cytolens.classifier.training import TrainingSettings

        epochs = TrainingSettings().epochs if settings.epochs is None else settings.epochs
        halved.append(f"--epochs {max(epochs // 2, 1)} (training)")
    halved.append(f"--map-cells {max(settings.map_cells // 2, 50)} (properties, maps)")
    return tuple(halved)
