"""The paper as one readable sequence of stages over a run folder.

A stage asks for the stages it needs, so any one of them can be called alone; a stage whose
settings and inputs have not changed is read back from the run folder instead of made again.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cytolens.records.cells import Progress
from cytolens.records.features import Atlas, ChannelContext, ChannelRanking, Faithfulness
from cytolens.study import channels, pictures
from cytolens.study.feature_space import FeatureSpace
from cytolens.study.keeping import Announce
from cytolens.study.settings import IMAGES, StudySettings
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


class Study(FeatureSpace):
    """The stages of a study over one run folder; each method is a stage and gives its result."""

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
