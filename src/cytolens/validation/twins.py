"""Planted twins: do edited cells find what was planted, and is it named first?

A cell with a plant and the same cell without it are the truth about an edit that takes the plant
away. It is measured as contrast pairs are made in a study (`features.contrast`), but for the start:
planted cells instead of those from the middle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cytolens.activations.layers import find_layers
from cytolens.classifier.model import Classifier
from cytolens.features.contrast.edited import FILLED, SPARSE
from cytolens.features.contrast.editing import Filling, Images, fill_in, sparse_edits
from cytolens.features.contrast.judging import Reading, read_target, train_judges
from cytolens.features.contrast.matching import goals_of
from cytolens.features.contrast.pairs import make_pairs
from cytolens.features.contrast.subject import Subject, prepare_subject
from cytolens.features.contrast.targets import class_targets
from cytolens.features.decision import logits_of
from cytolens.features.priors import fit_prior
from cytolens.images.preparation import prepared_background
from cytolens.numerics.estimates import Estimate, bootstrap
from cytolens.properties.measurement import measure_cells
from cytolens.validation.planting import Pairs

Floats = NDArray[np.float64]
EDITED = 12  # planted cells, at most
FEWEST = 5  # below which nothing is said of edits
_NEAR = 2  # pixels about the plant


@dataclass(frozen=True)
class Recovered:
    """Planted cells edited in one way, against their twins without the plant; over cells (m,)."""

    cosine: Floats  # of the edit with the true change
    inside: Floats  # share of the edit within 2 px of the plant
    size: Floats  # its sum of absolute values, over that of the true change
    own: Floats  # share of the true change's effect that the network sees
    judged: Floats  # (m, J), that each judge sees; the first chooses the way


@dataclass(frozen=True)
class Twins:
    """What contrast pairs of a planted class find of the plant."""

    ways: Mapping[str, Recovered]  # empty where the network does not use the plant
    way: str  # of these the one that the first judge chose
    accuracy: float  # balanced, on held-out pairs
    truth: Mapping[str, float]  # what the plant does to each property, s.d., the largest first
    named: Mapping[str, float]  # what the pairs name, s.d., the largest first

    @property
    def first(self) -> str | None:
        """The property that the pairs name first, if the plant shifts it the same way."""
        name, value = next(iter(self.named.items()), ("", 0.0))
        return name if self.truth.get(name, 0.0) * value > 0 else None

    @property
    def share_of_first(self) -> float:
        """What the plant does to the property named first, over the most that it does to any."""
        return 0.0 if self.first is None else abs(self.truth[self.first]) / self._most

    @property
    def _most(self) -> float:
        return max(abs(value) for value in self.truth.values())

    def measures(self, *, resamples: int, rng: int) -> dict[str, Estimate]:
        """Medians over cells with intervals, and whether the plant's property is named first."""
        found: dict[str, Estimate] = {}
        if self.ways:
            taken = self.ways[self.way]
            columns = {
                "cosine": taken.cosine,
                "l1": taken.size,
                "own": taken.own,
                "transfer": taken.judged[:, -1],
            }
            for name, values in columns.items():
                found[f"pairs_{name}"] = bootstrap(
                    lambda rows, values=values: float(np.median(values[rows])),
                    len(values), resamples=resamples, rng=rng,
                )  # fmt: skip
        first = float(self.share_of_first == 1)
        found["pairs_named_first"] = Estimate(first, np.nan, np.nan, no_interval="one network")
        return found


def measure_twins(pairs: Pairs, model: Classifier, *, epochs: int, rng: int = 0) -> Twins:
    """Edit held-out planted cells, have others judge them, and name what pairs differ in.

    ``model`` was trained on the training cells of ``pairs``, for ``epochs``; so are two judges.
    Real pairs are of training cells of which no two are twins.
    """
    cells, split, n = pairs.cells, pairs.split, len(pairs.masks)
    sides = np.random.default_rng([rng, 7]).integers(0, 2, n)
    once = np.unique(split.train % n)
    once = np.sort(once + n * sides[once])
    paper = prepared_background(cells.preparation)
    prior = fit_prior(cells.subset(once), background=paper, n_cells=1000, rng=rng)
    measured = measure_cells(cells)[0]
    layers = find_layers(model.network, model.input_shape)
    subject = prepare_subject(
        model,
        layers[-1:],
        cells,
        prior=prior,
        known=once[prior.rows],
        held_out=np.sort(np.concatenate([split.validation, split.test])),
        properties=measured,
        rng=rng,
    )
    judges = train_judges(
        cells, split, known=prior.crops, held_out=subject.asked, epochs=epochs, seed=rng
    )
    target = class_targets(layers[-1], model.class_names)[0]
    found = make_pairs(subject, [target], judges=judges, test=split.test, seed=rng).pairs[0]
    margin = _margin(model.network)
    known, asked = margin(prior.crops), margin(subject.crops)
    readings = [read_target(judge, subject.asked, known, asked) for judge in judges]
    planted = pairs.planted()
    with_plant, without = margin(cells.read(planted)), margin(cells.read(pairs.plain_of(planted)))
    used = planted[(with_plant > 0) & (without < 0)][:EDITED]
    ways: dict[str, Recovered] = {}
    if len(used) >= FEWEST:
        ways = edit_planted(pairs, used, model.network, subject, known, readings, rng)
    return Twins(
        ways=ways,
        accuracy=float(((with_plant > 0).mean() + (without < 0).mean()) / 2),
        way=max(ways, key=lambda way: float(np.median(ways[way].judged[:, 0].clip(0, 1))))
        if ways
        else "",
        truth=_true_shifts(pairs, measured),
        named={shift.name: shift.natural.value for shift in found.named},
    )


def _true_shifts(pairs: Pairs, measured: Mapping[str, Floats]) -> dict[str, float]:
    """What the plant does to each property, in s.d. of all cells: mean over held-out twins."""
    planted = pairs.planted()
    found: dict[str, float] = {}
    for name, values in measured.items():
        deviation = float(np.nanstd(values))
        if deviation > 1e-9:
            step = values[planted] - values[pairs.plain_of(planted)]
            found[name] = float(np.nanmean(step)) / deviation
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def _margin(network: nn.Module) -> Callable[[Images], Floats]:
    """Logit of "planted" minus that of "plain" (N,) of crops."""

    def margin(crops: Images) -> Floats:
        logits = logits_of(network, crops).astype(np.float64)
        return logits[:, 1] - logits[:, 0]

    return margin


def edit_planted(
    pairs: Pairs,
    planted: NDArray[np.int64],
    network: nn.Module,
    subject: Subject,
    known: Floats,
    readings: list[Reading],
    rng: int,
) -> dict[str, Recovered]:
    """Planted cells, rows of the pairs' cells, edited towards less in both ways.

    ``known`` (n,): the network's margin on the prior's cells. ``readings``: of it, by judges.
    """
    prior, margin = subject.prior, _margin(network)
    start, twin = (pairs.cells.read(rows) for rows in (planted, pairs.plain_of(planted)))
    goals = np.maximum(goals_of(known)[0], margin(twin))  # no further than the truth
    everywhere = np.ones((len(start), *start.shape[2:]), bool)

    def differentiable(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits[:, 1] - logits[:, 0]

    made = {
        SPARSE: sparse_edits(
            differentiable,
            start,
            goals,
            measured=everywhere,
            deviation=float(known.std()),
            value_range=prior.value_range,
            seed=rng,
        ),
        FILLED: fill_in(
            margin,
            start,
            [float(np.median(goals))],
            Filling(prior, rng=np.random.default_rng(rng)),
            measured=everywhere,
        )[0],
    }
    disc = ndimage.generate_binary_structure(2, 1)[None]
    near = ndimage.binary_dilation(pairs.of(planted, pairs.masks), disc, iterations=_NEAR)
    return {
        way: against_twins(start, twin, crops, near.astype(bool), margin, readings)
        for way, crops in made.items()
    }


def against_twins(
    start: Images,
    twin: Images,
    made: Images,
    near: NDArray[np.bool_],
    score: Callable[[Images], Floats],
    readings: list[Reading],
) -> Recovered:
    """Cells (m, C, H, W), their twins, and their edits: what these find of the true change.

    ``near`` (m, H, W): where the plant is. ``score``: what the network sees of it in crops (m,).
    """
    edit, change = (some.astype(np.float64) - start for some in (made, twin))
    axes = (1, 2, 3)
    power = (edit**2).sum(axes) * (change**2).sum(axes)
    size = np.abs(edit).sum(axes)
    judged = [
        (reading(made) - reading(start)) / (reading(twin) - reading(start)) for reading in readings
    ]
    return Recovered(
        cosine=(edit * change).sum(axes) / np.sqrt(power + 1e-12),
        inside=(np.abs(edit) * near[:, None]).sum(axes) / np.maximum(size, 1e-9),
        size=size / np.abs(change).sum(axes),
        own=(score(made) - score(start)) / (score(twin) - score(start)),
        judged=np.stack(judged, axis=1),
    )
