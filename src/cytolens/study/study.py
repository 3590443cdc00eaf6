"""The paper as one readable sequence of stages over a run folder.

A stage asks for the stages it needs, so any one of them can be called alone; a stage whose
settings and inputs have not changed is read back from the run folder instead of made again.
"""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.activations import extract, find_layers
from cytolens.classifier import Classifier, from_checkpoint, load_module, untrained
from cytolens.embedding import embed
from cytolens.errors import SettingError
from cytolens.records import (
    Activations,
    Atlas,
    Cells,
    ChannelContext,
    ChannelRanking,
    Clusters,
    Confounds,
    Embedding,
    Faithfulness,
    Knowledge,
    Layer,
    Progress,
    Similarity,
    Split,
    Suspects,
)
from cytolens.statistics import Estimate
from cytolens.store import RunFolder
from cytolens.study import apart, channels, clustering, knowing, learning, pictures
from cytolens.study.keeping import Announce, StageKeeper, signature, versions
from cytolens.study.settings import CELLS, CLASSIFIER, DEPTH, IMAGES, StudySettings
from cytolens.study.telling import write_report


def run(
    data: str | Path | None,
    out: str | Path,
    *,
    settings: StudySettings | None = None,
    announce: Announce | None = None,
    **options: Any,
) -> Path:
    """The whole study of ``data`` into the run folder ``out``; gives the path of the report.

    ``options`` are fields of StudySettings, e.g. ``classes=["G2", "Prophase"]``. Call again to go
    on after an interruption. Raises CytolensError for anything the user can mend.
    Source: Webb et al. 2018, arXiv:1811.06488.
    """
    chosen = settings or StudySettings(**options)
    return Study(Path(out), data, chosen, announce=announce).report()


class Study:
    """The stages of a study over one run folder; each method is a stage and gives its result."""

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

    # The stages -------------------------------------------------------------------------------

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

    def maps(self) -> dict[str, dict[str, Embedding]]:
        """``maps[method][layer]``: each depth in the plane."""
        acts, chosen = self.activations(), self._chosen

        def make(progress: Progress) -> Any:
            features = {name: acts.rows(name, self.mapped) for name in acts}
            return {
                method: embed(features, method=method, rng=chosen.seed, progress=progress)
                for method in chosen.methods
            }

        settings = self._chosen.only("methods", "map_cells", "seed")
        return self._keeper.result("maps", make, settings=settings, needs=("activations",))

    def clusters(self) -> dict[str, Clusters]:
        """Clusters of the mapped cells at every depth, and how sure they are."""
        acts, cells, chosen = self.activations(), self.cells(), self._chosen

        def make(progress: Progress) -> Any:
            return clustering.cluster_layers(
                acts, cells, self.mapped, settings=chosen, progress=progress
            )

        settings = chosen.only("clustering", "n_clusters", "halves", "map_cells", "seed")
        return self._keeper.result("clusters", make, settings=settings, needs=("activations",))

    def populations(self) -> dict[str, Any]:
        """What the main layer's clusters are, the parts of each class, and the flow by depth."""
        acts, clusters, model = self.activations(), self.clusters(), self.classifier()
        measured = self.properties_of(self.mapped)

        def make(progress: Progress) -> Any:
            return clustering.populations(
                model, acts, self.cells(), clusters, measured, self.mapped,
                settings=self._chosen, options=self._image_options, progress=progress,
            )  # fmt: skip

        settings = self._chosen.only("steps", "prior", "parametrisation", "seed")
        needs = ("clusters", "properties")
        return self._keeper.result("populations", make, settings=settings, needs=needs)

    def separation(self) -> dict[str, dict[str, Estimate]]:
        """How far the classes come apart at every depth, on cells held out from training."""
        acts, before, cells = self.activations(), self.untrained_activations(), self.cells()
        chosen = self._chosen

        def make(progress: Progress) -> Any:
            return apart.separation_by_depth(
                acts, before, cells, self.held_out,
                permutations=chosen.permutations, seed=chosen.seed, progress=progress,
            )  # fmt: skip

        settings = {**chosen.only("permutations", "map_cells", "seed"), "measures": 2}
        return self._keeper.result(
            "separation", make, settings=settings, needs=("activations", "untrained")
        )

    def pairs(self) -> dict[str, Any]:
        """Which classes are apart from which at every depth (``layers``), and from where on."""
        acts, before, cells = self.activations(), self.untrained_activations(), self.cells()
        separation, chosen = self.separation(), self._chosen

        def make(progress: Progress) -> Any:
            return apart.pairs_by_depth(
                acts, before, cells, self.held_out, separation,
                permutations=chosen.permutations, seed=chosen.seed, progress=progress,
            )  # fmt: skip

        settings = chosen.only("permutations", "map_cells", "seed")
        return self._keeper.result("pairs", make, settings=settings, needs=("separation",))

    def similarity(self) -> Similarity:
        """How alike the depths are, and each to the same before training, on held-out cells."""
        acts, before, cells = self.activations(), self.untrained_activations(), self.cells()
        chosen = self._chosen

        def make(progress: Progress) -> Any:
            return apart.similarity_of_depths(
                acts, before, cells, self.held_out,
                permutations=chosen.permutations, seed=chosen.seed,
            )  # fmt: skip

        settings = chosen.only("permutations", "map_cells", "seed")
        return self._keeper.result(
            "similarity", make, settings=settings, needs=("activations", "untrained")
        )

    def ranking(self) -> dict[str, ChannelRanking]:
        """Which channels of each layer decide, and which of them say the same."""
        acts, seed = self.activations(), self._chosen.seed

        def make(progress: Progress) -> Any:
            shown = pictures.gallery_layers(self.layers())
            return channels.rank_layers(
                self.classifier(), self.cells(), acts,
                layers=shown, held_out=self.held_out, seed=seed, progress=progress,
            )  # fmt: skip

        settings = self._chosen.only("map_cells", "seed")
        return self._keeper.result("ranking", make, settings=settings, needs=("activations",))

    def features(self) -> dict[str, Any]:
        """Feature images: channels by depth (and untrained), classes, differences, clusters."""
        chosen = self._chosen
        acts, clusters, rankings = self.activations(), self.clusters(), self.ranking()

        def make(progress: Progress) -> Any:
            return pictures.feature_galleries(
                self.classifier(),
                acts=acts,
                clusters=clusters,
                rankings=rankings,
                layers=self.layers(),
                mapped=self.mapped,
                settings=chosen,
                options=self._image_options,
                progress=progress,
            )

        settings = {**chosen.part(IMAGES), "seed": chosen.seed}
        for name in ("source", "explain", "cards", "atlas"):
            settings.pop(name)
        needs = ("clusters", "ranking")
        return self._keeper.result("features", make, settings=settings, needs=needs)

    def properties(self) -> dict[str, Any]:
        """What is measured, without any network, on the mapped and the held-out ``cells``."""
        self.classifier()

        def make(progress: Progress) -> Any:
            chosen = np.union1d(self.mapped, self.held_out)
            return knowing.measure(self.cells(), chosen, progress)

        settings = {**self._chosen.only("map_cells", "seed"), "properties": 2}
        return self._keeper.result("properties", make, settings=settings, needs=("classifier",))

    def properties_of(self, chosen: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Measured properties, and numbers that came along, of mapped or held-out cells (n,)."""
        return knowing.properties_at(self.properties(), self.cells(), chosen)

    def knowledge(self) -> Knowledge:
        """What else can be read from every depth, on cells held out from training."""
        acts, before, measured = self.activations(), self.untrained_activations(), self.properties()

        def make(progress: Progress) -> Any:
            return knowing.what_it_knows(
                measured, self.cells(), acts, before, held_out=self.held_out,
                permutations=self._chosen.permutations, seed=self._chosen.seed, progress=progress,
            )  # fmt: skip

        settings = self._chosen.only("permutations", "map_cells", "seed")
        needs = ("activations", "untrained", "properties")
        return self._keeper.result("knowledge", make, settings=settings, needs=needs)

    def confounds(self) -> Confounds:
        """What gives the label away besides the cell, and how the network does without it."""
        acts, before, measured = self.activations(), self.untrained_activations(), self.properties()
        answers = self.evaluation()["probabilities"]

        def make(progress: Progress) -> Any:
            return knowing.alarming(
                measured, self.cells(), acts, before, answers,
                held_out=self.held_out, seed=self._chosen.seed,
            )  # fmt: skip

        needs = ("activations", "untrained", "properties", "evaluation")
        settings = self._chosen.only("map_cells", "seed")
        return self._keeper.result("confounds", make, settings=settings, needs=needs)

    def suspects(self) -> Suspects:
        """Labels that a cell's neighbours at depth deny, and cells that are odd."""
        acts, measured = self.activations(), self.properties()
        answers = self.evaluation()["probabilities"]

        def make(progress: Progress) -> Any:
            return knowing.suspects(
                measured, self.cells(), acts, answers,
                held_out=self.held_out, seed=self._chosen.seed, progress=progress,
            )  # fmt: skip

        needs = ("activations", "properties", "evaluation")
        settings = self._chosen.only("map_cells", "seed")
        return self._keeper.result("suspects", make, settings=settings, needs=needs)

    def channels(self) -> dict[str, tuple[ChannelContext, ...]]:
        """What the first channels of each gallery answer to, by layer, on held-out cells."""
        made, rankings = self.features(), self.ranking()
        measured = self.properties_of(self.held_out)

        def make(progress: Progress) -> Any:
            return channels.describe_layers(
                self.classifier(), self.cells(), self.activations(),
                galleries=made["galleries"], layers=self.layers(), rankings=rankings,
                properties=measured, held_out=self.held_out, settings=self._chosen,
                progress=progress,
            )  # fmt: skip

        settings = self._chosen.only("cards", "seed")
        needs = ("features", "properties")
        return self._keeper.result("channels", make, settings=settings, needs=needs)

    def atlas(self) -> Atlas | None:
        """The main map as feature images of what the network sees at each place."""
        maps, chosen = self.maps(), self._chosen

        def make(progress: Progress) -> Any:
            return channels.atlas_of_main_map(
                self.classifier(), self.activations(), maps,
                layers=self.layers(), labels=self.cells().labels[self.mapped], mapped=self.mapped,
                grid=chosen.atlas, options={**self._image_options, "progress": progress},
            )  # fmt: skip

        settings = chosen.only("atlas", "steps", "prior", "parametrisation", "seed")
        return self._keeper.result("atlas", make, settings=settings, needs=("maps",))

    def faithfulness(self) -> dict[str, Faithfulness]:
        """How far the feature images of each layer can be believed, on held-out cells."""
        made = self.features()

        def make(progress: Progress) -> Any:
            return pictures.judge_galleries(
                self.classifier(), self.cells(), self.split, features=made, layers=self.layers(),
                options=self._image_options, seed=self._chosen.seed, progress=progress,
            )  # fmt: skip

        settings = {"seed": self._chosen.seed}
        return self._keeper.result("faithfulness", make, settings=settings, needs=("features",))

    def complexity(self) -> dict[str, Any]:
        """How complex the feature images are at every depth, and its trend with depth."""
        made = self.features()

        def make(progress: Progress) -> Any:
            return pictures.complexity_by_depth(made, self.layers(), rng=self._chosen.seed)

        settings = {"seed": self._chosen.seed}
        return self._keeper.result("complexity", make, settings=settings, needs=("features",))

    def modulated(self) -> dict[str, Any]:
        """Modulated feature images, and cells explained by those of their deciding channels."""
        chosen, made, result = self._chosen, self.features(), self.evaluation()

        def make(progress: Progress) -> Any:
            cells = self.cells()
            named = chosen.source != "self"
            source = pictures.find_cell(cells, chosen.source) if named else None
            explained = pictures.representative_cells(
                cells, self.split, result["probabilities"], chosen.explain
            )
            if source is not None:
                explained = np.unique(np.append(explained, source))
            return pictures.modulated_galleries(
                self.classifier(),
                cells,
                chosen=explained,
                galleries=made["galleries"],
                layers=self.layers(),
                source=source,
                options=self._image_options,
                progress=progress,
            )

        settings = {"source": chosen.source, "explain": chosen.explain, "seed": chosen.seed}
        needs = ("features", "evaluation")
        return self._keeper.result("modulated", make, settings=settings, needs=needs)

    def report(self) -> Path:
        """Everything above, then the figures, the table of cells, the summary and the page."""
        needs = ["evaluation", "maps", "clusters", "separation", "pairs", "similarity"]
        needs += ["knowledge", "confounds", "suspects"]
        needs += ["populations", "complexity", "channels", "atlas", "faithfulness", "modulated"]
        if self._chosen.folds is not None:
            needs.insert(1, "folds")
        for need in needs:
            getattr(self, need)()

        def make(progress: Progress) -> None:
            write_report(self, progress)

        path = self.folder.path / "report.html"
        complete = [path, path.with_name("summary.json"), path.with_name("cells.h5ad")]
        if not all(file.is_file() for file in complete):
            self.folder.forget("report")
        return self._keeper.stage("report", make, lambda: path, settings={}, needs=tuple(needs))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of cytolens and of the libraries that its numbers rest on."""
        return versions()

    @property
    def described_settings(self) -> dict[str, Any]:
        """The settings in force, and the data, for the report and the summary."""
        return {"data": self.data, **asdict(self._chosen)}

    # What the stages share --------------------------------------------------------------------

    @cached_property
    def _image_options(self) -> dict[str, Any]:
        return pictures.image_options(self.classifier(), self.cells(), self.split, self._chosen)

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
