"""One run on disk: what each stage gave, and from which inputs, so that nothing is done twice.

Layout (format 2)::

    run.json                 format, notes (settings, versions …), and per stage its hash, seconds
                             and files
    cells/images.zarr        crops at one size, in the files' own dtype (N, C, H, W), sharded
    cells/table.npz          labels, names, groups, covariates, preparation
    classifier/              weights.safetensors, network.json
    activations/<name>.zarr  layers.npz; arrays/<layer>: one array (N, F) per layer, sharded
    stages/<stage>.npz       every other result, without pickles
    figures/                 each figure as PNG, on request as SVG
    report.html  summary.json  cells.h5ad
    log.txt                  what was made when, how long it took, and what stopped it

Everything but the last three lines carries checksums. Every file is replaced as a whole, and is on
the disk before its stage is marked as finished.
"""

import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cytolens.errors import RunError
from cytolens.images.sources import ArrayImages
from cytolens.records.cells import Cells, Progress
from cytolens.records.classifier import Checkpoint
from cytolens.records.layers import Activations, Layer
from cytolens.records.shown import listing
from cytolens.store.encoding import decode, encode
from cytolens.store.files import (
    checksum,
    file_name,
    is_partial,
    read_sealed_json,
    replacing_folder,
    standing,
    write_bytes,
    write_sealed_json,
)
from cytolens.store.lock import LOCK
from cytolens.store.log import write_log
from cytolens.store.stored_array import (
    Origin,
    StoredArray,
    checksum_of_array,
    create_array,
)

FORMAT = 2
_ROWS_PER_CHUNK = 1024
_CHUNKS_PER_SHARD = 8
_SHARD_BYTES = 16 << 20  # of activations, at most: two shards of every layer are held
_CROPS_PER_CHUNK = 64
_CROP_CHUNKS_PER_SHARD = 32

_RECORD = "run.json"
_ARRAYS = "arrays"
_KEPT = ("format", "stages")  # entries of run.json that are no notes
_recording = threading.Lock()  # around what reads run.json and writes it

Sink = Callable[[str, tuple[int, ...], Any], Any]


def open_run(path: str | Path) -> "RunFolder":
    """A finished or unfinished run, for reading. Raises RunError where there is none."""
    folder = RunFolder(Path(path))
    if not folder.exists:
        raise RunError(f"'{path}' is not a run folder (no run.json); make one with: cytolens run")
    return folder


class RunFolder:
    """A run folder; the first result that is written creates it.

    ``run.json`` is read anew for each question, so that two objects on one folder agree. Whoever
    writes holds `run_lock`. Reading raises DamagedError, which names the stage to make again,
    where something has changed or is missing. Writing raises RunError where the disk is full or
    the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        """Raises RunError for a path that cannot be a run; writes nothing."""
        self.path = path
        self._unfinished: dict[str, None] = {}  # what was written for stages not yet marked
        self._unlogged: list[str] = []  # said before there was a run
        if path.exists() and not path.is_dir():
            raise RunError(f"'{path}' is a file; name a folder for the run")
        if path.is_dir() and not self.exists and any(map(_is_strange, path.iterdir())):
            raise RunError(f"'{path}' holds other things and no run.json; name a new folder")
        self._read_record()

    def __repr__(self) -> str:
        return listing(f"RunFolder: {self.path}", {"stages": tuple(self._read_record()["stages"])})

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / _RECORD).is_file()

    def _read_record(self) -> dict[str, Any]:
        if not self.exists:
            return {"format": FORMAT, "stages": {}}
        path = self.path / _RECORD
        with Origin(self.path, None).reading(path):
            found = json.loads(path.read_bytes())
            version = found["format"]
            record = read_sealed_json(path) if "crc32" in found or version == FORMAT else found
        if version != FORMAT:
            raise RunError(
                f"'{self.path}' has run format {version}, this version reads {FORMAT}; "
                "make the run again in a new folder"
            )
        return record

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_sealed_json(self.path / _RECORD, record)

    # What is known of the run -----------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the last study on this folder."""
        return dict(self.noted("settings", {}))

    def noted(self, key: str, default: Any = None) -> Any:
        """An entry that `note` was given, as JSON; ``default`` where there is none."""
        return default if key in _KEPT else self._read_record().get(key, default)

    def note(self, **entries: Any) -> None:
        """Keep entries in run.json; an entry of the same name is replaced."""
        if set(entries) & set(_KEPT):
            raise ValueError(f"{' and '.join(_KEPT)} are no notes")
        with _recording:
            self._write_record({**self._read_record(), **entries})

    def log(self, text: str) -> None:
        """Add lines to ``log.txt``, as soon as there is a run."""
        self._unlogged.append(text)
        if self.exists:
            write_log(self.path, "\n".join(self._unlogged))
            self._unlogged.clear()

    @property
    def timings(self) -> dict[str, float]:
        """Seconds each finished stage took, when it was last made."""
        return {name: stage["seconds"] for name, stage in self._read_record()["stages"].items()}

    def has(self, stage: str) -> bool:
        """Whether a stage is finished, from whatever inputs."""
        return self.hash_of(stage) is not None

    def hash_of(self, stage: str) -> str | None:
        """The hash of the inputs that a finished stage was made from; None if unfinished."""
        return self._read_record()["stages"].get(stage, {}).get("hash")

    def finish(
        self, stage: str, hash: str, seconds: float, files: Sequence[str] | None = None
    ) -> None:
        """Mark a stage as finished, as the last step: all that was written since belongs to it.

        ``files``: those that another process has written (`take_unfinished`) instead.
        """
        files = self.take_unfinished() if files is None else files
        with _recording:
            record = self._read_record()
            entry = {"hash": hash, "seconds": round(seconds, 3), "files": list(files)}
            record["stages"][stage] = entry
            self._write_record(record)

    def take_unfinished(self) -> list[str]:
        """The files written for a stage that is not marked yet; they are forgotten here."""
        files = list(self._unfinished)
        self._unfinished.clear()
        return files

    def forget(self, *stages: str) -> None:
        """Mark stages as not finished, before their results are replaced."""
        self._unfinished.clear()
        with _recording:
            record = self._read_record()
            if [stage for stage in stages if record["stages"].pop(stage, None) is not None]:
                self._write_record(record)

    @contextmanager
    def making(self, stage: str, hash: str, *, outdates: Iterable[str] = ()) -> Generator[None]:
        """Within the block the result of a stage is made and written.

        Before it, the stage and those that it ``outdates`` no longer count as finished; after it,
        the stage does, with the ``hash`` of its inputs and the seconds that it took. Whatever
        stops the block leaves the stage unfinished.
        """
        self.forget(stage, *outdates)
        started = time.perf_counter()
        yield
        self.finish(stage, hash, time.perf_counter() - started)

    def check(self, stage: str) -> None:
        """Read all that a finished stage stored, every chunk of it, through its checksums.

        Files that a study writes itself (figures, report) are not looked at. Raises DamagedError,
        and RunError where the stage is not finished.
        """
        entry = self._read_record()["stages"].get(stage)
        if entry is None:
            raise RunError(f"the stage '{stage}' of '{self.path}' is not finished; run it first")
        origin = Origin(self.path, stage)
        for file in entry["files"]:
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise origin.damage(self.path / _RECORD, f"'{file}' does not lie in the run")
            path = standing(self.path / file)
            if file == _CELLS:
                images = cast(ArrayImages, _load_cells(path, origin).images)
                images.raw.check()
            elif file == _CLASSIFIER:
                _load_checkpoint(path, origin)
            elif path.suffix == ".zarr":
                for array in _load_activations(path, origin).features.values():
                    array.check()
            else:
                _load_record(path, origin)

    # Results ----------------------------------------------------------------------------------

    def write_result(self, stage: str, value: Any) -> None:
        """Any record, or mapping or tuple of records."""
        file = _result_file(stage)
        self._begin(file)
        write_bytes(self.path / file, encode(value))

    def read_result(self, stage: str) -> Any:
        """What `write_result` was given. Raises RunError when it was never written."""
        problem = f"'{self.path}' has no result of the stage '{stage}'; run it first"
        return _load_record(*self._find(_result_file(stage), stage, problem))

    def write_cells(self, cells: Cells, progress: Progress | None = None) -> None:
        """Crops at one size, in the files' own dtype, a batch at a time; and the table of cells."""
        self._begin(_CELLS)
        n, shape = len(cells), cells.images.shape
        step = _CROPS_PER_CHUNK * _CROP_CHUNKS_PER_SHARD
        with replacing_folder(self.path / _CELLS) as partial:
            array = create_array(
                partial / "images.zarr", shape, cells.preparation.dtype,
                rows=_CROPS_PER_CHUNK, chunks_per_shard=_CROP_CHUNKS_PER_SHARD,
            )  # fmt: skip
            for start in range(0, n, step):
                chosen = slice(start, min(start + step, n))
                array[chosen] = cells.images.read_raw(chosen)
                if progress is not None:
                    progress(chosen.stop, n, "storing crops")
            table = replace(cells, images=cast(Any, None))
            seal = checksum_of_array(partial / "images.zarr")
            write_bytes(partial / "table.npz", encode({"cells": table, "images": seal}))

    def read_cells(self) -> Cells:
        """The cells of the run; images are read on demand."""
        problem = f"'{self.path}' has no cells yet; start with: cytolens run DATA --out"
        return _load_cells(*self._find(_CELLS, "cells", problem))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Weights as safetensors, the rest as JSON."""
        import numpy as np
        from safetensors.numpy import save

        self._begin(_CLASSIFIER)
        weights = {name: np.require(w, requirements="C") for name, w in checkpoint.weights.items()}
        data = save(weights)
        with replacing_folder(self.path / _CLASSIFIER) as partial:
            write_bytes(partial / "weights.safetensors", data)
            spec = {"spec": checkpoint.spec, "weights_crc32": checksum(data)}
            write_sealed_json(partial / "network.json", spec)

    def read_checkpoint(self) -> Checkpoint:
        """The network as data; ``cytolens.classifier.from_checkpoint`` rebuilds it."""
        problem = f"'{self.path}' has no classifier yet; run the stage 'train' first"
        return _load_checkpoint(*self._find(_CLASSIFIER, "classifier", problem))

    def write_activations(self, name: str, make: Callable[[Sink], Activations]) -> None:
        """Activations streamed to sharded Zarr by ``make``, which is handed the sink to write to.

        Rows are written in order, in multiples of the shard.
        """
        import numpy as np

        file = _activations_file(name)
        self._begin(file)
        with replacing_folder(self.path / file) as partial:

            def sink(layer: str, shape: tuple[int, ...], dtype: Any) -> Any:
                chunk = _ROWS_PER_CHUNK * shape[1] * np.dtype(dtype).itemsize
                fitting = min(max(_SHARD_BYTES // max(chunk, 1), 1), _CHUNKS_PER_SHARD)
                return create_array(
                    partial / _ARRAYS / file_name(layer), shape, dtype,
                    rows=_ROWS_PER_CHUNK, chunks_per_shard=fitting,
                )  # fmt: skip

            made = make(sink)
            seals = {
                la.name: checksum_of_array(partial / _ARRAYS / file_name(la.name))
                for la in made.layers
            }
            record = {"layers": made.layers, "reduction": made.reduction, "arrays": seals}
            write_bytes(partial / "layers.npz", encode(record))

    def read_activations(self, name: str) -> Activations:
        """Activations whose arrays stay on disk until they are indexed."""
        problem = f"'{self.path}' has no activations yet; run the stage 'extract' first"
        return _load_activations(*self._find(_activations_file(name), name, problem))

    def read_summary(self) -> dict[str, Any]:
        """The content of ``summary.json``, which the stage "report" writes."""
        path = self.path / "summary.json"
        if not path.is_file():
            raise RunError(f"'{self.path}' has no report yet; make it: cytolens report {self.path}")
        with Origin(self.path, "report").reading(path):
            return json.loads(path.read_bytes())

    def _begin(self, file: str) -> None:
        if not self.exists:  # so that an interrupted first stage is known for a run
            self._write_record(self._read_record())
        self._unfinished[file] = None

    def _find(self, file: str, stage: str, problem: str) -> tuple[Path, Origin]:
        """Where a result lies, and its stage: the finished one that wrote it, else ``stage``.

        Raises RunError with ``problem`` where it was never finished and is not there.
        """
        stages = self._read_record()["stages"]
        owner = next((name for name, entry in stages.items() if file in entry["files"]), None)
        path = standing(self.path / file)
        if owner is None and not path.exists():
            raise RunError(problem)
        return path, Origin(self.path, owner or stage)


_CELLS, _CLASSIFIER = "cells", "classifier"


def _is_strange(path: Path) -> bool:
    """Whether something lies in a folder that a study killed at its very start does not leave."""
    return path.name != LOCK and not is_partial(path)


def _result_file(stage: str) -> str:
    return f"stages/{file_name(stage)}.npz"


def _activations_file(name: str) -> str:
    return f"activations/{file_name(name)}.zarr"


def _load_record(path: Path, origin: Origin) -> Any:
    with origin.reading(path):
        return decode(path.read_bytes())


def _load_cells(folder: Path, origin: Origin) -> Cells:
    path = folder / "table.npz"
    with origin.reading(path):
        stored = decode(path.read_bytes())
        table: Cells = stored["cells"]
        raw = StoredArray(folder / "images.zarr", origin, stored["images"])
        return replace(table, images=ArrayImages(raw, table.original_sizes, table.preparation))


def _load_checkpoint(folder: Path, origin: Origin) -> Checkpoint:
    with origin.reading(folder / "network.json"):
        stored = read_sealed_json(folder / "network.json")
    path = folder / "weights.safetensors"
    with origin.reading(path):
        from safetensors.numpy import load

        data = path.read_bytes()
        if checksum(data) != stored["weights_crc32"]:
            raise ValueError("its checksum does not match")
        return Checkpoint(load(data), stored["spec"])


def _load_activations(folder: Path, origin: Origin) -> Activations:
    path = folder / "layers.npz"
    with origin.reading(path):
        stored = decode(path.read_bytes())
        layers: tuple[Layer, ...] = stored["layers"]
        arrays = {
            layer.name: StoredArray(folder / _ARRAYS / file_name(layer.name), origin, seal)
            for layer, seal in zip(layers, stored["arrays"].values(), strict=True)
        }
        return Activations(layers, arrays, stored["reduction"])
