"""What all contrast pairs of one network share: its cells, described and answered once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import nn

from cytolens.classifier.model import Classifier
from cytolens.classifier.model import untrained as before_training
from cytolens.errors import InputError
from cytolens.features.contrast.axis import Floats, Regression, Space
from cytolens.features.contrast.naming import standardised
from cytolens.features.contrast.questions import Rows, near_in_class
from cytolens.features.natural import answers_at
from cytolens.features.priors import Prior
from cytolens.features.scattering import scatter
from cytolens.images.sources import ArrayImages
from cytolens.numerics.estimates import Rng, generator
from cytolens.properties.measurement import measure_cells
from cytolens.properties.wholeness import find_look
from cytolens.records.cells import Cells
from cytolens.records.contrast import Target
from cytolens.records.layers import Layer

SCATTERING, PROPERTIES = "scattering", "measured properties"
FEWEST = 40  # cells, known and held out
HELD_OUT = 400  # cells that questions are asked of, at most
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Subject:
    """A network, the cells that pairs are drawn from and those that they are judged on.

    ``known`` are rows of the data: the prior's cells, on which the network was trained; ``asked``
    are held-out ones.
    """

    network: nn.Module
    layers: Mapping[str, Layer]
    cells: Cells
    prior: Prior
    known: Rows  # (n,)
    asked: Rows  # (m,)
    crops: NDArray[np.float32]  # (m, C, H, W), of those asked
    space: Space
    asked_points: Floats  # (m, k), in the space
    near: list[Rows]  # of each cell asked, near cells of its class
    represent: Callable[[NDArray[np.float32]], Floats]  # crops by their scattering, (n, F)
    axes: Regression  # on the known cells in the space
    known_as: Mapping[str, Floats]  # by representation, (n, F)
    axes_as: Mapping[str, Regression]  # by representation
    asked_as: Mapping[str, Floats]  # by representation, (m, F)
    properties: Mapping[str, Floats]  # (N,), in s.d. of the cells
    deviations: Mapping[str, float]  # of the properties in their own units
    answers: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # by layer
    untrained: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # likewise

    def scores(self, target: Target, *, control: bool = False) -> tuple[Floats, Floats]:
        """The target on the known cells (n,) and on those asked (m,)."""
        known, asked = (self.untrained if control else self.answers)[target.layer]
        return known @ target.weights, asked @ target.weights

    @property
    def groups(self) -> NDArray[np.generic] | None:
        """Of the cells asked, (m,)."""
        return None if self.cells.groups is None else self.cells.groups[self.asked]

    def oddness(self, points: Floats) -> Floats:
        """Share of the cells asked that are at least as far from the known ones, (n,).

        By the distance to the fifth nearest of them.
        """
        near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(self.known)))
        near.fit(self.space.known)
        far, usual = (
            np.asarray(near.kneighbors(some)[0])[:, -1] for some in (points, self.asked_points)
        )
        return (usual[None] >= far[:, None]).mean(1)

    def shifts(
        self, rows: Rows, less: NDArray[np.float32], more: NDArray[np.float32]
    ) -> dict[str, Floats]:
        """More minus less of every property (k,), in s.d. of cells, measured on edited cells."""
        found = [self.measured(rows, crops) for crops in (less, more)]
        return {
            name: (found[1][name] - found[0][name]) / deviation
            for name, deviation in self.deviations.items()
            if name in found[0]  # not what was given with the cells
        }

    def measured(self, rows: Rows, crops: NDArray[np.float32]) -> dict[str, Floats]:
        """Properties (k,) of other pictures (k, C, H, W), prepared, of the cells ``rows``.

        Measured as the cells themselves: in the same image channel.
        """
        images = ArrayImages(
            self._as_in_files(rows, crops), self.cells.original_sizes[rows], self.cells.preparation
        )
        others = replace(self.cells.subset(rows), images=images)
        return measure_cells(others, look=find_look(self.cells))[0]

    def _as_in_files(self, rows: Rows, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Prepared intensities as those of the files, with the limits of the cells themselves."""
        preparation = self.cells.preparation
        if preparation.intensity == "none":
            return crops
        if preparation.intensity == "dataset":
            low, high = (np.array(v)[:, None, None] for v in (preparation.low, preparation.high))
        else:
            raw = self.cells.images.read_raw(rows).astype(np.float64)
            inside = self.cells.images.masks(rows)[:, None]
            axes = (2, 3)
            low = np.where(inside, raw, np.inf).min(axis=axes, keepdims=True)
            high = np.where(inside, raw, -np.inf).max(axis=axes, keepdims=True)
        return (crops * (high - low) + low).astype(np.float32)


def prepare_subject(
    model: Classifier,
    layers: Sequence[Layer],
    cells: Cells,
    *,
    prior: Prior,
    known: Rows,
    held_out: Rows,
    properties: Mapping[str, Floats],
    rng: Rng = None,
) -> Subject:
    """Describe the known cells and at most 400 of the held-out ones, and ask the network.

    ``properties`` (N,) of all cells, NaN where they are not known. Raises InputError with fewer
    than 40 cells of either kind.
    """
    if min(len(known), len(held_out)) < FEWEST:
        raise InputError(
            f"{len(known)} training and {len(held_out)} held-out cells came; contrast pairs take "
            f"at least {FEWEST} of each"
        )
    draw = generator(rng)
    network, before = model.network, before_training(model, prior.crops, rng=draw).network
    asked = np.sort(draw.permutation(held_out)[:HELD_OUT])
    crops = cells.read(asked)
    space = Space.of(prior)
    points = space(crops)
    represent, known_points = _scattering(prior)
    columns = standardised(properties)
    table = np.nan_to_num(np.stack(list(columns.values()), axis=1)) if columns else None
    known_as = {SCATTERING: known_points}
    asked_as = {SCATTERING: represent(crops)}
    if table is not None:
        known_as[PROPERTIES], asked_as[PROPERTIES] = table[known], table[asked]
    found = [
        [answers_at(net, layers, some).score for some in (prior.crops, crops)]
        for net in (network, before)
    ]
    answers, untrained = (
        {layer.name: (pair[0][layer.name], pair[1][layer.name]) for layer in layers}
        for pair in found
    )
    return Subject(
        network=network,
        layers={layer.name: layer for layer in layers},
        cells=cells,
        prior=prior,
        known=known,
        asked=asked,
        crops=crops,
        space=space,
        asked_points=points,
        near=near_in_class(points, cells.labels[asked]),
        represent=represent,
        axes=Regression(space.known),
        known_as=known_as,
        axes_as={name: Regression(points) for name, points in known_as.items()},
        asked_as=asked_as,
        properties=columns,
        deviations={name: float(np.nanstd(properties[name])) for name in columns},
        answers=answers,
        untrained=untrained,
    )


def _scattering(prior: Prior) -> tuple[Callable[[NDArray[np.float32]], Floats], Floats]:
    """Crops as rows of the logarithm of their scattering, in s.d. of the prior's cells; these."""

    def rows(crops: NDArray[np.float32]) -> Floats:
        found = scatter(crops)
        both = np.concatenate([found.first, found.second], axis=1).astype(np.float64)
        return np.concatenate([np.log(both + 1e-6), found.levels.astype(np.float64)], axis=1)

    known = rows(prior.crops)
    mean, deviation = known.mean(0), np.maximum(known.std(0), 1e-9)
    return lambda crops: (rows(crops) - mean) / deviation, (known - mean) / deviation
