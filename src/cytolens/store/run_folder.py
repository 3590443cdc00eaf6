"""One run on disk: what each stage gave, and from which settings, so that nothing is done twice.

Layout (format 1)::

    run.json                 format, versions, settings, and per stage its fingerprint and seconds
    cells/images.zarr        crops at one size, in the files' own dtype (N, C, H, W), sharded
    cells/table.npz          labels, names, groups, covariates, preparation
    classifier/              weights.safetensors, network.json
    activations/<name>.zarr  one array (N, F) per layer, sharded
    stages/<stage>.npz       every other result, without pickles
    figures/                 each figure as PNG and SVG
    report.html  summary.json  cells.h5ad
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from safetensors.numpy import load_file, save

from cytolens.errors import RunError
from cytolens.images.sources import ArrayImages
from cytolens.records.cells import Cells, Progress
from cytolens.records.classifier import Checkpoint
from cytolens.records.layers import Activations, Layer
from cytolens.records.shown import listing
from cytolens.store.encoding import decode, encode
from cytolens.store.files import write_bytes, write_json

FORMAT = 1
_ROWS_PER_CHUNK = 1024
_CHUNKS_PER_SHARD = 32
_CROPS_PER_CHUNK = 64

Sink = Callable[[str, tuple[int, ...], Any], Any]


def open_run(path: str | Path) -> "RunFolder":
    """A finished or unfinished run, for reading. Raises RunError where there is none."""
    folder = RunFolder(Path(path))
    if not folder.exists:
        raise RunError(f"'{path}' is not a run folder (no run.json); make one with: cytolens run")
    return folder


class RunFolder:
    """A run folder; created by the first result that is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise RunError(f"'{path}' is a file; name a folder for the run")
        if path.is_dir() and not self.exists and any(path.iterdir()):
            raise RunError(f"'{path}' holds other things and no run.json; name a new folder")
        self._record = self._read_record()

    def __repr__(self) -> str:
        return listing(f"RunFolder: {self.path}", {"stages": tuple(self._record["stages"])})

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "run.json").is_file()

    def _read_record(self) -> dict[str, Any]:
        if not self.exists:
            return {"format": FORMAT, "settings": {}, "stages": {}}
        try:
            record = json.loads((self.path / "run.json").read_text())
            version = record["format"]
        except (ValueError, KeyError, TypeError):
            raise RunError(f"'{self.path}/run.json' is damaged; name a new folder") from None
        if version != FORMAT:
            raise RunError(
                f"'{self.path}' has run format {version}, this version reads {FORMAT}; "
                "make the run again in a new folder"
            )
        return record

    # What is known of the run -----------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the last study on this folder."""
        return dict(self._record["settings"])

    @property
    def timings(self) -> dict[str, float]:
        """Seconds each finished stage took, when it was last made."""
        return {name: stage["seconds"] for name, stage in self._record["stages"].items()}

    def note_settings(self, settings: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """Remember the settings and library versions."""
        self._record["settings"] = dict(settings)
        self._record["versions"] = dict(versions)
        self._write_record()

    def fingerprint(self, stage: str, settings: Mapping[str, Any], needs: tuple[str, ...]) -> str:
        """What a stage's result depends on: its settings, and the stages it builds on."""
        upstream = [self._record["stages"][need]["fingerprint"] for need in needs]
        text = json.dumps([FORMAT, stage, dict(settings), upstream], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_current(self, stage: str, fingerprint: str) -> bool:
        """Whether the stored result of a stage was made from just these inputs."""
        return self._record["stages"].get(stage, {}).get("fingerprint") == fingerprint

    def has(self, stage: str) -> bool:
        """Whether a stage has been finished, with whatever settings."""
        return stage in self._record["stages"]

    def finish(self, stage: str, fingerprint: str, seconds: float) -> None:
        """Mark a stage as finished; the last thing that is written of it."""
        entry = {"fingerprint": fingerprint, "seconds": round(seconds, 3)}
        self._record["stages"][stage] = entry
        self._write_record()

    def forget(self, stage: str) -> None:
        """Mark a stage as not finished, before its result is replaced."""
        if self._record["stages"].pop(stage, None) is not None:
            self._write_record()

    def _write_record(self) -> None:
        write_json(self.path / "run.json", self._record)

    # Results ----------------------------------------------------------------------------------

    def write_result(self, stage: str, value: Any) -> None:
        """Any record, or mapping or tuple of records."""
        write_bytes(self.path / "stages" / f"{stage}.npz", encode(value))

    def read_result(self, stage: str) -> Any:
        """What ``write_result`` was given. Raises RunError when it is missing or damaged."""
        path = self.path / "stages" / f"{stage}.npz"
        if not path.is_file():
            raise RunError(f"'{self.path}' has no result of the stage '{stage}'; run it first")
        return decode(path.read_bytes())

    def write_cells(self, cells: Cells, progress: Progress | None = None) -> None:
        """Crops at one size, in the files' own dtype, a batch at a time; and the table of cells."""
        partial = self._fresh("cells")
        n = len(cells)
        shape = cells.images.shape
        rows = _CROPS_PER_CHUNK * _CHUNKS_PER_SHARD
        array = zarr.create_array(
            store=str(partial / "images.zarr"),
            shape=shape,
            dtype=cells.preparation.dtype,
            chunks=(_CROPS_PER_CHUNK, *shape[1:]),
            shards=(rows, *shape[1:]) if n > rows else None,
        )
        for start in range(0, n, rows):
            chosen = slice(start, min(start + rows, n))
            array[chosen] = cells.images.read_raw(chosen)
            if progress is not None:
                progress(chosen.stop, n, "storing crops")
        sizes = cells.original_sizes
        table = replace(cells, images=cast(Any, None))
        write_bytes(partial / "table.npz", encode({"cells": table, "sizes": sizes}))
        self._settle(partial, "cells")

    def read_cells(self) -> Cells:
        """The cells of the run; images are read on demand."""
        folder = self.path / "cells"
        if not (folder / "table.npz").is_file():
            raise RunError(f"'{self.path}' has no cells yet; start with: cytolens run DATA --out")
        table: Cells = decode((folder / "table.npz").read_bytes())["cells"]
        raw = zarr.open_array(str(folder / "images.zarr"), mode="r")
        return replace(table, images=ArrayImages(raw, table.original_sizes, table.preparation))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Weights as safetensors, the rest as JSON."""
        partial = self._fresh("classifier")
        weights = {name: np.require(w, requirements="C") for name, w in checkpoint.weights.items()}
        write_bytes(partial / "weights.safetensors", save(weights))
        write_json(partial / "network.json", checkpoint.spec)
        self._settle(partial, "classifier")

    def read_checkpoint(self) -> Checkpoint:
        """The network as data; ``cytolens.classifier.from_checkpoint`` rebuilds it."""
        folder = self.path / "classifier"
        if not (folder / "network.json").is_file():
            raise RunError(f"'{self.path}' has no classifier yet; run the stage 'train' first")
        weights = load_file(folder / "weights.safetensors")
        return Checkpoint(weights, json.loads((folder / "network.json").read_text()))

    def write_activations(self, name: str, make: Callable[[Sink], Activations]) -> None:
        """Activations streamed to sharded Zarr by ``make``, which is handed the sink to write to.

        Rows are written in order, in multiples of the shard.
        """
        partial = self._fresh(f"activations/{name}.zarr")

        def sink(layer: str, shape: tuple[int, ...], dtype: Any) -> Any:
            rows = _ROWS_PER_CHUNK * _CHUNKS_PER_SHARD
            return zarr.create_array(
                store=str(partial / layer),
                shape=shape,
                dtype=dtype,
                chunks=(min(_ROWS_PER_CHUNK, max(1, shape[0])), *shape[1:]),
                shards=(rows, *shape[1:]) if shape[0] > rows else None,
            )

        made = make(sink)
        write_bytes(
            partial / "layers.npz", encode({"layers": made.layers, "reduction": made.reduction})
        )
        self._settle(partial, f"activations/{name}.zarr")

    def read_activations(self, name: str) -> Activations:
        """Activations whose arrays stay on disk until they are indexed."""
        folder = self.path / "activations" / f"{name}.zarr"
        if not (folder / "layers.npz").is_file():
            raise RunError(f"'{self.path}' has no activations yet; run the stage 'extract' first")
        stored = decode((folder / "layers.npz").read_bytes())
        layers: tuple[Layer, ...] = stored["layers"]
        arrays = {la.name: zarr.open_array(str(folder / la.name), mode="r") for la in layers}
        return Activations(layers, arrays, stored["reduction"])

    def _fresh(self, name: str) -> Path:
        if not self.exists:  # so that an interrupted first stage is known for a run
            self._write_record()
        partial = self.path / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def _settle(self, partial: Path, name: str) -> None:
        target = self.path / name
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
