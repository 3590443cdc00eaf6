"""A run that is looked at: its results by name, without torch, and without running any code."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cytolens.errors import RunError, choose
from cytolens.records.cells import Cells
from cytolens.records.features import FeatureImages, ModulatedImages
from cytolens.records.layers import Activations, Layer
from cytolens.records.maps import Embedding
from cytolens.records.shown import listing
from cytolens.store import run_folder
from cytolens.study import own_model
from cytolens.study.settings import StudySettings
from cytolens.study.stage import table


def open_run(path: str | Path) -> "FinishedRun":
    """A run, for reading. Raises RunError where there is none."""
    return FinishedRun(path)


class FinishedRun(Mapping[str, Any]):
    """The results of a run by stage, e.g. ``run["similarity"]``; read when asked for, not made.

    Nothing is written. The network itself, ``run["network"]``, is the only result that takes
    torch, and for a network of your own the ``module``, or your word that the file which the run
    names may be run (``trust_model``).
    """

    def __init__(self, path: str | Path, *, module: Any = None, trust_model: bool = False) -> None:
        """Raises RunError where there is no run."""
        self.folder = run_folder.open_run(path)
        self.settings = StudySettings.of_run(self.folder)
        self._module, self._trusted = module, trust_model
        self._results: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The result of a stage. Raises RunError where it is not made yet, or is damaged."""
        if name not in self._results:
            self._results[name] = self._read(name)
        return self._results[name]

    def _read(self, name: str) -> Any:
        if name == "own_module":
            return own_model.load(self.settings, self._module, trusted=self._trusted)
        stage = table()[choose("stage", name, list(table()))]
        if stage.keep is None:
            return stage.run(self, self.settings, lambda done, total, note: None)
        if not self.folder.has(stage.name) and not self.folder.has(stage.keep.within):
            path = self.folder.path
            raise RunError(
                f"'{path}' has no result of the stage '{stage.name}' yet; make it with: "
                f"cytolens stage {stage.name} {path}"
            )
        return stage.keep.read(self.folder, stage.name)

    def require(self, *stages: str) -> None:
        """Raises RunError where a stage is not made yet, with the command that goes on."""
        missing = [stage for stage in stages if not self.folder.has(stage)]
        if missing:
            path = self.folder.path
            raise RunError(
                f"'{path}' is not finished: it has no {' and no '.join(missing)} yet; go on with: "
                f"cytolens run {path}"
            )

    def __iter__(self) -> Iterator[str]:
        return (name for name, stage in table().items() if stage.keep and self.folder.has(name))

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return listing(f"FinishedRun: {self.folder.path}", {"results": tuple(self)})

    @property
    def cells(self) -> Cells:
        """All cells, in the order of the run; crops are read on demand."""
        return self["cells"]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in depth order, the input first."""
        return self["layers"]

    @property
    def activations(self) -> Activations:
        """Features (N, F) of every cell, by layer; read on demand."""
        return self["activations"]

    @property
    def maps(self) -> Mapping[str, Mapping[str, Embedding]]:
        """``maps[method][layer]``, of the cells ``run["mapped"]``."""
        return self["maps"]

    @property
    def feature_images(self) -> Mapping[str, FeatureImages]:
        """Feature images of channels, by layer."""
        return {images.layer: images for images in self["features"].channels}

    @property
    def modulated(self) -> Mapping[str, ModulatedImages]:
        """The same modulated, by layer."""
        return {images.layer: images for images in self["modulated"].galleries}

    @property
    def numbers(self) -> Mapping[str, Any]:
        """The content of ``summary.json``: the study in numbers.

        Raises RunError where the report is not made, or the file is damaged.
        """
        return self.folder.read_summary()
