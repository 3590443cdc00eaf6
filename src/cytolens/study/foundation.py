"""What every stage of a study rests on: its cells, its network, their activations."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.activations.extraction import extract
from cytolens.activations.layers import find_layers
from cytolens.classifier.checkpoints import from_checkpoint
from cytolens.classifier.model import Classifier, untrained
from cytolens.classifier.wrapping import load_module
from cytolens.errors import SettingError
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.layers import Activations, Layer
from cytolens.store.run_folder import RunFolder
from cytolens.study import learning, pictures
from cytolens.study.keeping import Announce, StageKeeper, signature, versions
from cytolens.study.settings import CELLS, CLASSIFIER, DEPTH, StudySettings


class Foundation:
    """The first stages of a study over one run folder; each method gives its result."""

    def __init__(
        self,
        out: Path,
        data: str | Path | None = None,
        settings: StudySettings | None = None,
        *,
        announce: Announce | None = None,
        module: Any = None,
    ) -> None:
        """``module``: your own nn.Module, when it is at hand in Python rather than in a file."""
        self.folder = RunFolder(out)
        stored = self.folder.settings
        self.settings = settings or StudySettings.from_mapping(stored.get("study", {}))
        self.data = str(data) if data is not None else stored.get("data")
        if self.data is None:
            raise SettingError(f"'{out}' is not a run yet; name the data as well: DATA --out {out}")
        if Path(self.data).is_dir() and out.resolve().is_relative_to(Path(self.data).resolve()):
            raise SettingError(f"the run folder '{out}' lies inside the data; name one outside")
        self._chosen = self.settings.effective()
        self._module = module
        record = {"study": asdict(self.settings), "data": self.data}
        self._keeper = StageKeeper(self.folder, record, announce)

    def cells(self) -> Cells:
        """Read, check and prepare the crops; keep them in the run folder."""

        def make(progress: Progress) -> None:
            learning.store_cells(self.folder, self._data_path, self._chosen, progress)

        if not self._data_path.exists() and self.folder.has("cells"):
            return self.folder.read_cells()  # a run looked at where its data are not
        settings = {**self._chosen.part(CELLS), "data": signature(self._data_path)}
        if self._chosen.limit is not None:
            settings["seed"] = self._chosen.seed
        return self._keeper.stage("cells", make, self.folder.read_cells, settings=settings)

    def classifier(self) -> Classifier:
        """Train the reference network, or take the user's; with its split and history."""
        cells = self.cells()
        chosen = self._chosen

        def make(progress: Progress) -> None:
            own = self._own_module() if self._own_model else None
            learning.learn(self.folder, cells, chosen, own=own, progress=progress)

        def read() -> Classifier:
            own = self._own_module() if self._own_model else None
            return from_checkpoint(self.folder.read_checkpoint(), module=own)

        settings = {**self._chosen.part(CLASSIFIER), "seed": chosen.seed}
        settings.pop("folds")
        if self._module is not None:
            settings["module"] = learning.weights_hash(self._module)
        if chosen.weights is not None:
            settings["weights_file"] = signature(Path(chosen.weights))
        return self._keeper.stage("classifier", make, read, settings=settings, needs=("cells",))

    @property
    def split(self) -> Split:
        """Which cells trained, validated and tested."""
        self.classifier()
        return self.folder.read_result("training")["split"]

    def evaluation(self) -> dict[str, Any]:
        """Predictions for all cells; measures on the test cells, and of a linear baseline there."""
        model, cells, chosen = self.classifier(), self.cells(), self._chosen

        def make(progress: Progress) -> Any:
            return learning.judge(model, cells, self.split, chosen, progress)

        return self._keeper.result(
            "evaluation", make, settings={"seed": chosen.seed}, needs=("classifier",)
        )

    def folds(self) -> dict[str, Any] | None:
        """A network per held-out group (or fold); None unless asked for."""
        chosen = self._chosen
        if chosen.folds is None:
            return None
        if self._own_model:
            raise SettingError("--folds trains networks: it goes with the reference network only")
        cells = self.cells()

        def make(progress: Progress) -> Any:
            return learning.judge_folds(cells, chosen, progress)

        settings = {"folds": chosen.folds, "epochs": chosen.epochs, "seed": chosen.seed}
        return self._keeper.result("folds", make, settings=settings, needs=("cells",))

    def layers(self) -> tuple[Layer, ...]:
        """The layers looked at, in depth order, the input first."""
        model = self.classifier()
        return find_layers(model.network, model.input_shape, names=self._chosen.layers or None)

    def activations(self) -> Activations:
        """Features of every cell at every depth."""
        model, cells = self.classifier(), self.cells()
        return self._extraction("activations", model, cells, needs=("classifier",))

    def untrained_activations(self) -> Activations:
        """The same of the same network before training, for the cells that separation uses."""
        model = untrained(self.classifier(), rng=self._chosen.seed)
        cells = self.cells().subset(self.held_out)
        return self._extraction("untrained", model, cells, needs=("classifier",))

    def _extraction(
        self, name: str, model: Classifier, cells: Cells, *, needs: tuple[str, ...]
    ) -> Activations:
        chosen, layers = self._chosen, self.layers()

        def make(progress: Progress) -> None:
            self.folder.write_activations(
                name,
                lambda sink: extract(
                    model.network,
                    cells,
                    layers=layers,
                    reduction=chosen.reduction,
                    sink=sink,
                    batch_size=chosen.batch_size,
                    device=chosen.device,
                    progress=progress,
                ),
            )

        settings = {**chosen.part(DEPTH), "seed": chosen.seed if name == "untrained" else None}
        return self._keeper.stage(
            name,
            make,
            lambda: self.folder.read_activations(name),
            settings=settings,
            needs=needs,
        )

    @cached_property
    def mapped(self) -> NDArray[np.int64]:
        """The cells on the maps: all, or a seeded draw of ``map_cells``."""
        return self._chosen.mapped(len(self.cells()))

    @cached_property
    def held_out(self) -> NDArray[np.int64]:
        """Cells that no weight was fitted to (validation and test), at most ``map_cells``."""
        split = self.split
        cells = np.sort(np.concatenate([split.validation, split.test]))
        if len(cells) > self._chosen.map_cells:
            draw = np.random.default_rng(self._chosen.seed)
            cells = np.sort(draw.choice(cells, self._chosen.map_cells, replace=False))
        return cells

    @property
    def versions(self) -> dict[str, str]:
        """Versions of cytolens and of the libraries that its numbers rest on."""
        return versions()

    @property
    def described_settings(self) -> dict[str, Any]:
        """The settings in force, and the data, for the report and the summary."""
        return {"data": self.data, **asdict(self._chosen)}

    @property
    def _own_model(self) -> bool:
        return self._module is not None or self._chosen.model is not None

    def _own_module(self) -> Any:
        if self._module is not None:
            return self._module
        weights = Path(self._chosen.weights) if self._chosen.weights else None
        return load_module(str(self._chosen.model), weights, allow_pickle=self._chosen.allow_pickle)

    @property
    def _data_path(self) -> Path:
        return Path(str(self.data))

    @cached_property
    def _image_options(self) -> dict[str, Any]:
        return pictures.image_options(self.classifier(), self.cells(), self.split, self._chosen)
