"""Other networks that say whether an edit shows what the explained network looks for.

An edit that was made with a network flips that network whatever it shows. So it is judged by
networks of the same architecture as the reference, from other seeds and trained on other halves of
the training cells; of each, a regression on its activations says how much of the target it sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytolens.activations.layers import find_layers
from cytolens.classifier.training import TrainingSettings, train
from cytolens.features.contrast.axis import Floats, Regression
from cytolens.features.natural import answers_at
from cytolens.numerics.estimates import Estimate, bootstrap
from cytolens.numerics.resampling import deal_cells
from cytolens.numerics.separability import balanced_accuracy
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.layers import Layer

EPOCHS = 24
_INNER = ("conv", "block", "linear")


@dataclass(frozen=True)
class Judge:
    """A network that had no part in making an edit, and its answers to cells."""

    network: nn.Module
    layers: tuple[Layer, ...]
    known: Regression  # on its activations (n, F) on the prior's cells, all layers side by side
    cells: NDArray[np.int64]  # (m,), held-out cells, in order
    held_out: Floats  # (m, F), its activations on these
    accuracy: Estimate  # balanced, on held-out cells

    def __call__(self, crops: NDArray[np.float32]) -> Floats:
        """Its activations (N, F) on crops."""
        return _activations(self.network, self.layers, crops)


@dataclass(frozen=True)
class Reading:
    """How much of a target a judge sees: a regression on its activations, rightly scaled."""

    judge: Judge
    slope: Floats  # (F,)
    scale: float  # of what is read, to the target's own units
    fit: float  # squared correlation with the target, held-out cells

    def __call__(self, crops: NDArray[np.float32]) -> Floats:
        """How much of the target is in each crop (N,), but for a constant."""
        return self.judge(crops) @ self.slope * self.scale


def train_judges(
    cells: Cells,
    split: Split,
    *,
    count: int = 2,
    known: NDArray[np.float32],
    held_out: NDArray[np.int64],
    epochs: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[Judge, ...]:
    """Networks that were each trained on another part of the training cells, of ``count``.

    ``known`` (n, C, H, W) are crops on which readings are fitted, ``held_out`` (m,) the cells that
    they are scaled on, in order. Cells of the held-out groups have no part in a judge.
    """
    part = deal_cells(cells.labels[split.train], count, rng=np.random.default_rng(seed))
    crops, labels = cells.read(held_out), cells.labels[held_out]
    groups = None if cells.groups is None else cells.groups[held_out]
    judges: list[Judge] = []
    most = EPOCHS if epochs is None else min(epochs, EPOCHS)
    for number in range(count):
        half = Split(split.train[part == number], split.validation, split.test)

        def trained(done: int, total: int, note: str, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, count * total, f"judge {number + 1}: {note}")

        network = train(
            cells,
            split=half,
            settings=TrainingSettings(epochs=most),
            rng=seed + 101 + number,
            device=device,
            progress=trained,
        ).model.network
        layers = find_layers(network, cells.shape)
        inner = tuple(layer for layer in layers if layer.kind in _INNER)
        right = answers_at(network, layers[-1:], crops).score[layers[-1].name].argmax(1) == labels
        judges.append(
            Judge(
                network=network,
                layers=inner,
                known=Regression(_activations(network, inner, known)),
                cells=held_out,
                held_out=_activations(network, inner, crops),
                accuracy=bootstrap(
                    lambda rows, right=right: balanced_accuracy(right[rows], labels[rows]),
                    len(labels),
                    groups=groups,
                    resamples=200,
                    rng=seed,
                ),
            )
        )
    return tuple(judges)


def read_target(judge: Judge, cells: NDArray[np.int64], known: Floats, scores: Floats) -> Reading:
    """The reading of a target with scores ``known`` (n,), and ``scores`` (m,) on held-out cells.

    ``cells`` (m,) are among those that the judge was tried on. What a regression reads varies less
    than what it was fitted to; the scale undoes that, on the held-out cells.
    """
    slope = judge.known.slope(known)
    found = judge.held_out[np.searchsorted(judge.cells, cells)] @ slope
    about, target = found - found.mean(), scores - scores.mean()
    power, common = float((about**2).sum()), float((about * target).sum())
    if power <= 0 or common <= 0:
        return Reading(judge, slope, 0.0, 0.0)
    own = float((target**2).sum())
    return Reading(judge, slope, own / common, common**2 / (power * own))


def _activations(network: nn.Module, layers: Sequence[Layer], crops: NDArray[np.float32]) -> Floats:
    found = answers_at(network, layers, crops).score
    return np.concatenate([found[layer.name] for layer in layers], axis=1).astype(np.float64)
