"""A network per held-out part: what the training procedure is worth, not one lucky split."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from cytolens.classifier.evaluation import evaluate, mean_over_folds, measure
from cytolens.classifier.model import Device, predict, seed_from
from cytolens.classifier.splitting import held_out_parts
from cytolens.classifier.threads import side_by_side
from cytolens.classifier.training import TrainingSettings, train
from cytolens.numerics.estimates import Rng, generator
from cytolens.numerics.machine import clock
from cytolens.numerics.threads import thread_count
from cytolens.records.cells import Cells, Progress, Split
from cytolens.records.classifier import Evaluation, Folds


def cross_validate(
    cells: Cells,
    *,
    folds: str | int = "group",
    settings: TrainingSettings | None = None,
    resamples: int = 1000,
    rng: Rng = None,
    device: Device = None,
    progress: Progress | None = None,
) -> Folds:
    """Train one network per fold on all other cells, and evaluate it on the fold.

    ``folds="group"`` holds out one group at a time (leave one donor out); a number makes that many
    parts, stratified by class, without cutting a group. A fold's network sees nothing of its
    held-out cells, not even to decide when to stop: it trains on all other cells for
    ``settings.epochs`` epochs, which the learning-rate schedule brings to rest, and is evaluated
    as it then is. (Setting aside further groups for early stopping would cost a fifth of the
    donors where there are six.)

    On the CPU as many networks train side by side as there are cores (`thread_count`), one thread
    each: small convolutions gain little from sharing. ``progress`` counts epochs over all folds.
    """
    plan = plan_folds(
        cells, folds=folds, settings=settings, rng=rng, device=device, progress=progress
    )
    found = side_by_side(plan.train, len(plan.names), plan.at_once)
    return plan.judge(list(found), resamples=resamples)


@dataclass(frozen=True)
class FoldPlan:
    """The networks of a cross-validation: each can be trained apart from the others."""

    cells: Cells
    parts: Mapping[str, NDArray[np.int64]]  # the held-out cells by name
    seeds: Sequence[int]
    settings: TrainingSettings
    device: Device
    draw: np.random.Generator
    report: "_Tally"

    @property
    def names(self) -> tuple[str, ...]:
        """The held-out groups, or "fold 1" …"""
        return tuple(self.parts)

    @property
    def at_once(self) -> int:
        """Networks that one process trains side by side."""
        usual = "cuda" if torch.cuda.is_available() else "cpu"
        on_cpu = torch.device(self.device or usual).type == "cpu"
        return min(len(self.parts), thread_count(None)) if on_cpu else 1

    def train(self, number: int) -> NDArray[np.float32]:
        """Probabilities (n, class) of a part by a network that has not seen it."""
        name = self.names[number]
        held_out = self.parts[name]
        rest = np.setdiff1d(np.arange(len(self.cells)), held_out)
        nothing = np.empty(0, dtype=np.int64)
        trained = train(
            self.cells,
            split=Split(train=rest, validation=nothing, test=held_out),
            settings=self.settings,
            rng=self.seeds[number],
            device=self.device,
            progress=lambda done, total, note: self.report(name, done),
        )
        return predict(trained.model, self.cells.subset(held_out))

    def judge(self, found: Sequence[NDArray[np.float32]], *, resamples: int = 1000) -> Folds:
        """How well all networks do together; ``found``: what `train` gives, in order."""
        return _judge(self.cells, self.parts, found, resamples, self.draw)


def plan_folds(
    cells: Cells,
    *,
    folds: str | int,
    settings: TrainingSettings | None = None,
    rng: Rng = None,
    device: Device = None,
    progress: Progress | None = None,
) -> FoldPlan:
    """The networks of `cross_validate`, not trained yet."""
    settings = settings or TrainingSettings()
    draw = generator(rng)
    parts = held_out_parts(cells, folds, rng=draw)
    seeds = [seed_from(draw) for _ in parts]
    report = _Tally(len(parts), settings.epochs, progress)
    return FoldPlan(cells, parts, seeds, settings, device, draw, report)


def _judge(
    cells: Cells,
    parts: Mapping[str, NDArray[np.int64]],
    found: Sequence[NDArray[np.float32]],
    resamples: int,
    draw: np.random.Generator,
) -> Folds:
    everything = np.empty((len(cells), len(cells.class_names)), dtype=np.float32)
    evaluations: list[Evaluation] = []
    values: list[dict[str, float]] = []
    for index, probabilities in zip(parts.values(), found, strict=True):
        everything[index] = probabilities
        labels = cells.labels[index]
        groups = None if cells.groups is None else cells.groups[index]
        evaluations.append(
            evaluate(probabilities, labels, groups=groups, resamples=resamples, rng=draw)
        )
        values.append(measure(probabilities, labels))
    return Folds(
        names=tuple(parts),
        evaluations=tuple(evaluations),
        measures=mean_over_folds(values),
        probabilities=everything,
        note=f"mean of {len(parts)} networks, each on cells held out from it; 95 % intervals over "
        "the folds",
    )


class _Tally:
    """Epochs done in all folds together, whichever thread they were done in."""

    def __init__(self, folds: int, epochs: int, progress: Progress | None) -> None:
        self._done: dict[str, int] = {}
        self._folds, self._epochs, self._progress = folds, epochs, progress
        self._lock, self._started = Lock(), time.monotonic()

    def __call__(self, name: str, done: int) -> None:
        if self._progress is None:
            return
        with self._lock:
            self._done[name] = done
            epochs, total = sum(self._done.values()), self._folds * self._epochs
            finished = sum(count == self._epochs for count in self._done.values())
            left = (time.monotonic() - self._started) / epochs * (total - epochs)
            note = f"{finished} of {self._folds} networks trained, about {clock(left)} left"
            self._progress(epochs, total, note)
