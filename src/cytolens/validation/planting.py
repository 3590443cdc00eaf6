"""Cells that differ by a planted feature and by nothing else: pairs with and without it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolens.images.arrays import cells_from_arrays
from cytolens.records.cells import Cells, Progress, Simulation, Split
from cytolens.simulation.simulate import Plant, simulate

CLASS_NAMES = ("plain", "planted")
DIFFICULTY = 0.5  # of the simulator: lobed nuclei, some of them out of focus
HELD_OUT = 0.3  # of the cells, never trained on
VALIDATION = 0.15  # of the others


@dataclass(frozen=True)
class Pairs:
    """Simulated cells of both morphologies, each of them with a planted feature and without.

    ``cells`` holds the n plain cells and then the same n cells planted; labels are "plain" and
    "planted". The two states of a cell are in the same part of ``split``.
    """

    cells: Cells  # (2 n)
    split: Split
    masks: NDArray[np.bool_]  # (n, H, W), where the plant is
    cell_masks: NDArray[np.bool_]  # (n, H, W), the cell without its surroundings
    plant: Plant
    pixel_size: float  # µm

    def planted(self) -> NDArray[np.int64]:
        """Rows of ``cells``: held-out cells with the plant."""
        return self.split.test[self.split.test >= len(self.masks)]

    def plain_of(self, planted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the same cells without the plant."""
        return planted - len(self.masks)

    def of(self, rows: NDArray[np.int64], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The masks (k, H, W) of these rows of ``cells``."""
        return masks[rows % len(self.masks)]


def plant_pairs(
    n: int,
    plant: Plant,
    *,
    size: int = 48,
    difficulty: float = DIFFICULTY,
    rng: int = 0,
    progress: Progress | None = None,
) -> Pairs:
    """``n`` cells in pairs: of one seed, with the plant and without.

    The simulator plants into one morphological class and draws the same cells whether or not it
    plants; so two simulations, one for each class, give every cell in both states, and the classes
    of the pairs, "plain" and "planted", have the same distribution of everything but the plant.
    ``plant.class_name`` is of no consequence.
    """
    lymphocytes, neutrophils = (
        simulate(
            n,
            size=size,
            difficulty=difficulty,
            plant=replace(plant, class_name=name),
            rng=rng,
            progress=progress,
        )
        for name in ("lymphocyte", "neutrophil")
    )
    lobed = neutrophils.labels == neutrophils.class_names.index("neutrophil")
    planted, plain = (
        _chosen(lobed, neutrophils, lymphocytes),
        _chosen(lobed, lymphocytes, neutrophils),
    )
    cells = cells_from_arrays(
        np.concatenate([plain, planted]),
        np.repeat([0, 1], n),
        class_names=CLASS_NAMES,
    )
    masks = np.where(lobed[:, None, None], neutrophils.masks["plant"], lymphocytes.masks["plant"])
    inside = neutrophils.masks["nucleus"] | neutrophils.masks["cytoplasm"]
    return Pairs(
        cells, _split(n, np.random.default_rng(rng)), masks, inside, plant, neutrophils.pixel_size
    )


def _chosen(lobed: NDArray[np.bool_], first: Simulation, second: Simulation) -> NDArray[Any]:
    """Images of the first simulation where a nucleus is lobed, of the second where it is not."""
    return np.where(lobed[:, None, None, None], first.images, second.images)


def _split(n: int, draw: np.random.Generator) -> Split:
    order = draw.permutation(n)
    held_out = round(HELD_OUT * n)
    test, rest = order[:held_out], order[held_out:]
    validation, training = np.split(rest, [round(VALIDATION * len(rest))])
    return Split(*(np.concatenate([part, part + n]) for part in (training, validation, test)))
