"""How the stages of a study are kept: made once, read back, made again when an input changes."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cytolens
from cytolens.records.cells import Progress
from cytolens.store.run_folder import RunFolder

Announce = Callable[[str], AbstractContextManager[Progress]]
"""Called with a stage's title when it starts; the context gives its progress."""

_TITLES = {
    "cells": "reading the cells",
    "classifier": "training the classifier",
    "evaluation": "evaluating the classifier",
    "folds": "training a network per fold",
    "activations": "extracting activations",
    "untrained": "extracting activations before training",
    "maps": "making maps",
    "clusters": "clustering",
    "separation": "measuring separation",
    "pairs": "telling pairs of classes apart",
    "similarity": "comparing the layers",
    "ranking": "ranking the channels",
    "features": "making feature images",
    "properties": "measuring the cells",
    "knowledge": "reading properties from the layers",
    "confounds": "looking for confounds",
    "suspects": "looking for suspect labels and odd cells",
    "populations": "telling what the clusters are",
    "channels": "describing the channels",
    "atlas": "making the atlas",
    "faithfulness": "judging the feature images on held-out cells",
    "complexity": "measuring complexity",
    "modulated": "modulating feature images",
    "report": "writing the report",
}


class StageKeeper:
    """Stages over one run folder, each with the hash of what it was made from."""

    def __init__(
        self, folder: RunFolder, record: Mapping[str, Any], announce: Announce | None = None
    ) -> None:
        """``record``: settings of the whole study, kept in run.json with each stage made."""
        self.folder = folder
        self._settings = dict(record)
        self._announce: Announce = announce or (lambda title: nullcontext(_silent))
        self._results: dict[str, Any] = {}

    def result(
        self,
        stage: str,
        make: Callable[[Progress], Any],
        *,
        settings: Mapping[str, Any],
        needs: tuple[str, ...] = (),
    ) -> Any:
        """A stage whose result is one record or mapping: ``make`` gives it, we store it."""

        def write(progress: Progress) -> None:
            self.folder.write_result(stage, make(progress))

        read = lambda: self.folder.read_result(stage)  # noqa: E731
        return self.stage(stage, write, read, settings=settings, needs=needs)

    def stage(
        self,
        stage: str,
        write: Callable[[Progress], None],
        read: Callable[[], Any],
        *,
        settings: Mapping[str, Any],
        needs: tuple[str, ...] = (),
    ) -> Any:
        """What ``read`` gives, after ``write`` unless the stored result is of the same inputs.

        ``needs`` are stages that were asked for before.
        """
        if stage not in self._results:
            upstream = [self.folder.hash_of(need) for need in needs]
            inputs = json.dumps([stage, dict(settings), upstream], sort_keys=True, default=str)
            made_from = hashlib.sha256(inputs.encode()).hexdigest()[:16]
            if self.folder.hash_of(stage) != made_from:
                self.folder.forget(stage)
                started = time.perf_counter()
                with self._announce(_TITLES[stage]) as progress:
                    write(progress)
                self.folder.note(settings=self._settings, versions=versions())
                self.folder.finish(stage, made_from, time.perf_counter() - started)
            self._results[stage] = read()
        return self._results[stage]


def versions() -> dict[str, str]:
    """Versions of cytolens and of the libraries that its numbers rest on."""
    names = ("torch", "numpy", "scikit-learn", "faiss-cpu", "scikit-image", "zarr")
    found = {"cytolens": cytolens.__version__}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""


def signature(path: Path) -> list[Any]:
    """What tells that data have changed: names, sizes and times of the files, not their bytes."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            seen = file.stat()
            digest.update(f"{file.relative_to(path)} {seen.st_size} {seen.st_mtime_ns}\n".encode())
        return [str(path.resolve()), digest.hexdigest()]
    if path.is_file():
        return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
    return [str(path)]
