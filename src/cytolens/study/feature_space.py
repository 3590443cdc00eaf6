"""The stages that look at the feature space: maps, clusters, separation, what else it knows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.embedding.methods import embed
from cytolens.numerics.estimates import Estimate
from cytolens.records.cells import Progress
from cytolens.records.clusters import Clusters
from cytolens.records.knowledge import Confounds, Knowledge, Suspects
from cytolens.records.maps import Embedding
from cytolens.records.separation import Similarity
from cytolens.study import apart, clustering, knowing
from cytolens.study.foundation import Foundation


class FeatureSpace(Foundation):
    """The paper's first half: where the cells lie at every depth, and what that rests on."""

    def maps(self) -> dict[str, dict[str, Embedding]]:
        """``maps[method][layer]``: each depth in the plane."""
        acts, chosen = self.activations(), self._chosen

        def make(progress: Progress) -> Any:
            features = {name: acts.rows(name, self.mapped) for name in acts}
            return {
                method: embed(
                    features,
                    method=method,
                    device=chosen.device,
                    rng=chosen.seed,
                    progress=progress,
                )
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
